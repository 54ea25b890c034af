# SPDX-License-Identifier: Apache-2.0
"""What is believed of a window, as rows of its least-squares problem."""

import numpy as np

from endosfm3d_ros.core.adjustment.normal_equations import NormalEquations
from endosfm3d_ros.core.adjustment.scene import (
    BENDS,
    DISTORTION,
    FOCAL,
    PER_VIEW,
    POSE,
    REFERENCE,
    SCALE,
    SHARED,
    Beliefs,
    Scene,
    Views,
)

TIED = 1e-4  # sigma of what is held or equal
WALL = 0.1  # of log focal, see `Beliefs.longest`


class Priors:
    """Everything believed, as rows slopes @ unknowns = target, each with its sigma."""

    def __init__(self, views: Views, beliefs: Beliefs) -> None:
        self.K = K = len(views.log_zoom)
        self._rows: list[tuple[dict[int, float], float, float]] = []  # slopes, target, sigma
        shared = PER_VIEW * K
        self._longest = beliefs.longest
        self._reference = reference = shared + REFERENCE
        for bend, sigma in enumerate(beliefs.bend_sigma, shared + BENDS.start):
            self._row({bend: 1.0}, 0.0, float(sigma))
        whiten = np.linalg.inv(np.linalg.cholesky(beliefs.lens_covariance))
        for (a, b, c, u, v), target in zip(whiten.tolist(), whiten @ beliefs.lens, strict=True):
            slopes = {reference: a - b, FOCAL: b, shared + DISTORTION: c}
            self._row(slopes | {shared: u, shared + 1: v}, float(target), 1.0)
        measured = np.isfinite(views.log_zoom).tolist()
        for k in range(K):
            if measured[k]:
                slopes = {PER_VIEW * k + FOCAL: 1.0, reference: -1.0}
                self._row(slopes, float(views.log_zoom[k]), float(views.log_zoom_sigma[k]))
        mean = {PER_VIEW * k + SCALE: 1.0 / K for k in range(K)}
        self._row(mean, beliefs.log_scale, beliefs.log_scale_sigma)
        for held in range(POSE.start, POSE.stop):
            self._row({held: 1.0}, 0.0, TIED)
        self._jumping = len(self._rows)  # from here on
        for k in range(K - 1):
            here, ahead = PER_VIEW * k, PER_VIEW * (k + 1)
            self._row({ahead + SCALE: 1.0, here + SCALE: -1.0}, 0.0, beliefs.scale_flicker)
            step, sigma = views.zoom_steps[k].tolist()
            if np.isfinite(sigma):
                self._row({ahead + FOCAL: 1.0, here + FOCAL: -1.0}, step, sigma)
        self._slopes = np.zeros((len(self._rows), shared + SHARED))
        for at, (row, _, _) in enumerate(self._rows):
            self._slopes[at, list(row)] = list(row.values())
        self._target = np.array([target for _, target, _ in self._rows])
        self._sigma = np.array([sigma for _, _, sigma in self._rows])

    def _row(self, slopes: dict[int, float], target: float, sigma: float) -> None:
        self._rows.append((slopes, target, sigma))

    def cost(self, scene: Scene) -> float:
        """Squares of the errors, over their sigmas; of what jumps, |x| beyond one sigma."""
        off = np.abs(self._off(scene) / self._sigma)
        jumps = off[self._jumping :]
        far = jumps > 1.0
        wall = max(self._beyond(scene), 0.0)
        return float(off @ off - ((jumps[far] - 1.0) ** 2).sum() + wall**2)

    def walled(self, system: NormalEquations, scene: Scene) -> NormalEquations:
        """The same that turns back from a focal length beyond the longest."""
        beyond = self._beyond(scene)
        return system if beyond <= 0.0 else system.pulled(self._reference, beyond, WALL)

    def _beyond(self, scene: Scene) -> float:
        return (float(scene.shared[REFERENCE]) - self._longest) / WALL

    def at(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """
        Whitened errors at this scene, and their Jacobian (rows, C): half the slope of the cost.
        """
        off, sigma = self._off(scene), self._sigma.copy()
        # a zoom rests, or runs; a network's scale stays, or jumps as a tool comes in: |x|
        jumps = sigma[self._jumping :]
        jumps *= np.sqrt(np.maximum(1.0, np.abs(off[self._jumping :]) / jumps))
        return off / sigma, self._slopes / sigma[:, None]

    def _off(self, scene: Scene) -> np.ndarray:
        """(rows,) errors at this scene."""
        unknowns = np.zeros(self._slopes.shape[1])
        views = unknowns[: PER_VIEW * self.K].reshape(self.K, PER_VIEW)
        views[:, FOCAL], views[:, SCALE] = scene.log_focal, scene.log_scale
        unknowns[PER_VIEW * self.K :] = scene.shared
        return np.asarray(self._slopes @ unknowns - self._target)
