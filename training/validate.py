# SPDX-License-Identifier: Apache-2.0
"""Figures of networks on samples that they do not train on, lazy answers beside them."""

from collections.abc import Iterator

import numpy as np
import torch

from endosfm3d_ros.evaluation.bootstrap import over_videos
from endosfm3d_ros.evaluation.depth import depth_errors
from endosfm3d_ros.evaluation.falloff import light_falloff
from endosfm3d_ros.evaluation.protocols import WORLDS, Protocol
from endosfm3d_ros.evaluation.trajectory import constant_forward, no_motion, trajectory_errors
from training.data.dataset import Samples
from training.data.sample import Batch, batched
from training.model import Networks, enlarged
from training.steps import Weights, joint_step

BATCH = 4
TYPICAL_MM = 50.0  # scenes lie there where nothing says where
PHOTOMETRIC = Weights(smoothness=0.0, centre=0.0)


@torch.no_grad()
def validate(
    nets: Networks, samples: Samples, device: torch.device, most: int, rules: Protocol = WORLDS
) -> dict[str, float]:
    """
    Score the networks.

    :param most: samples, evenly spread.
    :return: photometric and unit_mm (what the networks' unit is worth; where no depth is known, so
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
        losses = joint_step(nets, batch, PHOTOMETRIC)
        found.setdefault('photometric', []).append(losses.figures['photometric'])
        for scores in _depth_scores(nets, batch, rules):
            units.append(scores.pop('scale'))
            for name, value in scores.items():
                found.setdefault(name, []).append(value)
        for error in _focal_errors(nets, batch):
            found.setdefault('focal', []).append(abs(error))
            found.setdefault('focal_bias', []).append(error)
    nets.train()
    unit = float(np.exp(np.mean(np.log(units or typical))))
    return {'unit_mm': unit} | {name: float(np.mean(v)) for name, v in found.items()}


@torch.no_grad()
def by_clip(
    nets: Networks, samples: Samples, device: torch.device, rules: Protocol = WORLDS
) -> dict[str, dict[str, float]]:
    """
    Score every frame of every clip, and the path of those whose poses are known.

    :return: by clip: abs_rel, constant, light, a1, scale, scale_spread (standard deviation
        of its log), focal, and of paths ate_sim3,
        snippet_ate, snippet_rmse with still_ate and forward_ate of lazy ones; what is not known is
        left out.
    """
    nets.eval()
    found: dict[str, dict[str, list[float]]] = {}
    for batch in _batches(samples, device, len(samples)):
        for number, (name, scores) in enumerate(
            zip(batch.name, _all_scores(nets, batch, rules), strict=True)
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
def zoom_strays(nets: Networks, samples: Samples, device: torch.device) -> float:
    """
    How far K strays from the truth's over a clip that was trained on: the standard deviation of
    log f / f* over its frames, a mean of the clips.
    """
    found: dict[int, list[float]] = {}
    for start in range(0, len(samples), BATCH):
        last = min(start + BATCH, len(samples))
        batch = batched([samples[n] for n in range(start, last)]).to(device)
        step = nets.step(batch.images[:, 1], batch.images[:, 0])
        said, _ = nets.cameras(batch, step, 1, zooms=True)
        ratios = (said[:, 0] / batch.camera[:, 0, 0]).log()
        for clip, ratio in zip(batch.clip, ratios, strict=True):
            found.setdefault(int(clip), []).append(float(ratio))
    return float(np.mean([np.std(values) for values in found.values()]))


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
    """Samples of one scope's knowledge together, at most so many, evenly spread."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int))
    chosen = [samples[int(place)] for place in places]
    for known in (True, False):
        some = [one for one in chosen if (int(one.scope) >= 0) == known]
        for start in range(0, len(some), BATCH):
            yield batched(some[start : start + BATCH]).to(device)


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


def _focal_errors(nets: Networks, batch: Batch) -> Iterator[float]:
    said, _ = nets.cameras(batch, nets.step(batch.images[:, 1], batch.images[:, 0]), 1)
    ratio = (said[:, :2] / batch.camera[:, 0, :2]).log().mean(1).exp() - 1
    yield from (float(one) for one in ratio if torch.isfinite(one))


def _all_scores(nets: Networks, batch: Batch, rules: Protocol) -> Iterator[dict[str, float]]:
    for place in range(len(batch)):
        one = batch.only(place)
        scores: dict[str, float] = {}
        for found in _depth_scores(nets, one, rules):
            scores = found
        for error in _focal_errors(nets, one):
            scores['focal'] = abs(error)
        yield scores
