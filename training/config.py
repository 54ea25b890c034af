# SPDX-License-Identifier: Apache-2.0
"""The settings of a training: a YAML file whose every key is known, or it is refused."""

import math
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from training.data.augment import Augmentation
from training.model import DEPTHS, INTRINSICS, MOTIONS
from training.objective import LEAST_OF_MS_SSIM
from training.steps import SIMILARITIES, Weights

READERS = ('scared', 'scared-raw', 'c3vd', 'hamlyn', 'stream', 'worlds')
MASKS = ('border', 'highlights', 'tools')
METRICS = ('abs_rel', 'photometric')
LEAST_OF_PAIRS = 33  # sides that ResNet-18 leaves two of, which a reflected border needs [px]
COARSEST = 3  # sides of SSIM's windows [px]


@dataclass(frozen=True)
class Source:
    """
    Clips of one data set.

    :param reader: of READERS; `stream` is a video, a folder of pictures or a rosbag2.
    :param path: what it reads; not for worlds.
    :param lists: scared: files of target frames; neighbours are taken from the folder.
    :param calibration: c3vd: the file, where it is not beside the clips.
    :param topic: stream: a bag's image topic, where it has several.
    :param scope: name of the scope that recorded it; clips of one name share one focal length.
        Default: each clip has its own.
    :param family, seeds, frames, look, focal, speed, zoom, stop, instrument: worlds: see
        `training.data.worlds`; seeds are the first and the one behind the last.
    """

    reader: str
    path: str = ''
    lists: list[str] = field(default_factory=list)
    calibration: str = ''
    topic: str = ''
    scope: str = ''
    family: str = 'colon'
    seeds: list[int] = field(default_factory=lambda: [0, 4])
    frames: int = 50
    look: str = 'camera'
    focal: float = 0.6
    speed: float = 11.0
    zoom: float = 1.0
    stop: float = 0.9
    instrument: bool = False


@dataclass(frozen=True)
class Data:
    """
    What is trained and validated on.

    :param size: height, width of the networks' pictures [px]; multiples of 14 for `paper` depth.
    :param offsets: of the sources from the target, in strides.
    :param strides: frames a stride is; one is drawn for each sample.
    :param masks: what is kept out of the photometric loss.
    :param cache: folder for clips as the networks see them.
    :param workers: processes that make samples; 0: the training's own.
    """

    train: list[Source]
    validation: list[Source] = field(default_factory=list)
    size: list[int] = field(default_factory=lambda: [224, 280])
    offsets: list[int] = field(default_factory=lambda: [-1, 1])
    strides: list[int] = field(default_factory=lambda: [1])
    masks: list[str] = field(default_factory=lambda: ['border', 'highlights', 'tools'])
    cache: str = 'training_cache'
    workers: int = 0


@dataclass(frozen=True)
class NetworkSettings:
    """
    Which networks train.

    :param depth, motion: `paper`, `compact` or `small` (for quick trials).
    :param intrinsics: `pair`, `tied` or `given`.
    :param zooms: with `tied`: each frame has a zoom of its own.
    :param focal: with `tied`: where the focal length starts [widths of the recorded picture].
    :param appearance: with flow and appearance networks.
    :param depth_init: where a `paper` depth network starts: hub (the published weights), none
        (random) or the path of a folder or a .pth.
    :param normalised: `paper` depth sees pictures by ImageNet's mean and deviation; the released
        weights did not.
    :param whole_patches: refuse sizes that `paper` depth would stretch.
    :param start: checkpoint to begin with; networks and scopes' focal lengths that are not in it
        begin anew, and are named.
    :param teacher: checkpoint whose depth network is the teacher of `distilled`.
    """

    depth: str = 'compact'
    motion: str = 'compact'
    intrinsics: str = 'tied'
    zooms: bool = False
    focal: float = 0.82
    appearance: bool = False
    depth_init: str = 'hub'
    normalised: bool = True
    whole_patches: bool = True
    start: str = ''
    teacher: str = ''


@dataclass(frozen=True)
class Loop:
    """
    How long and how fast.

    :param epochs: over all samples.
    :param batch: samples a step, over all processes together.
    :param rate: Adam's, of motion and appearance; depth_rate: of depth; flow_rate: of flow;
        intrinsics_rate: of tied focal lengths.
    :param warm_steps: the rates rise over so many.
    :param late_steps: those of depth and focal lengths over so many: while motion is not known,
        they would only learn to hide that.
    :param drop_after: epoch after which the rates are multiplied by `drop`; 0: they fall along a
        cosine to `drop` instead.
    :param clip: largest norm of the gradient.
    :param validate_every, save_every, say_every: steps.
    :param validate_most: samples of the validation set, evenly spread.
    :param metric: of METRICS, on the validation set: it alone chooses the best and stops early.
    :param patience: validations without a better one after which training stops; 0: never.
    :param precision: `no` or `bf16`.
    :param keep: latest checkpoints that are kept.
    """

    epochs: int = 20
    batch: int = 10
    rate: float = 1e-4
    depth_rate: float = 1e-4
    flow_rate: float = 1e-4
    intrinsics_rate: float = 3e-3
    warm_steps: int = 50
    late_steps: int = 50
    drop_after: int = 0
    drop: float = 0.1
    clip: float = 1.0
    validate_every: int = 500
    save_every: int = 200
    say_every: int = 50
    metric: str = 'abs_rel'
    patience: int = 0
    validate_most: int = 300
    precision: str = 'no'
    keep: int = 2


@dataclass(frozen=True)
class Config:
    """
    A whole training.

    :param seed: of weights, order, augmentation and dropout.
    """

    data: Data
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    networks: NetworkSettings = field(default_factory=NetworkSettings)
    objective: Weights = field(default_factory=Weights)
    loop: Loop = field(default_factory=Loop)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for json and yaml."""
        return asdict(self)


def read_config(path: Path) -> Config:
    """
    Read a YAML file.

    :raises ValueError: no such file, no YAML, or a key or a value that is not known; one line.
    """
    if not path.is_file():
        raise ValueError(f'{path}: no such file; configurations are in config/training/')
    return config_from(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """
    Plain values of a YAML file.

    :raises ValueError: it is none; one line.
    """
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is no YAML: {" ".join(str(error).split())}') from error


def config_from(raw: Any, where: str) -> Config:
    """Settings from plain values; `where` they are from, for people."""
    config = _read(Config, raw, where)
    _check(config, where)
    return config


def _read(kind: Any, raw: Any, where: str) -> Any:
    """A value of a type from plain values; every mistake is one line."""
    if is_dataclass(kind):
        return _read_dataclass(kind, raw, where)
    if get_origin(kind) is list:
        if not isinstance(raw, list):
            raise ValueError(f'{where}: need a list, found {raw!r}')
        (inner,) = get_args(kind)
        return [_read(inner, one, f'{where}[{n}]') for n, one in enumerate(raw)]
    if isinstance(kind, UnionType) and raw is None and NoneType in get_args(kind):
        return None
    if kind is float:
        return _number(raw, where)
    if kind is str and raw is False:  # YAML 1.1 takes no for false
        return 'no'
    if type(raw) is not kind:
        raise ValueError(f'{where}: need {kind.__name__}, found {raw!r}')
    return raw


def _number(raw: Any, where: str) -> float:
    """A number of 0 and more: nothing here is less."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise ValueError(f'{where}: need a number, found {raw!r}')
    try:
        value = float(raw)  # YAML 1.1 takes 1e-4 for text
    except ValueError as error:
        raise ValueError(f'{where}: need a number, found {raw!r}') from error
    if not 0 <= value < math.inf:
        raise ValueError(f'{where}: need a number of 0 and more, found {raw!r}')
    return value


def _read_dataclass(kind: Any, raw: Any, where: str) -> Any:
    known = {one.name: one for one in fields(kind)}
    if not isinstance(raw, dict):
        raise ValueError(f'{where}: need keys of {", ".join(sorted(known))}, found {raw!r}')
    if unknown := sorted(set(map(str, raw)) - set(known)):
        raise ValueError(
            f'{where}: unknown key {unknown[0]!r}; known keys: {", ".join(sorted(known))}'
        )
    needed = {n for n, one in known.items() if one.default is one.default_factory is MISSING}
    if missing := sorted(needed - set(raw)):
        raise ValueError(f'{where}: the key {missing[0]!r} is missing')
    types = get_type_hints(kind)
    return kind(**{name: _read(types[name], raw[name], f'{where}: {name}') for name in raw})


def _check(config: Config, where: str) -> None:
    """Refuse values out of range, before any work."""
    data, networks, loop = config.data, config.networks, config.loop
    choices = [
        ('networks: depth', networks.depth, DEPTHS),
        ('networks: motion', networks.motion, MOTIONS),
        ('networks: intrinsics', networks.intrinsics, INTRINSICS),
        ('objective: similarity', config.objective.similarity, SIMILARITIES),
        ('loop: metric', loop.metric, METRICS),
        ('loop: precision', loop.precision, ('no', 'bf16')),
        *(('data: masks', mask, MASKS) for mask in data.masks),
        *(('data: reader', one.reader, READERS) for one in data.train + data.validation),
    ]
    for name, value, known in choices:
        if value not in known:
            raise ValueError(f'{where}: {name}: {value!r} is none of {", ".join(sorted(known))}')
    if len(data.size) != 2 or min(data.size) < 32:
        raise ValueError(f'{where}: data: size: need height and width of 32 and more')
    if (networks.motion == 'paper' or networks.appearance) and min(data.size) < LEAST_OF_PAIRS:
        raise ValueError(
            f'{where}: data: size: networks: motion: paper, and appearance, need height and width '
            f'of {LEAST_OF_PAIRS} and more'
        )
    stretched = networks.depth == 'paper' and any(side % 14 for side in data.size)
    if stretched and networks.whole_patches:
        raise ValueError(
            f'{where}: data: size: {data.size[0]}x{data.size[1]} is no multiple of 14, the '
            'patches of the paper depth network; 224x280 is (whole_patches: false stretches them)'
        )
    if config.objective.similarity == 'ms-ssim' and min(data.size) < LEAST_OF_MS_SSIM:
        raise ValueError(
            f'{where}: objective: similarity: ms-ssim needs sides of {LEAST_OF_MS_SSIM} px and '
            'more'
        )
    if config.objective.distilled and not networks.teacher:
        raise ValueError(f'{where}: objective: distilled needs networks: teacher')
    if not data.train:
        raise ValueError(f'{where}: data: train: nothing to train on')
    if not data.offsets or 0 in data.offsets:
        raise ValueError(f'{where}: data: offsets: need at least one, and none of them 0')
    if min(data.strides, default=0) < 1:
        raise ValueError(f'{where}: data: strides: need at least one, and all of them 1 or more')
    for source in data.train + data.validation:
        if len(source.seeds) != 2 or source.seeds[0] >= source.seeds[1]:
            raise ValueError(
                f'{where}: data: seeds: {source.seeds} are not the first and the one behind the '
                'last; [0, 4] are four'
            )
    coarsest = min(data.size) >> max(config.objective.pyramid - 1, 0)
    if config.objective.pyramid < 1 or coarsest < COARSEST:
        raise ValueError(
            f'{where}: objective: pyramid: {config.objective.pyramid} levels; need 1 or more, '
            f'whose coarsest has sides of {COARSEST} px and more'
        )
    varied = config.augmentation
    for name in ('mirror', 'crop', 'smallest'):
        if getattr(varied, name) > 1:
            raise ValueError(f'{where}: augmentation: {name}: need a share, 0 to 1')
    for name, value in (
        ('loop: clip', loop.clip),
        ('networks: focal', networks.focal),
        ('augmentation: smallest', varied.smallest),
    ):
        if not value > 0:
            raise ValueError(f'{where}: {name}: need more than 0')
    counts = ('epochs', 'batch', 'validate_every', 'save_every', 'say_every', 'keep',
              'validate_most')  # fmt: skip
    if low := [name for name in counts if getattr(loop, name) < 1]:
        raise ValueError(f'{where}: loop: {low[0]}: need 1 or more')
    for name, value in (
        *((f'loop: {n}', getattr(loop, n))
          for n in ('patience', 'drop_after', 'warm_steps', 'late_steps')),
        ('data: workers', data.workers),
        ('seed', config.seed),
    ):  # fmt: skip
        if value < 0:
            raise ValueError(f'{where}: {name}: need 0 or more')
