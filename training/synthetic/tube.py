# SPDX-License-Identifier: Apache-2.0
"""The tube family: a winding bowel with crescent folds (haustra), seen from inside."""

from dataclasses import dataclass

import numba
import numpy as np

from training.synthetic.field import Field
from training.synthetic.kernels import kernel, parallel_kernel
from training.synthetic.tissue import draw_tissue, linear, make_tissue
from training.synthetic.world import World, lattice, lattice_noise, random_rotation, smooth_curve

PALETTE = {  # tissue under white light: mucosa, inflamed, pale, fat shining through
    'mucosa': linear(228, 140, 120),
    'inflamed': linear(208, 96, 84),
    'pale': linear(238, 172, 152),
    'fat': linear(236, 172, 138),
}
SPACING = 1.0  # of the centre line's points [mm]


@dataclass(frozen=True)
class TubeShape:
    """
    A tube's geometry.

    :param centre: (N, 3) float64 centre line, every SPACING mm.
    :param normal: (N, 3) float64 unit, across the centre line, turning as little as possible.
    :param binormal: (N, 3) float64 unit, completes the frame.
    :param radius: (N,) float64 of the wall without folds [mm].
    :param folds: (F, 6) float64 rows: place [mm along], height [radii], half-width [mm], middle
        angle [rad], half-opening [rad], tilt [mm of place per radian off the middle].
    :param lobing: (2,) height [fraction of radius] and phase [rad] of the three-cornered section.
    """

    centre: np.ndarray
    normal: np.ndarray
    binormal: np.ndarray
    radius: np.ndarray
    folds: np.ndarray
    lobing: np.ndarray


def make_tube(
    seed: int, length: float = 300.0, cell: float = 0.75, side: int = 1024, any_tube: bool = False
) -> World:
    """
    Make a tube from a seed.

    :param length: of the centre line [mm]; cell: grid spacing [mm], smaller is finer and slower.
    :param side: of the texture [texels].
    :param any_tube: any width, folds and tissue; else a healthy colon.
    """
    rng = np.random.default_rng([seed, 1])
    shape = _draw_shape(rng, length, any_tube)
    margin = shape.radius.max() * 1.25 + 4.0 * cell
    lower = shape.centre.min(axis=0) - margin
    size = np.ceil((shape.centre.max(axis=0) + margin - lower) / cell).astype(int) + 1
    bumps = lattice(rng, (32, 32, 32), 2)
    samples = np.empty(tuple(size[::-1]), np.float32)
    _fill(
        samples,
        lower,
        cell,
        shape.centre,
        shape.normal,
        shape.binormal,
        shape.radius,
        shape.folds,
        shape.lobing,
        bumps,
        rng.uniform(0.25, 0.55),
    )
    field = Field.from_samples(samples, lower, cell)
    tint_cell = 3.0
    tint_shape = tuple(int(n * cell / tint_cell) + 2 for n in samples.shape)
    look = int(25.0 / SPACING)
    inside = slice(int(8.0 / SPACING), len(shape.centre) - look)
    return World(
        name=f'tube-{seed}',
        field=field,
        tissue=draw_tissue(rng, side, extent=(25.0, 50.0))
        if any_tube
        else make_tissue(
            rng,
            side,
            extent=rng.uniform(34.0, 46.0),
            vessels=rng.uniform(0.4, 1.0),
            relief=rng.uniform(0.7, 1.2),
            roughness=rng.uniform(0.055, 0.11),
            wetness=rng.uniform(0.7, 1.2),
        ),
        R_texture_world=random_rotation(rng),
        tint=_tint(rng, tint_shape, tint_cell),
        tint_cell=tint_cell,
        guide=shape.centre[inside],
        gaze=shape.centre[inside.start + look : inside.stop + look],
    )


def _draw_shape(rng: np.random.Generator, length: float, any_tube: bool) -> TubeShape:
    count = int(length / SPACING) + 1
    swing = rng.uniform(0.25, 0.45) * smooth_curve(rng, count, 130.0, SPACING, 2)
    heading = np.column_stack([np.sin(swing), np.cos(swing[:, 0]) * np.cos(swing[:, 1])])
    tangent = heading / np.linalg.norm(heading, axis=1, keepdims=True)
    centre = np.cumsum(tangent, axis=0) * SPACING
    normal = np.empty_like(tangent)
    normal[0] = np.cross(tangent[0], [0.0, 1.0, 0.0])
    for n in range(1, count):
        normal[n] = normal[n - 1] - (normal[n - 1] @ tangent[n]) * tangent[n]
        normal[n] /= np.linalg.norm(normal[n])
    mean = (
        float(np.exp(rng.uniform(np.log(7.0), np.log(25.0))))
        if any_tube
        else rng.uniform(13.0, 21.0)
    )
    radius = mean * (1.0 + 0.10 * smooth_curve(rng, count, 60.0, SPACING, 1)[:, 0])
    return TubeShape(
        centre=centre,
        normal=normal,
        binormal=np.cross(tangent, normal),
        radius=radius,
        folds=_draw_any_folds(rng, length, mean) if any_tube else _draw_folds(rng, length, mean),
        lobing=np.array([rng.uniform(0.02, 0.09), rng.uniform(0.0, 2.0 * np.pi)]),
    )


def _draw_folds(rng: np.random.Generator, length: float, radius: float) -> np.ndarray:
    folds = []
    place = rng.uniform(4.0, 10.0)
    turn = rng.uniform(0.0, 2.0 * np.pi)
    while place < length:
        height = rng.uniform(0.2, 0.45)
        folds.append(
            [
                place,
                height,
                rng.uniform(1.9, 3.2),
                turn,
                rng.uniform(0.7, 1.7),
                rng.normal(0.0, 1.2),
            ]
        )
        turn += 2.0 * np.pi / 3.0 + rng.normal(0.0, 0.5)
        place += radius * rng.uniform(0.28, 0.75)
    return np.array(folds)


def _draw_any_folds(rng: np.random.Generator, length: float, radius: float) -> np.ndarray:
    """Folds of one habit each tube: from rings of a windpipe to a colon's crescents, or none."""
    high, thick = rng.uniform(0.03, 0.45), radius * rng.uniform(0.08, 0.25)
    apart, slant = radius * rng.uniform(0.3, 1.6), rng.uniform(0.0, 1.6)
    opening = rng.uniform(0.7, 3.0)
    folds = [[-99.0, 0.0, 1.0, 0.0, 1.0, 0.0]]  # one that is nowhere: there may be no other
    place, turn = rng.uniform(4.0, 10.0), rng.uniform(0.0, 2.0 * np.pi)
    while place < length and high > 0.06:
        height, width = high * rng.uniform(0.6, 1.0), max(thick * rng.uniform(0.7, 1.4), 1.5)
        folds.append([place, height, width, turn, opening, rng.normal(0.0, slant)])
        turn += 2.0 * np.pi / 3.0 + rng.normal(0.0, 0.5)
        place += apart * rng.uniform(0.7, 1.5)
    return np.array(folds)


@parallel_kernel
def _fill(
    samples: np.ndarray,
    lower: np.ndarray,
    cell: float,
    centre: np.ndarray,
    normal: np.ndarray,
    binormal: np.ndarray,
    radius: np.ndarray,
    folds: np.ndarray,
    lobing: np.ndarray,
    bumps: np.ndarray,
    bump_height: float,
) -> None:
    """Sample radius(place, angle) − distance from the centre line: positive in the lumen."""
    count = len(centre)
    far = 1.25 * radius.max() + 4.0 * cell
    for k in numba.prange(samples.shape[0]):
        z = lower[2] + k * cell
        for j in range(samples.shape[1]):
            y = lower[1] + j * cell
            for i in range(samples.shape[2]):
                x = lower[0] + i * cell
                best, nearest = 1e30, 0
                for n in range(0, count, 8):
                    dx, dy, dz = x - centre[n, 0], y - centre[n, 1], z - centre[n, 2]
                    square = dx * dx + dy * dy + dz * dz
                    if square < best:
                        best, nearest = square, n
                if best > (far + 8.0) ** 2:
                    samples[k, j, i] = radius[nearest] - np.sqrt(best)
                    continue
                first, last = max(nearest - 8, 0), min(nearest + 9, count)
                for n in range(first, last):
                    dx, dy, dz = x - centre[n, 0], y - centre[n, 1], z - centre[n, 2]
                    square = dx * dx + dy * dy + dz * dz
                    if square < best:
                        best, nearest = square, n
                # Between the points: where the parabola through three squared distances is least.
                place, a, b = float(nearest), max(nearest - 1, 0), min(nearest + 1, count - 1)
                if b - a == 2:
                    da = (
                        (x - centre[a, 0]) ** 2 + (y - centre[a, 1]) ** 2 + (z - centre[a, 2]) ** 2
                    )
                    db = (
                        (x - centre[b, 0]) ** 2 + (y - centre[b, 1]) ** 2 + (z - centre[b, 2]) ** 2
                    )
                    bend = da - 2.0 * best + db
                    shift = min(max(0.5 * (da - db) / max(bend, 1e-9), -0.5), 0.5)
                    place += shift
                    best = max(best - 0.25 * (da - db) * shift, 0.0)
                s = int(min(place, count - 2.0))
                w = place - s
                u, v, wall = 0.0, 0.0, (1.0 - w) * radius[s] + w * radius[s + 1]
                for axis in range(3):
                    p = x if axis == 0 else (y if axis == 1 else z)
                    d = p - ((1.0 - w) * centre[s, axis] + w * centre[s + 1, axis])
                    u += d * ((1.0 - w) * normal[s, axis] + w * normal[s + 1, axis])
                    v += d * ((1.0 - w) * binormal[s, axis] + w * binormal[s + 1, axis])
                rho, angle = np.sqrt(best), np.arctan2(v, u)
                reach = wall * (1.0 + lobing[0] * np.cos(3.0 * angle + lobing[1]))
                height = wall * _fold_height(place * SPACING, angle, folds)
                bump = lattice_noise(bumps, x / 7.0, y / 7.0, z / 7.0, 0)
                bump += 0.35 * lattice_noise(bumps, x / 2.9, y / 2.9, z / 2.9, 1)
                samples[k, j, i] = reach - height + bump_height * bump - rho


@kernel
def _fold_height(place: float, angle: float, folds: np.ndarray) -> float:
    """Height of the highest fold at a place [mm] and angle [rad]: [radii]."""
    total = 0.0
    for n in range(len(folds)):
        where, height, width, middle, opening, tilt = folds[n]
        off = angle - middle
        off -= 2.0 * np.pi * np.round(off / (2.0 * np.pi))
        across = (place - where - tilt * off) / width
        if abs(across) > 4.0 or abs(off) > 2.0 * opening:
            continue
        edge = 0.5 * off / opening
        along = 1.0 - edge * edge
        # Thick at the foot, with a rounded crest.
        total = max(total, height * along * along / (1.0 + across * across) ** 1.5)
    return total


def _tint(rng: np.random.Generator, shape: tuple[int, ...], cell: float) -> np.ndarray:
    """Blend the palette by slow noise: (Z, Y, X, 3) float32 linear reflectance."""
    values = lattice(rng, (16, 16, 16), 3)
    strength = np.array([rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5), rng.uniform(0.0, 0.35)])
    colours = np.stack([PALETTE[n] for n in ('mucosa', 'inflamed', 'pale', 'fat')])
    cast = 1.0 + 0.05 * rng.standard_normal(3).astype(np.float32)
    return _blend(shape, cell, values, strength, colours * cast)


@parallel_kernel
def _blend(
    shape: tuple[int, ...],
    cell: float,
    values: np.ndarray,
    strength: np.ndarray,
    colours: np.ndarray,
) -> np.ndarray:
    out = np.empty((shape[0], shape[1], shape[2], 3), np.float32)
    for k in numba.prange(shape[0]):
        for j in range(shape[1]):
            for i in range(shape[2]):
                out[k, j, i] = colours[0]
                for c in range(3):
                    scale = cell / (11.0 + 6.0 * c)
                    n = lattice_noise(values, i * scale, j * scale, k * scale, c)
                    n += 0.4 * lattice_noise(values, i * scale * 2.7, j * scale * 2.7, 5.5, c)
                    w = min(max(n * 0.9 + strength[c] - 0.35, 0.0), 1.0)
                    for b in range(3):
                        out[k, j, i, b] += w * (colours[c + 1, b] - out[k, j, i, b])
    return out
