# SPDX-License-Identifier: Apache-2.0
"""
What is told of a frame, without the lens's distortion: ray and pixel agree by K alone, as
depth_image_proc, RViz and everybody who takes a CameraInfo with D = 0 expect.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.lens import bent_by, distorted, magnified, undistorted


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
    there = _pixels(flat, camera, lambda squared: magnified(squared, distortion)[0])
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
    there = _pixels(camera, flat, lambda squared: 1 / bent_by(squared, distortion))
    return _seen(values, there, float('nan') if values.ndim == 2 else 0.0), camera


def _pixels(
    of: Intrinsics, to: Intrinsics, stretch: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """
    Where each pixel of one picture is in another: u, v (h, w) float32 each [px].

    :param stretch: how much farther from the axis, at r^2 in focal lengths.
    """
    x = ((np.arange(of.width) - of.cx) / of.fx).astype(np.float32)[None, :]
    y = ((np.arange(of.height) - of.cy) / of.fy).astype(np.float32)[:, None]
    farther = stretch(x * x + y * y).astype(np.float32, copy=False)
    u = farther * (x * np.float32(to.fx)) + np.float32(to.cx)
    v = farther * (y * np.float32(to.fy)) + np.float32(to.cy)
    return u, v


def _seen(values: np.ndarray, there: tuple[np.ndarray, np.ndarray], beyond: float) -> np.ndarray:
    """A picture at pixels of it, linearly."""
    return cv2.remap(values, *there, cv2.INTER_LINEAR, borderValue=(beyond,) * 3)
