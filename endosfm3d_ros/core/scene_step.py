# SPDX-License-Identifier: Apache-2.0
"""
How a scene moves by a step of the adjustment: along the curves on which pictures stay as they are.

A step is a straight line in what it is about, so this choice decides how far one may go.
"""

from dataclasses import replace

import numpy as np

from endosfm3d_ros.core.geometry import rotation_vectors, rotations
from endosfm3d_ros.core.lens import magnified, undistorted
from endosfm3d_ros.core.scene import DISTORTION, FOCAL, PER_VIEW, SCALE, Scene

MOST_ZOOM_STEP, MOST_DEPTH_STEP = 0.5, 0.7  # of the logarithms, an iteration
MOST_DISTORTION_STEP = 0.2
MOST_DISTORTION = -1e-4  # scopes are barrels; wrong starts get stuck at a short lens's cushion
NEAREST_MM = 0.05  # a point is never nearer to a camera that sees it


def scene_moved(
    scene: Scene, step: np.ndarray, point_step: np.ndarray, anchor: np.ndarray
) -> Scene:
    """
    The scene after a step; the first pose stays.

    Points move in the pixel and the log depth of the first keyframe that sees them: there a
    longer lens or a deeper scene moves nothing to first order, so steps may be large.

    :param step: (8 K + 8,) of the cameras' unknowns; point_step: (N, 3) in the world [mm].
    :param anchor: (N,) the first keyframe that sees each point.
    """
    K = len(scene.t)
    view, shared = step[: PER_VIEW * K].reshape(K, PER_VIEW), step[PER_VIEW * K :]
    zoomed = np.clip(view[:, FOCAL], -MOST_ZOOM_STEP, MOST_ZOOM_STEP)
    R, t = _posed(scene, view[:, 0:6], float(zoomed[0]))
    log_focal = scene.log_focal + zoomed
    new_shared, bent = scene.shared + shared, scene.shared[DISTORTION]
    if shared[DISTORTION]:  # else it is held
        by = np.clip(shared[DISTORTION], -MOST_DISTORTION_STEP, MOST_DISTORTION_STEP)
        new_shared[DISTORTION] = min(bent + by, MOST_DISTORTION)
    bends = new_shared[DISTORTION] - bent

    X = np.einsum('nij,nj->ni', scene.R[anchor], scene.points) + scene.t[anchor]
    X[:, 2] = np.maximum(X[:, 2], NEAREST_MM)
    d_X = np.einsum('nij,nj->ni', scene.R[anchor], point_step)
    d_X += np.cross(view[anchor, 0:3], X) + view[anchor, 3:6]
    z = X[:, 2:]
    ratio = X[:, :2] / z
    d_ratio = (d_X[:, :2] - ratio * d_X[:, 2:]) / z
    squared, along = ((ratio * other).sum(1, keepdims=True) for other in (ratio, d_ratio))
    wide, by_squared, by_distortion = magnified(squared, bent)
    image = wide * ((1.0 + zoomed[anchor, None]) * ratio + d_ratio)
    image += (2.0 * by_squared * along + by_distortion * bends) * ratio
    shrink = np.exp(scene.log_focal - log_focal)[anchor][:, None]
    new_z = z * np.exp(np.clip(d_X[:, 2:] / z, -MOST_DEPTH_STEP, MOST_DEPTH_STEP))
    new_X = np.concatenate(
        [undistorted(image * shrink, new_shared[DISTORTION]) * new_z, new_z], axis=1
    )
    return replace(
        scene,
        R=R,
        t=t,
        log_focal=log_focal,
        log_scale=scene.log_scale + view[:, SCALE],
        shared=new_shared,
        points=np.einsum('nji,nj->ni', R[anchor], new_X - t[anchor]),
    )


def _posed(scene: Scene, step: np.ndarray, zoomed: float) -> tuple[np.ndarray, np.ndarray]:
    """
    The poses (K, 3, 3), (K, 3) after small motions (K, 6) of the cameras, while the lens gets
    longer by `zoomed` (log); the first one stays.

    The longer the lens, the smaller are the turns and the ways across that move the picture as
    far. So all of them shrink by that factor, where a straight line of the same slope would soon
    leave the valley in which a flat scene seen through a long lens fits as well as a deep one seen
    through a short (bas-relief ambiguity).
    """
    first = scene.R[0]
    turned = scene.R[1:] @ first.T  # since the first one
    turn, way = rotation_vectors(turned), scene.t[1:] - turned @ scene.t[0]
    across = np.array([1.0, 1.0, 0.0])
    shrink = np.exp(-zoomed * across)
    # the slope of what shrinking does is in the step already
    by_turn = -zoomed * _left_slope(turn, across * turn)
    by_way = -zoomed * across * way + np.cross(way, by_turn)
    rest = rotations(step[1:, 0:3] - by_turn)
    turned = rest @ rotations(shrink * turn)
    way = (rest @ (shrink * way)[..., None])[..., 0] + step[1:, 3:6] - by_way
    R, t = scene.R.copy(), scene.t.copy()
    R[1:], t[1:] = turned @ first, turned @ scene.t[0] + way
    return R, t


def _left_slope(turn: np.ndarray, change: np.ndarray) -> np.ndarray:
    """
    The small turns (N, 3) on the left that axis-angle vectors `turn` (N, 3) [rad] make as they
    change by `change`: SO(3)'s left Jacobian (Chirikjian 2012).
    """
    angle = np.maximum(np.linalg.norm(turn, axis=1, keepdims=True), 1e-4)
    once = np.cross(turn, change)
    by_once, by_twice = (1.0 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return change + by_once * once + by_twice * np.cross(turn, once)
