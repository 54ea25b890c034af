# SPDX-License-Identifier: Apache-2.0
"""
Write training pairs of rendered worlds to disk, a file per world; stop and start again as you
like.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from training.synthetic.samples import BENT, FAMILIES, HELD_OUT_FAMILIES, draw_pairs

HELD_OUT_FROM = 1_000_000  # seeds from here on are never trained on


def synthesize(
    out: Path,
    seeds: range,
    families: list[str],
    pairs: int,
    width: int,
    height: int,
    bent: float = BENT,
    bounced: float = 0.0,
) -> int:
    """
    Render the worlds that are not there yet.

    :param out: folder; receives FAMILY_SEED.npz with images, depths, T_prev_cam, cameras (see
        `Pair`).
    :param seeds: one world of each family for each.
    :param families: names of FAMILIES.
    :param pairs: per world.
    :param width: of the pictures [px]; height likewise.
    :param bent: share of pairs whose lens bends straight lines; bounced: in which light that
        tissue throws to and fro is followed, see `draw_pairs`.
    :return: worlds that could not be flown through, and were left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    begun, done, left_out = time.monotonic(), 0, 0
    for seed in seeds:
        for family in families:
            path = out / f'{family}_{seed:07d}.npz'
            if path.exists():
                continue
            try:
                drawn = list(draw_pairs(family, seed, pairs, width, height, bent, bounced))
            except ValueError as error:
                print(error, file=sys.stderr)
                left_out += 1
                continue
            part = path.with_suffix('.part')
            with part.open('wb') as file:
                np.savez(
                    file,
                    **{
                        name: np.stack([getattr(p, name) for p in drawn])
                        for name in vars(drawn[0])
                    },
                )
            part.rename(path)
            done += 1
            rate = done * pairs / (time.monotonic() - begun)
            print(f'{path.name}: {done * pairs} pairs, {rate:.2f} a second', flush=True)
    return left_out


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder for the pairs')
    parser.add_argument(
        '--from-seed', type=int, default=0, help=f'{HELD_OUT_FROM} and above are held out'
    )
    parser.add_argument(
        '--worlds', type=int, default=100, help='seeds from there on, a world of each family'
    )
    parser.add_argument('--pairs', type=int, default=16, help='pairs per world')
    parser.add_argument(
        '--families',
        nargs='+',
        default=sorted(set(FAMILIES) - set(HELD_OUT_FAMILIES)),
        choices=sorted(FAMILIES),
    )
    parser.add_argument('--size', nargs=2, type=int, default=(224, 280), metavar=('H', 'W'))
    parser.add_argument(
        '--bent', type=float, default=BENT, help='share of pairs whose lens bends straight lines'
    )
    parser.add_argument(
        '--bounced',
        type=float,
        default=0.0,
        help='share of pairs in which light that tissue throws to and fro is followed (slower)',
    )
    arguments = parser.parse_args()
    seeds = range(arguments.from_seed, arguments.from_seed + arguments.worlds)
    height, width = arguments.size
    left_out = synthesize(
        arguments.out,
        seeds,
        arguments.families,
        arguments.pairs,
        width,
        height,
        arguments.bent,
        arguments.bounced,
    )
    if left_out:
        print(f'{left_out} worlds were left out', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main())
