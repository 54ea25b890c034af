# SPDX-License-Identifier: Apache-2.0
"""The three scenes: a tube, a cavity and an open belly."""

import numpy as np

from training.path_traced.surfaces import World, joined, lump, noise, pipe, roughened

MUCOSA, SEROSA = (0.70, 0.31, 0.23), (0.80, 0.46, 0.38)  # linear reflectance
LIVER, FAT = (0.36, 0.10, 0.075), (0.80, 0.58, 0.25)


def make_world(scene: str, seed: int, detail: float = 1.0) -> World:
    """
    Draw a world; equal arguments give equal worlds.

    :param scene: one of SCENES; detail: vertices along each side, of the usual number.
    """
    rng = np.random.default_rng([seed, list(SCENES).index(scene)])
    return SCENES[scene](rng, detail)


def _tube(rng: np.random.Generator, detail: float) -> World:
    """A bent bowel with half-moon folds, closed at both ends."""
    length, rows, columns = 280.0, int(1500 * detail), int(600 * detail)
    s = np.linspace(0.0, length, rows)[:, None]
    period, phase = rng.uniform(150.0, 320.0, 2), rng.uniform(0.0, 2.0 * np.pi, 2)
    heading = rng.uniform(0.25, 0.6, 2) * np.sin(2.0 * np.pi * s / period + phase)
    tangent = np.column_stack([np.sin(heading), np.cos(heading).prod(1)])
    centre = np.cumsum(tangent, axis=0) * (length / rows)
    angle = np.linspace(0.0, 2.0 * np.pi, columns, endpoint=False)
    ring = 20.0 * np.column_stack([np.cos(angle), np.sin(angle)])
    around = np.dstack(np.broadcast_arrays(ring[None, :, 0], ring[None, :, 1], s)).reshape(-1, 3)
    swell = 1.0 + 0.08 * noise(rng, around, 60.0).reshape(rows, columns)
    fold, at = np.zeros((rows, columns)), rng.uniform(0.0, 12.0)
    while at < length:
        middle, tilt = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(-2.5, 2.5)
        arc = np.clip(rng.uniform(0.2, 0.9) + np.cos(angle - middle), 0.0, 1.0) ** 0.7
        gap = s - at - tilt * np.cos(angle - rng.uniform(0.0, 6.3))
        ridge = (
            rng.uniform(0.12, 0.36) * arc * np.exp(-(np.abs(gap / rng.uniform(1.6, 3.2)) ** 1.6))
        )
        fold = np.maximum(fold, ridge)
        at += rng.uniform(11.0, 24.0)
    end = np.sqrt(np.clip(1.0 - np.abs(2.0 * s / length - 1.0) ** 12, 1e-6, 1.0))
    vertices, faces = pipe(centre, rng.uniform(13.0, 22.0) * swell * (1.0 - fold) * end)
    rough, normals, colours = roughened(rng, vertices, faces, MUCOSA)
    first = int(rng.uniform(0.12, 0.35) * rows)
    return World(rough, normals, faces, colours, centre[first : first + int(0.3 * rows)])


def _cavity(rng: np.random.Generator, detail: float) -> World:
    """One hollow with organ-like lumps standing in from its wall."""
    n, radii = int(330 * detail), rng.uniform((26.0, 30.0, 60.0), (36.0, 42.0, 80.0))
    parts = [lump(rng, n, np.zeros(3), radii, MUCOSA, 0.09, rng.uniform(0.0, 6.0))]
    heading = rng.uniform(0.0, 2.0 * np.pi)  # the way keeps to one side, lumps to the others
    for _ in range(rng.integers(3, 7)):
        angle, z = heading + rng.uniform(0.9, 5.4), rng.uniform(-0.4, 0.8)
        out = np.array([np.cos(angle), np.sin(angle), z])
        at = out * radii * np.append(np.sqrt(1.0 - z * z) * np.ones(2), 1.0)
        size = rng.uniform(9.0, 20.0, 3)
        colour = (MUCOSA, SEROSA, MUCOSA)[rng.integers(3)]
        parts.append(lump(rng, int(150 * detail), at, size, colour, 0.12))
    aside = rng.uniform(0.15, 0.4) * radii * [np.cos(heading), np.sin(heading), 0.0]
    start = aside - [0.0, 0.0, 0.65 * radii[2]]
    end = 0.7 * aside + [0.0, 0.0, 52.0 - 0.65 * radii[2]]
    return joined(parts, start + np.linspace(0.0, 1.0, 50)[:, None] * (end - start))


def _belly(rng: np.random.Generator, detail: float) -> World:
    """An open abdomen: a dome over bowel loops, a liver and fat, seen from the wall."""
    dome = np.array([105.0, 90.0, 62.0])
    parts = [lump(rng, int(330 * detail), np.zeros(3), dome, SEROSA, 0.04)]
    parts.append(
        lump(rng, int(260 * detail), np.array([0.0, 0.0, -60.0]), np.array([95.0, 80.0, 32.0]),
              FAT, 0.10)
    )  # fmt: skip
    liver = np.array([rng.uniform(25.0, 45.0), rng.choice([-1, 1]) * 45.0, -28.0])
    parts.append(lump(rng, int(200 * detail), liver, rng.uniform(24.0, 42.0, 3), LIVER, 0.06))
    for _ in range(rng.integers(4, 7)):  # bowel loops lying across
        t = np.linspace(-1.0, 1.0, int(420 * detail))[:, None]
        heading, aside = rng.uniform(0.0, np.pi), rng.uniform(-45.0, 45.0)
        wave = rng.uniform(8.0, 22.0) * np.sin(rng.uniform(2.0, 5.0) * t + rng.uniform(0.0, 6.0))
        flat = np.column_stack([75.0 * t, aside + wave])
        c, s = np.cos(heading), np.sin(heading)
        height = -33.0 + rng.uniform(-6.0, 6.0) + 5.0 * np.sin(rng.uniform(2.0, 6.0) * t)
        curve = np.column_stack([flat @ np.array([[c, s], [-s, c]]), height])
        neck = 1.0 - 0.14 * np.abs(np.sin(rng.uniform(9.0, 16.0) * t)) ** 6
        radius = rng.uniform(9.0, 15.0) * neck * np.ones((1, int(260 * detail)))
        vertices, faces = pipe(curve, radius, np.array([0.0, 0.0, 1.0]))
        rough, normals, colours = roughened(rng, vertices, faces, SEROSA)
        parts.append((rough, faces, normals, colours))
    start = np.array(
        [rng.uniform(-70.0, -40.0), rng.uniform(-20.0, 20.0), rng.uniform(22.0, 34.0)]
    )
    target = np.array([rng.uniform(5.0, 25.0), rng.uniform(-15.0, 15.0), -30.0])
    step = (target - start) / np.linalg.norm(target - start)
    return joined(parts, start + np.linspace(0.0, 50.0, 50)[:, None] * step)


SCENES = {'tube': _tube, 'cavity': _cavity, 'belly': _belly}
