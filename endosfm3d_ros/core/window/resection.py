# SPDX-License-Identifier: Apache-2.0
"""Where the camera stands, and its focal length, from points that are known: one frame's pose."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from endosfm3d_ros.core.adjustment.reprojection import pose_equations_of
from endosfm3d_ros.core.adjustment.scene import NEAREST_MM
from endosfm3d_ros.core.geometry import motion_from_vector, nearest_rotation
from endosfm3d_ros.core.lens import distorted, undistorted

KERNEL = 2.5  # sigmas beyond which a residual loses its say (Cauchy)
INLIER_SIGMAS = 5.0
MIN_INLIERS = 12
MIN_SHARE = 0.3  # of the points must agree, or the pose is not known
ITERATIONS = 8
SETTLED = 2e-5  # of turn [rad] and log focal: a small part of what a track tells
RANSAC_PX = 4.0  # sigmas: what RANSAC takes for an inlier


@dataclass(frozen=True)
class Resection:
    """
    A camera's place among known points.

    :param T_cam_world: (4, 4) [mm].
    :param log_focal: [log px].
    :param covariance: (7, 7): a small motion of the camera's frame (turn [rad], shift [mm]), then
        log focal; the points taken as exact.
    :param agree: (N,) bool, points that fit.
    :param known: False where too few do.
    :param pixel_rms: spread of the residuals that fit [px].
    """

    T_cam_world: np.ndarray
    log_focal: float
    covariance: np.ndarray
    agree: np.ndarray
    known: bool
    pixel_rms: float

    def at_focal(self, log_focal: float, sigma: float) -> 'Resection':
        """The same, when the focal length is known better than it tells."""
        C = self.covariance
        gain = C[:, 6] / (C[6, 6] + sigma**2)
        step = gain * (log_focal - self.log_focal)
        turn = cv2.Rodrigues(step[:3])[0]
        T = self.T_cam_world.copy()
        T[:3, :3] = nearest_rotation(turn @ T[:3, :3])
        T[:3, 3] = turn @ T[:3, 3] + step[3:6]
        return replace(
            self,
            T_cam_world=T,
            log_focal=self.log_focal + float(step[6]),
            covariance=C - np.outer(gain, C[6]),
        )


def resect(
    points: np.ndarray,
    pixels: np.ndarray,
    centre: np.ndarray,
    sigma_px: float,
    start: np.ndarray,
    log_focal: float,
    log_focal_sigma: float,
    distortion: float = 0.0,
    fewest: int = MIN_INLIERS,
    least: float = MIN_SHARE,
) -> Resection:
    """
    Fit pose and focal length robustly (Gauss-Newton with Cauchy weights); RANSAC where the start
    is far off.

    :param points: (N, 3) in the world [mm]; pixels: (N, 2) where they are seen [px].
    :param centre: (2,) principal point [px].
    :param sigma_px: of a pixel coordinate.
    :param start: (4, 4) T_cam_world to begin with.
    :param log_focal: believed [log px], and its sigma.
    :param distortion: of the lens, see `lens.py`.
    :param fewest: points that must agree, and the least share of them, or the pose is not known.
    """
    if len(points) < fewest:
        return _unknown(start, log_focal, len(points))
    points, pixels, centre = (np.ascontiguousarray(x, float) for x in (points, pixels, centre))
    problem = _Problem(points, pixels, centre, float(sigma_px), float(distortion), fewest, least)
    found = problem.fitted(start, log_focal, log_focal_sigma)
    if found.agree.mean() < 2 * MIN_SHARE:
        again = problem.by_ransac(log_focal)
        if again is not None:
            other = problem.fitted(again, log_focal, log_focal_sigma)
            found = other if other.agree.sum() > found.agree.sum() else found
    return found


@dataclass(frozen=True)
class _Problem:
    """What is seen of known points, and the lens; see `resect`."""

    points: np.ndarray
    pixels: np.ndarray
    centre: np.ndarray
    sigma_px: float
    distortion: float
    fewest: int
    least: float

    def fitted(self, start: np.ndarray, prior: float, prior_sigma: float) -> Resection:
        """Go downhill from a start (4, 4); the log focal length has a prior."""
        R, t = np.array(start[:3, :3], float), np.array(start[:3, 3], float)
        log_focal = float(prior)
        H = np.eye(7)
        for _ in range(ITERATIONS):
            H, b = pose_equations_of(
                self.points, self.pixels, R, t, log_focal, self.centre, self.distortion,
                self.sigma_px, KERNEL,
            )  # fmt: skip
            H[6, 6] += prior_sigma**-2
            b[6] += (log_focal - prior) / prior_sigma**2
            H[np.arange(7), np.arange(7)] *= 1.0 + 1e-9
            step = -np.linalg.lstsq(H, b, rcond=None)[0]
            turn = cv2.Rodrigues(step[:3])[0]
            R, t = turn @ R, turn @ t + step[3:6]
            log_focal += float(np.clip(step[6], -0.2, 0.2))
            if np.abs(step[[0, 1, 2, 6]]).max() < SETTLED:
                break
        X, r = self.residuals(R, t, log_focal)
        distance = np.hypot(r[:, 0], r[:, 1])
        agree = (distance < INLIER_SIGMAS * self.sigma_px) & (X[:, 2] > NEAREST_MM)
        rms = float(1.4826 * np.median(np.abs(r[agree]))) if agree.any() else np.inf
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = nearest_rotation(R), t
        enough = agree.sum() >= self.fewest and agree.mean() >= self.least
        known = bool(enough and np.isfinite(T).all())
        covariance = np.linalg.pinv(H, hermitian=True) * max(1.0, (rms / self.sigma_px) ** 2)
        return Resection(T, log_focal, covariance, agree, known, rms)

    def residuals(
        self, R: np.ndarray, t: np.ndarray, log_focal: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points in the camera (N, 3), and how far their pixels are off (N, 2) [px]."""
        X = self.points @ R.T + t
        X[:, 2] = np.maximum(X[:, 2], NEAREST_MM)
        image = distorted(X[:, :2] / X[:, 2:], self.distortion)
        return X, self.centre + np.exp(log_focal) * image - self.pixels

    def by_ransac(self, log_focal: float) -> np.ndarray | None:
        """(4, 4) T_cam_world that most points agree with; None where too few do."""
        f = float(np.exp(log_focal))
        image = undistorted((self.pixels - self.centre) / f, self.distortion)
        found, r, t, inliers = cv2.solvePnPRansac(
            self.points.astype(np.float64),
            f * image.astype(np.float64),
            np.diag([f, f, 1.0]),
            None,
            iterationsCount=300,
            reprojectionError=RANSAC_PX * self.sigma_px,
            confidence=0.999,
            flags=cv2.SOLVEPNP_AP3P,  # of four points: cheaper, and more of its samples are clean
        )
        if not found or inliers is None or len(inliers) < MIN_INLIERS:
            return None
        return motion_from_vector(r, t)


def _unknown(start: np.ndarray, log_focal: float, count: int) -> Resection:
    return Resection(start, log_focal, np.eye(7), np.zeros(count, bool), False, np.inf)
