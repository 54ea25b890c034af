# SPDX-License-Identifier: Apache-2.0
"""
The heap family: balls, loops, sheets and stalks of any size in any place, seen from any side. No
anatomy: a network that has seen it knows fewer things by heart.
"""

from dataclasses import replace

import numpy as np

from training.synthetic.field import Field
from training.synthetic.things import KINDS, Things, build, clothed
from training.synthetic.world import World, smooth_curve, unit

POINTS = 81  # of a way
TRIALS = 400  # ways to try
ROOM_MM = 5.0  # about a way


def make_heap(seed: int, cell: float = 1.1, side: int = 1024) -> World:
    """
    Make a room with a heap in it from a seed.

    :param cell: grid spacing [mm], smaller is finer and slower; side: of the texture [texels].
    :raises ValueError: there is no free way in it; try another seed.
    """
    rng = np.random.default_rng([seed, 8])
    room = np.exp(rng.uniform(np.log(28.0), np.log(90.0), 3))  # semi-axes [mm]
    room = np.maximum(room, 0.45 * room.max())
    things = _pile(rng, room)
    built = build(
        rng, room, things, cell, bump=rng.uniform(0.2, 1.0), mottle=rng.uniform(0.05, 0.5),
        crease=float(np.exp(rng.uniform(np.log(0.5), np.log(5.0)))),
    )  # fmt: skip
    nowhere = np.zeros((2, 3))
    horizon = 0.2 if rng.random() < 0.3 else None
    world = clothed(
        f'heap-{seed}', rng, built, cell, (nowhere, nowhere), side, (25.0, 70.0), horizon
    )
    guide, gaze = _way(rng, room, things, world)
    return replace(world, guide=guide, gaze=gaze)


def _pile(rng: np.random.Generator, room: np.ndarray) -> Things:
    """Things about a plane or two, or all over the room; small ones are many."""
    things = Things(rng, contrast=float(rng.uniform(0.1, 0.4)))
    usual = float(np.exp(rng.uniform(np.log(5.0), np.log(18.0))))
    heaped = rng.random() < 0.7
    up = unit(rng.standard_normal(3))
    level = rng.uniform(0.2, 0.6) * float(np.linalg.norm(up * room))

    def somewhere() -> np.ndarray:
        place = rng.uniform(-0.8, 0.8, 3) * room
        if heaped:
            place += (level + 0.25 * level * rng.standard_normal() - place @ up) * up
        return place

    if heaped and rng.random() < 0.6:  # ground below
        wide = 3.0 * room.max()
        things.ball(
            (level + 1.1 * wide) * up, np.full(3, wide), int(rng.choice(KINDS)), np.ones(3)
        )
    for _ in range(int(rng.integers(3, 26))):
        size = usual * np.exp(0.5 * rng.standard_normal())
        axes = size * np.exp(0.4 * rng.standard_normal(3))
        if rng.random() < 0.2:
            axes[int(rng.integers(0, 3))] *= 0.25  # a sheet
        turn = rng.uniform(0.0, 2.0 * np.pi, 3)
        things.ball(somewhere(), np.maximum(axes, 1.5), int(rng.choice(KINDS)), turn)
    for _ in range(int(rng.integers(0, 8))):
        radius = max(usual * rng.uniform(0.15, 0.9), 1.2)
        count = int(rng.uniform(6, 30))
        bend = radius * smooth_curve(rng, count, rng.uniform(25.0, 90.0), 4.0, 3) * 2.0
        along = 4.0 * (np.arange(count) - count / 2)[:, None] * unit(rng.standard_normal(3))
        ringed = 1.0 + rng.uniform(0.0, 0.15) * smooth_curve(rng, count, 18.0, 4.0, 1)[:, 0]
        things.rod(somewhere() + along + bend, radius * ringed, int(rng.choice(KINDS)))
    return things


def _way(
    rng: np.random.Generator, room: np.ndarray, things: Things, world: World
) -> tuple[np.ndarray, np.ndarray]:
    """A free way that looks at one of the things: (N, 3) each [mm]."""
    ease = np.linspace(0.0, 1.0, POINTS)[:, None]
    centres = np.array([ball[:3] for ball in things.balls if max(ball[3:6]) < room.max()])
    for _ in range(TRIALS):
        start = rng.uniform(-0.8, 0.8, 3) * room
        guide = start + ease * rng.uniform(20.0, 60.0) * unit(rng.standard_normal(3))
        guide = guide + 2.0 * smooth_curve(rng, POINTS, 60.0, 0.6, 3)
        target = centres[int(rng.integers(0, len(centres)))]
        if world.field.room(guide).min() < ROOM_MM or not _in_view(world.field, start, target):
            continue
        drift = smooth_curve(rng, POINTS, 60.0, 0.6, 3)
        return guide, target + 0.1 * np.linalg.norm(target - start) * drift
    raise ValueError(f'{world.name}: no free way was found in it; try a new seed')


def _in_view(field: Field, start: np.ndarray, target: np.ndarray) -> bool:
    """Whether most of the line between them is free, and the target not at hand."""
    line = start + np.linspace(0.0, 1.0, 40)[:, None] * (target - start)
    far = np.linalg.norm(target - start)
    return bool(far > 12.0 and (field.room(line) > 0.0).mean() > 0.4)
