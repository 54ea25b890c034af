# SPDX-License-Identifier: Apache-2.0
"""Instruments that pass before the scene: a shaft and its jaws, laid over a rendered view."""

from dataclasses import dataclass, replace

import numpy as np

from training.synthetic.camera import Camera
from training.synthetic.light import REFERENCE_DISTANCE, Light
from training.synthetic.render import View

FINE = 2  # samples a pixel and side


@dataclass(frozen=True)
class Instrument:
    """
    Capsules of metal or plastic, in the camera's optical frame.

    :param ends: (P, 2, 3) float64 both ends of each [mm].
    :param radii: (P,) float64 [mm].
    :param colours: (P, 3) float64 linear reflectance 0..1.
    :param gloss: exponent of the highlight; metal mirrors about half of the light.
    """

    ends: np.ndarray
    radii: np.ndarray
    colours: np.ndarray
    gloss: float

    def moved(self, T: np.ndarray) -> 'Instrument':
        """The same one after a rigid motion (4, 4) [mm]."""
        return replace(self, ends=self.ends @ T[:3, :3].T + T[:3, 3])


def draw_instrument(rng: np.random.Generator, view: View, camera: Camera) -> Instrument:
    """
    Reach from beyond the picture to a little before what is seen at a random place.

    :param view: of this camera; at least one depth must be known.
    """
    seen = np.argwhere(np.isfinite(view.depth))
    v, u = seen[int(rng.integers(0, len(seen)))]
    depth = float(view.depth[v, u]) * rng.uniform(0.6, 0.97)
    ray = camera.rays(np.array([u]), np.array([v]))[0, 0]
    tip = depth / ray[2] * ray
    angle, slope = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.15, 0.9)
    back = np.array([np.cos(angle), np.sin(angle), -slope])
    back /= np.linalg.norm(back)
    thick = depth * float(np.exp(rng.uniform(np.log(0.015), np.log(0.08))))
    long = thick * rng.uniform(3.0, 8.0)  # of the jaws
    neck = tip + long * back
    aside = np.cross(back, rng.standard_normal(3))
    aside *= thick * rng.uniform(0.0, 1.2) / np.linalg.norm(aside)
    ends = [[neck, neck + 40.0 * depth * back], [neck, tip + aside], [neck, tip - aside]]
    steel = np.full(3, rng.uniform(0.15, 0.6)) * (1.0 + 0.05 * rng.standard_normal(3))
    shaft = steel if rng.random() < 0.5 else np.full(3, rng.uniform(0.01, 0.1))
    return Instrument(
        ends=np.array(ends),
        radii=thick * np.array([1.0, 0.5, 0.5]),
        colours=np.array([shaft, steel, steel]),
        gloss=float(np.exp(rng.uniform(np.log(8.0), np.log(80.0)))),
    )


def lay_over(view: View, camera: Camera, light: Light, instrument: Instrument) -> View:
    """
    Lay an instrument over a view where it is nearer than the scene; it casts no shadow.

    :param view: of this camera and light.
    :return: radiance with softened edges, depth through the pixels' centres, albedo.
    """
    height, width = view.depth.shape
    fine = (np.arange(FINE) + 0.5) / FINE - 0.5
    u = (np.arange(width)[:, None] + fine).ravel()
    v = (np.arange(height)[:, None] + fine).ravel()
    scene = np.repeat(np.repeat(view.depth, FINE, axis=0), FINE, axis=1)
    z, shine, colour = _look(camera, light, instrument, u, v)
    before = z < scene  # false where the stop hides the scene
    cover = _mean(before[..., None].astype(np.float64))
    radiance = view.radiance * (1.0 - cover) + _mean(np.where(before[..., None], shine, 0.0))
    albedo = view.albedo * (1.0 - cover) + _mean(np.where(before[..., None], colour, 0.0))
    centre, _, _ = _look(
        camera, light, instrument, np.arange(width, dtype=float), np.arange(height, dtype=float)
    )
    depth = np.where(centre < view.depth, centre, view.depth)
    return View(radiance.astype(np.float32), depth.astype(np.float32), albedo.astype(np.float32))


def _mean(fine: np.ndarray) -> np.ndarray:
    h, w, c = fine.shape
    return fine.reshape(h // FINE, FINE, w // FINE, FINE, c).mean(axis=(1, 3))


def _look(
    camera: Camera, light: Light, instrument: Instrument, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Cast rays through columns u and rows v [px].

    :return: z-depth (h, w) [mm], infinite beside the instrument; radiance and colour (h, w, 3).
    """
    rays = camera.rays(u, v)
    far = np.full(rays.shape[:2], np.inf)
    normal, colour = np.zeros_like(rays), np.zeros_like(rays)
    for (a, b), radius, paint in zip(
        instrument.ends, instrument.radii, instrument.colours, strict=True
    ):
        t, n = _hit(rays, a, b, radius)
        nearer = t < far
        far = np.where(nearer, t, far)
        normal = np.where(nearer[..., None], n, normal)
        colour = np.where(nearer[..., None], paint, colour)
    hit = np.isfinite(far)
    points = np.where(hit, far, 1.0)[..., None] * rays
    shine = np.zeros_like(rays)
    for lamp in light.positions:
        to = lamp - points
        square = (to**2).sum(-1)
        to /= np.sqrt(square)[..., None]
        power = np.maximum(-to[..., 2], 0.0) ** light.focus
        power *= REFERENCE_DISTANCE**2 / len(light.positions) / square
        halfway = to - rays
        halfway /= np.linalg.norm(halfway, axis=-1, keepdims=True)
        glint = np.maximum((normal * halfway).sum(-1), 0.0) ** instrument.gloss
        lit = np.maximum((normal * to).sum(-1), 0.0)
        mirrored = (0.5 * (instrument.gloss + 2.0) * lit * glint)[..., None] * colour * 0.5
        shine += power[..., None] * (lit[..., None] * colour * 0.5 + mirrored)
    return np.where(hit, far * rays[..., 2], np.inf), shine, colour


def _hit(
    rays: np.ndarray, a: np.ndarray, b: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays (h, w, 3) from the origin meet a capsule: distance [mm], and the normal."""
    axis = b - a
    square, along_ray = axis @ axis, rays @ axis
    p, q, r = square - along_ray**2, rays @ -a * square + (a @ axis) * along_ray, a @ a
    c = r * square - (a @ axis) ** 2 - radius**2 * square
    root = q * q - p * c
    with np.errstate(invalid='ignore', divide='ignore'):
        t = np.where(root > 0.0, (-q - np.sqrt(np.maximum(root, 0.0))) / p, np.inf)
        share = (t * along_ray - a @ axis) / square
    best = np.where((share > 0.0) & (share < 1.0) & (t > 0.0), t, np.inf)
    for end in (a, b):
        toward = rays @ end
        root = toward**2 - (end @ end - radius**2)
        t = np.where(root > 0.0, toward - np.sqrt(np.maximum(root, 0.0)), np.inf)
        best = np.minimum(best, np.where(t > 0.0, t, np.inf))
    points = np.where(np.isfinite(best), best, 0.0)[..., None] * rays
    place = np.clip((points - a) @ axis / square, 0.0, 1.0)[..., None]
    return best, (points - a - place * axis) / radius
