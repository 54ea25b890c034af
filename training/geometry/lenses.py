# SPDX-License-Identifier: Apache-2.0
"""Films through lenses that bend straight lines: is it found, and what would it cost not to?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.core.lens import distorted
from training.geometry.films import Filmed, films
from training.geometry.runs import SECOND, Remembered, Start, focal_off, path_off, played
from training.synthetic.camera import unbent

BENT = (0.0, 0.5, 1.0)  # shares of a fisheye's distortion
LENSES = ('straight', 'auto')  # as a pinhole's, and as the product does it
EVERY = 10  # frames, of those whose clouds are compared


@dataclass(frozen=True)
class Outcome:
    """
    How a film was come through.

    :param first: |error of log focal length| after a second, and `last` at the end.
    :param surprise: squared error of log focal length at the end by its stated variance.
    :param path: ATE after Sim(3) as a share of the path.
    :param cloud: mean distance of the cloud's points from the true ones as a share of theirs,
        median-scaled, from a second on; depth: the same of z alone.
    :param bend: told distortion less the true one near the axis, at the end.
    """

    first: float
    last: float
    surprise: float
    path: float
    cloud: float
    depth: float
    bend: float


FIELDS = [one.name for one in fields(Outcome)]
Found = tuple[str, float, str, Outcome]


def seen_through_lenses(
    folder: Path,
    moves: Sequence[str],
    seeds: Sequence[int],
    seconds: float,
    network: Remembered,
    sizes: tuple[tuple[int, int], ...],
) -> Iterator[Found]:
    """Every film through every lens, from both sides: move, share of a fisheye, lens, outcome."""
    for bent in BENT:
        for film in films(folder, moves, seeds, seconds, bent):
            network.answers.clear()
            for lens in LENSES:
                for factor, guess in ((0.6, False), (1.4, True)):
                    start = Start(factor, guess, 'window', lens)
                    said, _, _ = played(film, network, sizes, start)
                    yield film.move, bent, lens, outcome(film, said)


def outcome(film: Filmed, said: Sequence[Reconstruction]) -> Outcome:
    """Judge what was said of a film's frames."""
    off = focal_off(film, said)
    shown = [cloud_error(film, said[n], n) for n in range(SECOND, len(said), EVERY)]
    cloud, depth = np.mean(shown, axis=0)
    return Outcome(
        first=abs(float(off[SECOND - 1])),
        last=abs(float(off[-1])),
        surprise=float((off[-1] / said[-1].log_focal_sigma) ** 2),
        path=path_off(film, said)[0],
        cloud=float(cloud),
        depth=float(depth),
        bend=abs(said[-1].distortion - float(film.distortion[0])),
    )


def cloud_error(film: Filmed, one: Reconstruction, number: int) -> tuple[float, float]:
    """
    See `Outcome`: of the points (x, y, z), and of z.

    A point of the cloud is where its pixel and K say; the true one is what the film's lens saw at
    the input pixel that the first was made of.
    """
    ours, theirs, K = one.camera, one.input_camera, film.K[number]
    v, u = np.mgrid[: ours.height, : ours.width].astype(float)
    ray = np.stack([(u - ours.cx) / ours.fx, (v - ours.cy) / ours.fy], axis=-1)
    image = distorted(ray, one.distortion)
    pixel = image * [theirs.fx, theirs.fy] + [theirs.cx, theirs.cy]
    column, row = np.rint(pixel).astype(int).transpose(2, 0, 1)
    height, width = film.depth[number].shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    inside &= np.isfinite(one.depth)
    z = film.depth[number][row[inside], column[inside]].astype(float)
    near = (pixel[inside] - K[:2, 2]) / K[[0, 1], [0, 1]]
    true = np.column_stack([near * unbent(near, film.distortion), np.ones(len(z))]) * z[:, None]
    told = np.column_stack([ray[inside], np.ones(len(z))]) * one.depth[inside][:, None]
    known = np.isfinite(z) & (z > 0)
    true, told = true[known], told[known]
    told *= np.median(true[:, 2] / told[:, 2])
    off = np.linalg.norm(told - true, axis=1) / np.linalg.norm(true, axis=1)
    return float(off.mean()), float(np.mean(np.abs(told[:, 2] / true[:, 2] - 1.0)))


def table(found: Iterable[Found]) -> str:
    """Markdown: medians over a motion's films and starts, as a pinhole's / as it is found."""
    found = list(found)
    lines = [
        '| motion | fisheye [share] | runs | focal off after 1 s [%] | at the end [%] '
        '| its squared error by variance | path [%] | cloud [%] | depth [%] | distortion off by |',
        '|---' * 10 + '|',
    ]
    for move in dict.fromkeys(one[0] for one in found):
        for bent in BENT:
            ways = [[one for *key, one in found if key == [move, bent, lens]] for lens in LENSES]
            if not all(ways):
                continue
            both = [
                [np.median([getattr(one, name) for one in some]) for name in FIELDS]
                for some in ways
            ]
            cells = [
                f'{a * unit:.{digits}f} / {b * unit:.{digits}f}'
                for a, b, unit, digits in zip(
                    *both, (100, 100, 1, 100, 100, 100, 1), (1, 1, 1, 1, 1, 1, 3), strict=True
                )
            ]
            lines.append(f'| {move} | {bent:g} | {len(ways[0])} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'
