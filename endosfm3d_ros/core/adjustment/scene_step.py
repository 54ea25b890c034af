# SPDX-License-Identifier: Apache-2.0
"""
How a scene moves by a step of the adjustment: along the curves on which pictures stay as they are.

A step is a straight line in what it is about, so this choice decides how far one may go.
"""

import numpy as np

from endosfm3d_ros.core.adjustment.reprojection import in_camera, magnified_at
from endosfm3d_ros.core.adjustment.scene import DISTORTION, FOCAL, PER_VIEW, SCALE, Scene
from endosfm3d_ros.core.kernel import kernel
from endosfm3d_ros.core.lens import bent_by

_bent_by = kernel(bent_by)

MOST_ZOOM_STEP, MOST_DEPTH_STEP = 0.5, 0.7  # of the logarithms, an iteration
MOST_DISTORTION_STEP = 0.2
MOST_DISTORTION = -1e-4  # scopes are barrels; wrong starts get stuck at a short lens's cushion


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
    deeper = _deepened(scene, view, point_step, anchor)
    R, t = _posed(scene, view, float(zoomed[0]), deeper)
    new_shared, bent = scene.shared + shared, scene.shared[DISTORTION]
    if shared[DISTORTION]:  # else it is held
        by = np.clip(shared[DISTORTION], -MOST_DISTORTION_STEP, MOST_DISTORTION_STEP)
        new_shared[DISTORTION] = min(bent + by, MOST_DISTORTION)
    after = Scene(
        R=R,
        t=t,
        log_focal=scene.log_focal + zoomed,
        log_scale=scene.log_scale + view[:, SCALE],
        shared=new_shared,
        points=np.empty_like(scene.points),
    )
    _move_points(scene, after, view, point_step, anchor)
    return after


def points_moved(scene: Scene, point_step: np.ndarray, anchor: np.ndarray) -> Scene:
    """The scene after a step of its points alone, see `scene_moved`; its cameras stay."""
    after = scene._replace(points=np.empty_like(scene.points))
    _move_points(scene, after, np.zeros((len(scene.t), PER_VIEW)), point_step, anchor)
    return after


@kernel
def _move_points(
    scene: Scene, after: Scene, view: np.ndarray, point_step: np.ndarray, anchor: np.ndarray
) -> None:
    """
    Fill in the points of the scene after a step, see `scene_moved`; view: (K, 8) its keyframes'.
    """
    bent, bends = scene.shared[DISTORTION], after.shared[DISTORTION] - scene.shared[DISTORTION]
    for n in range(len(scene.points)):
        k = anchor[n]
        X, Y, Z = in_camera(scene, n, k)
        d_X, d_Y, d_Z = _step_in_camera(scene, view, point_step, n, k)
        x, y = X / Z, Y / Z
        d_x, d_y = (d_X - x * d_Z) / Z, (d_Y - y * d_Z) / Z
        zoomed = after.log_focal[k] - scene.log_focal[k]
        wide, by_squared, by_distortion = magnified_at(x * x + y * y, bent)
        more = 2.0 * by_squared * (x * d_x + y * d_y) + by_distortion * bends
        u = wide * ((1.0 + zoomed) * x + d_x) + more * x
        v = wide * ((1.0 + zoomed) * y + d_y) + more * y
        u, v = u * np.exp(-zoomed), v * np.exp(-zoomed)
        bent_now = _bent_by(u * u + v * v, after.shared[DISTORTION])
        x, y = u / bent_now, v / bent_now
        Z *= np.exp(_log_step(d_Z / Z))
        R, t = after.R[k], after.t[k]
        X, Y, Z = x * Z - t[0], y * Z - t[1], Z - t[2]
        for p in range(3):
            after.points[n, p] = R[0, p] * X + R[1, p] * Y + R[2, p] * Z


@kernel
def _deepened(scene: Scene, view: np.ndarray, point_step: np.ndarray, anchor: np.ndarray) -> float:
    """By how much the points' log depth grows in the mean, each in its anchor."""
    total = 0.0
    for n in range(len(anchor)):
        _, _, d_Z = _step_in_camera(scene, view, point_step, n, anchor[n])
        total += _log_step(d_Z / in_camera(scene, n, anchor[n])[2])
    return total / max(len(anchor), 1)


@kernel
def _step_in_camera(
    scene: Scene, view: np.ndarray, point_step: np.ndarray, n: int, k: int
) -> tuple[float, float, float]:
    """How a point moves in a keyframe's camera that moves itself [mm]."""
    X, Y, Z = in_camera(scene, n, k)
    R, turn, by = scene.R[k], view[k, 0:3], point_step[n]
    d_X = R[0, 0] * by[0] + R[0, 1] * by[1] + R[0, 2] * by[2]
    d_Y = R[1, 0] * by[0] + R[1, 1] * by[1] + R[1, 2] * by[2]
    d_Z = R[2, 0] * by[0] + R[2, 1] * by[1] + R[2, 2] * by[2]
    return (
        d_X + turn[1] * Z - turn[2] * Y + view[k, 3],
        d_Y + turn[2] * X - turn[0] * Z + view[k, 4],
        d_Z + turn[0] * Y - turn[1] * X + view[k, 5],
    )


@kernel
def _log_step(step: float) -> float:
    return min(max(step, -MOST_DEPTH_STEP), MOST_DEPTH_STEP)


@kernel
def _posed(
    scene: Scene, view: np.ndarray, zoomed: float, deeper: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    The poses (K, 3, 3), (K, 3) after small motions (K, 6 and more) of the cameras, while the lens
    gets longer by `zoomed` and the scene deeper by `deeper` (logs); the first one stays.

    What pictures show of a pose is its tilt times the focal length, its way across times that over
    the depth, and its way in over the depth. These move along straight lines here. Those of turns
    and ways as such would soon leave the valley in which a flat scene, seen through a long lens,
    fits as well as a deep one through a short (bas-relief ambiguity): where it bends, a
    quarter of a step was left of each.
    """
    R, t = scene.R.copy(), scene.t.copy()
    tilted = np.array([-zoomed, -zoomed, 0.0])  # log of what as much in the picture takes
    gone = tilted + deeper
    for k in range(1, len(t)):
        turned = _times(scene.R[k], scene.R[0].T)  # since the first one
        turn, way = _rotation_vector(turned), scene.t[k] - _applied(turned, scene.t[0])
        # the slopes of both are in the step already
        by_turn = _left_slope(turn, tilted * turn)
        by_way = gone * way + _cross(way, by_turn)
        rest = _rotation(np.exp(tilted) * (view[k, 0:3] - by_turn))
        turned = _times(rest, _rotation(np.exp(tilted) * turn))
        way = _applied(rest, np.exp(gone) * way) + np.exp(gone) * (view[k, 3:6] - by_way)
        R[k], t[k] = _times(turned, scene.R[0]), _applied(turned, scene.t[0]) + way
    return R, t


@kernel
def _left_slope(turn: np.ndarray, change: np.ndarray) -> np.ndarray:
    """
    The small turn on the left that an axis-angle vector (3,) [rad] makes as it changes by
    `change`: SO(3)'s left Jacobian (Chirikjian 2012).
    """
    angle = max(np.sqrt((turn * turn).sum()), 1e-4)
    once = _cross(turn, change)
    by_once, by_twice = (1.0 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return change + by_once * once + by_twice * _cross(turn, once)


@kernel
def _rotation(vector: np.ndarray) -> np.ndarray:
    """`geometry.rotations` of one vector (3,)."""
    angle = max(np.sqrt((vector * vector).sum()), 1e-12)
    once, twice = np.sin(angle) / angle, 0.5 * (np.sin(angle / 2.0) / (angle / 2.0)) ** 2
    x, y, z = vector
    S = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + once * S + twice * _times(S, S)


@kernel
def _rotation_vector(R: np.ndarray) -> np.ndarray:
    """`geometry.rotation_vectors` of one matrix (3, 3)."""
    axis = 0.5 * np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    sine = np.sqrt((axis * axis).sum())
    angle = np.arctan2(sine, 0.5 * (R[0, 0] + R[1, 1] + R[2, 2] - 1.0))
    return axis * (angle / max(sine, 1e-12))


@kernel
def _times(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    out = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                out[i, k] += A[i, j] * B[j, k]
    return out


@kernel
def _applied(R: np.ndarray, v: np.ndarray) -> np.ndarray:
    return R[:, 0] * v[0] + R[:, 1] * v[1] + R[:, 2] * v[2]


@kernel
def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )
