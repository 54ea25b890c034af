# SPDX-License-Identifier: Apache-2.0
"""`python -m training evaluate CHECKPOINT`: every frame of the validation clips, and the paths."""

import argparse
import json
import sys
from pathlib import Path

import torch

from endosfm3d_ros.evaluation.protocols import PROTOCOLS, protocol
from endosfm3d_ros.outfile import check_outfile, write_outfile
from training.config import Config, read_config
from training.data.open import open_data
from training.networks_of import open_checkpoint, teaches_focal
from training.validate import by_clip, summary

COLUMNS = ('abs_rel', 'constant', 'light', 'a1', 'focal', 'snippet_ate', 'still_snippet_ate',
           'ate_sim3', 'still_ate', 'photometric')  # fmt: skip
# what a protocol asks beyond that needs a run of the node: `endosfm3d evaluate --protocol`
APPLIED = "its depth caps only, on the networks' grid and window, mean over clips"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', type=Path, help='RUN/best, or one of RUN/checkpoints/')
    parser.add_argument(
        '--data', type=Path, metavar='CONFIG',
        help='take the validation clips of this file (default: of the checkpoint\'s)',
    )  # fmt: skip
    parser.add_argument(
        '--protocol', default='worlds', help=f'{", ".join(sorted(PROTOCOLS))} (default: worlds)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures here')
    return parser


def run(arguments: argparse.Namespace) -> int:
    """`evaluate`: 0 well, 1 stopped with one line."""
    try:
        check_outfile(arguments.json)
        rules = protocol(arguments.protocol)
        config, nets, scopes = open_checkpoint(arguments.checkpoint)
        if arguments.data:
            config = Config(**{**vars(config), 'data': read_config(arguments.data).data})
        _, samples, known = open_data(config, print)
        if samples is None:
            raise ValueError('the configuration names no validation clips; --data takes others')
        if known != scopes:
            samples.scopes = tuple(-1 for _ in samples.scopes)
        device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        table = by_clip(nets.to(device), samples, device, rules, teaches_focal(config))
        means = summary(table)
        _show(table, means)
        print(f'protocol {rules.name}: {APPLIED}')
        document = {'protocol': rules.name, 'applied': APPLIED, 'clips': table, 'mean': means}
        write_outfile(arguments.json, json.dumps(document, indent=2))
    except (ValueError, OSError) as error:
        print(f'training evaluate: {" ".join(str(error).split())}', file=sys.stderr)
        return 1
    return 0


def _show(table: dict[str, dict[str, float]], means: dict[str, dict[str, float | None]]) -> None:
    """One line a clip, then the means and their 95 % intervals over clips."""
    print(f'{"":30}' + ''.join(f'{name:>20}' for name in COLUMNS))
    for clip, figures in table.items():
        print(f'{clip:30}' + ''.join(_cell(figures.get(name)) for name in COLUMNS))
    print(f'{"mean":30}' + ''.join(_cell(_part(means, name, 'mean')) for name in COLUMNS))
    for part in ('low', 'high'):
        print(f'{part:30}' + ''.join(_cell(_part(means, name, part)) for name in COLUMNS))


def _part(means: dict[str, dict[str, float | None]], name: str, part: str) -> float | None:
    return means.get(name, {}).get(part)


def _cell(value: float | None) -> str:
    return f'{"-" if value is None else format(value, ".4f"):>20}'


def main() -> int:
    """Run the command line."""
    return run(_parser().parse_args())


if __name__ == '__main__':
    sys.exit(main())
