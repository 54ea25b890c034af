# SPDX-License-Identifier: Apache-2.0
"""The two steps of training: what is compared with what, and what each comparison weighs."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from training.data.sample import Batch
from training.model import Networks, Step, enlarged
from training.networks.appearance_flow import refined_target, registered, visible
from training.objective import (
    Projection,
    depth_inconsistency,
    distilled,
    photometric,
    project,
    pyramid_photometric,
    sample,
    smoothness,
    supervised,
)

SIMILARITIES = ('ssim', 'ms-ssim')
OF_EACH_SOURCE = {'photometric', 'consistency', 'zoom', 'centre', 'pair'}  # figures: their means


@dataclass(frozen=True)
class Weights:
    """
    What each term weighs; 0 switches it off.

    :param photometric: warped source against target.
    :param similarity: `ssim` (a map, masked) or `ms-ssim` (a number per picture, sides of 176
        and more).
    :param pyramid: levels of halved pictures that `ssim` compares: 1 is the full size only.
    :param smoothness: of inverse depth and flow, at each scale s divided by 2^s.
    :param consistency: depth of neighbours in one scale (Bian et al. 2019).
    :param zoom: roughness of a clip's zoom.
    :param pair: K of each pair against the tied one, so that the network learns it.
    :param centre: pull of a tied principal point to the middle.
    :param supervised: depth against the data's, up to each picture's scale.
    :param distilled: inverse depth against a teacher's, up to scale and shift.
    """

    photometric: float = 1.0
    similarity: str = 'ssim'
    pyramid: int = 1
    smoothness: float = 1e-5
    consistency: float = 0.0
    zoom: float = 0.0
    pair: float = 0.0
    centre: float = 1.0
    supervised: float = 0.0
    distilled: float = 0.0


@dataclass
class Losses:
    """
    Terms of a step.

    :param total: what is minimised.
    :param figures: every term, unweighted, the mean over sources, and what is worth watching;
        flow and smoothness are sums over scales, flow over sources too.
    :param pictures: to look at, (3 or 1, H, W) each, of the batch's first sample.
    """

    total: Tensor
    figures: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, weight: float, value: Tensor) -> None:
        """Add a term."""
        self.total = self.total + weight * value
        self.figures[name] = self.figures.get(name, 0.0) + float(value.detach())


def flow_step(nets: Networks, batch: Batch, weights: Weights) -> Losses:
    """
    The flow network learns to register each source with the target, made as bright as it.

    :return: losses of all scales; without appearance networks there is nothing to learn.
    """
    losses = Losses(batch.images.new_zeros(()))
    target, size = batch.images[:, 0], (batch.images.shape[-2], batch.images.shape[-1])
    for source in batch.images[:, 1:].unbind(1):
        with torch.no_grad():
            back = nets.flows(target, source)[0]
            mask = visible(back) * batch.usable[:, 0]
            seen = registered(source, nets.flows(source, target)[0])
            refined = refined_target(target, nets.change(seen, target), mask)
        for scale, flow in enumerate(nets.flows(source, target)):
            seen = registered(source, enlarged(flow, size))
            alike = photometric(seen, refined, mask, weights.similarity == 'ms-ssim')
            losses.add('flow', 1.0, alike)
            losses.add('flow_smoothness', weights.smoothness / 2**scale, smoothness(
                enlarged(flow, size), target))  # fmt: skip
    return losses


def joint_step(
    nets: Networks, batch: Batch, weights: Weights, teacher: nn.Module | None = None
) -> Losses:
    """
    Depth, motion, K and appearance learn together from how the sources warp onto the target; the
    flow network stands still.

    :param teacher: pictures -> inverse depth, for the distilled term.
    """
    losses = Losses(batch.images.new_zeros(()))
    target, size = batch.images[:, 0], (batch.images.shape[-2], batch.images.shape[-1])
    inverse = nets.inverse_depths(target)  # scales of (B, 1, h, w), finest first
    count = batch.images.shape[1] - 1
    for n in range(1, count + 1):
        source = batch.images[:, n]
        step = nets.step(source, target)
        cameras = nets.cameras(batch, step, n)
        refined, visible_there = refined_for(nets, source, target, batch.usable[:, 0])
        for scale, one in enumerate(inverse):
            depth = 1 / enlarged(one, size)
            there = project(depth, step.T_source_target, *cameras)
            warped, seen = warp(batch, n, there)
            mask = seen * visible_there
            if weights.similarity == 'ms-ssim':
                alike = photometric(warped, refined, mask, multi_scale=True)
            else:
                levels = weights.pyramid
                alike = pyramid_photometric(source, refined, mask, there.pixels, levels)
            losses.add('photometric', weights.photometric / count / len(inverse), alike)
            if scale == 0:
                losses.pictures |= _pictures(target, warped, refined, depth, mask)
                if weights.consistency:
                    other = 1 / enlarged(nets.inverse_depths(source)[0], size)
                    apart = depth_inconsistency(there, other, batch.usable[:, 0])
                    losses.add('consistency', weights.consistency / count, apart)
        _tie(losses, nets, weights, step, cameras, count)
    for scale, one in enumerate(inverse):
        rough = smoothness(enlarged(one, size), target)
        losses.add('smoothness', weights.smoothness / 2**scale, rough)
    if weights.supervised:
        known = supervised(1 / enlarged(inverse[0], size), batch.depth[:, 0])
        losses.add('supervised', weights.supervised, known)
    if weights.distilled and teacher is not None:
        with torch.no_grad():
            told = teacher(target)
        losses.add('distilled', weights.distilled, distilled(enlarged(inverse[0], size), told))
    losses.figures['photometric'] /= len(inverse)
    for name in OF_EACH_SOURCE & set(losses.figures):
        losses.figures[name] /= count
    return losses


def warp(batch: Batch, number: int, there: Projection) -> tuple[Tensor, Tensor]:
    """
    A source as the target should see it, (B, 3, H, W), and where both show it, (B, 1, H, W) of 0
    and 1.

    :param number: of the source; there: where the target's pixels lie in it.
    """
    usable = sample(batch.usable[:, number], there.pixels) > 0.99
    mask = batch.usable[:, 0] * usable * there.inside
    return sample(batch.images[:, number], there.pixels), mask


def refined_for(
    nets: Networks, source: Tensor, target: Tensor, usable: Tensor
) -> tuple[Tensor, Tensor]:
    """The target as bright as the source, and where the source shows it; as it is without nets."""
    if nets.flow is None or nets.appearance is None:
        return target, torch.ones_like(usable)
    with torch.no_grad():
        mask = visible(nets.flows(target, source)[0]) * usable
        seen = registered(source, nets.flows(source, target)[0])
    return refined_target(target, nets.change(seen, target), mask), mask


def _tie(
    losses: Losses,
    nets: Networks,
    weights: Weights,
    step: Step,
    cameras: tuple[Tensor, Tensor],
    count: int,
) -> None:
    """What holds K together: a smooth zoom, a centre near the middle, a network that follows."""
    if nets.tied is None:
        return
    if weights.zoom:
        losses.add('zoom', weights.zoom / count, nets.tied.roughness())
    losses.add('centre', weights.centre / count, nets.tied.centre.square().mean())
    if weights.pair:
        told = cameras[0].detach()
        apart = (step.camera_target / told).clamp(min=1e-3).log()[:, :2].abs().mean()
        apart = apart + (step.camera_target - told)[:, 2:].abs().mean()
        losses.add('pair', weights.pair / count, apart)


def _pictures(
    target: Tensor, warped: Tensor, refined: Tensor, depth: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    """What a person looks at to see how training goes."""
    log_depth = depth[0].detach().log()
    span = (log_depth.max() - log_depth.min()).clamp(min=1e-6)
    return {
        'target': target[0],
        'warped': warped[0].detach(),
        'refined': refined[0].detach(),
        'nearness': (log_depth.max() - log_depth) / span,
        'error': (warped - refined)[0].detach().abs().mean(0, keepdim=True) * mask[0],
    }
