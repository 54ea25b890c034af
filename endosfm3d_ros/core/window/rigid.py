# SPDX-License-Identifier: Apache-2.0
"""
Which points move against the rigid majority: tissue that breathes or beats, an instrument.

An adjustment gives each track a spread of its own, so what moves by itself has little say in it
(`bundle_adjustment.ALIKE`) and is left with a misfit that stands out. What stands out in one
place, not here and there, is said to move: it then tells nothing at all, neither place nor focal
length nor depth, and is followed only to be judged again.
"""

import numpy as np

FEWEST = 40  # points that must be calm
NEIGHBOURS = 5  # a point is judged with those beside it
STRAY = 2.5  # times the usual misfit, which is taken to be so large at least, ...
USUAL = 1.2  # ... while nothing moves: poor tracks lie together, too
SWAYING = 0.5  # ... once something does: its border sways by little
LEAST = 0.05  # of the points: fewer are poor tracks that happen to lie together
MOST = 0.5  # of the points: if more stray, nobody knows which are the majority


def strays(pixels: np.ndarray, misfit: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """
    Judge points one by one, each with its neighbours: what moves on its own hangs together.

    :param pixels: (N, 2) of points seen in one picture [px].
    :param misfit: (N,) of each, see `Solution`; NaN where it was not told yet.
    :param moving: (N,) bool, as they were judged before.
    :return: (N,) bool; as before where more than MOST would stray, none where none did before and
        fewer than LEAST would.
    """
    told = np.flatnonzero(np.isfinite(misfit))
    calm = told[~moving[told]]
    if len(calm) < FEWEST:
        return np.zeros_like(moving)
    x, y = pixels.T
    away = (x[:, None] - x[told]) ** 2 + (y[:, None] - y[told]) ** 2
    beside = np.argpartition(away, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    usual = max(float(np.median(misfit[calm])), SWAYING if moving.any() else USUAL)
    found = np.median(misfit[told][beside], axis=1) > STRAY * usual
    share = found[told].mean()  # the others only follow
    if share > MOST or (share < LEAST and not moving.any()):
        return moving
    return found
