# SPDX-License-Identifier: Apache-2.0
"""The window on films of another renderer (`training path-trace`), which it was not made on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.evaluation.truth import read_truth_folder
from training.geometry.films import Filmed
from training.geometry.runs import (
    SECOND,
    Remembered,
    Start,
    depth_ratio,
    focal_off,
    path_off,
    played,
    zoom_off,
)

STARTS = (Start(1.4, True, 'window'), Start(0.6, False, 'window'))
EVERY = 5  # frames, of those whose depth is judged
UNITS = 100, 100, 100, 100, 1, 100, 100, 1  # of an outcome's fields, in the table


@dataclass(frozen=True)
class Outcome:
    """
    How a film was come through.

    :param first: log focal length's error after a second, last: at the end; first_sigma and
        last_sigma: as stated.
    :param surest: the largest error by its stated sigma, from the first adjustment on.
    :param zoom: RMS of log told zoom against the true one, from a second on.
    :param path: ATE after Sim(3) as a share of the path.
    :param depth: mean absolute relative error, each frame median-scaled, from a second on.
    """

    first: float
    first_sigma: float
    last: float
    last_sigma: float
    surest: float
    zoom: float
    path: float
    depth: float


Found = tuple[str, bool, Sequence[Outcome]]


def read_films(folder: Path) -> Iterator[tuple[Filmed, bool]]:
    """
    Every film below a folder, and whether its scope's rim is seen.

    :raises ValueError: there is none, or one is not whole.
    """
    places = sorted(path.parent for path in folder.glob('*/truth.npz'))
    if not places:
        raise ValueError(
            f'{folder} holds no */truth.npz: make films with '
            f'python -m training path-trace {folder}/tube1 --scene tube --seed 1'
        )
    for place in places:
        truth = read_truth_folder(place)
        count = len(truth.stamps)
        if missing := set(range(count)) - truth.depth_frames:
            raise ValueError(
                f'{place}: frame {min(missing)} of {count} was not rendered; '
                'run training path-trace again, without --every'
            )
        pictures = [cv2.imread(str(place / 'frames' / f'{n:04d}.png')) for n in range(count)]
        film = Filmed(
            place.name,
            np.stack([cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in pictures]),
            np.stack([truth.read_depth(n).depth for n in range(count)]),
            truth.K,
            truth.T_world_cam,
            truth.stamps,
            np.zeros(2),
        )
        yield film, truth.circle is not None


def come_through(
    folder: Path, network: Remembered, sizes: tuple[tuple[int, int], ...]
) -> Iterator[Found]:
    """Every film below a folder from both sides: its name, whether a rim is seen, outcomes."""
    for film, rim in read_films(folder):
        network.answers.clear()
        said = [played(film, network, sizes, start)[0] for start in STARTS]
        yield film.name, rim, [outcome(film, one) for one in said]


def outcome(film: Filmed, said: Sequence[Reconstruction]) -> Outcome:
    """Judge what was said of a film's frames."""
    off = focal_off(film, said)
    sigma = np.array([one.log_focal_sigma for one in said])
    begun = next((n for n, one in enumerate(said) if one.refinement == 'window'), len(said) - 1)
    return Outcome(
        first=float(off[SECOND - 1]),
        first_sigma=float(sigma[SECOND - 1]),
        last=float(off[-1]),
        last_sigma=float(sigma[-1]),
        surest=float(np.abs(off / sigma)[begun:].max()),
        zoom=float(np.sqrt(np.mean(zoom_off(film, said)[SECOND:] ** 2))),
        path=path_off(film, said)[0],
        depth=float(np.mean([_off(film, said, n) for n in range(SECOND, len(said), EVERY)])),
    )


def _off(film: Filmed, said: Sequence[Reconstruction], number: int) -> float:
    """Mean absolute relative error of a frame's depth, median-scaled."""
    ratio = depth_ratio(film, said, number)
    ratio = ratio[np.isfinite(ratio)]
    return float(np.mean(np.abs(np.exp(ratio - np.median(ratio)) - 1.0)))


def table(found: Iterable[Found]) -> str:
    """Markdown: a row a film; the start with the network's guess / without it."""
    lines = [
        '| film | rim | focal off after 1 s [%] | stated | at the end [%] | stated '
        '| farthest [stated σ] | zoom off [%] | path [%] | depth, abs rel |',
        '|---' * 10 + '|',
    ]
    for name, rim, outcomes in found:
        cells = []
        for field, unit in zip(fields(Outcome), UNITS, strict=True):
            digits = 3 if field.name == 'depth' else 1
            each = [f'{unit * abs(getattr(one, field.name)):.{digits}f}' for one in outcomes]
            cells.append(' / '.join(each))
        lines.append(f'| {name} | {"yes" if rim else "no"} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'
