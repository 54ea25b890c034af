# SPDX-License-Identifier: Apache-2.0
"""
Rooms full of things: ellipsoids and capsules before a wall, as a field and as colours.

A family of worlds says which things stand where; this file makes surface and paint of them.
"""

import numba
import numpy as np

from training.synthetic.field import Field
from training.synthetic.kernels import kernel, parallel_kernel
from training.synthetic.tissue import draw_tissue, linear
from training.synthetic.world import World, lattice, lattice_noise, random_rotation

PALETTE = np.stack(
    [
        linear(214, 142, 120),  # wall
        linear(138, 52, 46),  # liver
        linear(206, 178, 128),  # gall bladder
        linear(214, 120, 108),  # bowel
        linear(234, 184, 126),  # fat
        linear(232, 190, 176),  # ligament
    ]
)
KINDS = WALL, LIVER, GALL, BOWEL, FAT, LIGAMENT = range(6)
REACH = 6.0  # a thing is asked only this far beyond itself: farther off, others are nearer [mm]
FAR = 50.0  # where no thing is near [mm]
TINT_CELL = 2.0  # spacing of the colours' grid [mm]


class Things:
    """
    What stands in a room, while it is being furnished; lengths in mm.

    Balls are rows of 16: centre, semi-axes, rotation (9), paint. Rods are rows of 8: end, end,
    radius, paint.

    :param rng: draws the paints.
    :param contrast: how much one thing is darker or paler than another of its kind: standard
        deviation of the logarithm.
    """

    def __init__(self, rng: np.random.Generator, contrast: float = 0.0) -> None:
        self.balls: list[list[float]] = []
        self.rods: list[list[float]] = []
        self.paints: list[np.ndarray] = []
        self.contrast = contrast
        self._rng = rng
        self._paint(WALL)

    def _paint(self, kind: int) -> int:
        """Mix a paint of this kind; its number."""
        self.paints.append(np.clip(mixed(self._rng, kind, self.contrast), 0.02, 0.95))
        return len(self.paints) - 1

    def ball(self, centre: np.ndarray, axes: np.ndarray, colour: int, angles: np.ndarray) -> None:
        """Stand an ellipsoid at `centre`, turned by angles about x, y and z [rad]."""
        self.balls.append([*centre, *axes, *turned(angles).ravel(), self._paint(colour)])

    def rod(self, points: np.ndarray, radius: np.ndarray, colour: int) -> None:
        """Lay a chain of capsules along points (N, 3), of radius (N - 1,)."""
        paint = self._paint(colour)
        for a, b, r in zip(points, points[1:], radius, strict=False):
            self.rods.append([*a, *b, r, paint])

    def move(self, by: np.ndarray) -> None:
        """Put everything elsewhere: by (3,) [mm]."""
        for ball in self.balls:
            ball[:3] = np.add(ball[:3], by)
        for rod in self.rods:
            rod[:6] = np.add(rod[:6], np.tile(by, 2))

    def reach(self) -> np.ndarray:
        """How far everything reaches from the origin, at most: (3,) [mm]."""
        sides = [np.abs(ball[:3]) + max(ball[3:6]) for ball in self.balls]
        sides += [np.abs(end) + rod[6] for rod in self.rods for end in (rod[:3], rod[3:6])]
        return np.max(sides, axis=0)


def mixed(rng: np.random.Generator, kind: int, contrast: float) -> np.ndarray:
    """Mix a paint of this kind, (3,) linear reflectance; contrast: see `Things`."""
    strength = np.exp(contrast * rng.standard_normal())
    hue = 1.0 + 0.08 * rng.standard_normal(3)
    return PALETTE[kind] * strength * hue


def turned(angles: np.ndarray) -> np.ndarray:
    """Rotation about x, then y, then z: (3,) [rad] -> (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def build(
    rng: np.random.Generator,
    room: np.ndarray,
    things: Things,
    cell: float,
    bump: float = 0.7,
    hollow: bool = False,
    mottle: float = 0.10,
    crease: float = 2.5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Sample the surface and the colours of a room with its things.

    :param room: (3,) semi-axes of the room, an ellipsoid about the origin [mm].
    :param cell: grid spacing [mm].
    :param bump: height of the lumps that all surfaces have [mm].
    :param mottle: how much every surface is darker and paler in places.
    :param crease: width over which what meets is rounded [mm].
    :param hollow: the things are not bodies in a room but passages through tissue.
    :return: samples (Z, Y, X) float32 for `Field.from_samples`, its lower corner (3,) [mm], and
        colours (Z, Y, X, 3) float32 linear reflectance every TINT_CELL.
    """
    balls = np.array(things.balls).reshape(-1, 16)
    rods = np.array(things.rods).reshape(-1, 8)
    lower = -room - 5.0 * cell
    size = np.ceil(2.0 * (room + 5.0 * cell) / cell).astype(int) + 1
    samples = np.empty(tuple(size[::-1]), np.float32)
    tint = np.empty((*(int(n * cell / TINT_CELL) + 2 for n in samples.shape), 3), np.float32)
    bumps = lattice(rng, (32, 32, 32), 2)
    _fill(samples, lower, cell, room, balls, rods, bumps, bump, hollow, crease)
    _paint(
        tint, lower, TINT_CELL, room, balls, rods, bumps, hollow,
        np.array(things.paints, np.float32), mottle, rng.uniform(5.0, 20.0),
    )  # fmt: skip
    return samples, lower, tint


def clothed(
    name: str,
    rng: np.random.Generator,
    built: tuple[np.ndarray, np.ndarray, np.ndarray],
    cell: float,
    way: tuple[np.ndarray, np.ndarray],
    side: int,
    extent: tuple[float, float],
    horizon: float | None = None,
) -> World:
    """
    Lay tissue over what was built, and make a world of it.

    :param built: what `build` gave at this `cell` [mm]; way: guide and gaze, as `World` has them.
    :param side: of the texture [texels]; extent: of its tile, from and to [mm].
    """
    samples, lower, tint = built
    guide, gaze = way
    return World(
        name=name,
        field=Field.from_samples(samples, lower, cell),
        tissue=draw_tissue(rng, side, extent=extent),
        R_texture_world=random_rotation(rng),
        tint=tint,
        tint_cell=TINT_CELL,
        guide=guide,
        gaze=gaze,
        horizon=horizon,
    )


@kernel
def _ellipsoid(ball: np.ndarray, x: float, y: float, z: float) -> float:
    """Distance to an ellipsoid, to first order: k (k − 1) / |p / r²|, k = |p / r| [mm]."""
    dx, dy, dz = x - ball[0], y - ball[1], z - ball[2]
    k, slope = 0.0, 0.0
    for a in range(3):
        p = (ball[6 + a] * dx + ball[9 + a] * dy + ball[12 + a] * dz) / ball[3 + a]
        k += p * p
        slope += (p / ball[3 + a]) ** 2
    k = np.sqrt(k)
    return k * (k - 1.0) / (np.sqrt(slope) + 1e-9)


@kernel
def _rod(rod: np.ndarray, x: float, y: float, z: float) -> float:
    """Distance to a capsule [mm]."""
    ex, ey, ez = rod[3] - rod[0], rod[4] - rod[1], rod[5] - rod[2]
    dx, dy, dz = x - rod[0], y - rod[1], z - rod[2]
    s = (dx * ex + dy * ey + dz * ez) / (ex * ex + ey * ey + ez * ez + 1e-9)
    s = min(max(s, 0.0), 1.0)
    dx, dy, dz = dx - s * ex, dy - s * ey, dz - s * ez
    return np.sqrt(dx * dx + dy * dy + dz * dz) - rod[6]


@kernel
def _wall(room: np.ndarray, x: float, y: float, z: float) -> float:
    """Distance to the room's wall from inside, to first order [mm]."""
    px, py, pz = x / room[0], y / room[1], z / room[2]
    k = np.sqrt(px * px + py * py + pz * pz)
    slope = np.sqrt((px / room[0]) ** 2 + (py / room[1]) ** 2 + (pz / room[2]) ** 2)
    return k * (1.0 - k) / (slope + 1e-9) if k > 0.1 else room.min()


@kernel
def _smooth_min(a: float, b: float, width: float) -> float:
    overlap = max(width - abs(a - b), 0.0) / width
    return min(a, b) - 0.25 * width * overlap * overlap


@kernel
def _nearby(balls: np.ndarray, rods: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Pick what the slab at z can touch: numbers of balls and of rods."""
    some_balls = np.empty(len(balls), np.int64)
    some_rods = np.empty(len(rods), np.int64)
    b, r = 0, 0
    for n in range(len(balls)):
        reach = 0.0
        for a in range(3):  # the support of an ellipsoid along z
            reach += (balls[n, 12 + a] * balls[n, 3 + a]) ** 2
        if abs(z - balls[n, 2]) < np.sqrt(reach) + REACH:
            some_balls[b] = n
            b += 1
    for n in range(len(rods)):
        low, high = min(rods[n, 2], rods[n, 5]), max(rods[n, 2], rods[n, 5])
        if low - rods[n, 6] - REACH < z < high + rods[n, 6] + REACH:
            some_rods[r] = n
            r += 1
    return some_balls[:b], some_rods[:r]


@parallel_kernel
def _fill(
    samples: np.ndarray,
    lower: np.ndarray,
    cell: float,
    room: np.ndarray,
    balls: np.ndarray,
    rods: np.ndarray,
    bumps: np.ndarray,
    bump_height: float,
    hollow: bool,
    crease: float,
) -> None:
    """Sample the distance to the nearest thing, creases rounded."""
    for k in numba.prange(samples.shape[0]):
        z = lower[2] + k * cell
        near_balls, near_rods = _nearby(balls, rods, z)
        for j in range(samples.shape[1]):
            y = lower[1] + j * cell
            for i in range(samples.shape[2]):
                x = lower[0] + i * cell
                f = FAR if hollow else _wall(room, x, y, z)
                for n in near_balls:
                    f = _smooth_min(f, _ellipsoid(balls[n], x, y, z), crease)
                for n in near_rods:
                    f = _smooth_min(f, _rod(rods[n], x, y, z), crease)
                bump = lattice_noise(bumps, x / 11.0, y / 11.0, z / 11.0, 0)
                bump += 0.3 * lattice_noise(bumps, x / 4.5, y / 4.5, z / 4.5, 1)
                samples[k, j, i] = (-f if hollow else f) + bump_height * bump


@parallel_kernel
def _paint(
    tint: np.ndarray,
    lower: np.ndarray,
    cell: float,
    room: np.ndarray,
    balls: np.ndarray,
    rods: np.ndarray,
    bumps: np.ndarray,
    hollow: bool,
    colours: np.ndarray,
    mottle: float,
    patch: float,
) -> None:
    """Give every place the colour of what is nearest, a little mottled."""
    for k in numba.prange(tint.shape[0]):
        z = lower[2] + k * cell
        near_balls, near_rods = _nearby(balls, rods, z)
        for j in range(tint.shape[1]):
            y = lower[1] + j * cell
            for i in range(tint.shape[2]):
                x = lower[0] + i * cell
                best, which = FAR if hollow else _wall(room, x, y, z), 0
                for n in near_balls:
                    f = _ellipsoid(balls[n], x, y, z)
                    if f < best:
                        best, which = f, int(balls[n, 15])
                for n in near_rods:
                    f = _rod(rods[n], x, y, z)
                    if f < best:
                        best, which = f, int(rods[n, 7])
                shade = np.exp(mottle * lattice_noise(bumps, x / patch, y / patch, z / patch, 1))
                for c in range(3):
                    tint[k, j, i, c] = min(shade * colours[which, c], 0.98)
