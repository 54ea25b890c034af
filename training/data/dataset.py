# SPDX-License-Identifier: Apache-2.0
"""Samples of prepared clips: neighbours found beforehand; the step tells which are taken."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from training.data.augment import NONE, Augmentation, augmented
from training.data.prepared import Prepared
from training.data.sample import Sample


class Samples(Dataset[Sample]):
    """
    Every frame of the clips that may be a target and has its neighbours.

    :param offsets: of the sources from the target, in strides: (-1, 1) is before and after.
    :param strides: a stride is drawn of those whose neighbours are all there.
    :param scopes: number of the scope of each clip; default: each clip has its own.
    :ivar left_out: targets that lack a neighbour at every stride.
    :ivar clips: as given.
    """

    def __init__(
        self,
        clips: Sequence[Prepared],
        offsets: Sequence[int] = (-1, 1),
        strides: Sequence[int] = (1,),
        augmentation: Augmentation = NONE,
        seed: int = 0,
        scopes: Sequence[int] | None = None,
    ) -> None:
        self.clips = tuple(clips)
        self.augmentation, self.seed = augmentation, seed
        self.scopes = tuple(scopes if scopes is not None else range(len(clips)))
        self._alone: list[tuple[int, int]] = []
        self._index: list[tuple[int, list[tuple[int, ...]]]] = []
        for number, clip in enumerate(self.clips):
            place = {int(n): i for i, n in enumerate(clip.numbers)}
            for n, i in place.items():
                if not clip.targets[i]:
                    continue
                wanted = [[n + stride * offset for offset in offsets] for stride in strides]
                there = [
                    (i, *(place[m] for m in some))
                    for some in wanted
                    if all(m in place for m in some)
                ]
                if there:
                    self._index.append((number, there))
                else:
                    self._alone.append((number, i))
        self.left_out = len(self._alone)
        if not self._index:
            frames = sum(int(clip.targets.sum()) for clip in self.clips)
            raise ValueError(
                f'none of the {frames} frames has its neighbours at offsets {list(offsets)} times '
                f'{list(strides)}: are the numbers of the pictures {max(strides)} apart?'
            )

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, which: int | tuple[int, int]) -> Sample:
        """
        Make a sample.

        :param which: its number, or its number and the epoch, which draws stride and augmentation.
        """
        number, epoch = (which, 0) if isinstance(which, int) else which
        rng = np.random.default_rng([self.seed, epoch, number])
        clip_number, choices = self._index[number]
        frames = choices[int(rng.integers(len(choices)))]
        clip, scope = self.clips[clip_number], self.scopes[clip_number]
        return augmented(_sample(clip, clip_number, scope, frames), self.augmentation, rng)

    def alone(self) -> Iterator[Sample]:
        """The targets that were left out, without sources: of depth they tell as much."""
        for number, place in self._alone:
            yield _sample(self.clips[number], number, self.scopes[number], (place,))

    def scope_of(self, number: int) -> int:
        """Number of the scope of a sample, without making it."""
        return self.scopes[self._index[number][0]]


def steps_an_epoch(count: int, batch: int) -> int:
    """Steps in which every sample is seen once; what is left over waits for the next epoch."""
    return max(count // batch, 1)


class Steps(Sampler[list[tuple[int, int]]]):
    """
    The samples of every step from a given one on: any step's follow from its number alone, so that
    a training resumes in the middle of an epoch.

    :param count: samples there are.
    :param batch: samples a step, over all processes.
    :param steps: first and behind the last.
    :param share: this process's number, and how many share a step.
    """

    def __init__(
        self, count: int, batch: int, seed: int, steps: range, share: tuple[int, int] = (0, 1)
    ) -> None:
        self.count, self.batch, self.seed, self.steps = count, batch, seed, steps
        self.rank, self.processes = share
        if batch % self.processes:
            raise ValueError(
                f'loop.batch is {batch}, which {self.processes} processes cannot share; need a '
                'multiple'
            )

        self.per_epoch = steps_an_epoch(count, batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, int)
        for step in self.steps:
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                order = self._order(epoch)
            start = (step % self.per_epoch) * self.batch
            whole = order[start : start + self.batch]
            yield [(int(number), epoch) for number in whole[self.rank :: self.processes]]

    def __len__(self) -> int:
        return len(self.steps)

    def _order(self, epoch: int) -> np.ndarray:
        """All samples, shuffled; over and over where they are fewer than a batch."""
        rng = np.random.default_rng([self.seed, 1, epoch])
        rounds = -(-max(self.batch, self.count) // self.count)
        return np.concatenate([rng.permutation(self.count) for _ in range(rounds)])


def _sample(clip: Prepared, number: int, scope: int, frames: tuple[int, ...]) -> Sample:
    """The frames of a clip, target first, as they are."""
    places = list(frames)
    images = np.stack([clip.images[i] for i in places])
    T_world_cam = clip.T_world_cam[places]
    T_source_target = np.linalg.inv(T_world_cam[1:]) @ T_world_cam[0]
    H, W = images.shape[1:3]
    depth = np.full((len(places), H, W), np.nan, np.float32)
    if clip.depths is not None:
        depth = np.stack([clip.depths[i] for i in places])
    window = np.pad(clip.windows[places], ((0, 0), (0, 1)))
    return Sample(
        images=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
        usable=torch.from_numpy(np.stack([clip.usable[i] for i in places]))[:, None].float(),
        depth=torch.from_numpy(depth)[:, None],
        camera=torch.from_numpy(clip.cameras[places]),
        T_source_target=torch.from_numpy(T_source_target.astype(np.float32)),
        window=torch.from_numpy(window.astype(np.float32)),
        clip=torch.tensor(number),
        scope=torch.tensor(scope),
        aspect=torch.tensor(clip.aspect, dtype=torch.float32),
        frames=torch.tensor(places),
        name=f'{clip.name} frame {clip.numbers[places[0]]}',
    )
