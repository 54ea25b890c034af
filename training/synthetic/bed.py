# SPDX-License-Identifier: Apache-2.0
"""The bed family: loops of bowel in an open belly, larger organs behind, seen over the edge."""

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


def make_bed(seed: int, cell: float = 1.0, side: int = 1024) -> World:
    """
    Make a bed of loops from a seed: y points down to it, the scope looks along z.

    :param cell: grid spacing [mm], smaller is finer and slower; side: of the texture [texels].
    """
    rng = np.random.default_rng([seed, 5])
    room = rng.uniform([62.0, 46.0, 62.0], [78.0, 56.0, 84.0])  # semi-axes [mm]
    things = _furnish(rng, room)
    bump, mottle = rng.uniform(0.3, 1.0), rng.uniform(0.05, 0.5)
    built = build(rng, room, things, cell, bump, mottle=mottle)
    way = _way(rng, room)
    return clothed(f'bed-{seed}', rng, built, cell, way, side, (35.0, 60.0), 0.15)


def _furnish(rng: np.random.Generator, room: np.ndarray) -> Things:
    """A floor, loops on it, one or two organs behind and beside them."""
    w, h, d = room
    things = Things(rng, contrast=0.35)
    floor = rng.uniform(0.45, 0.65) * h
    things.ball(
        np.array([0.0, floor + 2.0 * h, 0.0]),
        np.array([3.0 * w, 2.0 * h, 3.0 * d]),
        int(rng.choice([BOWEL, FAT, WALL])),
        rng.normal(0.0, 0.06, 3),
    )
    usual = float(rng.uniform(4.5, 11.0))
    colour = int(rng.choice([BOWEL, BOWEL, LIVER, FAT, GALL]))
    for _ in range(int(rng.integers(5, 9) * 9.0 / usual**0.8) // 2):
        radius = usual * float(np.exp(0.2 * rng.standard_normal()))
        start = np.array([rng.uniform(-0.7, 0.7) * w, 0.0, rng.uniform(-0.55, 0.4) * d])
        points = start + radius * smooth_curve(rng, 15, 60.0, 6.0, 3) * [2.6, 0.3, 1.6]
        points[:, 1] += floor - rng.uniform(0.2, 1.2) * radius
        other = int(rng.choice([BOWEL, FAT, LIVER]))
        things.rod(
            points,
            radius * (1.0 + 0.12 * smooth_curve(rng, 15, 20.0, 6.0, 1)[:, 0]),
            colour if rng.random() < 0.75 else other,
        )
    for _ in range(rng.integers(1, 3)):
        axes = rng.uniform([0.4 * w, 0.4 * h, 0.2 * d], [0.9 * w, 0.9 * h, 0.45 * d])
        place = [rng.uniform(-0.5, 0.5) * w, rng.uniform(-0.1, 0.4) * h, rng.uniform(0.5, 0.9) * d]
        kind = int(rng.choice([LIVER, BOWEL, WALL, LIGAMENT, colour]))
        things.ball(np.array(place), axes, kind, rng.normal(0.0, 0.3, 3))
    for _ in range(rng.integers(0, 4)):
        place = [
            rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 0.9) * w,
            floor,
            rng.uniform(-0.5, 0.5) * d,
        ]
        kind = int(rng.choice([FAT, WALL, LIGAMENT]))
        things.ball(np.array(place), rng.uniform(8.0, 24.0, 3), kind, rng.normal(0.0, 0.5, 3))
    return things


def _way(rng: np.random.Generator, room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the near edge, down towards the loops, swaying: (N, 3) each [mm]."""
    count = 101
    ease = np.linspace(0.0, 1.0, count)[:, None]
    drift = smooth_curve(rng, count, 60.0, 0.6, 6)
    start = rng.uniform([-0.3, -0.55, -0.75], [0.3, -0.2, -0.6]) * room
    end = rng.uniform([-0.4, -0.3, -0.45], [0.4, 0.1, 0.05]) * room
    guide = start + ease * (end - start) + drift[:, :3] * [0.08, 0.06, 0.03] * room
    gaze = rng.uniform([-0.25, 0.1, 0.2], [0.25, 0.5, 0.6]) * room
    return guide, gaze + drift[:, 3:] * [0.2, 0.12, 0.1] * room
