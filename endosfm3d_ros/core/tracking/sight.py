# SPDX-License-Identifier: Apache-2.0
"""What one frame shows the odometry: its texture, and the depth map that is made of it."""

from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.prepare import Window


@dataclass(frozen=True)
class Sight:
    """
    What one frame shows.

    :param texture: (h, w) uint8 of `tracks.texture`; allowed: (h, w) uint8 of `tracks.trackable`.
    :param window: of the network picture.
    :param size: (width, height) of the map's picture: the input picture, as if its pixels were
        square [px].
    :param to_map: (2, 2) what input pixels (u, v) are multiplied by, then what is added: one and
        nothing, unless a given calibration has oblong pixels or changes.
    :param coming: the network's depth map [mm]; only what needs it waits for it.
    :param log_zoom: by the rim, against the reference; NaN without a rim; log_zoom_sigma of it.
    :param dt: since the frame before [s].
    """

    texture: np.ndarray
    allowed: np.ndarray
    window: Window
    size: tuple[int, int]
    coming: 'Future[DepthMap]'
    log_zoom: float
    log_zoom_sigma: float
    to_map: np.ndarray
    dt: float

    @cached_property
    def log_depth(self) -> np.ndarray:
        """Of the network's map, (h, w) [log mm]; NaN where unknown."""
        with np.errstate(invalid='ignore'):
            return np.log(self.coming.result().depth)

    @property
    def depth_sigma(self) -> np.ndarray:
        """Standard deviation of log_depth, (h, w)."""
        return self.coming.result().log_sigma

    def map_pixels(self, points: np.ndarray) -> np.ndarray:
        """Network pixels (N, 2) in the map's picture [px]."""
        return (
            self.window.input_pixels(points.astype(np.float64)) * self.to_map[0] + self.to_map[1]
        )

    def network_points(self, pixels: np.ndarray) -> np.ndarray:
        """The other way: pixels (N, 2) of the map's picture in the network's [px]."""
        return self.window.network_pixels((pixels - self.to_map[1]) / self.to_map[0])

    @property
    def pixel_size(self) -> float:
        """Pixels of the map's picture in one network pixel."""
        window = self.window
        wide, high = window.width / window.network_width, window.height / window.network_height
        return float(np.sqrt(wide * high * self.to_map[0].prod()))


def values_at(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Nearest pixels of a picture (h, w) at points (N, 2)."""
    height, width = picture.shape
    u = np.clip(np.rint(points[:, 0]).astype(int), 0, width - 1)
    v = np.clip(np.rint(points[:, 1]).astype(int), 0, height - 1)
    return picture[v, u]
