# SPDX-License-Identifier: Apache-2.0
"""
How far the zoom moves from keyframe to keyframe, where no rim shows it: mostly not at all.

An advance into a scene whose relief is misjudged looks like a slow zoom, so a prior that lets the
zoom wander a little all the time takes it for one. Here it either rests, or it runs; it is asked
which of these two priors expected what tracks say. And what a step was when tracks told it best,
just after it was made, is kept: by the time it is the window's oldest few of its points are left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

REST = 3e-4  # of log zoom, a frame at rest: what is left to it
RUNS = 0.012  # of log zoom, a frame, where it runs
SLOW = 0.005  # of log zoom, a frame: a zoom like this must be ruled out where a rest is believed
BEGINS, GOES_ON = 0.05, 0.5  # how often a frame runs after a rest, and after one that ran
CHANGES = 0.1  # how often a zoom begins to run, or to rest, from one step to the next
UNLIKELY = 0.1  # a step is only said to rest where it runs with a smaller probability
LOOSEST = 1.0  # sigma of a step that tracks do not tell


@dataclass(frozen=True)
class ZoomStep:
    """
    Log zoom from one keyframe to the next.

    :param runs: for all one knows; else it rests.
    :param told: by tracks, when they told it best; sigma of it, infinite before they were asked.
    """

    runs: bool = False
    told: float = 0.0
    sigma: float = np.inf

    def believed(self, frames: int) -> tuple[float, float]:
        """What an adjustment begins with, and sigma; frames: that the step took."""
        if not self.runs:
            return 0.0, REST * frames
        return (self.told, self.sigma) if self.sigma < RUNS * frames else (0.0, RUNS * frames)


def rests(way: float, variance: float, frames: int, share: float) -> bool:
    """
    Tell whether the zoom of one frame more probably rests than runs.

    :param way: of log zoom since a keyframe, as measured without either prior; variance of it.
    :param frames: since then; share: how often such a step runs.
    """
    narrow, wide = variance + (REST * frames) ** 2, variance + (RUNS * frames) ** 2
    surprise = way**2 * (1.0 / narrow - 1.0 / wide)
    return bool(surprise < np.log(wide / narrow) + 2.0 * np.log((1.0 - share) / share))


def asked(
    steps: Sequence[ZoomStep],
    believed: np.ndarray,
    frames: np.ndarray,
    log_focal: np.ndarray,
    covariance: np.ndarray,
    lever: np.ndarray,
    error: float,
) -> list[ZoomStep]:
    """
    Steps after an adjustment: by the tracks, what was believed before taken out of it.

    :param steps: the N that it began with; believed (N, 2): of `Views`; frames: (N,) of each.
    :param log_focal: (N + 1,) it ended with; covariance (N + 1, N + 1) and `lever` of them, see
        `Solution`; error: times as far off, in sigmas, as tracks say.
    """
    ways, spread = np.diff(log_focal), np.diff(np.diff(covariance, axis=0), axis=1)
    lever = np.diff(lever)
    means, sigmas = believed.T
    prior = sigmas**2 * np.maximum(1.0, np.abs(ways - means) / sigmas)  # |x|, as `Priors` has it
    both = np.linalg.inv(spread - np.outer(lever, lever))
    values, vectors = np.linalg.eigh(both - np.diag(1.0 / prior))
    tracks = (vectors / np.maximum(values, LOOSEST**-2)) @ vectors.T
    ways = tracks @ (both @ ways - means / prior)
    lever = tracks @ both @ lever
    covariance = error**2 * tracks + np.outer(lever, lever)
    out = []
    for step, run, way, sigma in zip(
        steps, runs(ways, covariance, frames), ways, np.sqrt(covariance.diagonal()), strict=True
    ):
        better = {'told': float(way), 'sigma': float(sigma)} if sigma < step.sigma else {}
        out.append(replace(step, runs=bool(run), **better))
    return out


def runs(ways: np.ndarray, covariance: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """
    Tell of the steps between keyframes which ones run.

    All patterns of rest and run that change twice at most are weighed against each other. A rest
    has to be shown: where even a slow zoom could hide, the zoom is said to run. A rest that is
    none falsifies the focal length, a run that is none only measures a rest.

    :param ways: (N,) of log zoom, as measured without either prior; covariance (N, N) of them.
    :param frames: (N,) that each step took.
    :return: (N,) bool.
    """
    patterns = _patterns(len(ways))
    sigma = np.where(patterns, SLOW, REST) * frames
    root = np.linalg.cholesky(covariance + sigma[:, None] ** 2 * np.eye(len(ways)))
    white = np.linalg.solve(root, np.broadcast_to(ways, sigma.shape)[..., None])[..., 0]
    odds = -0.5 * (white**2).sum(1) - np.log(np.einsum('pnn->pn', root)).sum(1)
    changes = (patterns[:, 1:] != patterns[:, :-1]).sum(1)
    odds += changes * np.log(CHANGES / (1.0 - CHANGES))
    weight = np.exp(odds - odds.max())
    return np.asarray(weight @ patterns > UNLIKELY * weight.sum())


@lru_cache(maxsize=32)
def _patterns(count: int) -> np.ndarray:
    """(P, count) bool: all that change twice at most."""
    place = np.arange(count)
    some = {
        tuple(((place >= first) & (place < last)) != inside)
        for first in range(count + 1)
        for last in range(first, count + 1)
        for inside in (False, True)
    }
    return np.array(sorted(some), bool)
