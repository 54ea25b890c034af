# SPDX-License-Identifier: Apache-2.0
"""
How far the focal lengths and the centre are from the truth over time, never rescaled; and the
zoom's lag.
"""

from dataclasses import dataclass

import numpy as np

STILL_ZOOM = 1e-3
LONGEST_LAG_S = 1.0


@dataclass(frozen=True)
class IntrinsicsErrors:
    """
    Errors of K over a run, relative to the truth of the same moment.

    :param frames: moments compared.
    :param fx: mean of |fx - fx*| / fx*.
    :param fy: mean of |fy - fy*| / fy*.
    :param cx: mean of |cx - cx*| / cx*.
    :param cy: mean of |cy - cy*| / cy*.
    :param focal_bias: mean of f / f* - 1 with f = sqrt(fx fy): a sign shows the direction.
    :param focal_worst: largest |f / f* - 1|.
    :param zoom: RMS of z / z* - 1, where z is f over f at the first moment compared.
    :param zoom_correlation: of log z with log z*; None where either stands still.
    :param zoom_lag: how late z is [s], by cross-correlation; None where either stands still.
    """

    frames: int
    fx: float
    fy: float
    cx: float
    cy: float
    focal_bias: float
    focal_worst: float
    zoom: float
    zoom_correlation: float | None
    zoom_lag: float | None


def intrinsics_errors(stamps: np.ndarray, K: np.ndarray, K_true: np.ndarray) -> IntrinsicsErrors:
    """
    Compare K with the truth.

    :param stamps: (N,) times, rising [s].
    :param K: (N, 3, 3) estimate [px].
    :param K_true: (N, 3, 3) truth of the same picture size [px].
    """
    if K.shape != K_true.shape or len(stamps) != len(K) or not len(K):
        raise ValueError(
            f'K is {K.shape}, its truth {K_true.shape}, with {len(stamps)} stamps: need one each'
        )
    focal, focal_true = focal_length(K), focal_length(K_true)
    ratio = focal / focal_true
    zoom, zoom_true = focal / focal[0], focal_true / focal_true[0]
    return IntrinsicsErrors(
        frames=len(K),
        **{name: float(values.mean()) for name, values in relative_errors(K, K_true).items()},
        focal_bias=float(np.mean(ratio - 1)),
        focal_worst=float(np.max(np.abs(ratio - 1))),
        zoom=float(np.sqrt(np.mean((zoom / zoom_true - 1) ** 2))),
        zoom_correlation=_correlation(np.log(zoom), np.log(zoom_true)),
        zoom_lag=lag(stamps, np.log(zoom), np.log(zoom_true)),
    )


def relative_errors(K: np.ndarray, K_true: np.ndarray) -> dict[str, np.ndarray]:
    """|k / k* - 1| of every moment (N,), by name: fx, fy, cx, cy."""
    return {
        name: np.abs(K[:, row, column] / K_true[:, row, column] - 1)
        for name, row, column in (('fx', 0, 0), ('fy', 1, 1), ('cx', 0, 2), ('cy', 1, 2))
    }


def focal_length(K: np.ndarray) -> np.ndarray:
    """One focal length per camera, sqrt(fx fy), (N,) [px]."""
    return np.sqrt(K[:, 0, 0] * K[:, 1, 1])


def lag(stamps: np.ndarray, found: np.ndarray, target: np.ndarray) -> float | None:
    """
    How much later `found` does what `target` does: the shift of best correlation over what
    overlaps.

    :param stamps: (N,) times, rising, gaps allowed [s].
    :param found: (N,).
    :param target: (N,).
    :return: seconds, positive when found is late, at most one second or half the run; None where a
        curve stands still, so that no lag can be told.
    """
    if len(stamps) < 8 or np.ptp(found) < STILL_ZOOM or np.ptp(target) < STILL_ZOOM:
        return None
    step = float(np.median(np.diff(stamps)))
    grid = np.arange(stamps[0], stamps[-1] + step / 2, step)
    found, target = np.interp(grid, stamps, found), np.interp(grid, stamps, target)
    longest = min(int(LONGEST_LAG_S / step), len(grid) // 2)
    shifts = np.array(
        sorted(range(-longest, longest + 1), key=abs)
    )  # of equal answers the smallest shift wins
    scores = {int(shift): _shifted_correlation(found, target, int(shift)) for shift in shifts}
    best = max(scores, key=lambda shift: round(scores[shift], 9))
    if -longest < best < longest:
        before, here, after = scores[best - 1], scores[best], scores[best + 1]
        bend = before - 2 * here + after
        return float((best + (0.5 * (before - after) / bend if bend < -1e-12 else 0.0)) * step)
    return float(best * step)


def _shifted_correlation(found: np.ndarray, target: np.ndarray, shift: int) -> float:
    """
    Correlation of found[k + shift] with target[k] over what overlaps; -1 where it does not
    exist.
    """
    late, early = (
        (found[shift:], target[: len(target) - shift])
        if shift >= 0
        else (found[:shift], target[-shift:])
    )
    correlation = _correlation(late, early)
    return -1.0 if correlation is None else correlation


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's; None where either stands still."""
    if len(a) < 3 or np.ptp(a) < STILL_ZOOM or np.ptp(b) < STILL_ZOOM:
        return None
    return float(np.corrcoef(a, b)[0, 1])
