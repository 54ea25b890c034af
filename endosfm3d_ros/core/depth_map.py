# SPDX-License-Identifier: Apache-2.0
"""What a depth network says of one network picture, and how far it may be believed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DepthMap:
    """
    What a depth network says of one network picture.

    :param depth: (h, w) float32 z-depth [mm, up to the scene's scale].
    :param log_sigma: (h, w) float32 standard deviation of log depth.
    :param log_focal: the network's guess of log(fx / w); NaN where it has none.
    :param log_focal_sigma: of that guess.
    """

    depth: np.ndarray
    log_sigma: np.ndarray
    log_focal: float = float('nan')
    log_focal_sigma: float = float('nan')


DepthNetwork = Callable[[np.ndarray], DepthMap]


def confidence(depth_map: DepthMap) -> np.ndarray:
    """
    The chance that depth is within 25 % of the truth, its logarithm being normal: erf(log 1.25 /
    (sigma sqrt 2)).

    :param depth_map: depth with its sigma.
    :return: (h, w) float32 in [0, 1]; 0 where depth is NaN. erf by tanh(1.1283792 x + 0.1009
        x^3), off by < 1e-3.
    """
    x = np.float32(np.log(1.25) / np.sqrt(2)) / np.maximum(depth_map.log_sigma, np.float32(1e-3))
    chance = np.tanh(x * (np.float32(1.1283792) + np.float32(0.1009) * x * x))
    return np.where(np.isfinite(depth_map.depth), chance, np.float32(0)).astype(np.float32)


def unknown_depth(picture: np.ndarray) -> DepthMap:
    """Nothing is known of this picture (h, w, 3): NaN all over."""
    size = picture.shape[:2]
    return DepthMap(np.full(size, np.nan, np.float32), np.ones(size, np.float32))
