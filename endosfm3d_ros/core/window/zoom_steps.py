# SPDX-License-Identifier: Apache-2.0
"""
How far the zoom moves from keyframe to keyframe, where no rim shows it: mostly not at all.

An advance into a scene whose relief is misjudged looks like a slow zoom, so a prior that lets the
zoom wander a little all the time takes it for one. Here it either rests, or it runs; it is asked
which of these two priors expected what tracks say. A zoom that runs keeps its rate, more or less:
that is what tells a slow one from rest, since tracks know much better how a step differs from the
next than what all of them have in common. And what a step was when tracks told it best, just
after it was made, is kept: by the time it is the window's oldest few of its points are left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

REST = 3e-4  # of log zoom, a frame at rest: what is left to it
RUNS = 0.012  # of log zoom, a frame, where it runs
SLOW = 0.0015, 0.005  # of log zoom, a frame: must be ruled out where a rest is believed
BEGINS, GOES_ON = 0.05, 0.5  # how often a frame runs after a rest, and after one that ran
SELDOM = 0.15  # of the time a zoom runs
CHANGES = 0.1  # how often a zoom begins to run, or to rest, from one step to the next
STEADY = 0.8  # of the variance of a zoom that runs is its rate's, which it keeps; the rest wavers
UNLIKELY = 0.3  # a step is said to rest where it runs with a smaller probability
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
) -> tuple[list[ZoomStep], np.ndarray]:
    """
    Steps after an adjustment: by the tracks, what was believed before taken out of it.

    :param steps: the N that it began with; believed (N, 2): of `Views`; frames: (N,) of each.
    :param log_focal: (N + 1,) it ended with; covariance (N + 1, N + 1) and `lever` of them, see
        `Solution`; error: times as far off, in sigmas, as tracks say.
    :return: the steps, and (N, N) how hard those that were held at rest may have pulled at the
        adjustment, wrongly: squares of what hides in them over the variance they were held with.
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
    weighed = Weighed.of(ways, covariance, frames)
    out = []
    for step, chance, way, sigma in zip(
        steps, weighed.runs, ways, np.sqrt(covariance.diagonal()), strict=True
    ):
        better = {'told': float(way), 'sigma': float(sigma)} if sigma < step.sigma else {}
        out.append(replace(step, runs=bool(chance > UNLIKELY), **better))
    held = np.array([not step.runs for step in steps]) / prior
    return out, held[:, None] * weighed.squares * held


@dataclass(frozen=True)
class Weighed:
    """
    All patterns of rest and run that change twice at most, at a few rates, weighed together.

    A rest that is none falsifies the focal length, while a run that is none only measures a rest:
    so a step is said to run where that is less probable than not. What hides in the steps that are
    said to rest is told with them.

    :param runs: (N,) chance that the zoom ran in the steps between keyframes.
    :param squares: (N, N) expected products of the steps' log zoom, by all patterns.
    """

    runs: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, ways: np.ndarray, covariance: np.ndarray, frames: np.ndarray) -> 'Weighed':
        """
        Weigh what tracks say.

        :param ways: (N,) of log zoom, as measured without either prior; covariance (N, N) of them.
        :param frames: (N,) that each step took.
        """
        patterns, together = _patterns(len(ways))
        rest = np.where(patterns, 0.0, (REST * frames) ** 2)[:, :, None] * np.eye(len(ways))
        prior = np.concatenate(  # (P, N, N), at each of the rates: what wavers is a share of it
            [rest + together * np.outer(rate * frames, rate * frames) for rate in SLOW]
        )
        patterns = np.concatenate([patterns] * len(SLOW))
        root = np.linalg.cholesky(prior + covariance)
        known = np.linalg.solve(root, np.concatenate([prior, np.broadcast_to(
            ways[:, None], (len(prior), len(ways), 1))], axis=2))  # fmt: skip
        by_prior, white = known[..., :-1], known[..., -1]
        odds = -0.5 * (white**2).sum(1) - np.log(np.einsum('pnn->pn', root)).sum(1)
        changes = (patterns[:, 1:] != patterns[:, :-1]).sum(1)
        odds += changes * np.log(CHANGES / (1.0 - CHANGES))
        odds += patterns[:, 0] * np.log(SELDOM / (1.0 - SELDOM))
        weight = np.exp(odds - odds.max())
        weight /= weight.sum()
        mean = np.einsum('pkn,pk->pn', by_prior, white)
        spread = prior - by_prior.transpose(0, 2, 1) @ by_prior
        squares = (weight * mean.T) @ mean + np.tensordot(weight, spread, 1)
        return cls(weight @ patterns, squares)


@lru_cache(maxsize=32)
def _patterns(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(P, count) bool: all that change twice at most; how running steps of each correlate."""
    place = np.arange(count)
    some = {
        tuple(((place >= first) & (place < last)) != inside)
        for first in range(count + 1)
        for last in range(first, count + 1)
        for inside in (False, True)
    }
    patterns = np.array(sorted(some), bool)
    run = np.cumsum(np.diff(patterns, axis=1, prepend=patterns[:, :1]), axis=1)
    same = (run[:, :, None] == run[:, None, :]) & patterns[:, :, None]
    return patterns, same * (STEADY + (1.0 - STEADY) * np.eye(count))
