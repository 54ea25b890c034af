# SPDX-License-Identifier: Apache-2.0
"""Cast a ray through every pixel of the field stop: radiance, exact depth, albedo."""

from dataclasses import dataclass

import numba
import numpy as np

from training.synthetic.bounced import bounced
from training.synthetic.camera import Camera, pixel_ray
from training.synthetic.field import MISS, cast
from training.synthetic.kernels import kernel, parallel_kernel
from training.synthetic.light import Light, Scene, make_scene, shade
from training.synthetic.world import World

FARTHEST = 600.0  # rays give up here [mm]
# Where extra samples of a pixel lie around its centre: a rotated grid, no two in line.
SPOTS = np.array([[-0.375, -0.125], [0.125, -0.375], [0.375, 0.125], [-0.125, 0.375]])
FEW_SPOTS = np.array([[-0.3, -0.25], [0.3, 0.25]])


@dataclass(frozen=True)
class View:
    """
    What the scene sends into the lens, before the sensor.

    :param radiance: (H, W, 3) float32 linear RGB; 0 outside the field stop.
    :param depth: (H, W) float32 z-depth through pixel centres [mm]; NaN outside the field stop.
    :param albedo: (H, W, 3) float32 linear reflectance 0..1; 0 outside the field stop.
    """

    radiance: np.ndarray
    depth: np.ndarray
    albedo: np.ndarray


def render(
    world: World, light: Light, camera: Camera, everywhere: bool = False, seed: int = 0
) -> View:
    """
    Render one view.

    Pixels at edges, highlights and fine texture get two more samples; the depth is always that
    of the pixel's centre.

    :param everywhere: give four more to every pixel: slower, for clips to look at.
    :param seed: of the paths that light is followed on, where any are (`Light.paths`).
    """
    scene = make_scene(world, light, camera.T_world_cam)
    if light.paths:
        scene = scene._replace(indirect=0.0)
    shape = (camera.height, camera.width)
    radiance = np.zeros((*shape, 3), np.float32)
    albedo = np.zeros((*shape, 3), np.float32)
    depth = np.zeros(shape, np.float32)
    K = camera.K
    lens = np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2], *camera.distortion])
    T = np.ascontiguousarray(camera.T_world_cam, np.float64)
    _first_samples(scene, lens, T, camera.circle, radiance, albedo, depth)
    more = _restless(radiance, depth, everywhere)
    _more_samples(scene, lens, T, more, SPOTS if everywhere else FEW_SPOTS, radiance, albedo)
    depth[depth <= 0.0] = np.nan
    if light.paths:
        radiance += albedo * bounced(scene, lens, T, camera.circle, depth, light.paths, seed)
    return View(radiance, depth, albedo)


@kernel
def _sample(
    scene: Scene, lens: np.ndarray, T: np.ndarray, u: float, v: float
) -> tuple[float, float, float, float, float, float, float]:
    """
    Light what lies behind one point of the picture.

    :param lens: (6,) fx, fy, cx, cy [px], distortion; T: (4, 4) camera to world [mm].
    :return: z-depth [mm], or 0 where the ray leaves the world; radiance; albedo.
    """
    rx, ry, rz, stretch = pixel_ray(lens, T, u, v)
    hit, lit = cast(
        scene.coefficients,
        scene.clearance,
        scene.steepness,
        scene.cell,
        (T[0, 3] - scene.origin[0]) / scene.cell,
        (T[1, 3] - scene.origin[1]) / scene.cell,
        (T[2, 3] - scene.origin[2]) / scene.cell,
        rx / scene.cell,
        ry / scene.cell,
        rz / scene.cell,
        FARTHEST,
        scene.spread,
    )
    if hit == MISS:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    depth = hit / stretch
    px, py, pz = T[0, 3] + hit * rx, T[1, 3] + hit * ry, T[2, 3] + hit * rz
    return depth, *shade(scene, px, py, pz, rx, ry, rz, depth / lens[0], lit)


@parallel_kernel
def _first_samples(
    scene: Scene,
    lens: np.ndarray,
    T: np.ndarray,
    circle: np.ndarray,
    radiance: np.ndarray,
    albedo: np.ndarray,
    depth: np.ndarray,
) -> None:
    height, width = depth.shape
    for v in numba.prange(height):
        for u in range(width):
            away = np.sqrt((u - circle[0]) ** 2 + (v - circle[1]) ** 2)
            if away > circle[2] + 0.5:
                continue
            z, r, g, b, ar, ag, ab = _sample(scene, lens, T, float(u), float(v))
            if away <= circle[2]:
                depth[v, u] = z
            clear = min(max(circle[2] + 0.5 - away, 0.0), 1.0)  # the stop's edge is a pixel wide
            radiance[v, u, 0], radiance[v, u, 1], radiance[v, u, 2] = (
                clear * r,
                clear * g,
                clear * b,
            )
            albedo[v, u, 0], albedo[v, u, 1], albedo[v, u, 2] = clear * ar, clear * ag, clear * ab


@parallel_kernel
def _restless(radiance: np.ndarray, depth: np.ndarray, everywhere: bool) -> np.ndarray:
    """Find pixels that differ from a neighbour by a fifth in light or a twentieth in depth."""
    height, width = depth.shape
    more = np.zeros((height, width), np.bool_)
    for v in numba.prange(1, height - 1):
        for u in range(1, width - 1):
            here = depth[v, u]
            if here <= 0.0:
                continue
            if everywhere:
                more[v, u] = True
                continue
            green = radiance[v, u, 1]
            for n in range(4):
                a, b = v + (n == 0) - (n == 1), u + (n == 2) - (n == 3)
                there = depth[a, b]
                if there <= 0.0:
                    continue
                if abs(there - here) > 0.05 * min(here, there):
                    more[v, u] = True
                if abs(radiance[a, b, 1] - green) > 0.20 * (green + 0.05):
                    more[v, u] = True
    return more


@parallel_kernel
def _more_samples(
    scene: Scene,
    lens: np.ndarray,
    T: np.ndarray,
    more: np.ndarray,
    spots: np.ndarray,
    radiance: np.ndarray,
    albedo: np.ndarray,
) -> None:
    height, width = more.shape
    share = 1.0 / (len(spots) + 1)
    for v in numba.prange(height):
        for u in range(width):
            if not more[v, u]:
                continue
            for n in range(len(spots)):
                _, r, g, b, ar, ag, ab = _sample(scene, lens, T, u + spots[n, 0], v + spots[n, 1])
                radiance[v, u, 0] += r
                radiance[v, u, 1] += g
                radiance[v, u, 2] += b
                albedo[v, u, 0] += ar
                albedo[v, u, 1] += ag
                albedo[v, u, 2] += ab
            for c in range(3):
                radiance[v, u, c] *= share
                albedo[v, u, c] *= share
