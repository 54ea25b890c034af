# SPDX-License-Identifier: Apache-2.0
"""The belly family: a wide room, organs that lie on and over each other with sharp creases."""

import numpy as np

from training.synthetic.things import (
    BOWEL,
    FAT,
    GALL,
    LIGAMENT,
    LIVER,
    WALL,
    Things,
    build,
    clothed,
)
from training.synthetic.world import World, smooth_curve


def make_belly(seed: int, cell: float = 1.3, side: int = 1024) -> World:
    """
    Make an open belly from a seed: y points down to the organs, the scope looks along z.

    :param cell: grid spacing [mm], smaller is finer and slower; side: of the texture [texels].
    """
    rng = np.random.default_rng([seed, 6])
    room = rng.uniform([70.0, 48.0, 72.0], [108.0, 78.0, 112.0])  # semi-axes [mm]
    floor = float(rng.uniform(0.3, 0.6) * room[1])
    things = _furnish(rng, room, floor)
    built = build(
        rng, room, things, cell, bump=rng.uniform(0.2, 0.9), mottle=rng.uniform(0.05, 0.4),
        crease=float(rng.uniform(0.4, 2.5)),
    )  # fmt: skip
    way = _way(rng, room, floor)
    return clothed(f'belly-{seed}', rng, built, cell, way, side, (40.0, 80.0), 0.15)


def _furnish(rng: np.random.Generator, room: np.ndarray, floor: float) -> Things:
    """What lies below first, what lies over it last."""
    w, h, d = room
    things = Things(rng, contrast=float(rng.uniform(0.1, 0.4)))

    def ball(place: list[float], axes: np.ndarray, colours: list[int], turn: float) -> None:
        things.ball(np.array(place), axes, int(rng.choice(colours)), rng.normal(0.0, turn, 3))

    def somewhere(deep: float = 0.6) -> list[float]:
        return [rng.uniform(-deep, deep) * w, floor, rng.uniform(-deep, deep) * d]

    ball([0.0, floor + 2.0 * h, 0.0], np.array([3.0 * w, 2.0 * h, 3.0 * d]), [BOWEL, FAT], 0.05)
    for _ in range(rng.integers(2, 7)):  # what fills the floor
        ball(somewhere(), rng.uniform([12.0, 6.0, 12.0], [40.0, 16.0, 40.0]), [FAT, WALL], 0.2)
    _lay_loops(rng, things, room, floor)
    for _ in range(rng.integers(1, 4)):  # flat organs with an edge, standing over the others
        x, y, z = somewhere(0.8)
        axes = rng.uniform([22.0, 9.0, 22.0], [58.0, 28.0, 52.0])
        lift = rng.uniform(0.1, 0.9) * axes[1]
        ball([x, y - lift, z], axes, [LIVER, LIVER, BOWEL, WALL], 0.3)
    for _ in range(rng.integers(0, 5)):  # round ones
        x, y, z = somewhere()
        axes = rng.uniform(5.0, 17.0) * np.exp(0.25 * rng.standard_normal(3))
        ball([x, y - rng.uniform(0.0, 1.0) * axes[1], z], axes, [GALL, BOWEL, FAT, LIVER], 0.6)
    for _ in range(rng.integers(0, 3)):  # fat that hangs over
        x, y, z = somewhere()
        axes = rng.uniform([15.0, 3.0, 15.0], [35.0, 8.0, 35.0])
        ball([x, y - rng.uniform(8.0, 22.0), z], axes, [FAT], 0.35)
    for _ in range(rng.integers(0, 4)):  # bands and vessels
        a, b = np.array(somewhere()), np.array(somewhere())
        a[1] -= rng.uniform(5.0, 45.0)
        b[1] -= rng.uniform(-5.0, 15.0)
        colour = int(rng.choice([LIGAMENT, FAT, BOWEL]))
        things.rod(np.stack([a, b]), np.array([rng.uniform(1.2, 3.5)]), colour)
    return things


def _lay_loops(rng: np.random.Generator, things: Things, room: np.ndarray, floor: float) -> None:
    """Bowel across the floor: long chains, necks in them, one over the other."""
    usual, step = float(rng.uniform(6.0, 15.0)), 4.0
    colour = int(rng.choice([BOWEL, BOWEL, BOWEL, FAT, LIVER]))
    necks, wavelength = rng.uniform(0.0, 0.25), rng.uniform(14.0, 40.0)
    for _ in range(int(rng.integers(3, 9))):
        radius = usual * float(np.exp(0.15 * rng.standard_normal()))
        count = int(rng.uniform(20, 42))
        along = step * (np.arange(count) - count / 2)
        aside = radius * smooth_curve(rng, count, 70.0, step, 2) * [1.3, 0.3]
        heading = rng.uniform(0.0, np.pi)
        way = np.stack([np.cos(heading), np.sin(heading)])
        place = rng.uniform(-0.5, 0.5, 2) * room[[0, 2]]
        ground = place + along[:, None] * way + aside[:, :1] * [-way[1], way[0]]
        height = floor - rng.uniform(-0.3, 1.4) * radius + aside[:, 1]
        pinch = 1.0 - necks * np.abs(np.sin(np.pi * along / wavelength + rng.uniform(0, 3.0))) ** 6
        things.rod(np.column_stack([ground[:, 0], height, ground[:, 1]]), radius * pinch, colour)


def _way(
    rng: np.random.Generator, room: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """From the wall towards the organs, looking down at them: (N, 3) each [mm]."""
    count = 101
    ease = np.linspace(0.0, 1.0, count)[:, None]
    drift = smooth_curve(rng, count, 60.0, 0.6, 6)
    start = rng.uniform([-0.4, -0.7, -0.8], [0.4, -0.25, -0.4]) * room
    target = np.array([rng.uniform(-0.3, 0.3) * room[0], floor, rng.uniform(-0.2, 0.5) * room[2]])
    end = start + rng.uniform(0.2, 0.7) * (target - start)
    guide = start + ease * (end - start) + drift[:, :3] * [0.07, 0.05, 0.04] * room
    return guide, target + drift[:, 3:] * [0.2, 0.08, 0.15] * room
