# SPDX-License-Identifier: Apache-2.0
"""
A given calibration with distortion: the picture is rectified first, and everything belongs to the
rectified one.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Intrinsics

COEFFICIENTS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}


@dataclass(frozen=True)
class Calibration:
    """
    A calibration of a picture of one size.

    :param camera: K of the picture as it is sent.
    :param model: 'plumb_bob', 'rational_polynomial' or 'equidistant'
        (sensor_msgs/distortion_models).
    :param distortion: its coefficients, as CameraInfo has them; none or all zero means none.
    """

    camera: Intrinsics
    model: str
    distortion: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse a model that can not be undone."""
        if not any(self.distortion):
            return
        if not np.isfinite(self.distortion).all():
            raise ValueError(
                f'camera_info has the distortion {self.distortion}; needed finite numbers'
            )
        if len(self.distortion) not in COEFFICIENTS.get(self.model, ()):
            known = ', '.join(
                f'{name} ({" or ".join(map(str, n))})' for name, n in COEFFICIENTS.items()
            )
            raise ValueError(
                f'camera_info has the distortion model {self.model!r} with '
                f'{len(self.distortion)} coefficients; known: {known}'
            )


def rectify(image: np.ndarray, calibration: Calibration) -> np.ndarray:
    """
    Undo the distortion; K stays the calibration's.

    :param image: (H, W, 3) uint8 of the calibration's size, else ValueError.
    :return: (H, W, 3) uint8; black where the picture does not reach.
    """
    camera = calibration.camera
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f'camera_info is of a {camera.width}x{camera.height} picture, this one is '
            f'{image.shape[1]}x{image.shape[0]}'
        )
    if not any(calibration.distortion):
        return image
    map_x, map_y = _maps(calibration)
    return cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


@lru_cache(maxsize=2)
def _maps(calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    K, D = calibration.camera.matrix, np.array(calibration.distortion)
    size = (calibration.camera.width, calibration.camera.height)
    undo = (
        cv2.fisheye.initUndistortRectifyMap
        if calibration.model == 'equidistant'
        else cv2.initUndistortRectifyMap
    )
    return undo(K, D, np.eye(3), K, size, cv2.CV_16SC2)
