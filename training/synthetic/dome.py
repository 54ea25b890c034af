# SPDX-License-Identifier: Apache-2.0
"""
The dome family: one or two big smooth organs that fill the picture, smaller things before them.

With a light beside the lens a dome looks like a hollow. Most families are hollow, and networks
that saw little else took the large organ of a real open belly for a hole.
"""

from collections.abc import Callable

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

COUNT = 101  # points of the way


def make_dome(seed: int, cell: float = 1.4, side: int = 1024) -> World:
    """
    Make a room with big organs from a seed: y points down, the scope looks along z.

    :param cell: grid spacing [mm], smaller is finer and slower; side: of the texture [texels].
    """
    rng = np.random.default_rng([seed, 10])
    room = rng.uniform([75.0, 60.0, 80.0], [110.0, 85.0, 120.0])  # semi-axes [mm]
    things = Things(rng, contrast=float(rng.uniform(0.1, 0.4)))
    target = _big_ones(rng, room, things)
    start = target + rng.uniform([-15.0, -25.0, -65.0], [15.0, 5.0, -28.0])  # in free space
    _before_them(rng, things, start, target)
    built = build(
        rng, room, things, cell, bump=rng.uniform(0.1, 0.9), mottle=rng.uniform(0.05, 0.5),
        crease=float(np.exp(rng.uniform(np.log(0.5), np.log(4.0)))),
    )  # fmt: skip
    ease = np.linspace(0.0, 1.0, COUNT)[:, None]
    drift = smooth_curve(rng, COUNT, 60.0, 0.6, 6)
    nearer = rng.uniform(0.0, 0.45) * (target - start)
    aside = rng.uniform([-25.0, -12.0, 0.0], [25.0, 6.0, 0.0])
    guide = start + ease * (nearer + aside) + drift[:, :3] * [5.0, 3.0, 3.0]
    gaze = target + 0.6 * ease * aside + drift[:, 3:] * [8.0, 6.0, 8.0]
    return clothed(f'dome-{seed}', rng, built, cell, (guide, gaze), side, (40.0, 80.0), 0.15)


def _big_ones(rng: np.random.Generator, room: np.ndarray, things: Things) -> np.ndarray:
    """Organs before the far wall; the place on the first that faces the scope: (3,) [mm]."""
    axes = rng.uniform([32.0, 24.0, 18.0], [75.0, 55.0, 50.0])
    surface = np.array([0.0, 0.0, rng.uniform(0.0, 0.35) * room[2]])
    centre = np.append(rng.uniform(-15.0, [15.0, 12.0]), surface[2] + 0.9 * axes[2])
    colour = int(rng.choice([BOWEL, BOWEL, LIVER, LIVER, FAT, WALL]))
    things.ball(centre, axes, colour, rng.normal(0.0, 0.25, 3))
    for _ in range(int(rng.integers(0, 3))):  # its lobes, or others beside it
        beside = centre + rng.uniform([-1.0, -0.8, -0.3], [1.0, 0.8, 0.4]) * axes
        size, kind = rng.uniform(0.5, 1.0) * axes, int(rng.choice([colour, LIVER, BOWEL, FAT]))
        things.ball(beside, size, kind, rng.normal(0.0, 0.4, 3))
    for _ in range(int(rng.integers(0, 3))):  # bands and vessels over them
        ends = surface + rng.uniform([-30.0, -25.0, -3.0], [30.0, 25.0, 4.0], (2, 3))
        kind = int(rng.choice([LIGAMENT, FAT, BOWEL]))
        things.rod(ends, np.array([rng.uniform(1.2, 3.5)]), kind)
    return surface


def _before_them(
    rng: np.random.Generator, things: Things, start: np.ndarray, target: np.ndarray
) -> None:
    """What covers the organs' lower edge: loops, fat and others; now and then one at the side."""
    between = 0.45 * start + 0.55 * target  # of scope and organ

    def somewhere(high: float) -> np.ndarray:
        deep = rng.uniform(-0.25, 0.35) * (target - start)
        return between + deep + np.array([rng.uniform(-45.0, 45.0), rng.uniform(high, 35.0), 0.0])

    if rng.random() < 0.7:
        _lay_loops(rng, things, somewhere)
    for _ in range(int(rng.integers(0, 4))):
        axes = rng.uniform(5.0, 18.0) * np.exp(0.35 * rng.standard_normal(3))
        kind = int(rng.choice([FAT, FAT, GALL, BOWEL, LIVER]))
        things.ball(somewhere(14.0), axes, kind, rng.normal(0.0, 0.6, 3))
    if rng.random() < 0.25:
        aside = rng.choice([-1.0, 1.0]) * rng.uniform(28.0, 40.0)
        place = between + np.array([aside, rng.normal(0.0, 8.0), 0.0])
        kind = int(rng.choice([BOWEL, LIVER, FAT]))
        things.ball(place, rng.uniform(12.0, 22.0, 3), kind, rng.normal(0.0, 0.5, 3))


def _lay_loops(
    rng: np.random.Generator, things: Things, somewhere: Callable[[float], np.ndarray]
) -> None:
    """Bowel, more or less across the picture; somewhere: draws a place, so far down at least."""
    usual = float(rng.uniform(6.0, 14.0))
    colour = int(rng.choice([BOWEL, BOWEL, FAT, LIVER]))
    for _ in range(int(rng.integers(1, 6))):
        count = int(rng.uniform(10, 28))
        along = 4.0 * (np.arange(count) - count / 2)[:, None]
        heading = rng.normal(0.0, 0.5)
        line = along * [np.cos(heading), np.sin(heading), 0.4 * rng.normal()]
        line = line + usual * smooth_curve(rng, count, 60.0, 4.0, 3)
        radius = np.full(count, usual * rng.uniform(0.8, 1.2))
        things.rod(somewhere(16.0 + 0.5 * usual) + line, radius, colour)
