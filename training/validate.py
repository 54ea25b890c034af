# SPDX-License-Identifier: Apache-2.0
"""Figures of networks on samples that they do not train on, lazy answers beside them."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from endosfm3d_ros.evaluation.depth import depth_errors
from endosfm3d_ros.evaluation.falloff import light_falloff
from endosfm3d_ros.evaluation.intervals import over_videos
from endosfm3d_ros.evaluation.protocols import WORLDS, Protocol
from endosfm3d_ros.evaluation.trajectory import constant_forward, no_motion, trajectory_errors
from training.data.dataset import Samples
from training.data.sample import Batch, batched
from training.model import Networks, Step, enlarged
from training.objective import photometric, project
from training.steps import refined_for, warp

BATCH = 4
TYPICAL_MM = 50.0  # scenes lie there where nothing says where
LEAST_SEEN = 0.1  # of a picture's usable pixels, or the warp shows nothing


@torch.no_grad()
def validate(
    nets: Networks,
    samples: Samples,
    device: torch.device,
    most: int,
    rules: Protocol = WORLDS,
    taught: bool = True,
) -> dict[str, float]:
    """
    Score the networks.

    K of a tied scope that training does not know is the motion network's. Where nothing taught it
    that, focal is not scored, and the photometric error is by the data's own K or, where that is
    not known, by the mean of the known scopes': a guess, the same for every checkpoint. With given
    K pictures that lack it have no photometric error.

    :param most: samples, evenly spread.
    :param taught: see `training.networks_of.teaches_focal`.
    :return: photometric (of a source whose warp leaves less than LEAST_SEEN in view, that of the
        source as it is) and unit_mm (what the networks' unit is worth; where no depth is known, so
        that what is seen lies at TYPICAL_MM) always; where depth is known abs_rel, a1, and abs_rel
        of a flat wall (constant) and of light falloff (light); where K is known focal (mean of
        |f / f* - 1|) and focal_bias.
    """
    nets.eval()
    found: dict[str, list[float]] = {}
    units: list[float] = []
    typical: list[float] = []
    for batch in _batches(samples, device, most):
        typical += _typical_units(nets, batch)
        found.setdefault('photometric', []).extend(_photometric_errors(nets, batch, taught))
        for scores in _depth_scores(nets, batch, rules):
            units.append(scores.pop('scale'))
            for name, value in scores.items():
                found.setdefault(name, []).append(value)
        for error in _focal_errors(nets, batch, taught):
            found.setdefault('focal', []).append(abs(error))
            found.setdefault('focal_bias', []).append(error)
    nets.train()
    unit = float(np.exp(np.mean(np.log(units or typical))))
    return {'unit_mm': unit} | {name: float(np.mean(v)) for name, v in found.items() if v}


@torch.no_grad()
def by_clip(
    nets: Networks,
    samples: Samples,
    device: torch.device,
    rules: Protocol = WORLDS,
    taught: bool = True,
) -> dict[str, dict[str, float]]:
    """
    Score every target of every clip, and the path of those whose poses are known. Of a frame
    that lacks its neighbours depth is scored.

    :param taught: see `validate`.
    :return: by clip: photometric, abs_rel, constant, light, a1, scale, scale_spread (standard
        deviation of its log), focal, and of paths ate_sim3, snippet_ate, snippet_rmse with
        still_ate and forward_ate of lazy ones; what is not known is left out.
    """
    nets.eval()
    found: dict[str, dict[str, list[float]]] = {}
    alone = (batched([one]).to(device) for one in samples.alone())
    for batch in chain(_batches(samples, device, len(samples)), alone):
        for number, (name, scores) in enumerate(
            zip(batch.name, _all_scores(nets, batch, rules, taught), strict=True)
        ):
            clip = samples.clips[int(batch.clip[number])].name
            for key, value in scores.items():
                found.setdefault(clip or name, {}).setdefault(key, []).append(value)
    table = {
        clip: {key: float(np.mean(values)) for key, values in figures.items()}
        for clip, figures in found.items()
    }
    for clip, figures in found.items():
        if scales := figures.get('scale'):
            table[clip]['scale_spread'] = float(np.std(np.log(scales)))
    for number, clip in enumerate(samples.clips):
        table.setdefault(clip.name, {}).update(path_errors(nets, samples, number, device))
    nets.train()
    return table


def summary(table: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Means over clips with 95 % intervals over clips."""
    names = sorted({name for figures in table.values() for name in figures})
    found = {}
    for name in names:
        values = [[figures[name]] for figures in table.values() if name in figures]
        _, interval = over_videos(values)
        found[name] = {'mean': interval.mean, 'low': interval.low, 'high': interval.high}
    return found


@torch.no_grad()
def zoom_strays(nets: Networks, samples: Samples, device: torch.device) -> float | None:
    """
    How far K strays from the truth's over a clip that was trained on: the standard deviation of
    log f / f* over its frames, a mean of the clips whose K is known; None where none is.
    """
    nets.eval()
    found: dict[int, list[float]] = {}
    for start in range(0, len(samples), BATCH):
        last = min(start + BATCH, len(samples))
        batch = batched([samples[n] for n in range(start, last)]).to(device)
        step = nets.step(batch.images[:, 1], batch.images[:, 0])
        said, _ = nets.cameras(batch, step, 1, zooms=True)
        ratios = (said[:, 0] / batch.camera[:, 0, 0]).log()
        for clip, ratio in zip(batch.clip, ratios, strict=True):
            if torch.isfinite(ratio):
                found.setdefault(int(clip), []).append(float(ratio))
    nets.train()
    return float(np.mean([np.std(values) for values in found.values()])) if found else None


@torch.no_grad()
def path_errors(
    nets: Networks, samples: Samples, number: int, device: torch.device
) -> dict[str, float]:
    """Errors of a clip's chained motions; {} where poses or neighbours are missing."""
    clip = samples.clips[number]
    if not np.isfinite(clip.T_world_cam).all() or np.any(np.diff(clip.numbers) != 1):
        return {}
    if len(clip.numbers) < 5:
        return {}
    chain = [np.eye(4)]
    for n in range(1, len(clip.numbers)):
        pair = [
            torch.from_numpy(clip.images[i].copy()).permute(2, 0, 1)[None].float().to(device) / 255
            for i in (n - 1, n)
        ]
        chain.append(chain[-1] @ nets.step(*pair).T_source_target[0].double().cpu().numpy())
    ours = trajectory_errors(np.stack(chain), clip.T_world_cam)
    still = trajectory_errors(no_motion(len(chain)), clip.T_world_cam)
    forward = trajectory_errors(constant_forward(np.arange(len(chain))), clip.T_world_cam)
    return {
        'ate_sim3': ours.ate_sim3,
        'snippet_ate': ours.snippet_ate or 0.0,
        'snippet_rmse': ours.snippet_rmse or 0.0,
        'still_snippet_ate': still.snippet_ate or 0.0,
        'forward_snippet_ate': forward.snippet_ate or 0.0,
        'still_ate': still.ate_sim3,
        'forward_ate': forward.ate_sim3,
    }


def _batches(samples: Samples, device: torch.device, most: int) -> Iterator[Batch]:
    """Samples of one scope's knowledge together, at most so many, evenly spread; made in turn."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int))
    for known in (True, False):
        some = [int(one) for one in places if (samples.scope_of(int(one)) >= 0) == known]
        for start in range(0, len(some), BATCH):
            yield batched([samples[one] for one in some[start : start + BATCH]]).to(device)


def _cameras(
    nets: Networks, batch: Batch, step: Step, source: int, taught: bool
) -> tuple[Tensor, Tensor]:
    """K (B, 4) of target and source to warp by, see `validate`."""
    if nets.tied is None or _knows_camera(nets, batch, taught):
        return nets.cameras(batch, step, source)
    own = batch.camera[:, 0], batch.camera[:, source]
    known = torch.isfinite(torch.cat(own, 1)).all(1)[:, None]
    means = (nets.tied(batch, place, zooms=False) for place in (0, source))
    target, there = (torch.where(known, a, b) for a, b in zip(own, means, strict=True))
    return target, there


def _photometric_errors(nets: Networks, batch: Batch, taught: bool) -> list[float]:
    """
    Photometric error of each picture whose K is known, a mean of sources and scales.

    Who throws a source out of view is scored by the source as it is, not by the nothing that is
    left.
    """
    target, usable = batch.images[:, 0], batch.usable[:, 0]
    size = (target.shape[-2], target.shape[-1])
    inverse = nets.inverse_depths(target)
    errors: list[list[float]] = [[] for _ in batch.name]
    for n in range(1, batch.images.shape[1]):
        source = batch.images[:, n]
        step = nets.step(source, target)
        cameras = _cameras(nets, batch, step, n, taught)
        refined, visible_there = refined_for(nets, source, target, usable)
        for one in inverse:
            there = project(1 / enlarged(one, size), step.T_source_target, *cameras)
            warped, mask = warp(batch, n, there)
            mask = mask * visible_there
            lost = mask.sum((1, 2, 3)) < LEAST_SEEN * usable.sum((1, 2, 3))
            lost = lost[:, None, None, None]
            warped = torch.where(lost, source, warped)
            mask = torch.where(lost, usable * batch.usable[:, n], mask)
            for k, found in enumerate(errors):
                part = slice(k, k + 1)
                found.append(float(photometric(warped[part], refined[part], mask[part])))
    known = torch.isfinite(batch.camera).all(2).all(1) | (nets.intrinsics != 'given')
    return [float(np.mean(one)) for one, sure in zip(errors, known, strict=True) if sure]


def _typical_units(nets: Networks, batch: Batch) -> list[float]:
    """What the unit must be worth for the median of each picture to lie at TYPICAL_MM."""
    inverse = nets.inverse_depths(batch.images[:, 0])[0].flatten(1)
    return [TYPICAL_MM * float(one) for one in inverse.median(dim=1).values]


def _depth_scores(nets: Networks, batch: Batch, rules: Protocol) -> Iterator[dict[str, float]]:
    """abs_rel, a1 and scale of each picture with depth, and abs_rel of lazy answers."""
    size = (batch.images.shape[-2], batch.images.shape[-1])
    inverse = enlarged(nets.inverse_depths(batch.images[:, 0])[0], size)
    pictures = (255 * batch.images[:, 0]).byte().permute(0, 2, 3, 1).cpu().numpy()
    for said, truth, picture in zip(inverse[:, 0], batch.depth[:, 0, 0], pictures, strict=True):
        target, caps = truth.cpu().numpy(), (rules.nearest, rules.farthest)
        ours = depth_errors((1 / said).cpu().numpy(), target, *caps)
        wall = depth_errors(np.ones_like(target), target, *caps)
        light = depth_errors(light_falloff(picture), target, *caps)
        if ours and wall and light:
            yield {
                'abs_rel': ours.abs_rel,
                'a1': ours.delta1,
                'scale': ours.scale,
                'constant': wall.abs_rel,
                'light': light.abs_rel,
            }


def _knows_camera(nets: Networks, batch: Batch, taught: bool) -> bool:
    """Whether training taught the networks what they say of K here, or the data say it."""
    return taught or nets.tied is None or bool((batch.scope >= 0).all())


def _focal_errors(nets: Networks, batch: Batch, taught: bool) -> Iterator[float]:
    if batch.images.shape[1] < 2 or not _knows_camera(nets, batch, taught):
        return
    said, _ = nets.cameras(batch, nets.step(batch.images[:, 1], batch.images[:, 0]), 1)
    ratio = (said[:, :2] / batch.camera[:, 0, :2]).log().mean(1).exp() - 1
    yield from (float(one) for one in ratio if torch.isfinite(one))


def _all_scores(
    nets: Networks, batch: Batch, rules: Protocol, taught: bool
) -> Iterator[dict[str, float]]:
    for place in range(len(batch)):
        one = batch.only(place)
        scores: dict[str, float] = {}
        for found in _depth_scores(nets, one, rules):
            scores = found
        for error in _focal_errors(nets, one, taught):
            scores['focal'] = abs(error)
        if one.images.shape[1] > 1:
            for error in _photometric_errors(nets, one, taught):
                scores['photometric'] = error
        yield scores
