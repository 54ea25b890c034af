# SPDX-License-Identifier: Apache-2.0
"""The sources of a configuration as samples: read, prepared, indexed; what is left out is said."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.config import Config, Data, Source
from training.data.augment import NONE
from training.data.c3vd import c3vd
from training.data.dataset import Samples
from training.data.hamlyn import hamlyn
from training.data.prepared import Prepared, prepare_clip
from training.data.raw import LeftOutError, RawClip
from training.data.scared import scared, scared_raw
from training.data.streams import stream


def clips_of(source: Source, data: Data) -> list[RawClip]:
    """The clips of a source."""
    size = (data.size[0], data.size[1])
    path = Path(source.path).expanduser()
    if source.reader == 'worlds':
        from training.data.worlds import worlds  # the renderer's compiler takes seconds to import

        settings = (source.frames, size, source.look, source.focal, source.speed, source.zoom)
        before = source.stop, source.instrument
        return worlds(source.family, range(*source.seeds), *settings, *before)
    if not source.path:
        raise ValueError(f'reader {source.reader!r} needs a path')
    if not path.exists():
        raise ValueError(f'{path}: no such file or folder, for reader {source.reader!r}')
    if source.reader == 'scared':
        beside = sorted({stride * offset for stride in data.strides for offset in data.offsets})
        return scared(path, [Path(one).expanduser() for one in source.lists], beside)
    if source.reader == 'scared-raw':
        return scared_raw(path)
    if source.reader == 'c3vd':
        calibration = Path(source.calibration).expanduser() if source.calibration else None
        return c3vd(path, calibration)
    if source.reader == 'hamlyn':
        return hamlyn(path)
    return stream(path, source.topic or None)


def open_data(
    config: Config, tell: Callable[[str], None]
) -> tuple[Samples, Samples | None, list[str]]:
    """
    All samples of a configuration.

    :param tell: called with a line for each clip and all that is left out.
    :return: to train on, to validate on, and the names of the scopes that the training knows.
    """
    known: dict[str, str] = {}
    prepared, names = _prepared(config, config.data.train, known, tell)
    scopes = list(dict.fromkeys(names))
    numbers = [scopes.index(name) for name in names]
    data = config.data
    train = Samples(
        prepared, data.offsets, data.strides, config.augmentation, config.seed, numbers
    )
    _say(train, 'training', tell)
    if config.networks.intrinsics == 'given':
        _refuse_unknown_cameras(prepared)
    if not data.validation:
        return train, None, scopes
    prepared, names = _prepared(config, data.validation, known, tell)
    numbers = [scopes.index(name) if name in scopes else -1 for name in names]
    held_out = Samples(prepared, data.offsets, data.strides[:1], NONE, 0, numbers)
    _say(held_out, 'validation', tell)
    return train, held_out, scopes


def _prepared(
    config: Config,
    sources: Sequence[Source],
    known: dict[str, str],
    tell: Callable[[str], None],
) -> tuple[list[Prepared], list[str]]:
    """
    Clips, and the name of the scope of each.

    :param known: which recording every clip so far is, by its name; grows.
    """
    size = (config.data.size[0], config.data.size[1])
    cache = Path(config.data.cache).expanduser()
    clips, scopes = [], []
    for source in sources:
        for clip in clips_of(source, config.data):
            raw = _with_own_name(clip, source, known)
            try:
                clips.append(prepare_clip(raw, size, cache, config.data.masks))
            except LeftOutError as error:
                tell(str(error))
                continue
            scopes.append(source.scope or raw.name)
    if not clips:
        raise ValueError('no clip is left to use')
    return clips, scopes


def _with_own_name(clip: RawClip, source: Source, known: dict[str, str]) -> RawClip:
    """
    The clip by a name that no other one has: with those of as many folders of its path as that
    takes, where two files are called alike, and where they do not tell (worlds have none), with a
    mark of what it is. It does not hang on where the command runs, nor on which frames of the
    recording are wanted: the scope is the same.
    """
    path = Path(source.path).expanduser()
    recording = clip.facts  # of worlds, whose settings are all there is of them
    if source.path:
        recording = f'{source.reader} {path} {source.topic} {source.calibration}'
    folders = [part for part in path.parts[:-1] if part not in (path.anchor, '..')]
    name = clip.name
    while known.setdefault(name, recording) != recording and folders:
        name = f'{folders.pop()}_{name}'
    if known[name] != recording:
        name = f'{clip.name}_{hashlib.sha256(recording.encode()).hexdigest()[:8]}'
        known[name] = recording
    return replace(clip, name=name)


def _refuse_unknown_cameras(clips: Sequence[Prepared]) -> None:
    """Stop where a clip does not say the K that training takes from it."""
    for clip in clips:
        unknown = ~np.isfinite(clip.cameras).all(1)
        if unknown.any():
            raise ValueError(
                f'{clip.name}: K is not known of {unknown.sum()} of its {len(unknown)} frames; '
                'networks: intrinsics: given needs that of every frame: take pair or tied, or '
                'leave the clip out'
            )


def _say(samples: Samples, what: str, tell: Callable[[str], None]) -> None:
    tell(
        f'{what}: {len(samples)} samples of {len(samples.clips)} clips; {samples.left_out} frames '
        'left out, they lack a neighbour'
    )
