# SPDX-License-Identifier: Apache-2.0
"""
The cavern family: where a smooth random field is high there is room, where it is low there is
tissue. Hollows, pillars, saddles, folds and shelves of every form, and not one ball or rod.
"""

import numpy as np
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from training.synthetic.field import Field
from training.synthetic.things import KINDS, TINT_CELL, clothed, mixed
from training.synthetic.world import World, unit

CELLS = (88, 132)  # of a side of the grid
WALKERS, STEPS = 96, 120  # that look for a way, of a millimetre each
ROOM_MM = 4.0  # about a way
SHORTEST = 30  # points of a way
LOOK_MM = 15.0  # ahead


def make_cavern(seed: int, side: int = 1024) -> World:
    """
    Make a cavern from a seed.

    :param side: of the texture [texels].
    :raises ValueError: there is no free way in it; try another seed.
    """
    rng = np.random.default_rng([seed, 9])
    size = float(np.exp(rng.uniform(np.log(10.0), np.log(30.0))))  # of what there is [mm]
    cell = size / rng.uniform(14.0, 20.0)
    shape = tuple(int(n) for n in rng.integers(*CELLS, 3))
    free = _dig(rng, shape, size / cell) * cell
    lower = -0.5 * cell * (np.array(shape[::-1]) - 1.0)
    built = free.astype(np.float32), lower, _paint(rng, shape, cell, size)
    nowhere = np.zeros((2, 3))
    horizon = 0.2 if rng.random() < 0.2 else None
    world = clothed(
        f'cavern-{seed}', rng, built, cell, (nowhere, nowhere), side, (20.0, 60.0), horizon
    )
    guide = _way(rng, world.field, world.name)
    return World(**{**vars(world), 'guide': guide, 'gaze': _gaze(rng, guide)})


def _dig(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> np.ndarray:
    """
    About the distance to the surface, positive in free space: (Z, Y, X) [cells].

    :param size: of hollows and of what stands between them [cells].
    """
    stretch = np.exp(0.35 * rng.standard_normal(3))
    form = _noise(rng, shape, size * stretch)
    fold = rng.choice([0.0, rng.uniform(0.1, 0.8), -rng.uniform(0.1, 0.8)])
    if fold:  # a crease wherever this one is zero: ridges or furrows
        creased = np.abs(_noise(rng, shape, rng.uniform(0.35, 1.0) * size * stretch))
        form = form + fold * (creased - creased.mean())
    form = form + rng.uniform(0.0, 0.25) * _noise(rng, shape, 0.35 * size * np.ones(3))
    if rng.random() < 0.2:  # membranes, not masses
        form = np.abs(form) - np.quantile(np.abs(form), 0.02)
        form = form - np.quantile(form, rng.uniform(0.1, 0.25))
    else:
        form = form - np.quantile(form, rng.uniform(0.3, 0.55))
    slope = np.sqrt(sum(g**2 for g in np.gradient(form)))
    free = form / np.quantile(slope[np.abs(form) < 0.2 * form.std()], 0.2)
    half = [0.5 * n - 4.0 for n in shape]
    places = np.meshgrid(*(np.linspace(-1.0, 1.0, n) * (0.5 * n / h)
                           for n, h in zip(shape, half, strict=True)),
                         indexing='ij', sparse=True)  # fmt: skip
    away = np.sqrt(sum(p**2 for p in places))  # from the middle; 1 on an ellipsoid
    free = np.minimum(free, min(half) * (1.0 - away))  # the world ends in tissue
    return free + rng.uniform(0.0, 0.015) * size * _noise(rng, shape, np.full(3, 0.2 * size))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], lengths: np.ndarray) -> np.ndarray:
    """Smooth noise of unit variance: (Z, Y, X); lengths: of its waves' halves [cells]."""
    coarse = [int(np.ceil(n / length)) + 3 for n, length in zip(shape, lengths, strict=True)]
    values = rng.standard_normal(coarse)
    at = [
        np.arange(n) / length + rng.uniform(0.5, 1.0)
        for n, length in zip(shape, lengths, strict=True)
    ]
    for axis, places in enumerate(at):
        samples = np.arange(values.shape[axis])
        values = make_interp_spline(samples, values, bc_type='clamped', axis=axis)(places)
    return (values - values.mean()) / values.std()


def _paint(
    rng: np.random.Generator, shape: tuple[int, ...], cell: float, size: float
) -> np.ndarray:
    """One to four paints in patches, mottled: (Z, Y, X, 3) float32 linear reflectance."""
    coarse = tuple(int(n * cell / TINT_CELL) + 2 for n in shape)
    patches = _noise(rng, coarse, np.full(3, max(size / TINT_CELL, 3.0)))
    count = int(rng.integers(1, 5))
    borders = np.quantile(patches, rng.uniform(0.1, 0.9, count - 1)) if count > 1 else []
    paints = np.array(
        [mixed(rng, int(rng.choice(KINDS)), rng.uniform(0.05, 0.35)) for _ in range(count)]
    )
    tint = paints[np.searchsorted(np.sort(borders), patches)]
    mottle = _noise(rng, coarse, np.full(3, max(rng.uniform(5.0, 20.0) / TINT_CELL, 2.0)))
    shade = np.exp(rng.uniform(0.05, 0.4) * mottle)[..., None]
    return np.clip(tint * shade, 0.02, 0.95).astype(np.float32)


def _way(rng: np.random.Generator, field: Field, name: str) -> np.ndarray:
    """The longest way that walkers found who keep off the walls: (N, 3) [mm]."""
    upper = field.origin + 2.0 * field.cell * np.array(field.clearance.shape[::-1])
    at = rng.uniform(field.origin, upper, (40 * WALKERS, 3))
    at = at[np.argsort(-field.room(at))][: 4 * WALKERS : 4]
    heading = rng.standard_normal((WALKERS, 3))
    walked = [at]
    walking = field.room(at) >= ROOM_MM
    lengths = walking.astype(int)
    probe = 2.0 * field.cell * np.eye(3)
    for _ in range(STEPS):
        off = np.stack([field.room(at + p) - field.room(at - p) for p in probe], axis=1)
        narrow = np.clip(8.0 / (field.room(at) + 0.1) - 0.5, 0.0, 2.0)
        off = off / (4.0 * field.cell) * narrow[:, None]
        heading = heading / np.linalg.norm(heading, axis=1, keepdims=True)
        heading = heading + 0.5 * off + 0.15 * rng.standard_normal(heading.shape)
        heading = heading / np.linalg.norm(heading, axis=1, keepdims=True)
        at = at + heading
        walking &= field.room(at) >= ROOM_MM
        lengths += walking
        walked.append(at)
    best = int(np.argmax(lengths))
    if lengths[best] < SHORTEST:
        raise ValueError(f'{name}: no free way was found in it; try a new seed')
    way = np.stack(walked)[: lengths[best], best]
    return ndimage.gaussian_filter1d(way, 3.0, axis=0, mode='nearest')


def _gaze(rng: np.random.Generator, guide: np.ndarray) -> np.ndarray:
    """Ahead, more or less to one side: (N, 3) [mm]."""
    tangent = ndimage.gaussian_filter1d(np.gradient(guide, axis=0), 6.0, axis=0, mode='nearest')
    tangent = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
    aside = rng.choice([0.15, 1.0]) * unit(rng.standard_normal(3))
    return guide + LOOK_MM * (tangent + aside)
