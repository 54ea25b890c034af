# SPDX-License-Identifier: Apache-2.0
"""What a window's keyframes measured of the points that they share."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from endosfm3d_ros.core.adjustment.scene import Views, bends_at
from endosfm3d_ros.core.window.keyframe import Keyframe

MOST_POINTS = 400  # an adjustment takes those that most keyframes see, ...
LEAST_OF_A_VIEW = 260  # ... but first so many of each keyframe: a fast one shares few tracks
# Of a point by depth maps, which err smoothly, so that many points tell little more; and of one
# that tracks have placed to PLACED: what maps add to those is mostly their common error.
DEPTH_SIGMA, PLACED_DEPTH_SIGMA = 0.2, 0.45
PLACED = 0.1  # of log depth
CREEP = 0.005  # tracks lag behind by such a share of their way: the light comes along


def shared_points(keyframes: Sequence[Keyframe], without: np.ndarray) -> np.ndarray:
    """
    Ids, rising, of up to MOST_POINTS points that two keyframes or more see.

    :param without: ids of points that are not wanted.
    """
    ids, counts = np.unique(np.concatenate([view.ids for view in keyframes]), return_counts=True)
    wanted = (counts >= 2) & ~np.isin(ids, without)
    ids, counts = ids[wanted], counts[wanted]
    if len(ids) <= MOST_POINTS:
        return ids
    return np.sort(_most_seen(keyframes, ids[np.argsort(-counts, kind='stable')]))


def _most_seen(keyframes: Sequence[Keyframe], ids: np.ndarray) -> np.ndarray:
    """MOST_POINTS of ids, which come in the order of how much they are wanted."""
    wanted = np.zeros(len(ids), bool)
    for view in reversed(keyframes):
        mine = np.flatnonzero(np.isin(ids, view.ids))
        short = max(LEAST_OF_A_VIEW - int(wanted[mine].sum()), 0)
        wanted[mine[~wanted[mine]][:short]] = True
    order = np.argsort(~wanted, kind='stable')
    return ids[order[:MOST_POINTS]]


def views_of(
    keyframes: Sequence[Keyframe],
    ids: np.ndarray,
    track_sigma: np.ndarray,
    size: tuple[int, int],
    sigma_px: float,
) -> Views:
    """
    What K keyframes measured of N points.

    :param ids: (N,) of the points; track_sigma: (N,) see `Landmarks`.
    :param size: (width, height) of the input picture [px]; sigma_px: of a track there [px].
    """
    N, K = len(ids), len(keyframes)
    least = np.where(track_sigma < PLACED, PLACED_DEPTH_SIGMA, DEPTH_SIGMA)
    pixels = np.full((N, K, 2), np.nan)
    log_depth, depth_sigma = np.full((N, K), np.nan), np.ones((N, K))
    for k, view in enumerate(keyframes):
        seen = np.isin(ids, view.ids)
        there = np.searchsorted(view.ids, ids[seen])
        pixels[seen, k] = view.pixels[there]
        log_depth[seen, k] = view.log_depth[there]
        depth_sigma[seen, k] = np.maximum(view.depth_sigma[there], least[seen])
    first = pixels[np.arange(N), np.isfinite(pixels[..., 0]).argmax(1)]
    way = np.nan_to_num(np.linalg.norm(pixels - first[:, None], axis=-1))
    return Views(
        pixels=pixels,
        pixel_sigma=np.hypot(sigma_px, CREEP * way),
        log_depth=log_depth,
        depth_sigma=depth_sigma,
        bends=np.nan_to_num(bends_at(pixels, log_depth, *size)),
        log_zoom=np.array([view.log_zoom for view in keyframes]),
        log_zoom_sigma=np.array([view.log_zoom_sigma for view in keyframes]),
        zoom_steps=zoom_steps_of(keyframes),
    )


def zoom_steps_of(keyframes: Sequence[Keyframe]) -> np.ndarray:
    """How the zoom is believed to move from each keyframe to the next, (K - 1, 2), see `Views`."""
    steps = []
    for view, later in pairwise(keyframes):
        step, sigma = later.zoom_step.believed(later.number - view.number)
        seen = np.isfinite(view.log_zoom) and np.isfinite(later.log_zoom)
        steps.append((step, np.inf if seen else sigma))
    return np.array(steps).reshape(-1, 2)
