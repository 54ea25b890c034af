# SPDX-License-Identifier: Apache-2.0
"""
A window of keyframes that look at a bumpy wall, of which everything is known.

The wall is seen with noise; its depth maps are wrong as networks' maps are.
"""

import numpy as np

from endosfm3d_ros.core.geometry import inverse, motion_from_vector
from endosfm3d_ros.core.lens import distorted, undistorted
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.local_map import LocalMap
from endosfm3d_ros.core.window.resection import resect
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.core.window.words import Words

WIDTH, HEIGHT = 320, 256
CENTRE = np.array([159.5, 127.5])
NOISE_PX = 0.15
POINTS = 200


def scene_points(
    rng: np.random.Generator, focal: float, distance: float = 40.0, distortion: float = 0.0
) -> np.ndarray:
    """Points all over the first picture, on a wall with relief: (N, 3) [mm]."""
    u = rng.uniform(20, WIDTH - 20, POINTS)
    v = rng.uniform(20, HEIGHT - 20, POINTS)
    z = distance * (1 + 0.25 * np.sin(u / 40) * np.cos(v / 33) + 0.1 * rng.standard_normal(POINTS))
    image = np.column_stack([u - CENTRE[0], v - CENTRE[1]]) / focal
    return np.column_stack([undistorted(image, distortion) * z[:, None], z])


def flight(kind: str, count: int, distance: float = 40.0) -> list[np.ndarray]:
    """T_world_cam of `count` keyframes over about a second."""
    poses = []
    for k in np.linspace(0.0, 1.0, count):
        if kind == 'advance':
            T = motion_from_vector(
                np.array([0.12 * np.sin(5 * k), -0.2 * k, 0.15 * k]),
                np.array([1.0 * k, 0.5 * np.sin(6 * k), 0.35 * distance * k]),
            )
        elif kind == 'orbit':
            angle = 0.35 * k
            T = motion_from_vector(np.array([0.0, angle, 0.0]), np.zeros(3))
            T[:3, 3] = np.array([0, 0, distance]) - T[:3, :3] @ np.array([0, 0, distance])
        elif kind == 'sideways':
            T = motion_from_vector(np.zeros(3), np.array([0.35 * distance * k, 0.0, 0.0]))
        else:  # rest
            T = np.eye(4)
        poses.append(T)
    return poses


def project(
    X_world: np.ndarray, T_world_cam: np.ndarray, focal: float, distortion: float = 0.0
) -> np.ndarray:
    T = inverse(T_world_cam)
    X = X_world @ T[:3, :3].T + T[:3, 3]
    return CENTRE + focal * distorted(X[:, :2] / X[:, 2:], distortion)


def built(
    kind: str,
    focal: float,
    start: float,
    seed: int = 0,
    zoom: np.ndarray | None = None,
    rim: bool = True,
    relief: float = 1.0,
    distortion: float = 0.0,
    believed_bend: tuple[float, float] | None = None,
) -> LocalMap:
    """
    A map of ten keyframes that believes in `start` times the focal length.

    :param zoom: (10,) of each; rim: whether one shows it; relief: the power that makes the depth
        maps of the truth; distortion: of the lens, and what is believed of it, with sigma.
    """
    rng = np.random.default_rng(seed)
    points = scene_points(rng, focal, distortion=distortion)
    belief = Scope.guessed(
        float(np.log(focal * start)),
        0.45,
        CENTRE,
        0.01 * WIDTH,
        distortion=believed_bend,
    )
    local_map = LocalMap((WIDTH, HEIGHT), NOISE_PX, Words(belief), belief)
    tilt = 0.06 * rng.standard_normal(2)
    zoom = np.ones(10) if zoom is None else zoom
    for k, T in enumerate(flight(kind, 10)):
        pixels = project(points, T, focal * zoom[k], distortion)
        pixels += NOISE_PX * rng.standard_normal((POINTS, 2))
        X = points @ inverse(T)[:3, :3].T + inverse(T)[:3, 3]
        ids = np.flatnonzero((np.abs(pixels - CENTRE) < CENTRE + 0.5).all(1) & (X[:, 2] > 1))
        log_z = relief * np.log(X[ids, 2]) + (1 - relief) * np.log(np.median(X[ids, 2]))
        log_depth = log_z + 0.03 * rng.standard_normal() + (pixels[ids] / 160 - 1) @ tilt
        log_depth += 0.04 * rng.standard_normal(len(ids))
        believed = float(np.log(focal * start))
        placed = inverse(T) if k == 0 else None
        if placed is None:  # as the odometry would: among the points that the map has
            known = local_map.landmarks.of(ids)
            use = known >= 0
            before = local_map.keyframes[-1].T_cam_world
            seen = local_map.landmarks.places[known[use]], pixels[ids][use]
            bent = local_map.scope.distortion
            placed = resect(*seen, CENTRE, 0.4, before, believed, 0.01, bent).T_cam_world
        log_zoom = float(np.log(zoom[k]))
        local_map = local_map.with_keyframe(
            Keyframe(
                3 * k, ids, pixels[ids], log_depth, np.full(len(ids), 0.1),
                log_zoom if rim else np.nan, 1e-3,
                placed[:3, :3], placed[:3, 3], believed + log_zoom, 0.0,
            )
        )  # fmt: skip
    return local_map


def adjusted(local_map: LocalMap) -> LocalMap:
    """One adjustment, and all that it leaves for later frames."""
    local_map = local_map.adjusted()
    while local_map.asking:
        local_map = local_map.adjusted()
    while local_map.waits:
        local_map = local_map.completed()
    return local_map


def solved(local_map: LocalMap) -> LocalMap:
    for _ in range(24):
        local_map = adjusted(local_map)
        if local_map.solution and local_map.solution.converged and not local_map.unsure:
            break
    return local_map
