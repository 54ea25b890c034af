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
from endosfm3d_ros.core.picture.overlays import Box

FOCAL_PER_WIDTH = 0.04, 10.0  # fields of view of 170 and 6 degrees
FX_PER_FY = 0.4, 2.5  # pixels of squeezed video are no more oblong
CLOSE, OUTSIDE = 0.1, -9.0  # pixels: an undone one is the same again; none of a picture
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
        """Refuse what no camera has, and a model that can not be undone."""
        self._check_camera()
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

    def _check_camera(self) -> None:
        one = self.camera
        focal, ratio = one.fx / one.width, one.fx / one.fy
        place = np.array([one.cx / one.width, one.cy / one.height])
        low, high = FOCAL_PER_WIDTH
        if not low <= focal <= high or not FX_PER_FY[0] <= ratio <= FX_PER_FY[1]:
            found = f'fx {one.fx:g}, fy {one.fy:g} of a {one.width} px wide picture'
            needed = f'fx of {low * one.width:.0f} to {high * one.width:.0f} px and fy alike'
        elif not (np.abs(place - 0.5) <= 1.0).all():
            found = f'the centre {one.cx:g}, {one.cy:g} of a {one.width}x{one.height} picture'
            needed = 'one in the picture or near it'
        else:
            return
        raise ValueError(
            f'camera_info has {found}; needed {needed}: calibrate again, or use '
            'intrinsics.source estimated'
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


def unrectified(values: np.ndarray, calibration: Calibration) -> np.ndarray:
    """
    The way back, to compare what belongs to a rectified picture with the input's own pixels.

    :param values: (h, w) float32 or (h, w, 3) uint8; calibration: with K of these pixels.
    :return: the same as the lens made it; NaN or black where the rectified picture does not reach.
    """
    if not any(calibration.distortion):
        return values
    beyond = float('nan') if values.ndim == 2 else 0.0
    u, v = _way_back(calibration)
    return cv2.remap(values, u, v, cv2.INTER_LINEAR, borderValue=(beyond,) * 3)


def rectified_boxes(boxes: tuple[Box, ...], calibration: Calibration) -> tuple[Box, ...]:
    """
    Where rectangles of the distorted picture lie in the rectified one: what holds each; those that
    it does not show are left out.
    """
    if not any(calibration.distortion):
        return boxes
    there = (_rectified_box(box, calibration) for box in boxes)
    return tuple(box for box in there if box)


@lru_cache(maxsize=16)
def _rectified_box(box: Box, calibration: Calibration) -> Box | None:
    """
    What holds the pixels that `rectify` makes from some of the rectangle's; None if there are
    none. Its outline is not asked: beyond what the model can undo it lies anywhere.
    """
    left, top, right, bottom = box
    u, v = np.moveaxis(_maps(calibration)[0], -1, 0)  # upper left of the four that are mixed
    made = (u >= left - 1) & (u < right) & (v >= top - 1) & (v < bottom)
    columns, rows = np.flatnonzero(made.any(axis=0)), np.flatnonzero(made.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


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


@lru_cache(maxsize=2)
def _way_back(calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the raw picture lies in the rectified one: u, v (h, w) float32 [px]."""
    camera, D = calibration.camera, np.array(calibration.distortion)
    K = camera.matrix
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = np.stack([u, v], axis=-1).reshape(-1, 1, 2).astype(np.float64)
    if calibration.model == 'equidistant':
        rays = cv2.fisheye.undistortPoints(pixels, K, D)
        seen = cv2.fisheye.distortPoints(rays, K, D)
    else:
        until = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 50, 1e-6)
        rays = cv2.undistortPointsIter(pixels, K, D, np.eye(3), np.eye(3), until)
        still = np.zeros(3)
        seen = cv2.projectPoints(cv2.convertPointsToHomogeneous(rays), still, still, K, D)[0]
    there = rays * K.diagonal()[:2] + K[:2, 2]
    is_off = ~(np.abs(seen - pixels).max(-1) < CLOSE)  # beyond what the model can undo
    there[is_off] = OUTSIDE
    u, v = there.reshape(camera.height, camera.width, 2).astype(np.float32).transpose(2, 0, 1)
    return u, v
