# SPDX-License-Identifier: Apache-2.0
"""Mitsuba's path integrator: radiance and exact depth of one camera."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from training.path_traced.surfaces import World

LLVM = 'DRJIT_LIBLLVM_PATH'  # where Mitsuba looks for LLVM
BOUNCES = 8
HOT = 3.0  # indirect light so many times its neighbours' median is a hot pixel
DIRECT_SHARE = 4  # indirect light is smoothed, so it gets so many times fewer samples


def _mitsuba() -> ModuleType:
    """Import Mitsuba, compiled for the CPU; LLVM 15 and older abort the process in its kernels."""
    if LLVM not in os.environ:
        found = sorted(Path('/usr/lib').glob('*/libLLVM.so.*'))
        if not found:
            raise ValueError(
                f'path tracing needs LLVM 16 or newer (or {LLVM}); run: apt-get install libllvm19'
            )
        os.environ[LLVM] = str(found[-1])
    try:
        import mitsuba
    except ImportError as error:
        raise ValueError(
            f'path tracing needs Mitsuba 3 ({error}); run: pip install mitsuba'
        ) from error
    mitsuba.set_variant('llvm_ad_rgb')
    return mitsuba


class Renderer:
    """Mitsuba's path integrator before one world; light and sensor are drawn by seed."""

    def __init__(self, world: World, seed: int, size: tuple[int, int], bounces: int) -> None:
        """
        Build the scene.

        :param size: width, height [px]; bounces: 2 is direct light only.
        :raises ValueError: Mitsuba or a compiler for it is not installed.
        """
        mitsuba = _mitsuba()
        self._mi, self._size = mitsuba, size
        rng = np.random.default_rng([seed, 102])
        apart, lift = rng.uniform(2.0, 5.0), rng.uniform(-1.5, 1.5)
        self._lamps = [np.array([x, lift, 0.0]) for x in (-0.5 * apart, 0.5 * apart)]
        lamp: dict[str, object] = {'type': 'point'}
        if rng.random() < 0.6:
            wide = float(rng.uniform(25.0, 50.0))
            lamp = {'type': 'spot', 'beam_width': wide, 'cutoff_angle': float(rng.uniform(80, 89))}
        film = {'type': 'hdrfilm', 'width': size[0], 'height': size[1], 'rfilter': {'type': 'box'}}
        self._tissue = self._mesh(world, rng)
        self._scene = mitsuba.load_dict(
            {
                'type': 'scene',
                'tissue': self._tissue,
                'camera': {'type': 'perspective', 'fov': 60.0, 'near_clip': 0.1, 'film': film},
                'left': lamp,
                'right': lamp,
            }
        )
        self._all, self._direct = (
            mitsuba.load_dict({'type': 'path', 'max_depth': most, 'rr_depth': 3})
            for most in (bounces, 2)
        )
        self._bounces = bounces
        self._live = mitsuba.traverse(self._scene)

    def _mesh(self, world: World, rng: np.random.Generator) -> Any:
        mi = self._mi
        wet = {
            'type': 'principled',
            'roughness': float(rng.uniform(0.27, 0.42)),
            'specular': 0.4,
            'base_color': {'type': 'mesh_attribute', 'name': 'vertex_colour'},
        }
        properties = mi.Properties()
        properties['bsdf'] = mi.load_dict({'type': 'twosided', 'bsdf': wet})
        count = len(world.vertices)
        mesh = mi.Mesh('tissue', count, len(world.faces), properties, True)
        mesh.add_attribute('vertex_colour', 3, world.colours.astype(np.float32).ravel())
        values = mi.traverse(mesh)
        values['vertex_positions'] = world.vertices.astype(np.float32).ravel()
        values['vertex_normals'] = world.normals.astype(np.float32).ravel()
        values['faces'] = world.faces.astype(np.uint32).ravel()
        values.update()
        return mesh

    def shoot(
        self, K: np.ndarray, T_world_cam: np.ndarray, samples: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Radiance (H, W, 3) and z-depth (H, W) [mm], NaN where nothing is, of one camera."""
        mi, live = self._mi, self._live
        live['camera.to_world'] = mi.ScalarTransform4f(T_world_cam @ np.diag([-1, -1, 1, 1]))
        live['camera.x_fov'] = float(np.degrees(2.0 * np.arctan(0.5 * self._size[0] / K[0, 0])))
        for name, at in zip(('left', 'right'), self._lamps, strict=True):
            T_cam_lamp = np.eye(4)
            T_cam_lamp[:3, 3] = at
            if f'{name}.to_world' in live:
                live[f'{name}.to_world'] = mi.ScalarTransform4f(T_world_cam @ T_cam_lamp)
            else:
                live[f'{name}.position'] = (T_world_cam @ T_cam_lamp)[:3, 3].tolist()
        live.update()
        depth, normals, albedo = self._seen(K, T_world_cam)
        direct = self._render(self._direct, samples, seed)
        if self._bounces == 2:
            return direct, depth
        few = max(samples // DIRECT_SHARE, 1)  # equal samples: what is not direct is exact
        bounced = self._render(self._all, few, seed) - self._render(self._direct, few, seed)
        v, u = np.mgrid[: self._size[1], : self._size[0]].astype(np.float32)
        lifted = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1)
        filled = np.where(np.isfinite(depth), depth, np.nanmedian(depth))  # cracks of a pixel
        places = (lifted * filled[..., None]) @ T_world_cam[:3, :3].T
        return direct + albedo * smoothed(bounced / albedo, places, normals, filled), depth

    def _render(self, integrator: Any, samples: int, seed: int) -> np.ndarray:
        picture = self._mi.render(self._scene, integrator=integrator, seed=seed, spp=samples)
        return np.array(picture)

    def _seen(self, K: np.ndarray, T_world_cam: np.ndarray) -> tuple[np.ndarray, ...]:
        """Through the pixels' centres: z-depth (H, W), normals and albedo (H, W, 3)."""
        mi, (width, height) = self._mi, self._size
        v, u = np.mgrid[:height, :width].reshape(2, -1)
        local = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T
        towards = (local @ T_world_cam[:3, :3].T).T.astype(np.float32)
        long = np.linalg.norm(towards, axis=0)  # the directions have z-depth 1
        ray = mi.Ray3f(mi.Point3f(*T_world_cam[:3, 3].tolist()), mi.Vector3f(*(towards / long)))
        hit = self._scene.ray_intersect(ray)
        t = np.array(hit.t) / long
        albedo = np.array(self._tissue.eval_attribute_3('vertex_colour', hit, hit.is_valid()))
        return (
            np.where(np.isfinite(t), t, np.nan).reshape(height, width),
            np.nan_to_num(np.array(hit.sh_frame.n)).T.reshape(height, width, 3),
            np.maximum(np.nan_to_num(albedo).T.reshape(height, width, 3), 0.02),
        )


def smoothed(
    light: np.ndarray, places: np.ndarray, normals: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """
    Smooth bounced light along the surface, not over edges (à trous: Dammertz et al. 2010).

    :param light: (H, W, 3) noisy; places: (H, W, 3) [mm]; normals: (H, W, 3); depth: (H, W) [mm].
    """
    light = light.astype(np.float32)
    light = np.minimum(light, HOT * cv2.medianBlur(light, 5) + 1e-9)
    height, width = depth.shape
    weights = {-1: 0.25, 0: 0.5, 1: 0.25}
    for step in (1, 2, 4, 8):
        wide, at, towards = (
            cv2.copyMakeBorder(values.astype(np.float32), *(step,) * 4, cv2.BORDER_REFLECT)
            for values in (light, places, normals)
        )
        total, sum_ = np.zeros((height, width), np.float32), np.zeros_like(light)
        for dv, along in weights.items():
            for du, across in weights.items():
                rows = slice(step * (1 + dv), step * (1 + dv) + height)
                columns = slice(step * (1 + du), step * (1 + du) + width)
                off = np.abs(((at[rows, columns] - places) * normals).sum(-1)) / depth
                alike = np.maximum((towards[rows, columns] * normals).sum(-1), 0.0)
                w = along * across * np.exp(-off / 0.02) * alike**8 + 1e-6
                total += w
                sum_ += w[..., None] * wide[rows, columns]
        light = sum_ / total[..., None]
    return light
