# SPDX-License-Identifier: Apache-2.0
"""
What each switch of a training is worth: the same seeds with one switch turned at a time.

    python -m training ablate config/training/ablation/switches.yaml runs/ablation --seeds 0 1
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.checkpoints import latest
from training.config import Config, config_from, read_yaml
from training.data.open import open_data
from training.networks_of import open_checkpoint, teaches_focal
from training.train import train
from training.validate import by_clip, summary, zoom_strays

FIGURES = ('abs_rel', 'focal', 'scale_spread', 'zoom_strays')


def read_variants(path: Path, out: Path, seed: int) -> dict[str, Config]:
    """
    The configuration of each variant.

    :param path: YAML of `base` (a configuration beside it) and `variants`: what each changes.
    :param out: stands for {out} in a value, and the seed for {seed}.
    :raises ValueError: a key or a value that is not known; one line.
    """
    raw = _yaml(path)
    if not isinstance(raw, dict) or set(raw) != {'base', 'variants'}:
        raise ValueError(f'{path}: need the keys base, variants')
    base = _yaml(path.parent / str(raw['base']))
    if not isinstance(raw['variants'], dict) or not isinstance(base, dict):
        raise ValueError(f'{path}: variants, and what base names, need keys and values')
    found = {}
    for name, changes in raw['variants'].items():
        if not isinstance(changes, dict):
            raise ValueError(f'{path}: {name}: need what it changes, {{}} for nothing')
        filled = _filled(changes, {'{out}': str(out), '{seed}': str(seed)})
        found[name] = config_from(merged(base, filled) | {'seed': seed}, f'{path}: {name}')
    return found


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The base with changes; dictionaries go into each other, all else is replaced."""
    both = dict(base)
    for name, value in changes.items():
        inner = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = merged(both[name], value) if inner else value
    return both


def scored(config: Config, folder: Path) -> dict[str, float]:
    """The figures of a run's last checkpoint: held-out clips, and K of the trained ones."""
    found = latest(folder)
    if found is None:
        raise ValueError(f'{folder}: no checkpoint')
    trained, held_out, _ = open_data(config, lambda _: None)
    if held_out is None:
        raise ValueError('the base names no validation clips')
    lengths = [len(clip.numbers) for clip in trained.clips]
    _, nets, _ = open_checkpoint(found, lengths)
    cpu = torch.device('cpu')
    taught = teaches_focal(config)
    means = summary(by_clip(nets.to(cpu), held_out, cpu, taught=taught))
    figures = {name: one['mean'] for name, one in means.items()}
    figures['zoom_strays'] = zoom_strays(nets, trained, cpu)  # None where no K is known
    return {name: value for name, value in figures.items() if value is not None}


def figures_of(config: Config, folder: Path) -> dict[str, float]:
    """
    Train and score, unless the folder has the figures.

    :raises ValueError: those it has are of another configuration.
    """
    asked = json.loads(json.dumps(config.as_dict()))
    kept = folder / 'figures.json'
    if not kept.is_file():
        train(config, folder)
        said = {'config': asked, 'figures': scored(config, folder)}
        kept.write_text(json.dumps(said), encoding='utf-8')
    said = json.loads(kept.read_text(encoding='utf-8'))
    if said.get('config') != asked:
        raise ValueError(
            f'{kept} is not known to be of this configuration; take a new folder, or the old files'
        )
    figures: dict[str, float] = said['figures']
    return figures


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean of the seeds, and their standard deviation behind it."""
    lines = ['| | ' + ' | '.join(FIGURES) + ' |', '|---' * (len(FIGURES) + 1) + '|']
    for name, runs in rows.items():
        cells = [_cell([run[figure] for run in runs if figure in run]) for figure in FIGURES]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _cell(values: list[float]) -> str:
    spread = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return f'{np.mean(values):.3f} ± {spread:.3f}' if values else '-'


def _filled(value: Any, words: dict[str, str]) -> Any:
    """The same with words replaced in every text."""
    if isinstance(value, dict):
        return {name: _filled(one, words) for name, one in value.items()}
    if isinstance(value, str):
        for word, instead in words.items():
            value = value.replace(word, instead)
    return value


def _yaml(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f'{path}: no such file')
    return read_yaml(path)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('switches', type=Path, help='a file like config/training/ablation/')
    parser.add_argument('out', type=Path, help='folder of the runs; those that have begun go on')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--only', nargs='+', metavar='NAME', help='variants (default: all)')
    a = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in a.seeds:
        variants = read_variants(a.switches, a.out, seed)
        if unknown := sorted(set(a.only or ()) - set(variants)):
            raise ValueError(f'no variant {unknown[0]!r}; there are {", ".join(variants)}')
        for name in a.only or variants:
            folder = a.out / name.replace(' ', '_') / f'seed_{seed}'
            rows.setdefault(name, []).append(figures_of(variants[name], folder))
    print(table(rows))
    return 0


if __name__ == '__main__':
    sys.exit(main())
