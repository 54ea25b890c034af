# SPDX-License-Identifier: Apache-2.0
"""What is known of a clip: cameras of every frame, depth of some; and the folder it lies in."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np

from endosfm3d_ros.evaluation.sampling import DepthTruth

STEPS_PER_MM = 256.0
NO_TURN = 0.01  # R times its transpose is so far from one, or R is no rotation


@dataclass(frozen=True)
class Placed:
    """
    How a truth of streams with stamps of their own (`truth_topics.py`) was brought to pictures.

    :param how: what the two clocks were compared by, for a person.
    :param poses: of the stream.
    :param longest_gap_ms: between two poses that one was interpolated of; 0 where all were met.
    :param usual_step_ms: between pictures: what one frame means in errors per frame.
    :param depth_images: of the stream.
    :param depth_met: of these, how many are of a picture.
    :param depth_off_ms: how far the worst of them is from its picture; None without any.
    """

    how: str
    poses: int
    longest_gap_ms: float
    usual_step_ms: float
    depth_images: int
    depth_met: int
    depth_off_ms: float | None


@dataclass(frozen=True)
class Truth:
    """
    What is known of a clip.

    :param stamps: (N,) time of each frame, rising [s].
    :param K: (N, 3, 3) of the clip's pictures [px].
    :param T_world_cam: (N, 4, 4) maps points of each camera into one world [mm].
    :param circle: (N, 3) centre u, v and radius of the field of view [px]; None where it has none.
    :param depth_frames: numbers of the frames whose depth is known.
    :param read_depth: frame number -> its depth.
    :param numbers: (N,) whole frame numbers, rising, where pictures are missing in between;
        default: none is missing.
    :param epochs: (N,) whole numbers, where poses of two have nothing to do with each other;
        default: all are in one world.
    :param topics: of a bag, that it was read from, by role.
    :param placed: how it was brought to a run's pictures; None where it was made of the pictures.
    """

    stamps: np.ndarray
    K: np.ndarray
    T_world_cam: np.ndarray
    circle: np.ndarray | None
    depth_frames: frozenset[int]
    read_depth: Callable[[int], DepthTruth]
    numbers: np.ndarray | None = None
    epochs: np.ndarray | None = None
    topics: Mapping[str, str] = field(default_factory=dict)
    placed: Placed | None = None


def read_depth_picture(path: Path) -> np.ndarray:
    """
    Z-depth of a frame, (h, w) float32 [mm]; NaN where unknown. Its size need not be the clip's.

    :param path: 16-bit picture of mm x 256, 0 where unknown.
    """
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        found = 'nothing readable' if stored is None else f'{stored.shape} {stored.dtype}'
        raise ValueError(f'{path}: need a 16-bit picture of one channel, found {found}')
    return np.where(
        stored > 0, stored.astype(np.float32) / np.float32(STEPS_PER_MM), np.float32(np.nan)
    )


def read_truth_folder(folder: Path) -> Truth:
    """
    Read `truth.npz` and list `depth/%04d.png`, named by frame number (uint16, mm x 256, 0 =
    unknown).

    :param folder: holds `truth.npz` with K (N, 3, 3) [px], T_world_cam (N, 4, 4) [mm], stamps (N,)
        [s] and, where the field of view is round, circle (N, 3) [px].
    """
    path = folder / 'truth.npz'
    if not path.is_file():
        raise ValueError(
            f'{folder} holds no truth.npz: need the folder that was made with the clip'
        )
    stored = _arrays(path)
    if missing := sorted({'K', 'T_world_cam', 'stamps'} - set(stored)):
        raise ValueError(f'{path}: {missing[0]} is missing, found {", ".join(stored)}')
    stamps, K, T_world_cam = (stored[name] for name in ('stamps', 'K', 'T_world_cam'))
    circle = stored.get('circle')
    count = len(stamps)
    if K.shape != (count, 3, 3) or T_world_cam.shape != (count, 4, 4) or not count:
        raise ValueError(
            f'{path}: {count} stamps, but K is {K.shape} and T_world_cam {T_world_cam.shape}'
        )
    if not np.all(np.diff(stamps) > 0):
        raise ValueError(f'{path}: stamps must rise')
    focal = K[:, [0, 1], [0, 1]]
    if (
        wrong := np.flatnonzero(~(np.isfinite(K).all(axis=(1, 2)) & (focal > 0).all(axis=1)))
    ).size:
        raise ValueError(f'{path}: K of frame {wrong[0]} is none: {K[wrong[0]].tolist()}')
    check_motions(T_world_cam, f'{path}: T_world_cam of frame')
    files = sorted((folder / 'depth').glob('*.png'))
    if strange := [file for file in files if not file.stem.isdigit()]:
        raise ValueError(f'{strange[0]}: a depth picture is named by its frame, like 0007.png')
    by_frame = {int(file.stem): file for file in files}
    if beyond := [frame for frame in by_frame if frame >= count]:
        raise ValueError(f'{by_frame[beyond[0]]}: there are {count} frames only')
    return Truth(
        stamps, K, T_world_cam, circle, frozenset(by_frame), partial(_read_picture, by_frame)
    )


def check_motions(T_world_cam: np.ndarray, what: str) -> None:
    """
    Refuse what is no rigid motion of column vectors: unknown, transposed, mirrored or stretched.

    :param T_world_cam: (N, 4, 4).
    :param what: names them in the error, before their number.
    """
    known = np.isfinite(T_world_cam).all(axis=(1, 2))
    R = np.where(known[:, None, None], T_world_cam[:, :3, :3], 0.0)
    off = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    is_turn = (off < NO_TURN) & (np.linalg.det(R) > 0)
    is_closed = np.abs(T_world_cam[:, 3] - [0, 0, 0, 1]).max(axis=1) < NO_TURN
    is_motion = known & is_turn & is_closed
    if (wrong := np.flatnonzero(~is_motion)).size:
        raise ValueError(
            f'{what} {wrong[0]} is no rigid motion: needed a rotation and a translation over a '
            f'row of 0, 0, 0, 1, found {np.round(T_world_cam[wrong[0]], 3).tolist()}'
        )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz, float64, by name."""
    try:
        with np.load(path) as stored:
            return {name: stored[name].astype(np.float64) for name in stored.files}
    except (BadZipFile, EOFError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(
            f'{path}: no archive of arrays ({error}); need one as np.savez writes it, whole'
        ) from error


def _read_picture(files: dict[int, Path], frame: int) -> DepthTruth:
    return DepthTruth(read_depth_picture(files[frame]))
