# SPDX-License-Identifier: Apache-2.0
"""
Light that tissue throws to and fro, by paths of a few bounces.

A hollow fills itself with light, a dome sends it away: with a lamp beside the lens little else
tells the two apart in one picture. Paths are followed from places a few pixels apart, for such
light is smooth; each pixel then takes the mean of the places near it whose surface it lies on
(irradiance gathered sparsely: Ward et al. 1988, "A ray tracing solution for diffuse
interreflection"; spread by planes as in Dammertz et al. 2010).
"""

import numba
import numpy as np

from training.synthetic.camera import pixel_ray
from training.synthetic.field import MISS, cast, spline_normal
from training.synthetic.kernels import kernel, parallel_kernel
from training.synthetic.light import Scene, shade

PITCH = 6  # pixels between the places
BOUNCES = 4
FARTHEST = 300.0  # rays give up here [mm]
SEEN_AT = 3.0  # width of the spot of which the albedo is taken, after a bounce [mm]
BRIGHTEST = 8.0  # radiance that a path may bring: others are noise
NEAR = 2  # places to either side that a pixel asks
PLANE = 0.03  # of the depth: so far off a place's plane a pixel has little of its light
EVENLY = 1.0850702  # x^9 = x + 1: its powers fill eight dimensions evenly (Roberts 2018), ...
STEPS = EVENLY ** -np.arange(1.0, 1.0 + 2 * BOUNCES)  # ... two for each bounce


def bounced(
    scene: Scene,
    lens: np.ndarray,
    T_world_cam: np.ndarray,
    circle: np.ndarray,
    depth: np.ndarray,
    paths: int,
    seed: int,
) -> np.ndarray:
    """
    Radiance of white tissue by what other tissue sends it.

    :param scene: see `make_scene`; lens, circle: as `render` has them.
    :param depth: (H, W) z-depth of the picture [mm], NaN where there is none.
    :param paths: from each place; seed: of their directions.
    :return: (H, W, 3) float32, to be multiplied by albedo.
    """
    dull = scene._replace(wetness=0.0, indirect=0.0)  # what is thrown on is spread
    shape = depth.shape[0] // PITCH + 1, depth.shape[1] // PITCH + 1
    light, places, normals = (np.zeros((*shape, 3)) for _ in range(3))
    start = np.random.default_rng(seed).random((*shape, len(STEPS)))
    _gather(dull, lens, T_world_cam, circle, paths, start, light, places, normals)
    out = np.zeros((*depth.shape, 3), np.float32)
    _spread(lens, T_world_cam, depth, light, places, normals, out)
    return out


@kernel
def _hit(
    scene: Scene, px: float, py: float, pz: float, rx: float, ry: float, rz: float, far: float
) -> float:
    """Where a ray meets the surface [mm], or MISS."""
    cell, origin = scene.cell, scene.origin
    t, _ = cast(
        scene.coefficients,
        scene.clearance,
        scene.steepness,
        cell,
        (px - origin[0]) / cell,
        (py - origin[1]) / cell,
        (pz - origin[2]) / cell,
        rx / cell,
        ry / cell,
        rz / cell,
        far,
        0.0,
    )
    return float(t)


@kernel
def _normal(scene: Scene, px: float, py: float, pz: float) -> tuple[float, float, float]:
    cell, origin = scene.cell, scene.origin
    return spline_normal(
        scene.coefficients,
        (px - origin[0]) / cell,
        (py - origin[1]) / cell,
        (pz - origin[2]) / cell,
    )


@kernel
def _scattered(nx: float, ny: float, nz: float, s: float, t: float) -> tuple[float, float, float]:
    """A direction about a normal, as often as Lambert's cosine; s, t: of 0..1."""
    sign = 1.0 if nz >= 0.0 else -1.0  # a frame without branches: Duff et al. 2017
    a = -1.0 / (sign + nz)
    b = nx * ny * a
    angle, wide = 2.0 * np.pi * s, np.sqrt(t)
    x, y, z = wide * np.cos(angle), wide * np.sin(angle), np.sqrt(1.0 - t)
    return (
        x * (1.0 + sign * nx * nx * a) + y * b + z * nx,
        x * sign * b + y * (sign + ny * ny * a) + z * ny,
        x * -sign * nx - y * ny + z * nz,
    )


@parallel_kernel
def _gather(
    scene: Scene,
    lens: np.ndarray,
    T: np.ndarray,
    circle: np.ndarray,
    paths: int,
    start: np.ndarray,
    light: np.ndarray,
    places: np.ndarray,
    normals: np.ndarray,
) -> None:
    """Fill in what comes to each place, where it is, and its normal; no normal: no place."""
    rows, columns = light.shape[:2]
    for j in numba.prange(rows):
        for i in range(columns):
            u, v = float(i * PITCH), float(j * PITCH)
            if np.sqrt((u - circle[0]) ** 2 + (v - circle[1]) ** 2) > circle[2] + PITCH:
                continue
            rx, ry, rz, _ = pixel_ray(lens, T, u, v)
            t = _hit(scene, T[0, 3], T[1, 3], T[2, 3], rx, ry, rz, FARTHEST)
            if t == MISS:
                continue
            px, py, pz = T[0, 3] + t * rx, T[1, 3] + t * ry, T[2, 3] + t * rz
            nx, ny, nz = _normal(scene, px, py, pz)
            places[j, i, 0], places[j, i, 1], places[j, i, 2] = px, py, pz
            normals[j, i, 0], normals[j, i, 1], normals[j, i, 2] = nx, ny, nz
            for path in range(paths):
                r, g, b = _followed(scene, px, py, pz, nx, ny, nz, start[j, i], path)
                light[j, i, 0] += r / paths
                light[j, i, 1] += g / paths
                light[j, i, 2] += b / paths


@kernel
def _followed(
    scene: Scene,
    px: float,
    py: float,
    pz: float,
    nx: float,
    ny: float,
    nz: float,
    start: np.ndarray,
    path: int,
) -> tuple[float, float, float]:
    """What one path brings to a place with that normal."""
    red, green, blue, kept_r, kept_g, kept_b = 0.0, 0.0, 0.0, 1.0, 1.0, 1.0
    lift = 0.5 * scene.cell  # off the surface, or it would meet itself
    for bounce in range(BOUNCES):
        s = (start[2 * bounce] + path * STEPS[2 * bounce]) % 1.0
        t = (start[2 * bounce + 1] + path * STEPS[2 * bounce + 1]) % 1.0
        rx, ry, rz = _scattered(nx, ny, nz, s, t)
        px, py, pz = px + lift * nx, py + lift * ny, pz + lift * nz
        way = _hit(scene, px, py, pz, rx, ry, rz, FARTHEST)
        if way == MISS:
            break
        px, py, pz = px + way * rx, py + way * ry, pz + way * rz
        r, g, b, ar, ag, ab = shade(scene, px, py, pz, rx, ry, rz, SEEN_AT, False)
        red += kept_r * min(r, BRIGHTEST)
        green += kept_g * min(g, BRIGHTEST)
        blue += kept_b * min(b, BRIGHTEST)
        kept_r, kept_g, kept_b = kept_r * ar, kept_g * ag, kept_b * ab
        nx, ny, nz = _normal(scene, px, py, pz)
    return red, green, blue


@parallel_kernel
def _spread(
    lens: np.ndarray,
    T: np.ndarray,
    depth: np.ndarray,
    light: np.ndarray,
    places: np.ndarray,
    normals: np.ndarray,
    out: np.ndarray,
) -> None:
    """Each pixel takes the mean of the places near it on whose planes it lies."""
    height, width = depth.shape
    rows, columns = light.shape[:2]
    for v in numba.prange(height):
        for u in range(width):
            if not depth[v, u] > 0.0:
                continue
            rx, ry, rz, long = pixel_ray(lens, T, float(u), float(v))
            t = depth[v, u] * long
            px, py, pz = T[0, 3] + t * rx, T[1, 3] + t * ry, T[2, 3] + t * rz
            middle_j, middle_i = (v + PITCH // 2) // PITCH, (u + PITCH // 2) // PITCH
            total, red, green, blue = 1e-9, 0.0, 0.0, 0.0
            for j in range(max(middle_j - NEAR, 0), min(middle_j + NEAR + 1, rows)):
                for i in range(max(middle_i - NEAR, 0), min(middle_i + NEAR + 1, columns)):
                    nx, ny, nz = normals[j, i, 0], normals[j, i, 1], normals[j, i, 2]
                    if nx == 0.0 and ny == 0.0 and nz == 0.0:
                        continue
                    off = (
                        (px - places[j, i, 0]) * nx
                        + (py - places[j, i, 1]) * ny
                        + (pz - places[j, i, 2]) * nz
                    )
                    beside = ((v / PITCH - j) ** 2 + (u / PITCH - i) ** 2) / 2.0
                    w = np.exp(-beside - abs(off) / (PLANE * depth[v, u])) + 1e-6
                    total += w
                    red += w * light[j, i, 0]
                    green += w * light[j, i, 1]
                    blue += w * light[j, i, 2]
            out[v, u, 0], out[v, u, 1], out[v, u, 2] = red / total, green / total, blue / total
