# SPDX-License-Identifier: Apache-2.0
"""
How far a depth image is from the truth, as the field scores it, and what a constant would score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEAREST_MM = 1e-3
FARTHEST_MM = 150.0
DELTA = 1.25


@dataclass(frozen=True)
class DepthErrors:
    """
    Errors of a depth image, or the mean over the images of a run.

    :param frames: images that were scored.
    :param abs_rel: mean of |d - d*| / d*.
    :param sq_rel: mean of (d - d*)^2 / d* [mm].
    :param rmse: root mean square of d - d* [mm].
    :param rmse_log: root mean square of log d - log d*.
    :param delta1: share of pixels with max(d / d*, d* / d) < 1.25.
    :param delta2: the same below 1.25^2.
    :param delta3: the same below 1.25^3.
    :param scale: ratio of medians, truth over estimate, applied or not; over a run their
        geometric mean.
    :param scale_spread: standard deviation of the log of that ratio over a run: 0 when all depth
        images share one scale.
    :param coverage: share of the pixels with truth for which the estimate says something.
    """

    frames: int
    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    delta1: float
    delta2: float
    delta3: float
    scale: float
    scale_spread: float
    coverage: float


def depth_errors(
    estimate: np.ndarray,
    truth: np.ndarray,
    nearest: float = NEAREST_MM,
    farthest: float = FARTHEST_MM,
    median_scaling: bool = True,
) -> DepthErrors | None:
    """
    Score one depth image after scaling it by the ratio of medians (Eigen et al. 2014; Zhou et al.
    2017).

    :param estimate: (h, w) z-depth in any unit; NaN where unknown.
    :param truth: (h, w) z-depth [mm]; NaN where unknown.
    :param nearest: truth at or below is not scored, and scaled depth is clipped here [mm].
    :param farthest: truth at or beyond is not scored, and scaled depth is clipped here [mm].
    :param median_scaling: False takes the estimate's millimetres at their word.
    :return: the errors; None where no pixel has both truth and an estimate.
    """
    if estimate.shape != truth.shape:
        raise ValueError(
            f'depth is {estimate.shape}, its truth {truth.shape}: bring them to one size first'
        )
    asked = asked_for(truth, nearest, farthest)
    scored = asked & np.isfinite(estimate) & (estimate > 0)
    if not scored.any():
        return None
    target = truth[scored].astype(np.float64)
    found = estimate[scored].astype(np.float64)
    scale = float(np.median(target) / np.median(found))
    found = np.clip(found * scale if median_scaling else found, nearest, farthest)
    ratio = np.maximum(found / target, target / found)
    return DepthErrors(
        frames=1,
        abs_rel=float(np.mean(np.abs(found - target) / target)),
        sq_rel=float(np.mean((found - target) ** 2 / target)),
        rmse=float(np.sqrt(np.mean((found - target) ** 2))),
        rmse_log=float(np.sqrt(np.mean(np.log(found / target) ** 2))),
        delta1=float(np.mean(ratio < DELTA)),
        delta2=float(np.mean(ratio < DELTA**2)),
        delta3=float(np.mean(ratio < DELTA**3)),
        scale=scale,
        scale_spread=0.0,
        coverage=float(scored.sum() / asked.sum()),
    )


def asked_for(truth: np.ndarray, nearest: float, farthest: float) -> np.ndarray:
    """The pixels of a truth (h, w) [mm] that an estimate is scored on, (h, w) bool."""
    return np.isfinite(truth) & (truth > nearest) & (truth < farthest)


def constant_depth_errors(
    estimate: np.ndarray,
    truth: np.ndarray,
    nearest: float = NEAREST_MM,
    farthest: float = FARTHEST_MM,
) -> DepthErrors | None:
    """
    Score a flat wall, scaled the same way, on exactly the pixels that `estimate` speaks about.
    """
    wall = np.where(np.isfinite(estimate) & (estimate > 0), 1.0, np.nan)
    return depth_errors(wall, truth, nearest, farthest)


def mean_depth_errors(errors: Sequence[DepthErrors], silent: int = 0) -> DepthErrors | None:
    """
    Average over images, each image counting once; None of nothing.

    :param silent: further images, with truth, that said nothing: they count in coverage.
    """
    if not errors:
        return None
    log_scales = np.log([one.scale for one in errors])

    def mean(name: str) -> float:
        return float(np.mean([getattr(one, name) for one in errors]))

    return DepthErrors(
        frames=len(errors),
        abs_rel=mean('abs_rel'),
        sq_rel=mean('sq_rel'),
        rmse=mean('rmse'),
        rmse_log=mean('rmse_log'),
        delta1=mean('delta1'),
        delta2=mean('delta2'),
        delta3=mean('delta3'),
        scale=float(np.exp(log_scales.mean())),
        scale_spread=float(log_scales.std()),
        coverage=mean('coverage') * len(errors) / (len(errors) + silent),
    )
