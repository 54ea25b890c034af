# SPDX-License-Identifier: Apache-2.0
"""The paper's networks as one model: how a run keeps them, and what of them is exported."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from endosfm3d_ros.bundle import K_PLAIN
from training.bundle_writer import Part, exported
from training.networks.attention_motion import AttentionMotion
from training.networks.depth_anything import (
    DEPTH_RANGE,
    PATCH,
    DepthAnything,
    depth_from_disparity,
)
from training.networks.resnet import without_batch_norms
from training.state_dicts import WeightsError, check_state_dict, read_state_dict

FACTS = 'paper.json'
KEYS = {'height', 'width', 'imagenet', 'dora', 'unit_mm'}


@dataclass(frozen=True)
class PaperModel:
    """
    Depth, and motion with intrinsics if they were trained, for pictures of one size.

    :param depth: disparity network.
    :param motion: motion network; None where there is none.
    :param height: of the pictures [px]; width likewise.
    :param unit_mm: nominal millimetres of the networks' unit.
    :param card: training data, metrics, limits: for people.
    """

    depth: DepthAnything
    motion: AttentionMotion | None
    height: int
    width: int
    unit_mm: float
    card: dict[str, Any]


class DepthGraph(nn.Module):
    """
    What is exported: a uint8 picture (H, W, 3) in, depth (H, W) [the networks' unit] out.

    :param network: without adapters.
    """

    def __init__(self, network: DepthAnything) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        return depth_from_disparity(self.network(_unit(picture)))[0, 0]


class MotionGraph(nn.Module):
    """
    What is exported: two uint8 pictures (H, W, 3) in, previous first; axis-angle (3,) [rad],
    translation (3,) [the networks' unit] of T_prev_cam, and K (4,) out.

    :param network: called with [source, target] = [previous, current].
    """

    def __init__(self, network: AttentionMotion) -> None:
        super().__init__()
        self.network = network

    def forward(self, previous: Tensor, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pair = torch.cat([_unit(previous), _unit(current)], dim=1)
        axis_angle, translation, K = self.network(pair)
        return axis_angle[0], translation[0], K[0]


def _unit(picture: Tensor) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) in [0, 1]."""
    return picture.permute(2, 0, 1)[None].float() / 255.0


def bundle_parts(model: PaperModel, half: bool = True) -> list[Part]:
    """
    Turn a model into graphs; adapters are merged in single precision first.

    :param half: make fp16 variants too.
    """
    size = model.height, model.width
    graphs: list[tuple[str, nn.Module, list[str], list[str]]] = [
        ('depth', DepthGraph(model.depth.merge()), ['picture'], ['depth'])
    ]
    if model.motion:
        outputs = ['axis_angle', 'translation', 'intrinsics']
        graphs.append(('motion', MotionGraph(model.motion), ['previous', 'current'], outputs))
    parts = []
    for kind, graph, inputs, outputs in graphs:
        graph.eval().requires_grad_(False)
        plain = without_batch_norms(graph)
        models = {'fp32': exported(plain, size, inputs, outputs)}
        if half:
            models['fp16'] = exported(plain, size, inputs, outputs, half=True)
        parts.append(Part(kind, graph, models, (size,)))
    return parts


def bundle_facts(model: PaperModel) -> dict[str, Any]:
    """What the manifest says of the model beside its graphs and its card."""
    height, width = model.height, model.width
    seen = f'{PATCH * (height // PATCH)}x{PATCH * (width // PATCH)}'
    grid = f'{height // PATCH}x{width // PATCH} patches of {PATCH} px see {seen}'
    exact = height % PATCH == 0 and width % PATCH == 0
    return {
        'channels': 'rgb',
        'depth_range': list(DEPTH_RANGE),
        'unit_mm': model.unit_mm,
        'intrinsics': K_PLAIN if model.motion else 'none',
        'input': {
            'values': 'RGB in [0, 1]',
            'normalisation': 'ImageNet mean and std' if model.depth.imagenet else 'none',
            'positions': 'scaled by (n + 0.1) / 37' if model.depth.old_positions else 'resized',
            'patches': grid if exact else f'{grid}, stretched over {height}x{width}',
        },
    }


def save_run(model: PaperModel, run: Path) -> None:
    """Write a model into a run's folder, adapters as they are: `load_run` reads it again."""
    run.mkdir(parents=True, exist_ok=True)
    save_file(_plain(model.depth), run / 'depth.safetensors')
    if model.motion:
        save_file(_plain(model.motion), run / 'motion.safetensors')
    facts = {
        'height': model.height,
        'width': model.width,
        'imagenet': model.depth.imagenet,
        'dora': model.depth.adapted,
        'unit_mm': model.unit_mm,
    }
    (run / FACTS).write_text(json.dumps(facts, indent=2) + '\n')


def load_run(run: Path, config: Any = None) -> PaperModel:
    """
    Read the model of a run's folder.

    :param config: of the depth network; Depth Anything V2 Small when None.
    :raises WeightsError: a file is missing, or a key does not fit.
    """
    facts = json.loads((run / FACTS).read_text())
    if set(facts) != KEYS:
        raise WeightsError(f'{run / FACTS}: needed the keys {sorted(KEYS)}, found {sorted(facts)}')
    depth = DepthAnything(facts['imagenet'], config)
    _restore(depth.adapt() if facts['dora'] else depth, run / 'depth.safetensors')
    motion = None
    if (run / 'motion.safetensors').is_file():
        motion = AttentionMotion()
        _restore(motion, run / 'motion.safetensors')
    size = int(facts['height']), int(facts['width'])
    return PaperModel(depth, motion, *size, float(facts['unit_mm']), {})


def _plain(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }


def _restore(network: nn.Module, path: Path) -> None:
    found = read_state_dict(path)
    needed = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    check_state_dict(path, found, needed)
    network.load_state_dict(found)
