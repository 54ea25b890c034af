# SPDX-License-Identifier: Apache-2.0
"""The camera's path: a chain of small motions with its covariance, in epochs."""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Motion
from endosfm3d_ros.core.geometry import R_BODY_OPTICAL, nearest_rotation, rigid, skew


def _origin() -> np.ndarray:
    return rigid(R_BODY_OPTICAL, np.zeros(3))


MOST_MM, MOST_RAD = (
    1000.0,
    np.pi,
)  # standard deviation of a place of which nothing is known any more


@dataclass(frozen=True)
class Trajectory:
    """
    Where the camera is since the epoch began, and how an error common to all steps would move it.

    :param T_odom_cam: (4, 4) float64, maps points of the camera into odom (x along the first view,
        z up) [mm].
    :param covariance: (6, 6) of it from errors that are new in every step, as a small motion in
        odom's axes: translation [mm], rotation [rad].
    :param focal_lever: (6,) how the place moves with the log of all focal lengths, likewise.
    :param epoch: counts restarts; poses of different epochs have nothing to do with each other.
    """

    T_odom_cam: np.ndarray = field(default_factory=_origin)
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((6, 6)))
    focal_lever: np.ndarray = field(default_factory=lambda: np.zeros(6))
    epoch: int = 0

    def advance(self, motion: Motion) -> 'Trajectory':
        """
        Chain one motion; its covariance, given in the camera's own frame, is turned and added.

        With R, t of T_odom_cam and the step T_prev_cam, a small error (dp, dr) of the old place
        moves the new one by dp - [R t_step]x dr, dr (first order; Barfoot 2017, 7.3).
        """
        R = self.T_odom_cam[:3, :3]
        T_odom_cam = self.T_odom_cam @ motion.T_prev_cam
        T_odom_cam[:3, :3] = nearest_rotation(T_odom_cam[:3, :3])
        carry = np.eye(6)
        carry[:3, 3:] = -skew(R @ motion.T_prev_cam[:3, 3])
        turn = np.kron(np.eye(2), T_odom_cam[:3, :3])
        covariance = carry @ self.covariance @ carry.T + turn @ motion.covariance @ turn.T
        return replace(
            self,
            T_odom_cam=T_odom_cam,
            covariance=_limited(covariance),
            focal_lever=carry @ self.focal_lever + turn @ focal_lever_of(motion),
        )

    def total_covariance(self, log_scale_sigma: float, log_focal_sigma: float) -> np.ndarray:
        """
        Covariance with what is common to all steps: the scale of depth, and the focal length.

        An error of depth's scale stretches the path from the epoch's origin.

        :param log_scale_sigma: standard deviation of the log of depth's scale.
        :param log_focal_sigma: standard deviation of the log of the focal length.
        :return: (6, 6), as a small motion in odom's axes: translation [mm], rotation [rad].
        """
        scale_lever = np.concatenate([self.T_odom_cam[:3, 3], np.zeros(3)])
        return _limited(
            self.covariance
            + log_scale_sigma**2 * np.outer(scale_lever, scale_lever)
            + log_focal_sigma**2 * np.outer(self.focal_lever, self.focal_lever)
        )

    def restart(self) -> 'Trajectory':
        """Open the next epoch at the origin."""
        return Trajectory(epoch=self.epoch + 1)


def focal_lever_of(motion: Motion) -> np.ndarray:
    """
    How a step moves with the log of the focal length, in the camera's own frame: (6,).

    Too long a focal length makes pans and sideways moves too small by its factor (pixels = f
    angle, pixels = f x / z); forward motion and roll do not depend on it.
    """
    T = motion.T_prev_cam
    t = T[:3, :3].T @ T[:3, 3]
    r = cv2.Rodrigues(T[:3, :3])[0].ravel()
    return np.array([-t[0], -t[1], 0.0, -r[0], -r[1], 0.0])


def step_covariance(motion: Motion, log_scale_sigma: float, log_focal_sigma: float) -> np.ndarray:
    """Covariance of one step with what is common to all: (6, 6) in the camera's own frame."""
    T, lever = motion.T_prev_cam, focal_lever_of(motion)
    scale_lever = np.concatenate([T[:3, :3].T @ T[:3, 3], np.zeros(3)])
    return (
        motion.covariance
        + log_scale_sigma**2 * np.outer(scale_lever, scale_lever)
        + log_focal_sigma**2 * np.outer(lever, lever)
    )


def _limited(covariance: np.ndarray) -> np.ndarray:
    """
    Nobody is farther off than MOST: standard deviations beyond it are pulled back, correlations
    kept.
    """
    sigma = np.sqrt(np.diag(covariance))
    most = np.array([MOST_MM] * 3 + [MOST_RAD] * 3)
    keep = np.minimum(1.0, most / np.maximum(sigma, 1e-12))
    return covariance * keep[:, None] * keep[None, :]
