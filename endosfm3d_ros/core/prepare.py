# SPDX-License-Identifier: Apache-2.0
"""Picture to network picture: one window, one resize, and the affine map that K follows."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.picture.field_of_view import FieldOfView
from endosfm3d_ros.core.picture.overlays import Box, uncovered

LEAVES = 0.02  # the window moves when the field of view leaves it by this share of its side ...
SHRINKS = 0.8  # ... or fills less than this share of it


@dataclass(frozen=True)
class Window:
    """
    The part of the input picture that the networks see, and the size they see it at.

    :param left: first column [input px].
    :param top: first row [input px].
    :param width: columns [input px].
    :param height: rows [input px].
    :param network_width: columns of the network picture [px].
    :param network_height: rows of the network picture [px].
    """

    left: int
    top: int
    width: int
    height: int
    network_width: int
    network_height: int

    def network_camera(self, camera: Intrinsics) -> Intrinsics:
        """Intrinsics of the network picture from those of the input picture."""
        window = camera.cropped(self.left, self.top, self.width, self.height)
        return window.resized(self.network_width, self.network_height)

    def input_camera(self, camera: Intrinsics, width: int, height: int) -> Intrinsics:
        """Intrinsics of the input picture (width x height) from those of the network picture."""
        window = camera.resized(self.width, self.height)
        return window.cropped(-self.left, -self.top, width, height)

    def mask(self, field: FieldOfView, covered: tuple[Box, ...] = ()) -> np.ndarray:
        """
        Which pixels of the network picture show something of the scene: (h, w) bool.

        :param field: the visible part of the input picture.
        :param covered: rectangles of it that show no scene [input px].
        """
        window = (self.left, self.top, self.width, self.height)
        size = (self.network_width, self.network_height)
        seen = field.mask_in(window, *size)
        return seen & uncovered(covered, window, *size) if covered else seen

    def network_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """
        Where input pixels (N, 2) lie in the network picture [px]: crop, then c' = (c + 1/2) s -
        1/2.
        """
        offset = np.array([self.left, self.top])
        scale = np.array([self.network_width / self.width, self.network_height / self.height])
        return (pixels - offset + 0.5) * scale - 0.5

    def input_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Where network pixels (N, 2) lie in the input picture [px]."""
        offset = np.array([self.left, self.top])
        scale = np.array([self.network_width / self.width, self.network_height / self.height])
        return (pixels + 0.5) / scale - 0.5 + offset


def choose_window(
    field: FieldOfView, sizes: Sequence[tuple[int, int]], previous: Window | None = None
) -> Window:
    """
    Choose what the networks see: the whole field of view, at the offered size of the nearest
    aspect.

    The window keeps still (tracks and networks like that) until the field of view leaves it or
    shrinks in it. It is grown into the border to the size's aspect where the picture has room;
    what is left of the mismatch goes into the one resize, and K follows it exactly.

    :param field: the visible part of the input picture.
    :param sizes: (height, width) of every network size the bundle offers [px].
    :param previous: the window of the frame before, of an equally large input picture.
    :return: a window inside the input picture.
    """
    box_width, box_height = field.right - field.left, field.bottom - field.top
    if previous and _still_fits(field, previous):
        return previous
    aspect = box_width / box_height
    height, width = min(sizes, key=lambda size: abs(np.log(size[1] / size[0] / aspect)))
    left, window_width = _grow(
        field.left, box_width, round(box_height * width / height), field.width
    )
    top, window_height = _grow(
        field.top, box_height, round(box_width * height / width), field.height
    )
    return Window(left, top, window_width, window_height, width, height)


def prepare(image: np.ndarray, window: Window) -> np.ndarray:
    """
    Cut the window and resize it.

    Below half of its size pixels are averaged two by two first, which OpenCV does fast, and the
    rest is linear: 0.4 CPU-ms of a 720p picture instead of 2.5 for the mean over every pixel's
    exact part (INTER_AREA). What is 2 input pixels soft stays where it is to 0.01 network pixels;
    an edge as sharp as a drawn one may waver by 0.1.

    :param image: (H, W, 3) uint8 RGB input picture.
    :param window: a window inside it.
    :return: (h, w, 3) uint8 RGB network picture, its own memory.
    """
    cut = image[window.top : window.top + window.height, window.left : window.left + window.width]
    size = (window.network_width, window.network_height)
    shrinks = window.width >= size[0] and window.height >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    while cut.shape[1] >= 2 * size[0] and cut.shape[0] >= 2 * size[1]:
        half = (cut.shape[1] // 2, cut.shape[0] // 2)
        cut, how = cv2.resize(cut, half, interpolation=cv2.INTER_AREA), cv2.INTER_LINEAR
    return cv2.resize(cut, size, interpolation=how).copy()


def warp_between(
    picture: np.ndarray, before: Window, now: Window, how: int, border: float | None = None
) -> np.ndarray:
    """
    A network picture of one window as another one would have shown it.

    :param picture: (h, w) of the window `before`; how: OpenCV's interpolation.
    :param border: what lies outside of it; None repeats its edge.
    """
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    there = before.network_pixels(now.input_pixels(corners))
    affine = np.column_stack([there[1] - there[0], there[2] - there[0], there[0]])  # new -> old
    return cv2.warpAffine(
        picture,
        affine,
        (now.network_width, now.network_height),
        flags=cv2.WARP_INVERSE_MAP | how,
        borderMode=cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT,
        borderValue=0.0 if border is None else border,
    )


def _still_fits(field: FieldOfView, window: Window) -> bool:
    spill_x, spill_y = LEAVES * window.width, LEAVES * window.height
    inside = (
        field.left >= window.left - spill_x
        and field.right <= window.left + window.width + spill_x
        and field.top >= window.top - spill_y
        and field.bottom <= window.top + window.height + spill_y
    )
    fills_x = (field.right - field.left) >= SHRINKS * window.width
    fills_y = (field.bottom - field.top) >= SHRINKS * window.height
    return inside and (fills_x or fills_y)


def _grow(start: int, length: int, wanted: int, room: int) -> tuple[int, int]:
    """
    Widen [start, start + length) to the wanted length, centred, inside [0, room).

    The length can be halved twice without a rest (`prepare`), where there is room.
    """
    wanted = max(wanted, length)
    wanted = min(wanted + -wanted % 4, room)
    start = min(max(start - (wanted - length) // 2, 0), room - wanted)
    return start, wanted
