# SPDX-License-Identifier: Apache-2.0
"""The networks that a configuration asks for, new or begun with a checkpoint's weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from training.checkpoints import (
    TrainingError,
    load_strictly,
    load_weights,
    needed_facts,
    read_tensors,
)
from training.config import Config, config_from
from training.data.dataset import Samples
from training.model import Networks, TiedIntrinsics

if TYPE_CHECKING:
    from training.paper import PaperModel


class Teacher(nn.Module):
    """A depth network that only tells: pictures -> inverse depth (B, 1, H, W)."""

    def __init__(self, depth: nn.Module) -> None:
        super().__init__()
        self.depth = depth.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        said: Tensor = self.depth(images)[0]
        return said


def networks_of(
    config: Config,
    samples: Samples,
    scopes: Sequence[str],
    half: bool,
    tell: Callable[[str], None],
    anew: bool = True,
) -> tuple[Networks, Teacher | None]:
    """
    Make the networks of a training, and the teacher where there is one.

    :param samples: to train on: their clips' lengths are needed for zooms.
    :param scopes: names of those that recorded them.
    :param anew: False where a checkpoint's weights follow: then no other ones are looked for.
    """
    wanted = config.networks
    tied = None
    if wanted.intrinsics == 'tied':
        frames = [len(clip.numbers) for clip in samples.clips] if wanted.zooms else None
        tied = TiedIntrinsics(len(scopes), frames, wanted.focal)
    start = wanted.depth_init if anew else 'none'
    nets = Networks(
        wanted.depth, wanted.motion, wanted.intrinsics, wanted.appearance, tied, half, start,
        wanted.normalised,
    )  # fmt: skip
    if wanted.start and anew:
        lacking = load_weights(Path(wanted.start).expanduser(), nets, scopes)
        tell(f'begun with {wanted.start}; anew: {", ".join(lacking) or "nothing"}')
    return nets, _teacher(Path(wanted.teacher).expanduser()) if wanted.teacher else None


def open_checkpoint(
    folder: Path, lengths: list[int] | None = None
) -> tuple[Config, Networks, list[str]]:
    """
    The configuration, networks and scopes of a checkpoint, to evaluate or export them.

    :param lengths: of the training's clips, to know their zooms too.
    :raises TrainingError: no checkpoint, or one that does not fit this code.
    """
    facts = needed_facts(folder)
    config = config_from(facts['config'], str(folder / 'checkpoint.json'))
    wanted, scopes = config.networks, list(facts['scopes'])
    tied = None
    zooms = lengths if wanted.zooms else None
    if wanted.intrinsics == 'tied':
        tied = TiedIntrinsics(len(scopes), zooms, wanted.focal)
    nets = Networks(
        wanted.depth, wanted.motion, wanted.intrinsics, wanted.appearance, tied,
        normalised=wanted.normalised,
    )  # fmt: skip
    weights = read_tensors(folder / 'weights.safetensors')
    if zooms is None:
        weights.pop('tied.log_zoom', None)  # of the training's clips only
    load_strictly(nets, weights, folder)
    return config, nets.eval(), scopes


def paper_model(folder: Path, tell: Callable[[str], None] = print) -> 'PaperModel':
    """
    The paper's networks of a checkpoint, to export them.

    :param tell: called with a line where its motion network is left out.
    :raises TrainingError: they are others: a compact network that trained by itself knows neither
        its sigma nor the focal length that its bundle would tell.
    """
    from training.paper import PaperModel

    config, nets, _ = open_checkpoint(folder)
    if config.networks.depth != 'paper':
        raise TrainingError(
            f'{folder}: depth {config.networks.depth!r} of a self-supervised training can not be '
            'exported: nothing taught its sigma and its focal length; train with depth: paper'
        )
    motion = nets.motion.network if config.networks.motion == 'paper' else None
    if motion is not None and not teaches_focal(config):
        tell(
            f'{folder}: exported without its motion network, whose focal length nothing taught; '
            'needed intrinsics: pair, or objective: pair above 0'
        )
        motion = None
    metrics = needed_facts(folder)['metrics']
    if 'unit_mm' not in metrics:
        raise TrainingError(
            f'{folder}: never validated, so that its unit is not known; needed data: validation '
            'while it is trained'
        )
    size = config.data.size
    readers = ', '.join(sorted({source.reader for source in config.data.train}))
    card = {
        'what': 'self-supervised by `training train`, see metrics',
        'limits': 'unknown',
        'training_data': f'{len(config.data.train)} of your own sources ({readers})',
        'metrics': metrics,
    }
    return PaperModel(nets.depth.network, motion, size[0], size[1], metrics['unit_mm'], card)


def teaches_focal(config: Config) -> bool:
    """Whether training teaches the motion network the focal length that it tells of a pair."""
    return config.networks.intrinsics == 'pair' or (
        config.networks.intrinsics == 'tied' and config.objective.pair > 0
    )


def _teacher(folder: Path) -> Teacher:
    return Teacher(open_checkpoint(folder)[1].depth)
