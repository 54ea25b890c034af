# SPDX-License-Identifier: Apache-2.0
"""The networks that a configuration asks for, new or begun with a checkpoint's weights."""

import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from training.checkpoints import TrainingError, load_strictly, load_weights, read_tensors
from training.config import Config, config_from
from training.data.dataset import Samples
from training.model import Networks, TiedIntrinsics


class Teacher(nn.Module):
    """A depth network that only tells: pictures -> inverse depth (B, 1, H, W)."""

    def __init__(self, depth: nn.Module) -> None:
        super().__init__()
        self.depth = depth.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        said: Tensor = self.depth(images)[0]
        return said


def networks_of(
    config: Config, samples: Samples, scopes: int, half: bool, tell: Callable[[str], None]
) -> tuple[Networks, Teacher | None]:
    """
    Make the networks of a training, and the teacher where there is one.

    :param samples: to train on: their clips' lengths are needed for zooms.
    """
    wanted = config.networks
    tied = None
    if wanted.intrinsics == 'tied':
        frames = [len(clip.numbers) for clip in samples.clips] if wanted.zooms else None
        tied = TiedIntrinsics(scopes, frames, wanted.focal)
    nets = Networks(wanted.depth, wanted.motion, wanted.intrinsics, wanted.appearance, tied, half)
    if wanted.start:
        lacking = load_weights(Path(wanted.start).expanduser(), nets)
        tell(f'begun with {wanted.start}; anew: {", ".join(lacking) or "nothing"}')
    return nets, _teacher(Path(wanted.teacher).expanduser()) if wanted.teacher else None


def open_checkpoint(folder: Path) -> tuple[Config, Networks, list[str]]:
    """
    The configuration, networks and scopes of a checkpoint, to evaluate or export them.

    :raises TrainingError: no checkpoint, or one that does not fit this code.
    """
    path = folder / 'checkpoint.json'
    if not path.is_file():
        raise TrainingError(f'{folder}: no checkpoint.json; need RUN/best or one of checkpoints/')
    facts = json.loads(path.read_text(encoding='utf-8'))
    config = config_from(facts['config'], str(path))
    wanted, scopes = config.networks, list(facts['scopes'])
    tied = TiedIntrinsics(len(scopes), None, wanted.focal) if wanted.intrinsics == 'tied' else None
    nets = Networks(wanted.depth, wanted.motion, wanted.intrinsics, wanted.appearance, tied)
    weights = read_tensors(folder / 'weights.safetensors')
    weights.pop('tied.log_zoom', None)  # of the training's clips only
    load_strictly(nets, weights, folder)
    return config, nets.eval(), scopes


def _teacher(folder: Path) -> Teacher:
    return Teacher(open_checkpoint(folder)[1].depth)
