# SPDX-License-Identifier: Apache-2.0
"""What a reader of a data set gives: clips, and their frames as they lie on the disk."""

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Intrinsics


class LeftOutError(ValueError):
    """A clip that can not be used, through nobody's fault; the others can."""


@dataclass(frozen=True)
class RawFrame:
    """
    A picture and what the data set knows of it.

    :param number: in the recording: neighbours in time differ by one.
    :param image: (H, W, 3) uint8 RGB.
    :param camera: of this very picture, pinhole.
    :param depth: (H, W) float32 z-depth [mm], NaN where unknown.
    :param T_world_cam: (4, 4) [mm].
    :param target: False where it is only a neighbour of those that a list asks for.
    """

    number: int
    image: np.ndarray
    camera: Intrinsics | None = None
    depth: np.ndarray | None = None
    T_world_cam: np.ndarray | None = None
    target: bool = True


@dataclass(frozen=True)
class RawClip:
    """
    A recording.

    :param name: for people, and of its files in the cache; unique in a training.
    :param facts: text that changes when its frames would.
    :param frames: reads them, in order.
    """

    name: str
    facts: str
    frames: Callable[[], Iterator[RawFrame]]


@contextmanager
def named(what: str) -> Iterator[None]:
    """
    Name what is read inside, where it is cut short or is of something else.

    :raises ValueError: in one line.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, EOFError, cv2.error, tarfile.TarError,
            zlib.error) as error:  # fmt: skip
        why = ' '.join(str(error).split())[:120]
        kind = '' if isinstance(error, ValueError) else f'{type(error).__name__} '
        raise ValueError(f'{what}: {kind}{why}; repair it or take it away') from error


def read_picture(path: Path) -> np.ndarray:
    """
    Read a picture, (H, W, 3) uint8 RGB.

    :raises ValueError: it cannot be read; names it.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if bgr is None:
        raise ValueError(f'{path}: this picture cannot be read; repair it or take it away')
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def read_grey(path: Path) -> np.ndarray:
    """Read a picture of one channel as it is stored."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if stored is None or stored.ndim != 2:
        found = 'nothing readable' if stored is None else f'{stored.shape}'
        raise ValueError(f'{path}: need a picture of one channel, found {found}')
    return stored


def files_in(*places: Path) -> str:
    """
    Which files lie at these places and right in these folders: text that changes when one comes,
    goes or is written.
    """
    said = hashlib.sha256()
    for place in places:
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in files:
            if file.is_file():
                stat = file.stat()
                said.update(f'{file} {stat.st_size} {stat.st_mtime_ns}\n'.encode())
    return said.hexdigest()


def needed_folder(path: Path, what: str) -> Path:
    """The path, if it is a folder, else one line on what was needed."""
    if not path.is_dir():
        raise ValueError(f'{path}: no such folder; need {what}')
    return path
