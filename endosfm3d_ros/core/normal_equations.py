# SPDX-License-Identifier: Apache-2.0
"""
One step of a bundle adjustment: its normal equations, points eliminated (Schur complement).

Triggs et al. 2000, "Bundle Adjustment: A Modern Synthesis", section 6.
"""

from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.scene import DISTORTION, POSE, RELIEF, SHARED


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

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        The Schur complement on the cameras, and what leads back to the points: the inverses of
        their blocks' Cholesky factors (N, 3, 3), and those times W.
        """
        diagonal = np.einsum('nii->ni', self.H_points)
        H_points = self.H_points + np.eye(3) * (damping * diagonal + 1e-9)[:, None, :]
        root = np.linalg.inv(np.linalg.cholesky(H_points))
        white = root @ self.W
        flat = white.reshape(-1, white.shape[2])
        S = self.H - flat.T @ flat
        S[np.diag_indices_from(S)] += damping * np.diag(self.H)
        return S, root, white

    def solved(self, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """The step of the cameras (C,) and of the points (N, 3)."""
        S, root, white = self.reduced(damping)
        right = np.einsum('npq,nq->np', root, self.b_points)
        flat = white.reshape(-1, white.shape[2])
        step = -np.linalg.solve(S, self.b - right.ravel() @ flat)
        back = right + (flat @ step).reshape(right.shape)
        return step, -np.einsum('nqp,nq->np', root, back)

    def covariance(self, relief_sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Of all camera unknowns, its `lever`, and the `pull` of the distortion, see `Solution`; rows
        and columns of the held pose and of relief are zero.
        """
        S, root, white = self.reduced(0.0)
        right = np.einsum('npq,nq->np', root, self.b_points)
        b = self.b - right.ravel() @ white.reshape(-1, len(S))
        relief = len(S) - SHARED + RELIEF
        free = np.r_[POSE.stop : relief, relief + 1 : len(S)]
        estimated = np.linalg.inv(S[np.ix_(free, free)])
        lever = np.zeros(len(S))
        lever[free] = estimated @ S[free, relief] * relief_sigma
        out = np.outer(lever, lever)
        out[np.ix_(free, free)] += estimated
        bent = len(S) - SHARED + DISTORTION
        return out, lever, -out[bent] * b[bent]
