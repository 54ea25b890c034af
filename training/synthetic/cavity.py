# SPDX-License-Identifier: Apache-2.0
"""The cavity family: an insufflated room with organs, loops and ligaments, seen from its side."""

import numpy as np

from training.synthetic.things import (
    BOWEL,
    FAT,
    GALL,
    LIGAMENT,
    LIVER,
    Things,
    build,
    clothed,
)
from training.synthetic.world import World, smooth_curve


def make_cavity(seed: int, cell: float = 1.0, side: int = 1024) -> World:
    """
    Make a room from a seed: y points down to the organs, the scope comes from -z.

    :param cell: grid spacing [mm], smaller is finer and slower; side: of the texture [texels].
    """
    rng = np.random.default_rng([seed, 4])
    room = rng.uniform([52.0, 36.0, 66.0], [66.0, 46.0, 80.0])  # semi-axes [mm]
    things = _furnish(rng, room)
    built = build(rng, room, things, cell, mottle=rng.uniform(0.05, 0.4))
    way = _way(rng, room, things)
    return clothed(f'cavity-{seed}', rng, built, cell, way, side, (45.0, 60.0), 0.2)


def _furnish(rng: np.random.Generator, room: np.ndarray) -> Things:
    """Place organs on the floor and the far wall."""
    w, h, d = room
    side = rng.choice([-1.0, 1.0])
    things = Things(rng, contrast=0.3)

    def ball(centre: list[float], axes: list[float], colour: int, turn: float = 0.4) -> None:
        things.ball(np.array(centre), np.array(axes), colour, rng.normal(0.0, turn, 3))

    ball([side * 0.42 * w, 0.30 * h, 0.45 * d], [0.55 * w, 0.40 * h, 0.40 * d], LIVER, 0.25)
    ball([side * 0.55 * w, -0.45 * h, 0.55 * d], [0.40 * w, 0.35 * h, 0.30 * d], LIVER, 0.25)
    gall = rng.uniform([5.0, 6.0, 13.0], [9.0, 10.0, 24.0])
    ball([side * rng.uniform(-6.0, 8.0), 0.25 * h, 0.22 * d], list(gall), GALL, 0.7)
    ball([-side * 0.5 * w, 0.75 * h, 0.40 * d], [0.40 * w, 0.35 * h, 0.40 * d], FAT)
    for _ in range(rng.integers(3, 7)):
        place = rng.uniform([-0.6 * w, 0.7 * h, -0.2 * d], [0.6 * w, 0.95 * h, 0.7 * d])
        ball(list(place), list(rng.uniform(7.0, 16.0, 3)), int(rng.choice([FAT, BOWEL])))
    for _ in range(rng.integers(2, 4)):
        start = rng.uniform([-0.5 * w, 0.55 * h, 0.0], [0.5 * w, 0.8 * h, 0.6 * d])
        points = start + 9.0 * smooth_curve(rng, 26, 50.0, 4.0, 3) * [2.2, 0.5, 1.6]
        radius = rng.uniform(6.0, 10.0)
        things.rod(
            points, radius * (1.0 + 0.10 * smooth_curve(rng, 26, 14.0, 4.0, 1)[:, 0]), BOWEL
        )
    for _ in range(rng.integers(1, 3)):
        top = rng.uniform([-0.4 * w, -0.95 * h, 0.3 * d], [0.4 * w, -0.7 * h, 0.7 * d])
        foot = rng.uniform([-0.3 * w, 0.2 * h, 0.4 * d], [0.3 * w, 0.5 * h, 0.7 * d])
        things.rod(np.stack([top, foot]), np.array([rng.uniform(1.4, 2.6)]), LIGAMENT)
    return things


def _way(
    rng: np.random.Generator, room: np.ndarray, things: Things
) -> tuple[np.ndarray, np.ndarray]:
    """
    Come in from the near end, sway before the organs, look at one of them: (N, 3) each [mm].
    """
    count = 101
    ease = np.linspace(0.0, 1.0, count)[:, None]
    drift = smooth_curve(rng, count, 60.0, 0.6, 6)
    start = np.array([rng.normal(0.0, 0.1), rng.uniform(-0.4, -0.1), -0.72]) * room
    end = rng.uniform([-0.25, -0.4, -0.2], [0.25, 0.0, 0.15]) * room
    guide = start + ease * (end - start) + drift[:, :3] * [0.10, 0.07, 0.01] * room
    aim = np.array(things.balls[int(rng.integers(0, 4))][:3])
    middle = np.array([0.0, 0.35, 0.45]) * room
    gaze = middle + rng.uniform(0.0, 1.0) * (aim - middle)
    return guide, gaze + drift[:, 3:] * [0.22, 0.15, 0.1] * room
