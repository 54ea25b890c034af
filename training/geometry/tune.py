# SPDX-License-Identifier: Apache-2.0
"""
Try constants of the window on films for development: what they change, in a table.

    python -m training tune FILMS --moves creep mixed --seeds 500:508
    python -m training tune FILMS --moves creep mixed --seeds 500:508 --set zoom_steps.STEADY=0.9

Films are rendered once into FILMS. Their seeds must not be those that docs/geometry.md judges by
(10 to 13, 200 to 249). Constants of single films move by tens of per cent: use many.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import endosfm3d_ros
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.engines.choose import DepthGraphs
from training.geometry.command import FACTORS, LEAST_S, check_seconds, seeds_of
from training.geometry.films import films
from training.geometry.runs import SECOND, Remembered, Run, Start, run
from training.geometry.tables import lied, log_focal_surprise
from training.synthetic.film import MOVES

CORE = Path(endosfm3d_ros.__file__).with_name('core')
COLUMNS = (
    'focal 1 s',
    'end',
    'worst',
    'its squared error by variance',
    'beyond 3 σ',
    'zoom',
    'its squared error by variance',
    'path',
    "motion's squared error by covariance",
)


def put(setting: str) -> None:
    """
    Set a constant of the core for this process, in its own module: one that others import by
    name keeps its value there.

    :param setting: MODULE.NAME=NUMBER, such as zoom_steps.STEADY=0.9; in whatever folder of the
        core the module lies.
    :raises ValueError: there is no such number.
    """
    name, _, number = setting.partition('=')
    module, _, constant = name.rpartition('.')
    try:
        (file,) = CORE.rglob(f'{module}.py')
        path = file.relative_to(CORE.parents[1]).with_suffix('')
        owner = importlib.import_module('.'.join(path.parts))
        before, value = getattr(owner, constant), float(number)
    except (ImportError, AttributeError, ValueError):
        before = None
    if not isinstance(before, int | float):
        raise ValueError(f'--set {setting}: no such number in core; needed MODULE.NAME=NUMBER')
    setattr(owner, constant, type(before)(value))


def row(one: Run) -> list[float]:
    """What COLUMNS name; lengths as shares."""
    off = np.abs(one.error)
    return [
        float(off[SECOND]),
        float(off[-1]),
        float(off[SECOND:].max()),
        log_focal_surprise(one),
        float(lied(one)),
        one.zoom,
        one.zoom_surprise,
        one.path_error,
        one.motion_surprise,
    ]


def table(runs: Sequence[Run]) -> str:
    """Markdown: median and mean of each kind of motion; errors in per cent."""
    lines = [
        '| motion | runs | ' + ' | '.join(COLUMNS) + ' |',
        '|---' * (len(COLUMNS) + 2) + '|',
    ]
    for move in dict.fromkeys(one.move for one in runs):
        rows = np.array([row(one) for one in runs if one.move == move])
        for name, means in (('median', np.nanmedian(rows, 0)), ('mean', np.nanmean(rows, 0))):
            shares = [f'{100 * value:.1f}' for value in means]
            for column in (3, 6, 8):
                shares[column] = f'{means[column]:.2f}'
            lines.append(f'| {move}, {name} | {len(rows)} | ' + ' | '.join(shares) + ' |')
    return '\n'.join(lines) + '\n'


def main() -> int:
    """:return: process exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('films', type=Path, help='folder of films')
    parser.add_argument('--moves', nargs='+', default=['creep', 'mixed'], choices=MOVES)
    parser.add_argument('--seeds', default='500:504', help='FIRST:END of the films of each move')
    parser.add_argument(
        '--seconds', type=float, default=4.0, help=f'of each film (at least {LEAST_S:g})'
    )
    parser.add_argument('--bundle', default='compact', help='whose depth is used')
    parser.add_argument('--set', nargs='+', default=[], metavar='MODULE.NAME=NUMBER', dest='put')
    a = parser.parse_args()
    check_seconds(a.seconds)
    for setting in a.put:
        put(setting)
    cv2.setNumThreads(1)
    opened = open_bundle(a.bundle)
    graphs, runs = DepthGraphs(opened, 'auto'), []
    for film in films(a.films, a.moves, seeds_of(a.seeds), a.seconds):
        network = Remembered(graphs)
        for factor in FACTORS:
            runs.append(run(film, network, opened.sizes, Start(factor, True, 'window')))
            told = ' '.join(f'{value:.3f}' for value in row(runs[-1]))
            print(f'{film.name:20s} {factor:g}: {told}', file=sys.stderr, flush=True)
    print(table(runs))
    return 0


if __name__ == '__main__':
    sys.exit(main())
