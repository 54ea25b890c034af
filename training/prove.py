# SPDX-License-Identifier: Apache-2.0
"""
Prove self-supervision from nothing, by hand, in minutes a seed: rendered worlds of albedo and
light, random weights, a focal length that starts 40 % off; scored on held-out worlds.

    python -m training prove runs/proof --seeds 0 1 2
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from training.checkpoints import latest
from training.config import Config, read_config
from training.train import train

CONFIG = Path(__file__).parents[1] / 'config' / 'training' / 'smoke.yaml'
SCORED = ('abs_rel', 'constant', 'focal')
MOST_DEPTH_ERROR = 0.8  # of what a flat wall scores
MOST_FOCAL_ERROR = 0.1


def prove(config: Config, out: Path, seeds: list[int]) -> list[dict[str, float]]:
    """
    Train each seed to its end, or go on with it, and take what its last validation found.

    :return: seed, step, abs_rel, constant, depth_share (of the two) and focal of each.
    """
    rows = []
    for seed in seeds:
        folder = out / f'seed_{seed}'
        train(replace(config, seed=seed), folder)
        found = latest(folder)
        if found is None:
            raise ValueError(f'{folder}: no checkpoint')
        facts = json.loads((found / 'checkpoint.json').read_text(encoding='utf-8'))
        metrics = facts['metrics']
        if lacking := [name for name in SCORED if name not in metrics]:
            raise ValueError(
                f'{folder}: {lacking[0]} was not scored: validation needs depth and K'
            )
        rows.append(
            {
                'seed': seed,
                'step': facts['step'],
                **{name: metrics[name] for name in SCORED},
                'depth_share': metrics['abs_rel'] / metrics['constant'],
            }
        )
    return rows


def holds(row: dict[str, float]) -> bool:
    """Whether a seed shows what is claimed."""
    return row['depth_share'] <= MOST_DEPTH_ERROR and row['focal'] <= MOST_FOCAL_ERROR


def main() -> int:
    """Run the command line: 0 where every seed shows it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder of the runs; those that have begun go on')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--config', type=Path, default=CONFIG, help=f'default: {CONFIG.name}')
    a = parser.parse_args()
    rows = prove(read_config(a.config), a.out, a.seeds)
    (a.out / 'proof.json').write_text(json.dumps(rows, indent=2) + '\n', encoding='utf-8')
    print(f'{"seed":>5}{"steps":>7}{"abs_rel":>9}{"wall":>8}{"share":>8}{"focal off":>11}')
    for row in rows:
        print(
            f'{row["seed"]:5.0f}{row["step"]:7.0f}{row["abs_rel"]:9.3f}{row["constant"]:8.3f}'
            f'{row["depth_share"]:8.2f}{row["focal"]:10.1%}  {"holds" if holds(row) else "fails"}'
        )
    print(f'wanted: share at most {MOST_DEPTH_ERROR}, focal within {MOST_FOCAL_ERROR:.0%}')
    return 0 if all(holds(row) for row in rows) else 1


if __name__ == '__main__':
    sys.exit(main())
