# SPDX-License-Identifier: Apache-2.0
"""Scopes, the cameras they make at a zoom, and flights: a camera for every frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from training.synthetic.kernels import kernel
from training.synthetic.world import World, smooth_curve

MOST_BENT = 0.5  # of a ray's distance from the axis, in the picture's corner


@dataclass(frozen=True)
class Camera:
    """
    One view, of a pinhole whose lens may bend straight lines.

    :param width: of the picture [px]; height likewise.
    :param K: (3, 3) float64 [px], pixel centres at integers.
    :param T_world_cam: (4, 4) float64 [mm]; optical axes: x right, y down, z forward.
    :param circle: (3,) float64 centre u, v and radius of the round field stop [px].
    :param distortion: a, b of ray = image / (1 + a r^2 + b r^4), both in focal lengths (division
        model, Fitzgibbon 2001): negative is a barrel.
    """

    width: int
    height: int
    K: np.ndarray
    T_world_cam: np.ndarray
    circle: np.ndarray
    distortion: tuple[float, float] = (0.0, 0.0)

    def rays(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """
        Through a grid of pixels.

        :param u: (w,) columns [px]; v: (h,) rows.
        :return: (h, w, 3) unit vectors in the camera's frame.
        """
        K = self.K
        image = np.stack(np.meshgrid((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]), axis=-1)
        ray = image * unbent(image, self.distortion)
        rays = np.concatenate([ray, np.ones((*ray.shape[:2], 1))], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Scope:
    """
    An endoscope with a zoom lens; lengths in the picture are in picture widths.

    :param focal: focal length at zoom 1 [widths].
    :param centre: principal point, normalised 0..1 (n_x = (cx + ½)/W).
    :param stop_radius: radius of the field stop's picture at zoom 1 [widths].
    :param stop_offset: its centre from the principal point at zoom 1 [widths].
    :param electronic: the camera paints the stop, and zooms digitally behind it: it stands still.
    :param distortion: see `Camera`; the zoom magnifies what the lens made, so it stays.
    """

    focal: float = 0.6
    centre: tuple[float, float] = (0.5, 0.5)
    stop_radius: float = 0.385
    stop_offset: tuple[float, float] = (0.0, 0.0)
    electronic: bool = False
    distortion: tuple[float, float] = (0.0, 0.0)

    def camera(self, T_world_cam: np.ndarray, zoom: float, width: int, height: int) -> Camera:
        """
        Look through the scope; optical zoom scales picture and field stop alike, an electronic
        stop stands still.

        :param T_world_cam: (4, 4) [mm]; zoom: 1 is widest; width, height: of the picture [px].
        """
        f = self.focal * width * zoom
        cx = self.centre[0] * width - 0.5
        cy = self.centre[1] * height - 0.5
        K = np.array([[f, 0.0, cx], [0.0, f, cy], [0.0, 0.0, 1.0]])
        unit = width * (1.0 if self.electronic else zoom)
        circle = np.array(
            [
                cx + self.stop_offset[0] * unit,
                cy + self.stop_offset[1] * unit,
                self.stop_radius * unit,
            ]
        )
        return Camera(width, height, K, T_world_cam, circle, self.distortion)

    def bent(self, share: float, width: int, height: int) -> 'Scope':
        """The same through a `barrel` of this share, for pictures of so many pixels."""
        corner = 0.5 * float(np.hypot(1.0, height / width)) / self.focal
        return replace(self, distortion=barrel(share, corner))


@kernel
def pixel_ray(
    lens: np.ndarray, T_world_cam: np.ndarray, u: float, v: float
) -> tuple[float, float, float, float]:
    """
    The ray of one point of the picture, for compiled loops.

    :param lens: (6,) fx, fy, cx, cy [px], distortion.
    :return: its unit direction x, y, z in the world, and how long it is at a z-depth of 1.
    """
    T = T_world_cam
    x, y = (u - lens[2]) / lens[0], (v - lens[3]) / lens[1]
    away = x * x + y * y
    straight = 1.0 / (1.0 + lens[4] * away + lens[5] * away * away)
    x, y = x * straight, y * straight
    long = np.sqrt(x * x + y * y + 1.0)
    return (
        (T[0, 0] * x + T[0, 1] * y + T[0, 2]) / long,
        (T[1, 0] * x + T[1, 1] * y + T[1, 2]) / long,
        (T[2, 0] * x + T[2, 1] * y + T[2, 2]) / long,
        long,
    )


def unbent(image: np.ndarray, distortion: Sequence[float] | np.ndarray) -> np.ndarray:
    """Ray over image: (..., 2) in focal lengths -> (..., 1); distortion: see `Camera`."""
    squared = (image**2).sum(-1, keepdims=True)
    return 1.0 / (1.0 + distortion[0] * squared + distortion[1] * squared**2)


def barrel(share: float, corner: float) -> tuple[float, float]:
    """
    A lens between a pinhole and a fisheye, see `Camera.distortion`.

    :param share: of the distortion of an f-theta fisheye, whose rays are tan(image), so image /
        ray = 1 - r^2 / 3 - r^4 / 45 to the fourth order: endoscopes have 0 to 1.
    :param corner: of the picture, from its centre [focal lengths]: nothing there is imaged at less
        than half of where a pinhole has it.
    """
    a, b = -share / 3, -share / 45
    bent = -(a * corner**2 + b * corner**4)
    less = min(1.0, MOST_BENT / bent) if bent > 0 else 1.0
    return less * a, less * b


@dataclass(frozen=True)
class Flight:
    """
    Where the scope is and how far it zooms, frame by frame.

    :param T_world_cam: (N, 4, 4) float64 [mm].
    :param zoom: (N,) float64, 1 is widest.
    :param stamps: (N,) float64 [s], the first frame at 0.
    """

    T_world_cam: np.ndarray
    zoom: np.ndarray
    stamps: np.ndarray


def fly(
    world: World,
    seed: int,
    frames: int,
    rate: float = 25.0,
    speed: float = 11.0,
    zooms: Sequence[tuple[float, float]] = ((0.0, 1.0),),
    pauses: Sequence[tuple[float, float]] = (),
    start: float = 10.0,
    orbit: float = 2.6,
    margin: float = 2.0,
) -> Flight:
    """
    Advance along the world's guide, orbiting and rolling, in a hand that trembles.

    :param rate: frames per second; speed: of the advance [mm/s]; start: on the guide [mm].
    :param zooms: (time [s], zoom) knots, joined by smooth ramps.
    :param pauses: (begin, end) [s]: the hand comes to rest, only its tremor stays.
    :param orbit: radius of the circling about the guide [mm]; it sways by 0.8 mm.
    :param margin: the camera never comes nearer to the surface than this [mm].
    """
    rng = np.random.default_rng([seed, 2])
    stamps = np.arange(frames) / rate
    clock = _path_clock(stamps, pauses)  # runs with the hand, stands still in a pause
    step = np.linalg.norm(np.diff(world.guide, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(step)])
    place = start + speed * clock
    if place[-1] > along[-1]:
        raise ValueError(
            f'{world.name}: the flight needs {place[-1]:.0f} mm of guide, '
            f'found {along[-1]:.0f} mm: fewer frames, less speed or a longer world'
        )
    position = _interpolate(along, world.guide, place)
    forward = _unit(_interpolate(along, world.gaze, place) - position)

    sway = _sway(rng, clock, 5)
    turn = 2.0 * np.pi * clock / rng.uniform(5.0, 8.0) * rng.choice([-1.0, 1.0])
    any_roll = rng.uniform(0.0, 2.0 * np.pi)
    roll = 0.30 * sway[:, 4] + any_roll
    if world.horizon is not None:
        roll = world.horizon * (0.5 * sway[:, 4] + rng.standard_normal())
    circling = np.column_stack([np.cos(turn), np.sin(turn)]) * (orbit + 0.8 * sway[:, :1])
    tremor = _tremor(rng, stamps, 6)
    aside = circling + 0.035 * tremor[:, :2]
    angles = np.column_stack([0.13 * sway[:, 2:4], roll]) + 0.0016 * tremor[:, 2:5]

    R = _level_frames(forward)
    for shrink in 0.85 ** np.arange(20):
        at = position + shrink * (R[:, :, 0] * aside[:, :1] + R[:, :, 1] * aside[:, 1:])
        if world.field.room(at).min() >= margin:
            break
    else:
        raise ValueError(f'{world.name}: no way through with {margin} mm to spare; try a new seed')
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, :3, :3] = R @ _small_rotations(angles)
    T[:, :3, 3] = at
    return Flight(T_world_cam=T, zoom=_ramps(stamps, zooms), stamps=stamps)


def _path_clock(stamps: np.ndarray, pauses: Sequence[tuple[float, float]]) -> np.ndarray:
    ease = 0.3
    activity = np.ones_like(stamps)
    for begin, end in pauses:
        leave = _smoothstep((stamps - (begin - ease)) / ease)
        back = _smoothstep((stamps - end) / ease)
        activity = np.minimum(activity, 1.0 - leave + back)
    steps = 0.5 * (activity[1:] + activity[:-1]) * np.diff(stamps)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _ramps(stamps: np.ndarray, knots: Sequence[tuple[float, float]]) -> np.ndarray:
    out = np.full_like(stamps, knots[0][1])
    for (t0, z0), (t1, z1) in pairwise(knots):
        out += (z1 - z0) * _smoothstep((stamps - t0) / max(t1 - t0, 1e-9))
    return out


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _interpolate(along: np.ndarray, points: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.column_stack([np.interp(place, along, points[:, axis]) for axis in range(3)])


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _sway(rng: np.random.Generator, clock: np.ndarray, channels: int) -> np.ndarray:
    fine = smooth_curve(rng, int(clock[-1] / 0.02) + 2, 3.5, 0.02, channels)
    ticks = np.arange(len(fine)) * 0.02
    return np.column_stack([np.interp(clock, ticks, fine[:, c]) for c in range(channels)])


def _tremor(rng: np.random.Generator, stamps: np.ndarray, channels: int) -> np.ndarray:
    """Physiological tremor, 6 to 11 Hz, of about unit variance: (N, channels)."""
    frequency = rng.uniform(6.0, 11.0, (3, channels))
    phase = rng.uniform(0.0, 2.0 * np.pi, (3, channels))
    waves = np.sin(2.0 * np.pi * frequency * stamps[:, None, None] + phase)
    return waves.sum(axis=1) / np.sqrt(1.5)


def _level_frames(forward: np.ndarray) -> np.ndarray:
    """Rotations with z along `forward` that turn about it as little as possible: (N, 3, 3)."""
    R = np.empty((len(forward), 3, 3))
    down = np.array([0.0, 1.0, 0.0])
    if abs(forward[0] @ down) > 0.9:
        down = np.array([1.0, 0.0, 0.0])
    for n, z in enumerate(forward):
        x = _unit(np.cross(down, z))
        down = np.cross(z, x)
        R[n] = np.column_stack([x, down, z])
    return R


def _small_rotations(angles: np.ndarray) -> np.ndarray:
    """Pitch and yaw, then roll about the optical axis: (N, 3) [rad] -> (N, 3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles).T, np.sin(angles).T
    one, nil = np.ones_like(cx), np.zeros_like(cx)
    pitch = np.stack([one, nil, nil, nil, cx, -sx, nil, sx, cx], -1).reshape(-1, 3, 3)
    yaw = np.stack([cy, nil, sy, nil, one, nil, -sy, nil, cy], -1).reshape(-1, 3, 3)
    roll = np.stack([cz, -sz, nil, sz, cz, nil, nil, nil, one], -1).reshape(-1, 3, 3)
    return pitch @ yaw @ roll
