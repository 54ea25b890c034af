# SPDX-License-Identifier: Apache-2.0
"""
What is known at a few places and depths, read at every pixel.

A coarse grid over a picture smears across its edges, unless depth is a third axis of it: each
pixel then reads the layer of its own depth, and what was said of the wall before an edge does not
reach the ground behind it (Chen, Paris and Durand 2007, "Real-time edge-aware image processing
with the bilateral grid").
"""

from dataclasses import dataclass

import numpy as np

from endosfm3d_ros.core.kernel import kernel


@dataclass(frozen=True)
class BilateralGrid:
    """
    Values on a grid of rows, columns and layers.

    :param values: (h', w', layers) float32; the corners of each layer are the picture's.
    :param first: log depth of the first layer; step: from each to the next.
    """

    values: np.ndarray
    first: float
    step: float

    def over(self, log_depth: np.ndarray) -> np.ndarray:
        """
        Read every pixel, linearly between nodes and layers.

        :param log_depth: (h, w) of each pixel; what lies beyond the layers reads the last one.
        :return: (h, w) float32; 0 where depth is NaN.
        """
        guide = np.ascontiguousarray(log_depth, np.float32)
        return _read(self.values, np.float32(self.first), np.float32(self.step), guide)


@kernel
def _read(
    values: np.ndarray, first: np.float32, step: np.float32, guide: np.ndarray
) -> np.ndarray:
    rows, columns, layers = values.shape
    height, width = guide.shape
    down = np.float32(rows - 1) / np.float32(height - 1)
    across = np.float32(columns - 1) / np.float32(width - 1)
    out = np.zeros((height, width), np.float32)
    for v in range(height):
        y = v * down
        row = min(int(y), rows - 2)
        below = np.float32(y - row)
        for u in range(width):
            if not np.isfinite(guide[v, u]):
                continue
            x = u * across
            column = min(int(x), columns - 2)
            beside = np.float32(x - column)
            z = min(max((guide[v, u] - first) / step, np.float32(0)), np.float32(layers - 1))
            layer = min(int(z), layers - 2)
            behind = np.float32(z - layer)
            for k in range(2):
                share = behind if k else np.float32(1) - behind
                top = values[row, column, layer + k] * (np.float32(1) - beside)
                top += values[row, column + 1, layer + k] * beside
                bottom = values[row + 1, column, layer + k] * (np.float32(1) - beside)
                bottom += values[row + 1, column + 1, layer + k] * beside
                out[v, u] += share * (top + (bottom - top) * below)
    return out
