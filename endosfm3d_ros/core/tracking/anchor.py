# SPDX-License-Identifier: Apache-2.0
"""A keyframe's picture, kept to follow tracks from it and to recognise its points."""

from dataclasses import dataclass

import cv2
import numpy as np

from endosfm3d_ros.core import tracks
from endosfm3d_ros.core.prepare import Window, warp_between


@dataclass(frozen=True)
class Anchor:
    """
    A keyframe's picture and the tracks in it.

    :param texture: (h, w) uint8 of `tracks.texture`; window: of the network picture.
    :param ids: (N,) of all tracks alive then, rising; points (N, 2) float32 there [network px].
    """

    texture: np.ndarray
    window: Window
    ids: np.ndarray
    points: np.ndarray

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Where tracks that were alive then stood, (M, 2) [network px]."""
        return self.points[np.searchsorted(self.ids, ids)]

    def seen_through(self, window: Window) -> 'Anchor':
        """The same as another window would have shown it."""
        if window == self.window:
            return self
        texture = warp_between(self.texture, self.window, window, cv2.INTER_LINEAR)
        points = window.network_pixels(self.window.input_pixels(self.points))
        return Anchor(texture, window, self.ids, points.astype(np.float32))

    def as_sharp_as(self, texture: np.ndarray, corners: np.ndarray) -> bool:
        """
        Whether another picture (h, w) is about as sharp, at corners (N, 2) of it [px]: a blurred
        one fits anywhere, and is recognised nowhere.
        """
        return tracks.alike(self.texture, self.points[self.inside], texture, corners)

    @property
    def inside(self) -> np.ndarray:
        """Which tracks lie in the picture, (N,) bool: seen through another window some do not."""
        height, width = self.texture.shape
        u, v = self.points.T
        return (u >= 0) & (v >= 0) & (u <= width - 1) & (v <= height - 1)
