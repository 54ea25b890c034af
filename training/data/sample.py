# SPDX-License-Identifier: Apache-2.0
"""The one thing that every data set becomes: a picture, its neighbours, and what is known."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """
    A target picture and N - 1 sources beside it in time, as the networks see them.

    What is not known is NaN. Millimetres and pixels are the data set's own.

    :param images: (N, 3, H, W) float32 RGB in [0, 1]; the target first.
    :param usable: (N, 1, H, W) float32 of 0 and 1: neither border, highlight nor instrument.
    :param depth: (N, 1, H, W) float32 [mm].
    :param camera: (N, 4) float32 fx / W, fy / H, n_x, n_y.
    :param T_source_target: (N - 1, 4, 4) float32 [mm].
    :param window: (N, 5) float32 left, top, width, height of what is seen of the recorded picture,
        as shares of it, and 1 where it is mirrored.
    :param clip: () int64, number of the clip.
    :param scope: () int64, number of the scope that recorded it; -1: none that is known.
    :param aspect: () float32, width over height of the recorded picture.
    :param frames: (N,) int64, places in the clip.
    """

    images: Tensor
    usable: Tensor
    depth: Tensor
    camera: Tensor
    T_source_target: Tensor
    window: Tensor
    clip: Tensor
    scope: Tensor
    aspect: Tensor
    frames: Tensor


@dataclass(frozen=True)
class Sample(Pictures):
    """
    One sample.

    :param name: clip and frame, for people.
    """

    name: str


@dataclass(frozen=True)
class Batch(Pictures):
    """Samples: each tensor has B in front; `name` holds B names."""

    name: tuple[str, ...]

    def to(self, device: torch.device | str) -> 'Batch':
        """The same on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if name != 'name'}
        return Batch(**moved, name=self.name)

    def only(self, place: int) -> 'Batch':
        """One of the samples, as a batch."""
        one = {name: value[place : place + 1] for name, value in vars(self).items()}
        return Batch(**one)

    def __len__(self) -> int:
        return len(self.name)


def batched(samples: Sequence[Sample]) -> Batch:
    """Samples of one size in a batch."""
    parts = {
        field.name: torch.stack([getattr(one, field.name) for one in samples])
        for field in fields(Pictures)
    }
    return Batch(**parts, name=tuple(one.name for one in samples))
