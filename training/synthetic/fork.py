# SPDX-License-Identifier: Apache-2.0
"""The fork family, held out from training: an airway that branches, with rings of cartilage."""

import numpy as np

from training.synthetic.things import BOWEL, LIGAMENT, WALL, Things, build, clothed
from training.synthetic.world import World, unit

SPACING = 2.0  # of the points of a branch [mm]


def make_fork(seed: int, cell: float = 0.8, side: int = 1024) -> World:
    """
    Make an airway from a seed: it begins at -z, forks, and each branch forks again.

    :param cell: grid spacing [mm], smaller is finer and slower; side: of the texture [texels].
    """
    rng = np.random.default_rng([seed, 6])
    things = Things(rng, contrast=0.1)
    radius = float(rng.uniform(9.0, 15.0))
    trunk = _branch(
        rng, things, np.array([0.0, 0.0, -60.0]), np.array([0.0, 0.0, 1.0]), radius, 55.0
    )
    way = [trunk]
    heading = unit(trunk[-1] - trunk[-2])
    for level in range(2):
        radius *= 0.78
        aside = unit(np.cross(heading, rng.standard_normal(3)))
        paths = []
        for sign in (-1.0, 1.0):
            turn = unit(heading + sign * rng.uniform(0.4, 0.8) * aside)
            paths.append(_branch(rng, things, way[-1][-1], turn, radius, 42.0 - 10.0 * level))
        way.append(paths[int(rng.integers(0, 2))])
        heading = unit(way[-1][-1] - way[-1][-2])
    points = np.concatenate([way[0], way[1][1:], way[2][1:]])
    middle = np.array(things.rods)[:, :6].reshape(-1, 3)
    room = np.maximum(np.abs(middle).max(axis=0), 1.0) + 22.0
    built = build(rng, room, things, cell, bump=0.4, hollow=True)
    look = 8
    ahead = points[2:-look], points[2 + look :]
    return clothed(f'fork-{seed}', rng, built, cell, ahead, side, (25.0, 45.0))


def _branch(
    rng: np.random.Generator,
    things: Things,
    start: np.ndarray,
    heading: np.ndarray,
    radius: float,
    length: float,
) -> np.ndarray:
    """Dig one branch that bends a little, ringed: (N, 3) points of its middle [mm]."""
    bend = 0.06 * rng.standard_normal(3)
    points = [start]
    for _ in range(int(length / SPACING)):
        heading = unit(heading + bend * 0.3 + 0.02 * rng.standard_normal(3))
        points.append(points[-1] + SPACING * heading)
    way = np.array(points)
    ring = rng.uniform(0.02, 0.10)
    thickness = radius * (1.0 + ring * np.where(np.arange(len(way)) % 3 == 0, -1.0, 1.0))
    things.rod(way, thickness, int(rng.choice([WALL, BOWEL, LIGAMENT])))
    return way
