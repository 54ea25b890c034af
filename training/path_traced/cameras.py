# SPDX-License-Identifier: Apache-2.0
"""A scope that advances, sways, turns a little and zooms."""

from typing import NamedTuple

import cv2
import numpy as np

from training.path_traced.surfaces import World

RATE, ADVANCE = 25.0, 0.55  # frames a second; mm a frame
LOOK_MM = 6.0  # the camera looks at the way so far ahead
ROOM_MM = 4.0  # the camera never comes nearer to the surface
MOST_ZOOM = 1.55


class Cameras(NamedTuple):
    """K (N, 3, 3) [px], T_world_cam (N, 4, 4) [mm], circle (N, 3) u, v, radius [px] or None."""

    K: np.ndarray
    T_world_cam: np.ndarray
    circle: np.ndarray | None


def draw_cameras(world: World, seed: int, frames: int, size: tuple[int, int]) -> Cameras:
    """
    Advance along the guide, swaying, turning a little and zooming.

    :param size: width and height of the pictures [px].
    :raises ValueError: the way is too short or leads through the surface; try another seed.
    """
    rng = np.random.default_rng([seed, 101])
    width, height = size
    time = np.arange(frames) / RATE
    along = np.append(0.0, np.linalg.norm(np.diff(world.guide, axis=0), axis=1).cumsum())
    place = ADVANCE * np.arange(frames)
    if place[-1] + LOOK_MM > along[-1]:
        raise ValueError(
            f'{frames} frames need {place[-1] + LOOK_MM:.0f} mm of way, found {along[-1]:.0f}'
        )
    on_way, ahead = (
        np.stack([np.interp(at, along, axis) for axis in world.guide.T], -1)
        for at in (place, place + LOOK_MM)
    )
    forward = ahead - on_way
    sway = _wander(rng, time, 5)
    T = np.tile(np.eye(4), (frames, 1, 1))
    x = np.cross(rng.standard_normal(3), forward[0])
    for n in range(frames):
        z = forward[n] / np.linalg.norm(forward[n])
        x = x - z * (x @ z)
        x /= np.linalg.norm(x)  # carried along: turns about z as little as can be
        level = np.stack([x, np.cross(z, x), z], -1)
        turn = cv2.Rodrigues(np.array([0.12, 0.12, 0.20]) * sway[n, 2:])[0]
        T[n, :3, :3] = level @ turn
        T[n, :3, 3] = on_way[n] + level[:, :2] @ (1.8 * sway[n, :2])
    nearest = min(np.linalg.norm(world.vertices[::3] - at, axis=1).min() for at in T[::5, :3, 3])
    if nearest < ROOM_MM:
        raise ValueError(f'the way leaves {nearest:.1f} mm of room, needs {ROOM_MM}: another seed')
    zoom = 1.0 + (MOST_ZOOM - 1.0) * np.sin(np.pi * time / rng.uniform(2.2, 4.0)) ** 2
    focal = width * np.exp(rng.uniform(np.log(0.4), np.log(1.2))) * zoom
    K = np.zeros((frames, 3, 3))
    K[:, 0, 0], K[:, 1, 1], K[:, 2, 2] = focal, focal, 1.0
    K[:, :2, 2] = 0.5 * width - 0.5, 0.5 * height - 0.5
    circle = None
    if rng.random() < 0.4:
        circle = np.column_stack([K[:, :2, 2], rng.uniform(0.38, 0.43) * width * zoom])
    return Cameras(K, T, circle)


def _wander(rng: np.random.Generator, time: np.ndarray, channels: int) -> np.ndarray:
    """Smooth, of about unit variance, periods of 2 to 6 s, with a little tremor: (N, channels)."""
    slow, fast = rng.uniform(2.0, 6.0, (3, channels)), rng.uniform(0.1, 0.16, (3, channels))
    phase = rng.uniform(0.0, 2.0 * np.pi, (2, 3, channels))
    t = 2.0 * np.pi * time[:, None, None]
    waves = np.sin(t / slow + phase[0]) + 0.012 * np.sin(t / fast + phase[1])
    return waves.sum(1) * np.sqrt(2.0 / 3.0)


def seen_through(circle: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: inside the field stop."""
    if circle is None:
        return np.ones(size[::-1], bool)
    v, u = np.mgrid[: size[1], : size[0]]
    return np.hypot(u - circle[0], v - circle[1]) < circle[2]
