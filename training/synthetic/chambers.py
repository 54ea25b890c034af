# SPDX-License-Identifier: Apache-2.0
"""
The chambers family: hollows of any shape that open into each other, as sinuses, kidneys and joints
have them, with side passages, shelves and stalks.
"""

import numpy as np

from training.synthetic.things import (
    BOWEL,
    FAT,
    LIGAMENT,
    TINT_CELL,
    WALL,
    Things,
    build,
    clothed,
)
from training.synthetic.world import World, smooth_curve, unit

SPACING = 1.5  # of the way's points [mm]
LOOK = 10  # points ahead
SPARE = 6.5  # what stands in the chambers keeps so far from the way [mm]
KINDS = [WALL, BOWEL, LIGAMENT, FAT]


def make_chambers(seed: int, cell: float = 0.9, side: int = 1024) -> World:
    """
    Make a row of chambers from a seed: the scope comes from -z and goes through them.

    :param cell: grid spacing [mm], smaller is finer and slower; side: of the texture [texels].
    """
    rng = np.random.default_rng([seed, 7])
    size = float(np.exp(rng.uniform(np.log(0.7), np.log(1.5))))
    hollows, way, narrow = _dig(rng, size)
    middle = 0.5 * (way.min(axis=0) + way.max(axis=0))
    hollows.move(-middle)
    way = way - middle
    room = hollows.reach() + 4.0
    bodies = _furnish(rng, size, way)
    bump, mottle = rng.uniform(0.02, 0.07) * narrow, rng.uniform(0.05, 0.4)
    crease = float(rng.uniform(0.8, 4.0))
    free, lower, tint = build(rng, room, hollows, cell, bump, True, mottle, crease)
    if bodies.balls or bodies.rods:
        beside, _, paint = build(rng, room, bodies, cell, bump / 2, True, mottle, crease)
        near = -beside < free  # `build` is positive inside its things: here they are bodies
        free = np.minimum(free, -beside)
        tint = np.where(_coarse(near, cell, tint.shape[:3])[..., None], paint, tint)
    ahead = way[2:-LOOK], way[2 + LOOK :]
    return clothed(f'chambers-{seed}', rng, (free, lower, tint), cell, ahead, side, (20.0, 50.0))


def _dig(rng: np.random.Generator, size: float) -> tuple[Things, np.ndarray, float]:
    """
    Chambers along a winding way, passages between and off it; the way's points (N, 3) and the
    least radius of its passage [mm].
    """
    things = Things(rng, contrast=float(rng.uniform(0.05, 0.3)))
    stops = [np.array([0.0, 0.0, 0.0])]
    heading = np.array([0.0, 0.0, 1.0])
    for _ in range(int(rng.integers(3, 6))):
        heading = unit(heading + rng.uniform(0.1, 0.7) * rng.standard_normal(3) * [1, 1, 0.5])
        stops.append(stops[-1] + size * rng.uniform(16.0, 34.0) * heading)
    way = _smooth(np.array(stops))
    wide = max(size * rng.uniform(6.0, 13.0), 7.5)
    wide = wide * (1.0 + 0.12 * smooth_curve(rng, len(way), 25.0, SPACING, 1)[:, 0])
    wide = np.maximum(wide, 6.8)
    things.rod(way, wide, int(rng.choice(KINDS)))
    for place in stops:
        for _ in range(int(rng.integers(1, 4))):
            axes = size * np.exp(rng.uniform(np.log(6.0), np.log(24.0), 3))
            off = 0.5 * axes * rng.standard_normal(3)
            things.ball(place + off, axes, int(rng.choice(KINDS)), rng.normal(0.0, 1.0, 3))
    for _ in range(int(rng.integers(0, 5))):  # passages aside, most of them blind
        start = way[int(rng.integers(0, len(way)))]
        aside = unit(rng.standard_normal(3) * [1.0, 1.0, 0.6] + [0.0, 0.0, 0.5])
        length, radius = size * rng.uniform(15.0, 45.0), size * rng.uniform(3.0, 10.0)
        count = max(int(length / 3.0), 2)
        bend = 0.12 * length * smooth_curve(rng, count, 60.0, 3.0, 3)
        line = start + np.linspace(0.0, length, count)[:, None] * aside
        line = line + (bend - bend[0]) * np.linspace(0.0, 1.0, count)[:, None]
        things.rod(line, radius * np.linspace(1.0, rng.uniform(0.5, 1.2), count), KINDS[0])
    return things, way, float(wide.min())


def _furnish(rng: np.random.Generator, size: float, way: np.ndarray) -> Things:
    """Shelves, lumps and stalks that stand in the chambers, beside the way."""
    things = Things(rng, contrast=float(rng.uniform(0.05, 0.35)))
    for _ in range(int(rng.integers(0, 9))):
        place = way[int(rng.integers(4, len(way)))]
        aside = unit(rng.standard_normal(3))
        if rng.random() < 0.25:  # a stalk from wall to wall
            radius = size * rng.uniform(0.8, 2.5)
            across = unit(np.cross(aside, rng.standard_normal(3)))
            middle = place + (SPARE + radius + size * rng.uniform(0.0, 8.0)) * aside
            line = middle + np.linspace(-40.0, 40.0, 9)[:, None] * across
            if _apart(line, way) > SPARE + radius:
                things.rod(line, np.full(8, radius), int(rng.choice(KINDS)))
            continue
        flat = rng.uniform(0.12, 1.0)  # a shelf, or a lump
        axes = size * rng.uniform(4.0, 14.0, 3) * [flat, 1.0, 1.0]
        middle = place + (SPARE + axes.max() + size * rng.uniform(0.0, 10.0)) * aside
        if _apart(middle[None], way) > SPARE + axes.max():
            things.ball(middle, axes, int(rng.choice(KINDS)), rng.normal(0.0, 1.0, 3))
    return things


def _coarse(fine: np.ndarray, cell: float, shape: tuple[int, ...]) -> np.ndarray:
    """What the grid of samples has at the nearest place of the colours' grid."""
    at = [
        np.minimum(np.round(np.arange(n) * TINT_CELL / cell).astype(int), whole - 1)
        for n, whole in zip(shape, fine.shape, strict=True)
    ]
    return fine[np.ix_(*at)]


def _smooth(stops: np.ndarray) -> np.ndarray:
    """A curve through them (Catmull-Rom), every SPACING mm: (N, 3)."""
    ends = np.vstack([2 * stops[0] - stops[1], stops, 2 * stops[-1] - stops[-2]])
    t = np.linspace(0.0, 1.0, 40, endpoint=False)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
               + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]  # fmt: skip
    curve = np.vstack([*pieces, stops[-1:]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    places = np.arange(0.0, along[-1], SPACING)
    return np.column_stack([np.interp(places, along, curve[:, axis]) for axis in range(3)])


def _apart(points: np.ndarray, way: np.ndarray) -> float:
    """Least distance between two sets of points [mm]."""
    return float(np.linalg.norm(points[:, None] - way[None], axis=-1).min())
