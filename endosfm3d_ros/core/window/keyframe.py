# SPDX-License-Identifier: Apache-2.0
"""A frame that the map keeps for a while."""

from dataclasses import dataclass, field

import numpy as np

from endosfm3d_ros.core.geometry import rigid
from endosfm3d_ros.core.lens import undistorted
from endosfm3d_ros.core.window.zoom_steps import ZoomStep


@dataclass(frozen=True)
class Keyframe:
    """
    A frame that stays for a while.

    :param number: of the frame in the video.
    :param ids: (M,) of its points, rising; pixels (M, 2) in the input picture [px].
    :param log_depth: (M,) of the network's map there [log mm], NaN where unknown; depth_sigma of
        it.
    :param log_zoom: measured log zoom, NaN without a rim; log_zoom_sigma of it.
    :param R: (3, 3) and t (3,): cam_T_world [mm]; log_focal; log_scale of its depth map.
    :param zoom_step: since the keyframe before.
    """

    number: int
    ids: np.ndarray
    pixels: np.ndarray
    log_depth: np.ndarray
    depth_sigma: np.ndarray
    log_zoom: float
    log_zoom_sigma: float
    R: np.ndarray
    t: np.ndarray
    log_focal: float
    log_scale: float
    zoom_step: ZoomStep = field(default_factory=ZoomStep)

    @property
    def T_cam_world(self) -> np.ndarray:  # noqa: N802  the field's own name
        """(4, 4) [mm]."""
        return rigid(self.R, self.t)

    def lifted(self, centre: np.ndarray, distortion: float, log_z: np.ndarray) -> np.ndarray:
        """
        Its points at depths (M,) [log mm], by a principal point (2,) [px]: (M, 3) in the world
        [mm].
        """
        z = np.exp(log_z)[:, None]
        image = (self.pixels - centre) / np.exp(self.log_focal)
        X = np.column_stack([undistorted(image, distortion) * z, z])
        return (X - self.t) @ self.R
