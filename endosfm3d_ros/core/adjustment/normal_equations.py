# SPDX-License-Identifier: Apache-2.0
"""
One step of a bundle adjustment: its normal equations, points eliminated (Schur complement).

Triggs et al. 2000, "Bundle Adjustment: A Modern Synthesis", section 6.
"""

from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.adjustment.scene import DISTORTION, POSE, RELIEF, SHARED
from endosfm3d_ros.core.kernel import kernel

LEAST_CURVATURE = 1e-9  # of a point, so that each has a place


@dataclass(frozen=True)
class NormalEquations:
    """
    Normal equations: C unknowns of cameras, and N points on the side.

    :param H: (C, C); b: (C,); W: (N, 3, C); H_points: (N, 3, 3); b_points: (N, 3).
    """

    H: np.ndarray
    b: np.ndarray
    W: np.ndarray
    H_points: np.ndarray
    b_points: np.ndarray

    def holding(self, unknown: int) -> 'NormalEquations':
        """The same with an unknown of the cameras that stays where it is."""
        H, b, W = self.H.copy(), self.b.copy(), self.W.copy()
        H[unknown] = H[:, unknown] = b[unknown] = W[..., unknown] = 0.0
        H[unknown, unknown] = 1.0
        return replace(self, H=H, b=b, W=W)

    def pulled(self, unknown: int, off: float, sigma: float) -> 'NormalEquations':
        """The same with one row more: an unknown of the cameras that is `off` sigmas too large."""
        H, b = self.H.copy(), self.b.copy()
        H[unknown, unknown] += 1.0 / sigma**2
        b[unknown] += off / sigma
        return replace(self, H=H, b=b)

    def reduced(self, damping: float) -> tuple[np.ndarray, ...]:
        """
        The Schur complement on the cameras, S (C, C) and its right side (C,), and what leads back
        to the points, see `_eliminated`.
        """
        root, white, right = _eliminated(self.H_points, self.b_points, self.W, damping)
        flat = white.reshape(-1, white.shape[2])
        S = self.H - flat.T @ flat
        S[np.diag_indices_from(S)] += damping * np.diag(self.H)
        return S, self.b - right.ravel() @ flat, root, white, right

    def solved(self, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """The step of the cameras (C,) and of the points (N, 3)."""
        S, b, root, white, right = self.reduced(damping)
        step = -np.linalg.solve(S, b)
        return step, _led_back(root, white, right, step)

    def covariance(self, relief_sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Of all camera unknowns, its `lever`, and the `pull` of the distortion, see `Solution`; rows
        and columns of the held pose and of relief are zero.
        """
        S, b, *_ = self.reduced(0.0)
        relief = len(S) - SHARED + RELIEF
        free = np.r_[POSE.stop : relief, relief + 1 : len(S)]
        estimated = np.linalg.inv(S[np.ix_(free, free)])
        lever = np.zeros(len(S))
        lever[free] = estimated @ S[free, relief] * relief_sigma
        out = np.outer(lever, lever)
        out[np.ix_(free, free)] += estimated
        bent = len(S) - SHARED + DISTORTION
        return out, lever, -out[bent] * b[bent]


@kernel
def _eliminated(
    H_points: np.ndarray, b_points: np.ndarray, W: np.ndarray, damping: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The inverses of the points' damped blocks' Cholesky factors (N, 3, 3), and those times W (N, 3,
    C) and times b_points (N, 3); LinAlgError where a block has none.
    """
    root, white, right = np.zeros_like(H_points), np.empty_like(W), np.empty_like(b_points)
    more = 1.0 + damping
    for n in range(len(W)):
        H, b, of_cameras = H_points[n], b_points[n], W[n]
        l_00 = np.sqrt(H[0, 0] * more + LEAST_CURVATURE)
        l_10, l_20 = H[1, 0] / l_00, H[2, 0] / l_00
        l_11 = np.sqrt(H[1, 1] * more + LEAST_CURVATURE - l_10 * l_10)
        l_21 = (H[2, 1] - l_10 * l_20) / l_11
        l_22 = np.sqrt(H[2, 2] * more + LEAST_CURVATURE - l_20 * l_20 - l_21 * l_21)
        if not (l_00 > 0.0 and l_11 > 0.0 and l_22 > 0.0):  # NaN is not, either
            raise np.linalg.LinAlgError('a point that stands nowhere')
        r_00, r_11, r_22 = 1.0 / l_00, 1.0 / l_11, 1.0 / l_22
        r_10, r_21 = -l_10 * r_00 * r_11, -l_21 * r_11 * r_22
        r_20 = -(l_20 * r_00 + l_21 * r_10) * r_22
        r = root[n]
        r[0, 0], r[1, 0], r[1, 1], r[2, 0], r[2, 1], r[2, 2] = r_00, r_10, r_11, r_20, r_21, r_22
        right[n, 0] = r_00 * b[0]
        right[n, 1] = r_10 * b[0] + r_11 * b[1]
        right[n, 2] = r_20 * b[0] + r_21 * b[1] + r_22 * b[2]
        for c in range(W.shape[2]):
            x, y, z = of_cameras[0, c], of_cameras[1, c], of_cameras[2, c]
            white[n, 0, c] = r_00 * x
            white[n, 1, c] = r_10 * x + r_11 * y
            white[n, 2, c] = r_20 * x + r_21 * y + r_22 * z
    return root, white, right


@kernel
def _led_back(
    root: np.ndarray, white: np.ndarray, right: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """The step of the points (N, 3) that belongs to one of the cameras (C,)."""
    out = np.empty_like(right)
    for n in range(len(out)):
        r, by = root[n], white[n]
        x, y, z = right[n, 0], right[n, 1], right[n, 2]
        for c in range(len(step)):
            x += by[0, c] * step[c]
            y += by[1, c] * step[c]
            z += by[2, c] * step[c]
        out[n, 0] = -(r[0, 0] * x + r[1, 0] * y + r[2, 0] * z)
        out[n, 1] = -(r[1, 1] * y + r[2, 1] * z)
        out[n, 2] = -r[2, 2] * z
    return out
