# SPDX-License-Identifier: Apache-2.0
"""
What is told of a frame, without the lens's distortion: ray and pixel agree by K alone, as
depth_image_proc, RViz and everybody who takes a CameraInfo with D = 0 expect.
"""

from dataclasses import replace

import cv2
import numpy as np

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.lens import distorted, undistorted


def straightened(
    picture: np.ndarray, depth_map: DepthMap, camera: Intrinsics, distortion: float
) -> tuple[np.ndarray, DepthMap, Intrinsics]:
    """
    Resample a picture and its depth map as a pinhole would have seen them, from side to side.

    :param picture: (h, w, 3) uint8 RGB as the lens made it.
    :param depth_map: of it; z-depth belongs to a ray, so its values stay.
    :param camera: K of this picture; distortion: see `lens.py`, 0 changes nothing.
    :return: both, of the same size, black and NaN where the lens does not reach, and their K: its
        focal lengths are as much shorter as the sides were drawn in.
    """
    if not distortion:
        return picture, depth_map, camera
    side = np.array([camera.width / 2 / camera.fx, 0.0])
    flat = camera.zoomed(float(side[0] / undistorted(side, distortion)[0]))
    there = _pixels(distorted(_plane(flat), distortion), camera)
    depth = _seen(depth_map.depth, there, float('nan'))
    log_sigma = np.nan_to_num(_seen(depth_map.log_sigma, there, 1.0), nan=1.0)
    return _seen(picture, there, 0.0), replace(depth_map, depth=depth, log_sigma=log_sigma), flat


def as_the_lens_saw(
    values: np.ndarray, flat: Intrinsics, distortion: float
) -> tuple[np.ndarray, Intrinsics]:
    """
    The way back, to compare a straightened picture with the input's own pixels.

    :param values: (h, w) float32 or (h, w, 3) uint8; flat: their K.
    :return: the same with the lens's distortion, NaN or black beyond, and its K.
    """
    if not distortion:
        return values, flat
    side = np.array([flat.width / 2 / flat.fx, 0.0])
    camera = flat.zoomed(float(side[0] / distorted(side, distortion)[0]))
    there = _pixels(undistorted(_plane(camera), distortion), flat)
    return _seen(values, there, float('nan') if values.ndim == 2 else 0.0), camera


def _plane(camera: Intrinsics) -> np.ndarray:
    """Every pixel in focal lengths from the principal point: (h, w, 2) float32."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    return np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32)


def _pixels(plane: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """The other way: (h, w, 2) float32 [px]."""
    scale, centre = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    return (plane * scale + centre).astype(np.float32)


def _seen(values: np.ndarray, there: np.ndarray, beyond: float) -> np.ndarray:
    """A picture at pixels (h, w, 2) of it, linearly."""
    u, v = there[..., 0], there[..., 1]
    return cv2.remap(values, u, v, cv2.INTER_LINEAR, borderValue=(beyond,) * 3)
