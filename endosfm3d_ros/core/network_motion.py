# SPDX-License-Identifier: Apache-2.0
"""What a motion network says of two network pictures, and how far it is believed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics, Motion

STEP_SIGMA = 0.5  # a network's step is known to this share of itself ...
STEP_FLOOR_MM, STEP_FLOOR_RAD = 0.3, 0.005  # ... and never better than this
K_SIGMA = 0.25  # of the log of a network's focal length, before trained networks are measured
FOCAL_RANGE = (0.2, 5.0)  # fx / W of cameras that exist: 136 to 11 degrees across


@dataclass(frozen=True)
class NetworkMotion:
    """
    What a motion network says of two pictures.

    :param T_prev_cam: (4, 4) float64, maps points of the current camera into the previous one
        [mm, nominal].
    :param K: (4,) float64 fx/W, fy/H, n_x, n_y of the network picture, n_x = (cx + 1/2)/W.
    """

    T_prev_cam: np.ndarray
    K: np.ndarray

    def camera(self, width: int, height: int) -> Intrinsics:
        """The camera of a network picture of this size; ValueError where K is not one."""
        fx, fy, n_x, n_y = (float(value) for value in self.K)
        return Intrinsics(
            width, height, fx * width, fy * height, n_x * width - 0.5, n_y * height - 0.5
        )


MotionNetwork = Callable[[np.ndarray, np.ndarray], NetworkMotion]


def network_step(said: NetworkMotion, scale: float) -> Motion | None:
    """
    A network's step with a stated covariance, for where tracks know nothing.

    :param scale: factor on lengths, the same as on depth.
    :return: None where the network says nothing usable.
    """
    T_prev_cam = said.T_prev_cam.copy()
    T_prev_cam[:3, 3] *= scale
    if not np.isfinite(T_prev_cam).all():
        return None
    length = float(np.linalg.norm(T_prev_cam[:3, 3]))
    angle = float(np.arccos(np.clip((np.trace(T_prev_cam[:3, :3]) - 1) / 2, -1, 1)))
    sigma_mm = np.hypot(STEP_FLOOR_MM, STEP_SIGMA * length)
    sigma_rad = np.hypot(STEP_FLOOR_RAD, STEP_SIGMA * angle)
    covariance = np.diag([sigma_mm**2] * 3 + [sigma_rad**2] * 3)
    return Motion(T_prev_cam, covariance, known=True)


def network_camera(said: NetworkMotion, width: int, height: int) -> Intrinsics | None:
    """A network's camera of a network picture, if such a camera can exist."""
    low, high = FOCAL_RANGE
    if not np.isfinite(said.K).all() or not ((said.K[:2] > low) & (said.K[:2] < high)).all():
        return None
    return said.camera(width, height)
