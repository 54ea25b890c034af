# SPDX-License-Identifier: Apache-2.0
"""What a window of keyframes measured, what is believed of it, and what is looked for."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

POSE, FOCAL, SCALE, PER_VIEW = slice(0, 6), 6, 7, 8  # unknowns of one keyframe: turn, shift, ...
CENTRE, BENDS, REFERENCE = slice(0, 2), slice(2, 6), 6  # and those that all of them share
DISTORTION, SHARED = 7, 8
RELIEF = 5  # of the shared ones
NEAREST_MM = 0.05  # a point is never nearer to a camera that sees it


@dataclass(frozen=True)
class Views:
    """
    What was measured in K keyframes of N points; NaN where a keyframe does not see a point.

    :param pixels: (N, K, 2) u, v in the input picture [px].
    :param pixel_sigma: (N, K) standard deviation of either coordinate [px].
    :param log_depth: (N, K) log of the depth map's z at that pixel [log mm], NaN where unknown.
    :param depth_sigma: (N, K) standard deviation of it, each taken as if a track's keyframes told
        one thing.
    :param bends: (N, K, 4) the smooth terms' values there, see `bends_at`.
    :param log_zoom: (K,) measured log zoom against the reference; NaN where no rim was seen.
    :param log_zoom_sigma: (K,) of it.
    :param zoom_steps: (K - 1, 2) how far log zoom is believed to move to the next keyframe, and
        sigma of that: infinite where a rim measures both.
    """

    pixels: np.ndarray
    pixel_sigma: np.ndarray
    log_depth: np.ndarray
    depth_sigma: np.ndarray
    bends: np.ndarray
    log_zoom: np.ndarray
    log_zoom_sigma: np.ndarray
    zoom_steps: np.ndarray


@dataclass(frozen=True)
class Beliefs:
    """
    What is known before: means and standard deviations of Gaussians.

    :param lens: (5,) log of the reference focal length [log px], log zoom of the first keyframe
        against it, the distortion (`lens.py`), and the principal point [px]; lens_covariance
        (5, 5) of them.
    :param straight: the distortion is held at none, and only asked for.
    :param longest: reference log focal length beyond which a window has to show it [log px]: an
        adjustment turns back there, and nothing is surer for it.
    :param log_scale: of the depth maps: world over network; log_scale_sigma of it.
    :param scale_flicker: sigma between the scales of neighbouring keyframes.
    :param bend_sigma: (4,) of the smooth terms' coefficients.
    :param relief_sigma: how far the maps' relief may really be off. It is not left to the
        adjustment, which would buy a better fit with a flat scene and a long lens (bas-relief
        ambiguity; Belhumeur et al. 1999); the covariance considers it (Schmidt 1966).
    """

    lens: np.ndarray
    lens_covariance: np.ndarray
    log_scale: float
    log_scale_sigma: float
    scale_flicker: float
    bend_sigma: np.ndarray
    relief_sigma: float
    straight: bool = False
    longest: float = np.inf


class Scene(NamedTuple):
    """
    The unknowns.

    :param R: (K, 3, 3) and t: (K, 3): keyframe_T_world [mm].
    :param log_focal: (K,) [log px].
    :param log_scale: (K,) of each depth map.
    :param shared: (8,) principal point (2) [px], coefficients of the bends (4), reference log
        focal, distortion.
    :param points: (N, 3) in the world [mm].
    """

    R: np.ndarray
    t: np.ndarray
    log_focal: np.ndarray
    log_scale: np.ndarray
    shared: np.ndarray
    points: np.ndarray


def bends_at(pixels: np.ndarray, log_depth: np.ndarray, width: int, height: int) -> np.ndarray:
    """
    Values of the smooth terms by which depth maps may be wrong: tilts, a bowl, and relief.

    :param pixels: (N, ..., 2) [px]; log_depth: (N, ...) of each map there; width, height: of the
        picture.
    :return: (N, ..., 4): x, y, r^2 about the picture's centre (of half its longer side), and log
        depth less the map's median of the N.
    """
    half = max(width, height) / 2
    x = (pixels[..., 0] - (width - 1) / 2) / half
    y = (pixels[..., 1] - (height - 1) / 2) / half
    return np.stack([x, y, x * x + y * y, log_depth - _medians(log_depth)], axis=-1)


def _medians(values: np.ndarray) -> np.ndarray:
    """Medians along the first axis of those that are no NaN; NaN where none is."""
    if not len(values):
        return np.zeros(values.shape[1:])
    rising, known = np.sort(values, axis=0), (~np.isnan(values)).sum(axis=0)  # NaN come last
    middle = np.stack([np.maximum(known - 1, 0) // 2, known // 2])
    return np.take_along_axis(rising, np.minimum(middle, len(values) - 1), axis=0).mean(axis=0)
