# SPDX-License-Identifier: Apache-2.0
"""The networks that train together, under one interface, whichever family they are of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.sample import Batch
from training.networks.appearance_flow import AppearanceNetwork, FlowNetwork
from training.networks.attention_motion import AttentionMotion
from training.networks.compact import CompactDepth, CompactMotion
from training.networks.flow_motion import FlowMotion
from training.objective import motions, zoom_roughness

COMPACT_STEP = 0.02  # a compact motion network begins with small motions
# widths, depths and overviews of networks for quick trials
SMALL = ((8, 16, 32, 64, 96), (1, 1, 1, 1), (0, 0, 0, 2))


@dataclass(frozen=True)
class Step:
    """
    What a motion network says of two pictures.

    :param T_source_target: (B, 4, 4) [the networks' unit].
    :param camera_target: (B, 4) fx / W, fy / H, n_x, n_y; camera_source: the same of the source.
    """

    T_source_target: Tensor
    camera_target: Tensor
    camera_source: Tensor


class PaperDepth(nn.Module):
    """
    Depth Anything with adapters: pictures (B, 3, H, W) -> inverse depth at four scales.

    :param start: see `training.depth_init.depth_network`; normalised: by ImageNet's statistics.
    """

    def __init__(self, start: str = 'none', normalised: bool = True) -> None:
        super().__init__()
        from training.depth_init import depth_network  # transformers takes seconds to import
        from training.networks.depth_anything import DEPTH_RANGE

        self.network = depth_network(start, imagenet=normalised).adapt()
        self.near, self.far = DEPTH_RANGE

    def forward(self, images: Tensor) -> list[Tensor]:
        low, high = 1 / self.far, 1 / self.near
        return [low + (high - low) * x for x in self.network.disparities(images)]


class CompactInverseDepth(nn.Module):
    """The compact depth network: pictures (B, 3, H, W) -> inverse depth at one scale."""

    def __init__(self, *shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = CompactDepth(*shape)

    def forward(self, images: Tensor) -> list[Tensor]:
        log_depth, _, _ = self.network(images)
        return [torch.exp(-log_depth)[:, None]]


class PaperMotion(nn.Module):
    """ResNet-18 with patch attention: one K for both pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.network = AttentionMotion()

    def forward(self, source: Tensor, target: Tensor) -> Step:
        outputs = self.network(torch.cat([source, target], 1))
        axis_angle, translation, said = (x.float() for x in outputs)
        H, W = target.shape[-2:]
        # its cx / W counts from the first pixel's centre, ours from the picture's edge
        camera = said + said.new_tensor([0.0, 0.0, 0.5 / W, 0.5 / H])
        return Step(motions(axis_angle, translation), camera, camera)


class CompactStep(nn.Module):
    """A motion network like `CompactMotion`: K of both pictures, square pixels."""

    def __init__(self, network: Callable[[], nn.Module] = CompactMotion) -> None:
        super().__init__()
        self.network = network()

    def forward(self, source: Tensor, target: Tensor) -> Step:
        said = self.network(torch.cat([source, target], 1)).float()
        H, W = target.shape[-2:]
        log_focal, log_zoom = said[:, 6], said[:, 7]
        T = motions(COMPACT_STEP * said[:, :3], COMPACT_STEP * said[:, 3:6])
        here, there = (
            torch.stack([fx, fx * W / H, said[:, 8] + 0.5, said[:, 9] + 0.5], 1)
            for fx in (log_focal.exp(), (log_focal - log_zoom).exp())
        )
        return Step(T, here, there)


class TiedIntrinsics(nn.Module):
    """
    One focal length and centre of each scope, and a zoom of each frame: log f = log f0 + log zoom.

    What all frames of a scope say about f0 adds up here, where a pair of frames says little.

    :param scopes: how many.
    :param frames: of each clip; None: no clip zooms.
    :param focal: where f / W of the recorded picture starts.
    """

    def __init__(self, scopes: int, frames: list[int] | None, focal: float) -> None:
        super().__init__()
        self.log_focal = nn.Parameter(torch.full((scopes,), focal).log())
        self.centre = nn.Parameter(torch.zeros(scopes, 2))
        self.lengths = frames or []
        longest = max(self.lengths, default=0)
        self.log_zoom = nn.Parameter(torch.zeros(len(self.lengths), longest)) if frames else None

    def forward(self, batch: Batch, place: int, zooms: bool = True) -> Tensor:
        """
        Camera of the pictures at a place of each sample, (B, 4), as their windows show it.

        A scope that is not known, -1, has the mean of all.

        :param zooms: False for clips that are not trained on: their zoom is not known.
        """
        log_focal = _and_mean(self.log_focal)[batch.scope]
        if self.log_zoom is not None and zooms:
            log_zoom = self.log_zoom[batch.clip, batch.frames[:, place]]
            log_focal = log_focal + log_zoom
        fx = log_focal.exp()
        centre = 0.5 + _and_mean(self.centre)[batch.scope]
        left, top, width, height, flag = batch.window[:, place].unbind(-1)
        n_x, n_y = (centre[:, 0] - left) / width, (centre[:, 1] - top) / height
        n_x = torch.where(flag > 0, 1 - n_x, n_x)
        return torch.stack([fx / width, fx * batch.aspect / height, n_x, n_y], 1)

    def roughness(self) -> Tensor:
        """How unsteady the zoom is, over all clips."""
        if self.log_zoom is None:
            return self.log_focal.new_zeros(())
        parts = [
            zoom_roughness(row[:count])
            for row, count in zip(self.log_zoom, self.lengths, strict=True)
        ]
        return torch.stack(parts).mean()


def _and_mean(values: Tensor) -> Tensor:
    """Values of all scopes (S, ...), and last, where -1 finds it, their mean."""
    return torch.cat([values, values.mean(0, keepdim=True)])


DEPTHS: dict[str, Callable[[], nn.Module]] = {
    'paper': PaperDepth,
    'compact': CompactInverseDepth,
    'small': partial(CompactInverseDepth, *SMALL),
}
MOTIONS: dict[str, Callable[[], nn.Module]] = {
    'paper': PaperMotion,
    'compact': CompactStep,
    'small': partial(CompactStep, FlowMotion),
}
INTRINSICS = ('pair', 'tied', 'given')


class Networks(nn.Module):
    """
    Everything that trains.

    :param depth: of DEPTHS; motion: of MOTIONS.
    :param intrinsics: `pair`: the motion network's K of each pair; `tied`: one focal length of
        each scope; `given`: the data's own.
    :param appearance: with flow and appearance networks.
    :param tied: needed for `tied`.
    :param depth_init: where a `paper` depth network starts: hub, none or a path.
    :param normalised: `paper` depth sees pictures by ImageNet's mean and deviation.
    :param half: networks work in bfloat16; geometry and losses never do.
    """

    def __init__(
        self,
        depth: str,
        motion: str,
        intrinsics: str,
        appearance: bool,
        tied: TiedIntrinsics | None = None,
        half: bool = False,
        depth_init: str = 'none',
        normalised: bool = True,
    ) -> None:
        super().__init__()
        self.half = half
        paper = depth == 'paper'
        self.depth = PaperDepth(depth_init, normalised) if paper else DEPTHS[depth]()
        self.motion = MOTIONS[motion]()
        self.intrinsics, self.tied = intrinsics, tied
        self.flow = FlowNetwork() if appearance else None
        self.appearance = AppearanceNetwork() if appearance else None

    def inverse_depths(self, images: Tensor) -> list[Tensor]:
        """Inverse depth of pictures (B, 3, H, W): (B, 1, h, w) of each scale, finest first."""
        with self._precision(images):
            said = self.depth(images)
        return [x.float() for x in said]

    def step(self, source: Tensor, target: Tensor) -> Step:
        """Motion and K of two pictures (B, 3, H, W)."""
        with self._precision(source):
            return self.motion(source, target)

    def flows(self, source: Tensor, target: Tensor) -> list[Tensor]:
        """Where the target's pixels are in the source: (B, 2, h, w) of each scale."""
        with self._precision(source):
            said = self.flow(torch.cat([source, target], 1)) if self.flow else []
        return [x.float() for x in said]

    def change(self, seen: Tensor, target: Tensor) -> Tensor:
        """What makes the target as bright as the registered source, (B, 3, H, W)."""
        if self.appearance is None:
            return torch.zeros_like(target)
        with self._precision(seen):
            return self.appearance(torch.cat([seen, target], 1))[0].float()

    def _precision(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self.half)

    def cameras(
        self, batch: Batch, step: Step, source: int, zooms: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """
        K of target and source (B, 4) each, by the way that was chosen.

        :param zooms: whether the clips are those trained on; default: while training.
        """
        if self.intrinsics == 'given':
            return batch.camera[:, 0], batch.camera[:, source]
        if self.tied is not None:
            known = bool((batch.scope >= 0).all())
            if known:
                zooms = self.training if zooms is None else zooms
                return self.tied(batch, 0, zooms), self.tied(batch, source, zooms)
        return step.camera_target, step.camera_source


def enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    """A coarser map at the size of the pictures."""
    if tuple(values.shape[-2:]) == size:
        return values
    return F.interpolate(values, size=size, mode='bilinear', align_corners=False)
