# SPDX-License-Identifier: Apache-2.0
"""Rendered pairs in memory: drawn at random, mirrored, cropped and recoloured, truth following."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ASPECTS = (5 / 4, 5 / 4, 5 / 4, 3 / 2, 7 / 4)  # of the networks' pictures: one is drawn a batch
ANISOTROPY = 0.05  # of pixels, as `prepare` makes them: standard deviation of its logarithm
SMALLEST_CROP = 0.7  # of the side
BOUNCED = 0.7  # share of pairs that get more light from all sides, ...
STRENGTH = 1.6  # ... up to so many times the scope's own at the median distance, in red, ...
PALER = (0.2, 0.7), (0.15, 0.6)  # ... and such a share of that in green and in blue
FALLOFF = (0.2, 1.7)  # by this power of the distance; the scope's own falls off by the second
MOST_BOUNCED = 6.0  # times the scope's own light: darker places show only noise
LOOK_FOR_MORE = 500  # batches between two looks into the folder


@dataclass(frozen=True)
class Batch:
    """
    Pairs and all that is known of them.

    :param images: (B, 2, 3, H, W) float32 RGB in [0, 1], previous and current.
    :param depths: (B, 2, H, W) float32 z-depth [mm], NaN where unknown.
    :param T_prev_cam: (B, 4, 4) float32 [mm].
    :param cameras: (B, 2, 4) float32 fx/W, fy/H, n_x, n_y of each picture.
    """

    images: Tensor
    depths: Tensor
    T_prev_cam: Tensor
    cameras: Tensor

    def to(self, device: str) -> 'Batch':
        """The same on another device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})

    def single(self, rng: torch.Generator) -> 'Batch':
        """One picture of each pair, at random: (B, 1, ...)."""
        pick = torch.randint(0, 2, (len(self.images),), generator=rng)
        rows = torch.arange(len(pick))
        return replace(
            self,
            images=self.images[rows, pick][:, None],
            depths=self.depths[rows, pick][:, None],
            cameras=self.cameras[rows, pick][:, None],
        )


class Pairs:
    """
    All pairs of a folder of `training.synthesize`, in memory; files that come later are seen too.

    :param folder: FAMILY_SEED.npz, a world each.
    :raises ValueError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._worlds: dict[Path, dict[str, np.ndarray]] = {}
        self.look_again()
        if not self._worlds:
            raise ValueError(f'{folder}: no pairs; run: python -m training synthesize {folder}')

    def look_again(self) -> None:
        """Read what is new in the folder."""
        for path in sorted(self.folder.glob('*.npz')):
            if path not in self._worlds:
                with np.load(path) as world:
                    self._worlds[path] = {name: world[name] for name in world.files}
        sizes = np.array([len(world['images']) for world in self._worlds.values()], float)
        names = np.array([path.stem.split('_')[0] for path in self._worlds])
        for name in set(names):
            sizes[names == name] /= np.sqrt(sizes[names == name].sum())
        self._chances = sizes / max(sizes.sum(), 1e-9)

    def __len__(self) -> int:
        return sum(len(world['images']) for world in self._worlds.values())

    def worlds(self) -> Iterator[tuple[str, Batch]]:
        """Every world's name and its pairs, as they are."""
        for path, world in self._worlds.items():
            yield path.stem, _batch(world)

    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        """Draw pairs at random, of each family in proportion to the root of how many it has."""
        worlds = list(self._worlds.values())
        rows = [
            (worlds[at], rng.integers(len(worlds[at]['images'])))
            for at in rng.choice(len(worlds), count, p=self._chances)
        ]
        return _batch({name: np.stack([w[name][n] for w, n in rows]) for name in worlds[0]})


def batches(pairs: Pairs, size: int, seed: int, single: bool) -> Iterator[Batch]:
    """
    Draw augmented batches for ever; a thread works ahead.

    :param size: pairs a batch; single: of each pair one picture only.
    """
    rng = np.random.default_rng(seed)
    torch_rng = torch.Generator().manual_seed(seed)

    def draw(number: int) -> Batch:
        if number % LOOK_FOR_MORE == LOOK_FOR_MORE - 1:
            pairs.look_again()
        batch = pairs.draw(rng, size)
        return augmented(batch.single(torch_rng) if single else batch, rng)

    with ThreadPoolExecutor(1) as ahead:
        number = 0
        coming = ahead.submit(draw, number)
        while True:
            batch = coming.result()
            number += 1
            coming = ahead.submit(draw, number)
            yield batch


def augmented(batch: Batch, rng: np.random.Generator) -> Batch:
    """One draw a pair: mirrored or not, a window of one aspect for all, other colours."""
    mirrored = _mirrored(batch, torch.from_numpy(rng.random(len(batch.images)) < 0.5))
    cropped = _cropped(mirrored, float(rng.choice(ASPECTS)), rng)
    return _recoloured(_bounced(cropped, rng), rng)


def _batch(world: dict[str, np.ndarray]) -> Batch:
    images = torch.from_numpy(np.ascontiguousarray(world['images']))
    return Batch(
        images=images.permute(0, 1, 4, 2, 3).float() / 255.0,
        depths=torch.from_numpy(world['depths'].astype(np.float32)),
        T_prev_cam=torch.from_numpy(np.array(world['T_prev_cam'])),
        cameras=torch.from_numpy(np.array(world['cameras'])),
    )


def _mirrored(batch: Batch, which: Tensor) -> Batch:
    """
    Mirror left to right: n_x, the translation's x and the rotation about y and z turn their sign.
    """
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    images, depths = batch.images.clone(), batch.depths.clone()
    T, cameras = batch.T_prev_cam.clone(), batch.cameras.clone()
    images[which], depths[which] = images[which].flip(-1), depths[which].flip(-1)
    T[which] = mirror @ T[which] @ mirror
    cameras[which, :, 2] = 1.0 - cameras[which, :, 2]
    return Batch(images, depths, T, cameras)


def _cropped(batch: Batch, aspect: float, rng: np.random.Generator) -> Batch:
    """A window of each pair, at a size of about as many pixels; K follows it."""
    B, N, _, H, W = batch.images.shape
    shrink = np.where(rng.random(B) < 0.4, 1.0, rng.uniform(SMALLEST_CROP, 1.0, B))
    wanted = aspect * np.exp(ANISOTROPY * rng.standard_normal(B))
    width = shrink * np.minimum(1.0, wanted * H / W)
    height = shrink * np.minimum(1.0, W / H / wanted)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    h = round(float(np.sqrt(H * W / aspect)))
    w = round(h * aspect)
    window = torch.from_numpy(np.stack([left, top, width, height], 1).astype(np.float32))
    v, u = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing='ij')
    x = window[:, 0, None, None] + u * window[:, 2, None, None]
    y = window[:, 1, None, None] + v * window[:, 3, None, None]
    grid = (2.0 * torch.stack([x, y], -1) - 1.0).repeat_interleave(N, 0)  # (B N, h, w, 2)
    images = F.grid_sample(
        batch.images.flatten(0, 1), grid, 'bilinear', 'border', align_corners=False
    )
    depths = F.grid_sample(
        batch.depths.flatten(0, 1)[:, None], grid, 'nearest', 'border', align_corners=False
    )
    fx, fy, n_x, n_y = batch.cameras.unbind(-1)
    x0, y0, sw, sh = (part[:, None] for part in window.unbind(-1))
    return Batch(
        images=images.unflatten(0, (B, N)),
        depths=depths[:, 0].unflatten(0, (B, N)),
        T_prev_cam=batch.T_prev_cam,
        cameras=torch.stack([fx / sw, fy / sh, (n_x - x0) / sw, (n_y - y0) / sh], -1),
    )


def _bounced(batch: Batch, rng: np.random.Generator) -> Batch:
    """
    More light that comes from all sides, as closed cavities of bright tissue have it.

    The scope's light falls off with the square of the distance and the cosine of its angle. Light
    that tissue throws to and fro does so less, and is redder: path-traced cavities and bellies
    have 0.8 to 1.4 times as much of it as direct light in red, 0.2 to 0.4 in green and blue,
    falling off by the power 0.3 to 1.6 (`training.path_traced`). A network that does not know it
    takes such scenes for flat walls.
    """
    B = len(batch.images)
    rays, cosine = _distances(batch.depths, batch.cameras)
    known = torch.isfinite(rays)
    typical = torch.stack(
        [r[k].median() if k.any() else r.new_ones(()) for r, k in zip(rays, known, strict=True)]
    )
    red = STRENGTH * rng.random(B) * (rng.random(B) < BOUNCED)
    level = np.stack([red, *(red * rng.uniform(*paler, B) for paler in PALER)], axis=1)
    rise = 2.0 - rng.uniform(*FALLOFF, B)
    level_, rise_ = (torch.from_numpy(x.astype(np.float32)) for x in (level, rise))
    way = (rays / typical[:, None, None, None]) ** rise_[:, None, None, None] / cosine
    more = (
        torch.where(known, way, torch.zeros_like(way))[:, :, None] * level_[:, None, :, None, None]
    )
    linear = batch.images**2.2
    brighter = linear * (1.0 + more.clamp(max=MOST_BOUNCED))
    gain = linear.mean((1, 2, 3, 4)) / brighter.mean((1, 2, 3, 4)).clamp(min=1e-6)
    images = (brighter * gain[:, None, None, None, None]).clamp(0.0, 1.0) ** (1 / 2.2)
    return replace(batch, images=images)


def _distances(depths: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
    """
    Distance along the ray [mm], and the cosine of the angle at which a light beside the lens
    meets the surface, 0.4 and more: both (B, N, H, W), NaN where unknown.
    """
    H, W = depths.shape[-2:]
    fx, fy, n_x, n_y = (part[..., None, None] for part in cameras.unbind(-1))
    v, u = torch.meshgrid((torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W, indexing='ij')
    X = torch.stack([(u - n_x) / fx * depths, (v - n_y) / fy * depths, depths], dim=-1)
    rays = X.norm(dim=-1)
    across, down = torch.zeros_like(X), torch.zeros_like(X)
    across[..., :, 1:-1, :] = X[..., :, 2:, :] - X[..., :, :-2, :]
    down[..., 1:-1, :, :] = X[..., 2:, :, :] - X[..., :-2, :, :]
    normal = torch.linalg.cross(across, down)
    size = normal.norm(dim=-1) * rays
    cosine = ((normal * X).sum(-1).abs() / size.clamp(min=1e-9)).clamp(0.4, 1.0)
    steep = (across[..., 2].abs() + down[..., 2].abs()) > 0.25 * depths  # an edge, or nearly
    flat = torch.isfinite(cosine) & (size > 1e-9) & ~steep
    return rays, torch.where(flat, cosine, torch.full_like(cosine, 0.5))


def _recoloured(batch: Batch, rng: np.random.Generator) -> Batch:
    """Gain, balance, gamma and saturation; a pair keeps one draw: light does not flicker."""
    B = len(batch.images)

    def drawn(sigma: float, channels: int) -> Tensor:
        values = np.exp(sigma * rng.standard_normal((B, 1, channels, 1, 1)))
        return torch.from_numpy(values.astype(np.float32))

    x = (batch.images * drawn(0.12, 1) * drawn(0.10, 3)).clamp(0.0, 1.0) ** drawn(0.15, 1)
    grey = x.mean(2, keepdim=True)
    x = grey + (x - grey) * drawn(0.25, 1)
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
    return replace(
        batch, images=(x + 0.01 * noise * (drawn(1.0, 1) - 0.7).clamp(0, 3)).clamp(0, 1)
    )
