# SPDX-License-Identifier: Apache-2.0
"""A world: a shape, its tissue, and a safe way through it. Families live in their own files."""

from dataclasses import dataclass

import numpy as np

from training.synthetic.field import Field
from training.synthetic.kernels import kernel
from training.synthetic.tissue import Tissue


@dataclass(frozen=True)
class World:
    """
    All that light and a camera can meet; lengths in mm, in the world's own frame.

    :param name: family and seed, for people.
    :param field: the surface.
    :param tissue: fine texture, laid on from three sides (triplanar).
    :param R_texture_world: (3, 3) float64 rotation into the texture's axes, so that no seam of
        the three sides lies along an axis of the world.
    :param tint: (Z, Y, X, 3) float32 linear reflectance on a coarse grid over the field's box.
    :param tint_cell: spacing of the tint's samples [mm]; sample (0, 0, 0) lies at field.origin.
    :param guide: (N, 3) float64 points of a way through free space, about evenly spaced [mm].
    :param gaze: (N, 3) float64 the point to look at from guide[i] [mm].
    :param horizon: standard deviation of the hand's roll about it [rad]; None: there is none.
    """

    name: str
    field: Field
    tissue: Tissue
    R_texture_world: np.ndarray
    tint: np.ndarray
    tint_cell: float
    guide: np.ndarray
    gaze: np.ndarray
    horizon: float | None = None


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation, uniform over SO(3): (3, 3) float64."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0.0:
        q[:, 0] = -q[:, 0]
    return q


def unit(v: np.ndarray) -> np.ndarray:
    """Of length one: (3,)."""
    return v / np.linalg.norm(v)


def smooth_curve(
    rng: np.random.Generator, count: int, wavelength: float, spacing: float, channels: int
) -> np.ndarray:
    """
    Draw smooth curves of unit variance as sums of a few sines.

    :param count: number of samples; spacing: between them; wavelength: of the typical ripple,
        in the unit of spacing.
    :return: (count, channels) float64.
    """
    x = np.arange(count)[:, None] * spacing
    total = np.zeros((count, channels))
    for _ in range(6):
        frequency = 2.0 * np.pi / (wavelength * rng.uniform(0.7, 2.2, channels))
        total += np.sin(frequency * x + rng.uniform(0.0, 2.0 * np.pi, channels))
    return total / np.sqrt(3.0)


def lattice(rng: np.random.Generator, shape: tuple[int, int, int], channels: int) -> np.ndarray:
    """White noise for `lattice_noise`: (Z, Y, X, channels) float32 of unit variance."""
    return rng.standard_normal((*shape, channels), np.float32)


@kernel
def lattice_noise(values: np.ndarray, x: float, y: float, z: float, channel: int) -> float:
    """
    Interpolate white noise smoothly; the lattice repeats.

    :param x: (and y, z) in lattice cells.
    :return: about unit range, smooth to the first derivative.
    """
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v), w * w * (3.0 - 2.0 * w)
    d, h, n = values.shape[0], values.shape[1], values.shape[2]
    total = 0.0
    for c in range(2):
        wz = w if c else 1.0 - w
        for b in range(2):
            wy = v if b else 1.0 - v
            row = values[(k + c) % d, (j + b) % h]
            near, far = row[i % n, channel], row[(i + 1) % n, channel]
            total += wz * wy * ((1.0 - u) * near + u * far)
    return total
