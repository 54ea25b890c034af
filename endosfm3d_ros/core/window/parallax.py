# SPDX-License-Identifier: Apache-2.0
"""Whether tracks did more than a zoom does: what tells a focal length, and what only seems to."""

import numpy as np

from endosfm3d_ros.core.kernel import kernel

FEWEST = 20  # points that two keyframes share
ROUNDS = 4  # of reweighting
LITTLE_WAY = 0.015  # of a track's way: its systematic error, which no zoom tells from parallax
ENOUGH = 1.15  # times the errors of tracks
PLENTY = 10 * ENOUGH  # the variance is then 1 % larger at most: no other keyframe need be asked
A_ZOOM = 0.03  # of log scale between two pictures: below, nothing was zoomed


def zoom_doubt(pixels: np.ndarray, sigma_px: float, worse: float = 1.0) -> float:
    """
    Tell how far a window's pictures are one of them zoomed, turned and shifted, and no more: the
    oldest that shares points with the newest.

    A camera that rests and zooms shows no parallax; what an adjustment then learns of the focal
    length, it learns from the systematic errors of its tracks.

    :param pixels: (N, K, 2) of N points in K keyframes [px]; NaN where not seen.
    :param sigma_px: of a track [px]; worse: by how much tracks err more than usual.
    :return: by how much the variance of what such a window tells of the focal length is larger:
        1 where nothing was zoomed, little more where parallax stands out, and infinite where the
        scale of the picture changed and a similarity explains every keyframe as well as tracks can
        be told, or no other keyframe shares points with the newest.
    """
    zoomed, most, seen = False, 0.0, np.isfinite(pixels[..., 0])
    known = np.flatnonzero((seen & seen[:, -1:]).sum(axis=0) >= FEWEST)
    oldest = int(known[0]) if len(known) else seen.shape[1] - 1
    if oldest == seen.shape[1] - 1:
        return float('inf')
    for k in reversed(range(oldest + 1, seen.shape[1])):
        both = seen[:, oldest] & seen[:, k]
        if both.sum() < FEWEST:
            continue
        first, later = pixels[both, oldest], pixels[both, k]
        scale, rest = _similarity(first, later)
        way = float(np.median(np.linalg.norm(later - first, axis=1)))
        most = max(most, rest / (worse * float(np.hypot(sigma_px, LITTLE_WAY * way))))
        zoomed |= abs(float(np.log(max(scale, 1e-6)))) > A_ZOOM
        if zoomed and most > PLENTY:
            break
    if not zoomed:
        return 1.0
    return 1.0 / (1.0 - (ENOUGH / most) ** 2) if most > ENOUGH else float('inf')


@kernel
def _similarity(first: np.ndarray, later: np.ndarray) -> tuple[float, float]:
    """
    Fit later = s R first + t robustly, as one complex factor (Umeyama 1991 in the plane).

    :return: s, and the median distance that is left [px].
    """
    a, b = first[:, 0] + 1j * first[:, 1], later[:, 0] + 1j * later[:, 1]
    weight = np.ones(len(a))
    factor, distance = 1.0 + 0.0j, np.abs(b - a)
    for _ in range(ROUNDS):
        from_a = a - (weight * a).sum() / weight.sum()
        from_b = b - (weight * b).sum() / weight.sum()
        spread = max((weight * np.abs(from_a) ** 2).sum(), 1e-12)
        factor = (weight * np.conj(from_a) * from_b).sum() / spread
        distance = np.abs(from_b - factor * from_a)
        usual = 1.5 * np.median(distance) + 1e-6
        weight = 1.0 / (1.0 + (distance / usual) ** 2)
    return np.abs(factor), np.median(distance)
