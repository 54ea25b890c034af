# SPDX-License-Identifier: Apache-2.0
"""
The window on films of every kind of motion, from a focal length 40 % wrong both ways, beside the
Cramér-Rao bound and the pairwise odometry: tables for docs/geometry.md, and its picture.

Films of one length are rendered once into OUT/films (about 10 CPU-seconds each); runs are kept in
OUT/runs.json.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import cv2

from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.engines.choose import DepthGraphs
from training.geometry import lenses, traced
from training.geometry.films import RATE, films
from training.geometry.picture import picture
from training.geometry.runs import KEYFRAME_EVERY, Remembered, Run, Start, run
from training.geometry.simulated import of_film
from training.geometry.simulated import table as simulated_table
from training.geometry.tables import tables
from training.geometry.troubles import come_through, table
from training.synthetic.film import MOVES

FACTORS = (0.6, 1.4)
LEAST_S = 2.5
BENT_MOVES = ('advance', 'orbit', 'mixed')
TROUBLED_MOVES, LEAST_TROUBLED_S = ('advance', 'orbit', 'mixed'), 5.0
STARTS = [
    Start(factor, guess, refinement)
    for factor in FACTORS
    for guess, refinement in ((True, 'window'), (False, 'window'), (True, 'none'))
]


def measured(out: Path, moves: list[str], seeds: range, seconds: float, bundle: str) -> list[Run]:
    """Every film by every start; told as it goes."""
    cv2.setNumThreads(1)
    opened = open_bundle(bundle)
    graphs = DepthGraphs(opened, 'auto')
    runs = []
    for film in films(out / 'films', moves, seeds, seconds):
        network = Remembered(graphs)
        done = [run(film, network, opened.sizes, start) for start in STARTS]
        runs += done
        told = ' '.join(f'{100 * one.error[-1]:+.1f}' for one in done)
        print(f'{film.name:20s} log focal is off by {told} %', file=sys.stderr, flush=True)
    return runs


def main() -> int:
    """:return: process exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder of films, runs, tables and picture')
    parser.add_argument('--moves', nargs='+', default=list(MOVES), choices=MOVES)
    parser.add_argument('--seeds', default='10:14', help='FIRST:END of the films of each move')
    parser.add_argument(
        '--seconds', type=float, default=3.0, help=f'of each film (at least {LEAST_S:g})'
    )
    parser.add_argument('--bundle', default='compact', help='whose depth is used')
    parser.add_argument(
        '--troubles',
        action='store_true',
        help='instead: films (5 s and more) in which something goes wrong, to OUT/troubles.md',
    )
    parser.add_argument(
        '--lenses',
        action='store_true',
        help='instead: films through lenses that bend straight lines, to OUT/lenses.md',
    )
    parser.add_argument(
        '--traced',
        type=Path,
        metavar='FOLDER',
        help='instead: films of another renderer, FOLDER/*, to OUT/traced.md',
    )
    parser.add_argument(
        '--simulated',
        action='store_true',
        help='instead: simulated tracks through the films, what the estimator itself loses, to '
        'OUT/simulated.md',
    )
    parser.add_argument(
        '--again', action='store_true', help='only tables and picture, of OUT/runs.json'
    )
    a = parser.parse_args()
    kept = a.out / 'runs.json'
    if not a.again:
        check_seconds(a.seconds)
    if a.troubles:
        return _troubles(a.out, seeds_of(a.seeds), max(a.seconds, LEAST_TROUBLED_S), a.bundle)
    if a.lenses:
        return _lenses(a.out, seeds_of(a.seeds), a.seconds, a.bundle)
    if a.traced:
        return _traced(a.out, a.traced, a.bundle)
    if a.simulated:
        return _simulated(a.out, a.moves, seeds_of(a.seeds), a.seconds)
    if a.again:
        runs = [_read(one) for one in json.loads(kept.read_text())]
    else:
        runs = measured(a.out, a.moves, seeds_of(a.seeds), a.seconds, a.bundle)
        kept.write_text(json.dumps([asdict(one) for one in runs]))
    text = tables(runs)
    (a.out / 'tables.md').write_text(text)
    (a.out / 'geometry.svg').write_text(picture(runs))
    print(text)
    return 0


def _simulated(out: Path, moves: list[str], seeds: range, seconds: float) -> int:
    moments = range(4, round(seconds * RATE) // KEYFRAME_EVERY, 4)
    found = [of_film(film, moments) for film in films(out / 'films', moves, seeds, seconds)]
    text = simulated_table(found, moments)
    (out / 'simulated.md').write_text(text)
    print(text)
    return 0


def seeds_of(text: str) -> range:
    """Read FIRST:END."""
    first, _, end = text.partition(':')
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError(f'--seeds is {text!r}, needed FIRST:END, such as 10:14')
    return range(int(first), int(end))


def check_seconds(seconds: float) -> None:
    """Refuse films that end before there is something to judge."""
    if not seconds >= LEAST_S:
        raise ValueError(f'--seconds is {seconds:g}, at least {LEAST_S:g} are needed')


def _network(bundle: str) -> tuple[Remembered, tuple[tuple[int, int], ...]]:
    """A bundle's depth network and the sizes that it comes in."""
    cv2.setNumThreads(1)
    opened = open_bundle(bundle)
    return Remembered(DepthGraphs(opened, 'auto')), opened.sizes


def _troubles(out: Path, seeds: range, seconds: float, bundle: str) -> int:
    network, sizes = _network(bundle)
    found = []
    for one in come_through(
        films(out / 'films_troubled', TROUBLED_MOVES, seeds, seconds), network, sizes
    ):
        found.append(one)
        film, trouble, said = one
        print(
            f'{film:20s} {trouble:16s} focal off by {100 * said.focal_before:.1f} before, '
            f'{100 * said.focal:.1f} % at the end',
            file=sys.stderr,
            flush=True,
        )
    text = table(found)
    (out / 'troubles.md').write_text(text)
    print(text)
    return 0


def _lenses(out: Path, seeds: range, seconds: float, bundle: str) -> int:
    network, sizes = _network(bundle)
    found = []
    for one in lenses.seen_through_lenses(
        out / 'films', BENT_MOVES, seeds, seconds, network, sizes
    ):
        found.append(one)
        move, bent, lens, said = one
        print(
            f'{move:8s} {bent:g} {lens:8s} focal off by {100 * said.last:.1f} % at the end, cloud '
            f'by {100 * said.cloud:.1f}',
            file=sys.stderr,
            flush=True,
        )
    text = lenses.table(found)
    (out / 'lenses.md').write_text(text)
    print(text)
    return 0


def _traced(out: Path, folder: Path, bundle: str) -> int:
    network, sizes = _network(bundle)
    found = []
    for one in traced.come_through(folder, network, sizes):
        found.append(one)
        print(traced.table([one]).splitlines()[-1], file=sys.stderr, flush=True)
    text = traced.table(found)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'traced.md').write_text(text)
    print(text)
    return 0


def _read(one: dict) -> Run:
    bound = [(int(frame), float(sigma)) for frame, sigma in one['bound']]
    try:
        return Run(**{**one, 'start': Start(**one['start']), 'bound': bound})
    except TypeError as error:
        raise ValueError(
            f'runs.json is of another version ({error}); run again without --again'
        ) from error


if __name__ == '__main__':
    sys.exit(main())
