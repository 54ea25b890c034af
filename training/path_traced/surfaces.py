# SPDX-License-Identifier: Apache-2.0
"""Triangles with the look of tissue: what worlds are put together from."""

from typing import NamedTuple

import numpy as np

BLOOD = (0.62, 0.26, 0.30)  # linear reflectance: what a vein leaves


class World(NamedTuple):
    """
    A surface and a way through it.

    :param vertices: (V, 3) float64 [mm]; normals: (V, 3) unit; faces: (F, 3) numbers of vertices.
    :param colours: (V, 3) linear reflectance, 0..1.
    :param guide: (G, 3) the way of the camera, which looks along it [mm].
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    guide: np.ndarray


def noise(rng: np.random.Generator, points: np.ndarray, wavelength: float) -> np.ndarray:
    """(V,) of unit variance, smooth below about this wavelength [mm]: a sum of plane waves."""
    waves = 28
    k = rng.standard_normal((3, waves))
    k *= 2.0 * np.pi / wavelength * rng.uniform(0.7, 1.4, waves) / np.linalg.norm(k, axis=0)
    phase = rng.uniform(0.0, 2.0 * np.pi, waves)
    out = np.empty(len(points), np.float32)
    for some in np.array_split(np.arange(len(points)), len(points) // 50_000 + 1):
        angle = (points[some] @ k + phase).astype(np.float32)
        out[some] = np.cos(angle).sum(-1) * np.sqrt(2.0 / waves)
    return out


def grid_faces(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Two triangles a cell of a grid of vertices; closed: the last column meets the first."""
    i, j = np.mgrid[: rows - 1, : columns - (not closed)]
    a, b = i * columns + j, i * columns + (j + 1) % columns
    quads = np.stack([a, b, b + columns, a, b + columns, a + columns], -1)
    return quads.reshape(-1, 3)


def ball(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (V, 3) and faces of a cube with n by n cells a side, blown up."""
    grid = np.stack(np.mgrid[: n + 1, : n + 1], -1).reshape(-1, 2)
    sides, faces = [], []
    for axis in range(3):
        for end in (0, n):
            faces.append(grid_faces(n + 1, n + 1, False) + len(sides) * len(grid))
            sides.append(np.insert(grid, axis, end, axis=1))
    corners, index = np.unique(np.concatenate(sides), axis=0, return_inverse=True)
    cube = np.tan(np.pi / 4.0 * (2.0 * corners / n - 1.0))  # cells of like size
    return cube / np.linalg.norm(cube, axis=1, keepdims=True), index.ravel()[np.vstack(faces)]


def normals_of(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(area[:, k], 3), len(vertices)) for k in range(3)], -1
    )
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def roughened(
    rng: np.random.Generator, vertices: np.ndarray, faces: np.ndarray, colour: tuple[float, ...]
) -> tuple[np.ndarray, ...]:
    """Fine relief along the normals, then vessels and blotches: vertices, normals, colours."""
    lift = sum(
        share * rng.uniform(0.5, 1.5) * noise(rng, vertices, wavelength)
        for wavelength, share in ((9.0, 0.22), (4.0, 0.07), (1.7, 0.022))
    )
    rough = vertices + normals_of(vertices, faces) * np.asarray(lift)[:, None]
    blotch = 1.0 + 0.10 * noise(rng, rough, 25.0) + 0.06 * noise(rng, rough, 5.0)
    blotch += 0.05 * noise(rng, rough, 1.3)
    hue = np.exp(0.10 * rng.standard_normal() + 0.07 * rng.standard_normal(3))
    colours = np.asarray(colour) * hue * blotch[:, None]
    bent = rough + 2.5 * np.stack([noise(rng, rough, 11.0) for _ in range(3)], -1)
    strength = rng.uniform(0.3, 1.0)
    for wavelength, wide in ((28.0, 0.55), (15.0, 0.3), (8.0, 0.18)):  # lines where noise is 0
        there = np.clip(0.8 + noise(rng, rough, 1.5 * wavelength), 0.0, 1.0)
        line = noise(rng, bent, wavelength) * wavelength / 6.0  # about the distance to it [mm]
        vein = strength * there * np.exp(-((line / wide) ** 2))
        colours *= 1.0 - vein[:, None] * (1.0 - np.asarray(BLOOD))
    return rough, normals_of(rough, faces), np.clip(colours, 0.02, 0.92)


def joined(parts: list[tuple[np.ndarray, ...]], guide: np.ndarray) -> World:
    """:param parts: vertices, faces, normals and colours of each."""
    offsets = np.cumsum([0] + [len(part[0]) for part in parts])
    faces = [part[1] + offset for part, offset in zip(parts, offsets, strict=False)]
    vertices, normals, colours = (np.concatenate([p[k] for p in parts]) for k in (0, 2, 3))
    return World(vertices, normals, np.concatenate(faces), colours, guide)


def pipe(
    centre: np.ndarray, radius: np.ndarray, x: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces about a curve (M, 3), radius (M, A) or (M, 1) by place and angle."""
    tangent = np.gradient(centre, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.array([1.0, 0.0, 0.0]) if x is None else x
    sides = np.empty_like(centre)
    for n, z in enumerate(tangent):
        side = side - z * (side @ z)
        side /= np.linalg.norm(side)
        sides[n] = side
    angle = np.linspace(0.0, 2.0 * np.pi, radius.shape[1], endpoint=False)[None, :, None]
    round_ = np.cos(angle) * sides[:, None] + np.sin(angle) * np.cross(tangent, sides)[:, None]
    vertices = centre[:, None] + radius[..., None] * round_
    return vertices.reshape(-1, 3), grid_faces(*radius.shape, True)


def lump(
    rng: np.random.Generator,
    n: int,
    centre: np.ndarray,
    radii: np.ndarray,
    colour: tuple[float, ...],
    swell: float = 0.08,
    rugae: float = 0.0,
) -> tuple[np.ndarray, ...]:
    """A blown-up cube, uneven by `swell` of its size, with ridges `rugae` mm high."""
    round_, faces = ball(n)
    at = round_ * radii
    size = float(np.mean(radii))
    shape = 1.0 + swell * (noise(rng, at, 1.6 * size) + 0.5 * noise(rng, at, 0.7 * size))
    if rugae:
        bent = at + 3.0 * np.stack([noise(rng, at, 30.0) for _ in range(3)], -1)
        ridge = np.exp(-np.abs(noise(rng, bent, 22.0)) / 0.35) * np.clip(
            noise(rng, at, 50.0), 0, 1
        )
        shape -= rugae * ridge / size
    rough, normals, colours = roughened(rng, centre + at * shape[:, None], faces, colour)
    return rough, faces, normals, colours
