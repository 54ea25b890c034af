# SPDX-License-Identifier: Apache-2.0
"""
Which points move against the rigid majority: tissue that breathes or beats, an instrument.

A smooth sway of a third of the picture fits a bent depth map and another lens better than it fits
outliers: every residual stays small and no robust kernel throws it out. But leave out the part
that sways, and what is left fits far better at once; a still scene fits hardly better without any
part of it. So parts of the picture are left out in turn (a trimmed fit, Rousseeuw 1984, whose
trimmed points lie together), and where that tells, points are judged one by one.
"""

from dataclasses import replace

import numpy as np

from endosfm3d_ros.core.bundle_adjustment import LeavingOut, Solution, adjust
from endosfm3d_ros.core.scene import Beliefs, Views

SIDES = 8  # parts beyond a straight line, in so many directions; then the middle, and all round it
PARTS = SIDES + 2
LEFT_OUT = 0.4  # of the points
BETTER = 0.82  # times the misfit: six still films stayed above 0.84, with breath it was 0.4 to 0.8
AGAIN = 5  # iterations without the part; then all of the rest must fit better, too:
CONFIRMED = 0.9  # false alarms came to 0.94 and more, those of breath to 0.3 to 0.9
FEWEST, FEWEST_OF_A_VIEW = 40, 12  # points left, and of them in each keyframe
NEIGHBOURS = 5  # a point is judged with those beside it
STRAY, USUAL = 2.5, 1.2  # times the usual misfit, which is taken to be so large at least
MOST = 0.5  # of the points: if more stray, nobody knows which are the majority


def part(pixels: np.ndarray, number: int) -> np.ndarray:
    """
    Tell which points lie in a part of the picture.

    :param pixels: (N, 2) [px]; number: of the part, counted round and round.
    :return: (N,) bool, LEFT_OUT of them.
    """
    number %= PARTS
    if number < SIDES:
        angle = 2 * np.pi * number / SIDES
        along = pixels @ [np.cos(angle), np.sin(angle)]
    else:
        along = np.linalg.norm(pixels - np.median(pixels, axis=0), axis=1)
        along = along if number == SIDES else -along
    return along > np.quantile(along, 1.0 - LEFT_OUT)


def without_part(
    views: Views, beliefs: Beliefs, solution: Solution, numbers: range
) -> tuple[np.ndarray, Solution] | None:
    """
    Leave parts out, one after another, and see whether the rest fits far better.

    :param solution: of all points; numbers: of the parts to begin with. Where one of them tells,
        all are tried, and the best is taken.
    :return: (N,) bool, the points of the rest, and their solution; None where it is no better.
    """
    where, seen = np.nanmean(views.pixels, axis=1), np.isfinite(views.pixels[..., 0])
    if len(where) * (1 - LEFT_OUT) < FEWEST:
        return None

    trials = LeavingOut(views, beliefs, solution.scene)

    def share(number: int) -> float:
        kept = ~part(where, number)
        if seen[kept].sum(axis=0).min() < FEWEST_OF_A_VIEW:
            return np.inf  # a keyframe would hang in the air
        return float(np.median(trials.misfit(kept)) / np.median(solution.misfit[kept]))

    shares = {number: share(number) for number in numbers}
    if not min(shares.values()) < BETTER:
        return None
    for number in range(numbers.stop, numbers.start + PARTS):
        shares[number] = share(number)
    kept = ~part(where, min(shares, key=shares.__getitem__))
    start = replace(solution.scene, points=solution.scene.points[kept])
    without = adjust(views.of(kept), beliefs, start, AGAIN)
    told = np.median(without.misfit) < CONFIRMED * np.median(solution.misfit[kept])
    return (kept, without) if told else None


def strays(pixels: np.ndarray, misfit: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """
    Judge points one by one, each with its neighbours: what moves on its own hangs together.

    :param pixels: (N, 2) of points seen in one picture [px].
    :param misfit: (N,) of each, see `Solution`; NaN where it was not told yet.
    :param moving: (N,) bool, as they were judged before.
    :return: (N,) bool; as before where more than MOST would stray.
    """
    told = np.flatnonzero(np.isfinite(misfit))
    calm = told[~moving[told]]
    if len(calm) < FEWEST:
        return np.zeros_like(moving)
    x, y = pixels.T
    away = (x[:, None] - x[told]) ** 2 + (y[:, None] - y[told]) ** 2
    beside = np.argpartition(away, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    usual = max(float(np.median(misfit[calm])), USUAL)
    found = np.median(misfit[told][beside], axis=1) > STRAY * usual
    return found if found.mean() <= MOST else moving
