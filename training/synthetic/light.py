# SPDX-License-Identifier: Apache-2.0
"""The scope's light and what wet tissue sends back of it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from training.synthetic.field import occluded, spline_linear, spline_normal
from training.synthetic.kernels import kernel
from training.synthetic.world import World

REFERENCE_DISTANCE = 20.0  # white facing the light here has radiance 1 [mm]
WATER_F0 = 0.025  # Fresnel reflectance of the wet film, head on


@dataclass(frozen=True)
class Light:
    """
    Fibre ends beside the lens; they travel with the camera.

    :param positions: (L, 3) float64 in the camera's optical frame [mm].
    :param focus: intensity falls off as cos(angle off the axis) to this power.
    :param indirect: share of light that arrives by way of other tissue, roughly.
    :param paths: instead of that, so many paths of it are followed from every few pixels.
    :param shadows: cast shadows (one more ray for every fibre end).
    """

    positions: np.ndarray
    focus: float = 2.0
    indirect: float = 0.22
    paths: int = 0
    shadows: bool = True

    @staticmethod
    def pair(apart: float = 3.0, lift: float = 1.0) -> 'Light':
        """Two fibre ends, left and right of the lens, a little above it [mm]."""
        positions = np.array([[-0.5 * apart, -lift, 0.0], [0.5 * apart, -lift, 0.0]])
        return Light(positions)


class Scene(NamedTuple):
    """
    World and light as the compiled kernels take them; lights in the world frame.

    `spread` is the distance of the farthest light from the camera [mm].
    """

    coefficients: np.ndarray
    clearance: np.ndarray
    steepness: np.ndarray
    origin: np.ndarray
    cell: float
    levels: np.ndarray
    offsets: np.ndarray
    texel: float
    side: int
    alpha: float
    wetness: float
    R_texture_world: np.ndarray
    tint: np.ndarray
    tint_cell: float
    lights: np.ndarray
    axis: np.ndarray
    focus: float
    indirect: float
    shadows: bool
    spread: float


def make_scene(world: World, light: Light, T_world_cam: np.ndarray) -> Scene:
    """Bring world and light together at one camera pose."""
    R, t = T_world_cam[:3, :3], T_world_cam[:3, 3]
    field, tissue = world.field, world.tissue
    return Scene(
        field.coefficients,
        field.clearance,
        field.steepness,
        field.origin,
        field.cell,
        tissue.levels,
        tissue.offsets,
        tissue.extent / tissue.side,
        tissue.side,
        tissue.roughness,
        tissue.wetness,
        np.ascontiguousarray(world.R_texture_world, np.float64),
        world.tint,
        world.tint_cell,
        np.ascontiguousarray(light.positions @ R.T + t),
        np.ascontiguousarray(R[:, 2]),
        float(light.focus),
        float(light.indirect),
        bool(light.shadows),
        float(np.linalg.norm(light.positions, axis=1).max()),
    )


@kernel
def shade(
    scene: Scene,
    px: float,
    py: float,
    pz: float,
    rx: float,
    ry: float,
    rz: float,
    footprint: float,
    lit: bool,
) -> tuple[float, float, float, float, float, float]:
    """
    Light one point of the surface. Scalars all through: small arrays would cost more than light.

    :param px: (and py, pz) the point, world [mm]; rx: (and ry, rz) unit, from the camera to it.
    :param footprint: width of a pixel at this distance, facing the camera [mm].
    :param lit: lights are taken to see it, see `cast`; else every one is asked.
    :return: radiance r, g, b and albedo r, g, b.
    """
    cell, origin = scene.cell, scene.origin
    gx, gy, gz = (px - origin[0]) / cell, (py - origin[1]) / cell, (pz - origin[2]) / cell
    nx, ny, nz = spline_normal(scene.coefficients, gx, gy, gz)
    facing = max(-(nx * rx + ny * ry + nz * rz), 0.05)
    ar, ag, ab, sx, sy, sz, blurred = _texture(
        scene, px, py, pz, nx, ny, nz, footprint / np.sqrt(facing)
    )
    tr, tg, tb = _tint(scene, px, py, pz)
    ar, ag, ab = ar * tr, ag * tg, ab * tb
    along = sx * nx + sy * ny + sz * nz
    mx, my, mz = nx - sx + along * nx, ny - sy + along * ny, nz - sz + along * nz
    length = 1.0 / np.sqrt(mx * mx + my * my + mz * mz)
    mx, my, mz = mx * length, my * length, mz * length
    alpha2 = min(scene.alpha * scene.alpha + 2.0 * blurred, 0.5)

    crease = 2.0 / cell
    openness = spline_linear(
        scene.coefficients, gx + crease * nx, gy + crease * ny, gz + crease * nz
    )
    openness = min(max(0.5 * openness, 0.15), 1.0)
    red, green, blue = 0.0, 0.0, 0.0
    for n in range(len(scene.lights)):
        lx, ly, lz = scene.lights[n, 0] - px, scene.lights[n, 1] - py, scene.lights[n, 2] - pz
        square = lx * lx + ly * ly + lz * lz
        distance = np.sqrt(square)
        lx, ly, lz = lx / distance, ly / distance, lz / distance
        off_axis = max(-(lx * scene.axis[0] + ly * scene.axis[1] + lz * scene.axis[2]), 0.0)
        power = off_axis**scene.focus * REFERENCE_DISTANCE**2 / len(scene.lights)
        around = scene.indirect * openness * power / (square + 200.0)
        red, green, blue = (
            red + around * ar * ar,
            green + around * ag * ag,
            blue + around * ab * ab,
        )
        if nx * lx + ny * ly + nz * lz <= 0.0:
            continue
        asked = scene.shadows and not lit
        if asked and _in_shadow(scene, gx, gy, gz, nx, ny, nz, lx, ly, lz, distance):
            continue
        direct = power / square
        cosine = mx * lx + my * ly + mz * lz
        gloss = scene.wetness * _gloss(mx, my, mz, lx, ly, lz, rx, ry, rz, cosine, alpha2)
        # Light wanders under the skin, red the farthest: it reaches a little beyond the edge.
        far, near = max((cosine + 0.22) / 1.22, 0.0), max((cosine + 0.10) / 1.10, 0.0)
        red += direct * (ar * far + gloss)
        green += direct * (ag * near + gloss)
        blue += direct * (ab * near + gloss)
    return red, green, blue, ar, ag, ab


@kernel
def _in_shadow(
    scene: Scene,
    gx: float,
    gy: float,
    gz: float,
    nx: float,
    ny: float,
    nz: float,
    lx: float,
    ly: float,
    lz: float,
    distance: float,
) -> bool:
    lift = 0.8  # off the surface, so that it doesn't shade itself [cells]
    return occluded(
        scene.coefficients,
        scene.clearance,
        scene.steepness,
        scene.cell,
        gx + lift * nx,
        gy + lift * ny,
        gz + lift * nz,
        lx / scene.cell,
        ly / scene.cell,
        lz / scene.cell,
        distance - 2.0,
    )


@kernel
def _gloss(
    mx: float,
    my: float,
    mz: float,
    lx: float,
    ly: float,
    lz: float,
    rx: float,
    ry: float,
    rz: float,
    cosine: float,
    alpha2: float,
) -> float:
    """GGX (Walter et al. 2007) with Schlick's Fresnel term, times π cos, as diffuse = albedo."""
    hx, hy, hz = lx - rx, ly - ry, lz - rz
    length = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-12
    hx, hy, hz = hx / length, hy / length, hz / length
    nh = max(mx * hx + my * hy + mz * hz, 0.0)
    nv = max(-(mx * rx + my * ry + mz * rz), 0.02)
    nl = max(cosine, 0.0)
    spread = nh * nh * (alpha2 - 1.0) + 1.0
    peak = alpha2 / (spread * spread)  # π times the distribution
    fresnel = WATER_F0 + (1.0 - WATER_F0) * (1.0 - max(lx * hx + ly * hy + lz * hz, 0.0)) ** 5
    k = 0.5 * np.sqrt(alpha2)
    masking = (nl * (1.0 - k) + k) * (nv * (1.0 - k) + k)
    return nl * peak * fresnel / (4.0 * masking)


@kernel
def _texture(
    scene: Scene,
    px: float,
    py: float,
    pz: float,
    nx: float,
    ny: float,
    nz: float,
    footprint: float,
) -> tuple[float, float, float, float, float, float, float]:
    """
    Look the tissue up from three sides, each as much as the surface faces that side.

    :return: transmittance r, g, b; slope as a world vector; slope variance that blurring hid.
    """
    R = scene.R_texture_world
    total = 0.0
    for a in range(3):
        n = R[a, 0] * nx + R[a, 1] * ny + R[a, 2] * nz
        total += max(n * n - 0.12, 0.0) ** 3
    top = len(scene.offsets) - 2.0
    level = min(max(np.log2(max(footprint / scene.texel, 1e-6)), 0.0), top - 1e-3)
    red, green, blue, sx, sy, sz, blurred, kept = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for a in range(3):
        n = R[a, 0] * nx + R[a, 1] * ny + R[a, 2] * nz
        w = max(n * n - 0.12, 0.0) ** 3 / total
        if w < 0.01:
            continue
        b, c = (a + 1) % 3, (a + 2) % 3
        # Each side reads its own part of the tile.
        u = R[b, 0] * px + R[b, 1] * py + R[b, 2] * pz + 17.3 * a
        v = R[c, 0] * px + R[c, 1] * py + R[c, 2] * pz - 11.9 * a
        first = int(level)
        for step in range(2):
            share = level - first if step else 1.0 - (level - first)
            if share < 0.02:
                continue
            t = _texel(scene, u, v, first + step)
            share *= w
            kept += share
            red, green, blue = red + share * t[0], green + share * t[1], blue + share * t[2]
            sx += share * (t[3] * R[b, 0] + t[4] * R[c, 0])
            sy += share * (t[3] * R[b, 1] + t[4] * R[c, 1])
            sz += share * (t[3] * R[b, 2] + t[4] * R[c, 2])
            blurred += share * max(t[5] - t[3] * t[3] - t[4] * t[4], 0.0)
    kept = 1.0 / kept  # what was too little to look up is missing from the sum
    return (
        red * kept,
        green * kept,
        blue * kept,
        sx * kept,
        sy * kept,
        sz * kept,
        blurred * kept,
    )


@kernel
def _texel(
    scene: Scene, u: float, v: float, level: int
) -> tuple[float, float, float, float, float, float]:
    """Read one level bilinearly at u, v [mm]; the tile repeats."""
    n = scene.side >> level
    scale = 1.0 / (scene.texel * (1 << level))
    x, y = u * scale - 0.5, v * scale - 0.5
    i, j = int(np.floor(x)), int(np.floor(y))
    s, t = x - i, y - j
    base = scene.offsets[level]
    i0, i1, j0, j1 = i & (n - 1), (i + 1) & (n - 1), j & (n - 1), (j + 1) & (n - 1)
    levels = scene.levels
    a, b, c, d = base + j0 * n + i0, base + j0 * n + i1, base + j1 * n + i0, base + j1 * n + i1
    wa, wb, wc, wd = (1.0 - s) * (1.0 - t), s * (1.0 - t), (1.0 - s) * t, s * t
    return (
        wa * levels[a, 0] + wb * levels[b, 0] + wc * levels[c, 0] + wd * levels[d, 0],
        wa * levels[a, 1] + wb * levels[b, 1] + wc * levels[c, 1] + wd * levels[d, 1],
        wa * levels[a, 2] + wb * levels[b, 2] + wc * levels[c, 2] + wd * levels[d, 2],
        wa * levels[a, 3] + wb * levels[b, 3] + wc * levels[c, 3] + wd * levels[d, 3],
        wa * levels[a, 4] + wb * levels[b, 4] + wc * levels[c, 4] + wd * levels[d, 4],
        wa * levels[a, 5] + wb * levels[b, 5] + wc * levels[c, 5] + wd * levels[d, 5],
    )


@kernel
def _tint(scene: Scene, px: float, py: float, pz: float) -> tuple[float, float, float]:
    """Read the reflectance grid trilinearly."""
    tint, cell = scene.tint, scene.tint_cell
    x, y, z = px - scene.origin[0], py - scene.origin[1], pz - scene.origin[2]
    i = min(max(int(x / cell), 0), tint.shape[2] - 2)
    j = min(max(int(y / cell), 0), tint.shape[1] - 2)
    k = min(max(int(z / cell), 0), tint.shape[0] - 2)
    u, v, w = x / cell - i, y / cell - j, z / cell - k
    red, green, blue = 0.0, 0.0, 0.0
    for corner in range(8):
        a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
        share = (u if a else 1.0 - u) * (v if b else 1.0 - v) * (w if c else 1.0 - w)
        row = tint[k + c, j + b, i + a]
        red, green, blue = red + share * row[0], green + share * row[1], blue + share * row[2]
    return red, green, blue
