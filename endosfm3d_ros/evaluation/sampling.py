# SPDX-License-Identifier: Apache-2.0
"""Which pixel of a run's depth image is which pixel of the truth's, and reading it."""

from dataclasses import dataclass

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Intrinsics


@dataclass(frozen=True)
class Axis:
    """
    How pixel coordinates along one side of a depth image follow from those of another.

    :param slope: other = slope * here + offset.
    :param offset: [px].
    """

    slope: float
    offset: float

    def __call__(self, here: np.ndarray) -> np.ndarray:
        """Map coordinates [px]."""
        return self.slope * here + self.offset

    def back(self) -> 'Axis':
        """The way back."""
        return Axis(1 / self.slope, -self.offset / self.slope)

    def then(self, other: 'Axis') -> 'Axis':
        """Map by this, then by the other."""
        return Axis(other.slope * self.slope, other.slope * self.offset + other.offset)


@dataclass(frozen=True)
class DepthTruth:
    """
    A depth image of the truth.

    :param depth: (h', w') float32 [mm]; NaN where unknown.
    :param camera: of this picture, and
    :param input_camera: the same camera at the input picture's size; both None where the depth
        shows all of the input, at any size.
    """

    depth: np.ndarray
    camera: Intrinsics | None = None
    input_camera: Intrinsics | None = None


def to_truth(camera: Intrinsics, input_camera: Intrinsics, truth: DepthTruth) -> tuple[Axis, Axis]:
    """
    From pixels u, v of a run's depth image to those of the truth's.

    Both cameras of a side are one camera, so u_in = (u - cx) fx_in / fx + cx_in, whatever the
    focal length; a depth image of the whole input at another size has u = (u_in + 1/2) s - 1/2.
    """
    height, width = truth.depth.shape
    into_input = _axes(camera, input_camera)
    if truth.camera is None or truth.input_camera is None:
        sx, sy = width / input_camera.width, height / input_camera.height
        return into_input[0].then(Axis(sx, sx / 2 - 0.5)), into_input[1].then(
            Axis(sy, sy / 2 - 0.5)
        )
    across, down = _axes(truth.camera, truth.input_camera)
    return into_input[0].then(across.back()), into_input[1].then(down.back())


def truth_on_picture(
    truth: DepthTruth, camera: Intrinsics, input_camera: Intrinsics
) -> np.ndarray:
    """
    Read the truth at every pixel of a network picture, which is a crop and a resize of the input.

    :param camera: of the network picture; input_camera: the same at the input picture's size.
    :return: (h, w) float32 [mm] at the network picture's size, nearest pixel; NaN outside of the
        truth's picture.
    """
    height, width = truth.depth.shape
    across, down = to_truth(camera, input_camera, truth)
    u = np.floor(across(np.arange(camera.width)) + 0.5 + 1e-6).astype(int)
    v = np.floor(down(np.arange(camera.height)) + 0.5 + 1e-6).astype(int)
    seen = ((v >= 0) & (v < height))[:, None] & ((u >= 0) & (u < width))[None, :]
    rows, columns = np.clip(v, 0, height - 1)[:, None], np.clip(u, 0, width - 1)[None, :]
    return np.where(seen, truth.depth[rows, columns], np.float32(np.nan))


def picture_on_truth(
    values: np.ndarray, camera: Intrinsics, input_camera: Intrinsics, truth: DepthTruth
) -> np.ndarray:
    """
    Resize a run's depth image to the truth's pixels; it is disparity that is interpolated.

    :param values: (h, w) float32 depth; NaN where unknown.
    :return: (h', w') float32; NaN outside of the picture and where most of it is unknown.
    """
    height, width = truth.depth.shape
    across, down = to_truth(camera, input_camera, truth)
    u, v = across.back()(np.arange(width)), down.back()(np.arange(height))
    outside = ((v < -0.5) | (v > camera.height - 0.5))[:, None] | (
        (u < -0.5) | (u > camera.width - 0.5)
    )[None, :]
    grid_u, grid_v = np.meshgrid(np.clip(u, 0, camera.width - 1), np.clip(v, 0, camera.height - 1))
    known = np.isfinite(values) & (values > 0)
    disparity = np.where(known, 1 / np.where(known, values, 1), 0).astype(np.float32)
    grid = grid_u.astype(np.float32), grid_v.astype(np.float32)
    weight = cv2.remap(known.astype(np.float32), *grid, cv2.INTER_LINEAR)
    total = cv2.remap(disparity, *grid, cv2.INTER_LINEAR)
    unknown = outside | (weight < 0.5)
    return np.where(unknown, np.float32(np.nan), weight / np.where(unknown, 1, total))


def _axes(camera: Intrinsics, input_camera: Intrinsics) -> tuple[Axis, Axis]:
    """From pixels of a crop and resize to those of the input, across and down."""
    x, y = input_camera.fx / camera.fx, input_camera.fy / camera.fy
    return Axis(x, input_camera.cx - x * camera.cx), Axis(y, input_camera.cy - y * camera.cy)
