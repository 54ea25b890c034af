# SPDX-License-Identifier: Apache-2.0
"""One draw for all pictures of a sample: mirrored, cropped and zoomed, recoloured; K follows."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.data.sample import Sample


@dataclass(frozen=True)
class Augmentation:
    """
    How much samples are varied.

    :param mirror: share of samples that are mirrored left to right.
    :param crop: share of samples that are cropped and zoomed to the same size.
    :param smallest: of the side that a crop keeps.
    :param gain: standard deviation of the log of brightness; balance: of each colour's; gamma: of
        the log of gamma; saturation: of its log. One draw a sample: light does not flicker.
    """

    mirror: float = 0.5
    crop: float = 0.5
    smallest: float = 0.75
    gain: float = 0.1
    balance: float = 0.05
    gamma: float = 0.1
    saturation: float = 0.1


NONE = Augmentation(mirror=0.0, crop=0.0, gain=0.0, balance=0.0, gamma=0.0, saturation=0.0)


def augmented(sample: Sample, how: Augmentation, rng: np.random.Generator) -> Sample:
    """Vary a sample; an equal generator gives an equal sample."""
    chances = rng.random(2)
    if chances[0] < how.crop:
        keep = rng.uniform(how.smallest, 1.0)
        left, top = rng.uniform(0, 1 - keep, 2)
        sample = cropped(sample, float(left), float(top), float(keep))
    if chances[1] < how.mirror:
        sample = mirrored(sample)
    return recoloured(sample, how, rng)


def cropped(sample: Sample, left: float, top: float, keep: float) -> Sample:
    """
    A window of every picture, enlarged to the whole size: focal lengths grow by 1 / keep.

    :param left: of the window, share of the width; top: of the height; keep: of both sides.
    """
    H, W = sample.images.shape[-2:]
    x = left + (torch.arange(W) + 0.5) / W * keep
    y = top + (torch.arange(H) + 0.5) / H * keep
    grid = torch.stack(torch.meshgrid(2 * x - 1, 2 * y - 1, indexing='xy'), -1)
    grid = grid.expand(len(sample.images), -1, -1, -1)

    def read(picture: Tensor, how: str) -> Tensor:
        return F.grid_sample(picture, grid, how, 'border', align_corners=False)

    fx, fy, n_x, n_y = sample.camera.unbind(-1)
    camera = [fx / keep, fy / keep, (n_x - left) / keep, (n_y - top) / keep]
    x0, y0, width, height, flag = sample.window.unbind(-1)
    window = [x0 + left * width, y0 + top * height, width * keep, height * keep, flag]
    return replace(
        sample,
        images=read(sample.images, 'bilinear'),
        usable=read(sample.usable, 'nearest'),
        depth=read(sample.depth, 'nearest'),
        camera=torch.stack(camera, -1),
        window=torch.stack(window, -1),
    )


def mirrored(sample: Sample) -> Sample:
    """Left becomes right: n_x turns about the middle, and T with it."""
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    camera, window = sample.camera.clone(), sample.window.clone()
    camera[:, 2] = 1 - camera[:, 2]
    window[:, 4] = 1 - window[:, 4]
    return replace(
        sample,
        images=sample.images.flip(-1),
        usable=sample.usable.flip(-1),
        depth=sample.depth.flip(-1),
        camera=camera,
        T_source_target=mirror @ sample.T_source_target @ mirror,
        window=window,
    )


def recoloured(sample: Sample, how: Augmentation, rng: np.random.Generator) -> Sample:
    """Other gain, balance, gamma and saturation, the same for every picture of the sample."""

    def drawn(sigma: float, count: int = 1) -> Tensor:
        values = np.exp(sigma * rng.standard_normal(count)).astype(np.float32)
        return torch.from_numpy(values).view(1, count, 1, 1)

    gain, balance = drawn(how.gain), drawn(how.balance, 3)
    gamma, saturation = drawn(how.gamma), drawn(how.saturation)
    if not any((how.gain, how.balance, how.gamma, how.saturation)):
        return sample
    x = (sample.images * gain * balance).clamp(0, 1) ** gamma
    grey = x.mean(1, keepdim=True)
    return replace(sample, images=(grey + (x - grey) * saturation).clamp(0, 1))
