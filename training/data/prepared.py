# SPDX-License-Identifier: Apache-2.0
"""
A clip as the networks see it, on the disk once and for all: pictures pass the node's `prepare`.
"""

import errno
import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.picture.field_of_view import find_field_of_view
from endosfm3d_ros.core.prepare import Window, choose_window, prepare
from training.data.raw import RawClip, RawFrame
from training.masks import usable

VERSION = 5  # of what lies in the cache
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Prepared:
    """
    A clip of N frames at the networks' size.

    :param name: of the clip.
    :param aspect: width over height of the recorded picture.
    :param numbers: (N,) int64, rising; neighbours in time differ by one.
    :param images: (N, H, W, 3) uint8 RGB.
    :param usable: (N, H, W) bool: neither border, highlight nor instrument.
    :param depths: (N, H, W) float32 [mm], NaN where unknown; None where nothing is known.
    :param cameras: (N, 4) float32 fx / W, fy / H, n_x, n_y; NaN where unknown.
    :param T_world_cam: (N, 4, 4) float64 [mm]; NaN where unknown.
    :param windows: (N, 4) float32 left, top, width, height, shares of the recorded picture.
    :param targets: (N,) bool: False where a frame is only a neighbour.
    """

    name: str
    aspect: float
    numbers: np.ndarray
    images: np.ndarray
    usable: np.ndarray
    depths: np.ndarray | None
    cameras: np.ndarray
    T_world_cam: np.ndarray
    windows: np.ndarray
    targets: np.ndarray


def prepare_clip(
    clip: RawClip, size: tuple[int, int], cache: Path, masks: Sequence[str]
) -> Prepared:
    """
    Take a clip from the cache, or read it and put it there.

    :param size: height, width [px].
    :param masks: of `border`, `highlights`, `tools`.
    :raises ValueError: a frame cannot be read; it is named, and nothing half-made is left behind.
    """
    key = hashlib.sha256(f'{VERSION} {clip.facts} {size} {sorted(masks)}'.encode()).hexdigest()
    folder = cache / f'{re.sub(r"[^0-9A-Za-z]+", "_", clip.name)}-{key[:16]}'
    if not (folder / 'clip.json').is_file():
        try:
            with _alone(cache):
                if not folder.is_dir():  # else another process has made it meanwhile
                    _make(clip, size, folder, masks)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise ValueError(
                f'{folder}: the clip could not be kept ({error.strerror}); make room, or name '
                'another folder as data: cache'
            ) from error
    try:
        return _open(clip.name, folder, size)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        why = ' '.join(str(error).split())
        raise ValueError(
            f'{folder}: this clip of the cache is damaged ({why}); remove the folder, and it is '
            'made again'
        ) from error


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Wait until no other process makes a clip here; the system ends the hold of a dead one."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / '.lock').open('w') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _make(clip: RawClip, size: tuple[int, int], folder: Path, masks: Sequence[str]) -> None:
    """Write the clip beside its folder, which appears when all of it is there."""
    part = folder.with_name(f'{folder.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        _write(clip, size, part, masks)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(clip: RawClip, size: tuple[int, int], folder: Path, masks: Sequence[str]) -> None:
    rows: list[dict[str, Any]] = []
    field, window, recorded = None, None, (0, 0)
    aspect = 1.0
    with (
        (folder / 'images.bin').open('wb') as images,
        (folder / 'usable.bin').open('wb') as usables,
        (folder / 'depths.bin').open('wb') as depths,
    ):
        for frame in clip.frames():
            height, width = frame.image.shape[:2]
            if rows and abs(width / height - aspect) > 1e-6:
                raise ValueError(f'{clip.name}: the pictures change their shape at {frame.number}')
            aspect = width / height
            if (width, height) != recorded:
                field, window, recorded = None, None, (width, height)
            field = find_field_of_view(frame.image, field)
            window = choose_window(field, [size], window)
            image = prepare(frame.image, window)
            kept = usable(image, 'highlights' in masks, 'tools' in masks, 'border' in masks)
            if 'border' in masks:
                kept &= window.mask(field)
            images.write(image.tobytes())
            usables.write(kept.tobytes())
            if frame.depth is not None:
                depths.write(_windowed(frame.depth, window, (width, height)).tobytes())
            rows.append(_row(frame, window, (width, height)))
    known = sum(row['depth'] for row in rows)
    if not rows:
        raise ValueError(f'{clip.name}: no frames')
    if 0 < known < len(rows):
        _fill_gaps(folder / 'depths.bin', rows, size)
    np.savez(
        folder / 'facts.npz',
        **{name: np.stack([row[name] for row in rows]) for name in rows[0]},
    )
    facts = {'aspect': aspect, 'frames': len(rows), 'depth': known > 0}
    (folder / 'clip.json').write_text(json.dumps(facts))


def _row(frame: RawFrame, window: Window, size: tuple[int, int]) -> dict[str, Any]:
    """What is kept of a frame beside its pictures."""
    width, height = size
    camera = np.full(4, np.nan, np.float32)
    if frame.camera is not None:
        camera = normalised(window.network_camera(frame.camera))
    T = np.full((4, 4), np.nan) if frame.T_world_cam is None else frame.T_world_cam
    shares = window.left / width, window.top / height, window.width / width, window.height / height
    return {
        'number': np.int64(frame.number),
        'camera': camera,
        'T_world_cam': np.asarray(T, float),
        'window': np.array(shares, np.float32),
        'depth': frame.depth is not None,
        'target': frame.target,
    }


def normalised(camera: Intrinsics) -> np.ndarray:
    """Fx / W, fy / H, n_x, n_y of a camera, (4,) float32; n_x = (cx + 1/2) / W."""
    width, height = camera.width, camera.height
    values = (
        camera.fx / width,
        camera.fy / height,
        (camera.cx + 0.5) / width,
        (camera.cy + 0.5) / height,
    )
    return np.array(values, np.float32)


def _windowed(depth: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
    """Cut and resize depth as its picture was, nearest pixel: (h, w) float32."""
    if depth.shape[::-1] != size:
        raise ValueError(f'depth is {depth.shape}, its picture {size[::-1]}')
    cut = depth[window.top : window.top + window.height, window.left : window.left + window.width]
    to = window.network_width, window.network_height
    return cv2.resize(cut.astype(np.float32), to, interpolation=cv2.INTER_NEAREST_EXACT)


def _fill_gaps(path: Path, rows: list[dict[str, Any]], size: tuple[int, int]) -> None:
    """Put NaN pictures where a frame has no depth, so that the n-th is the n-th frame's."""
    known = np.fromfile(path, np.float32).reshape(-1, *size)
    whole = np.full((len(rows), *size), np.nan, np.float32)
    whole[[bool(row['depth']) for row in rows]] = known
    whole.tofile(path)


def _open(name: str, folder: Path, size: tuple[int, int]) -> Prepared:
    said = json.loads((folder / 'clip.json').read_text())
    with np.load(folder / 'facts.npz') as stored:
        facts = {key: stored[key] for key in stored.files}
    count = said['frames']

    def mapped(file: str, dtype: Any, *shape: int) -> np.ndarray:
        return np.memmap(folder / file, dtype, 'r', shape=(count, *shape))

    return Prepared(
        name=name,
        aspect=said['aspect'],
        numbers=facts['number'],
        images=mapped('images.bin', np.uint8, *size, 3),
        usable=mapped('usable.bin', bool, *size),
        depths=mapped('depths.bin', np.float32, *size) if said['depth'] else None,
        cameras=facts['camera'],
        T_world_cam=facts['T_world_cam'],
        windows=facts['window'],
        targets=facts['target'],
    )
