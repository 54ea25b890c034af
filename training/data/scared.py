# SPDX-License-Identifier: Apache-2.0
"""
SCARED (Allan et al. 2021): as AF-SfMLearner lays it out, with its lists of frames, and raw.

AF-SfMLearner: datasetD/keyframeK/image_02/data/%010d.png (left, numbered from 1), scene points of
frame n in scene_points%06d.tiff of n - 1, cameras in frame_data%06d.json of n - 1; lists hold
target frames as lines of `dataset3/keyframe4 390 l`; their neighbours are in the folder. Raw:
datasetD/keyframeK/data/rgb.mp4, the left picture above the right, scene points and cameras in
folders or .tar.gz beside it.
"""

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from endosfm3d_ros.bags.videos import VideoFrames
from endosfm3d_ros.core.frame import Intrinsics
from training.data.raw import RawClip, RawFrame, files_in, named, needed_folder, read_picture

HEIGHT = 1024  # of one picture; files of scene points hold two, the left one first
LAYOUT = 'datasetD/keyframeK/image_02/data/%010d.png, as AF-SfMLearner lays SCARED out'
RAW_LAYOUT = 'datasetD/keyframeK/data/rgb.mp4, as SCARED is published'
KNOWN_FOLDERS = ('image_02/data', 'image_02', 'data', '.')  # where truth lies, of the keyframe's


def scared(
    root: Path, lists: list[Path] | None = None, beside: Sequence[int] = (-1, 1)
) -> list[RawClip]:
    """
    Find the clips of the AF-SfMLearner layout.

    :param root: holds dataset1, dataset2, ...
    :param lists: files of target frames; those `beside` them are read too, where they lie in the
        folder, as neighbours only. Default: all frames are targets.
    """
    needed_folder(root, LAYOUT)
    wanted = _wanted(lists) if lists else None
    clips = []
    for name in sorted(wanted or {}):
        if not (root / name).is_dir():
            raise ValueError(f'{root / name}: no such folder, and a list names frames of it')
    for folder in sorted(root.glob('dataset*/keyframe*')):
        name = f'{folder.parent.name}/{folder.name}'
        numbers = sorted(
            int(file.stem) for file in (folder / 'image_02' / 'data').glob('*.png')
            if file.stem.isdigit()
        )  # fmt: skip
        targets = set(numbers) if wanted is None else wanted.get(name, set())
        if wanted is not None:
            if missing := sorted(targets - set(numbers)):
                raise ValueError(
                    f'{folder}: frame {missing[0]} of the list has no picture '
                    f'image_02/data/{missing[0]:010d}.png'
                )
            near = targets | {n + offset for n in targets for offset in beside}
            numbers = sorted(near & set(numbers))
        if numbers:
            facts = f'{folder} {numbers} {sorted(targets)} {files_in(*_folders(folder))}'
            clips.append(RawClip(name, facts, partial(_frames, folder, numbers, targets)))
    if not clips:
        raise ValueError(f'{root}: no pictures found; need {LAYOUT}')
    if unread := sorted(set(wanted or {}) - {clip.name for clip in clips}):
        raise ValueError(
            f'{root / unread[0]}: a list names frames of it, and it is no {LAYOUT.split(",")[0]}'
        )
    return clips


def scared_raw(root: Path) -> list[RawClip]:
    """Find the clips as published; truth is read where it was unpacked or from its .tar.gz."""
    needed_folder(root, RAW_LAYOUT)
    clips = [
        RawClip(
            f'{video.parents[2].name}/{video.parents[1].name}',
            f'{video} {files_in(*_folders(video.parent))}',
            partial(_raw_frames, video),
        )
        for video in sorted(root.glob('dataset*/keyframe*/data/rgb.mp4'))
    ]
    if not clips:
        raise ValueError(f'{root}: no videos found; need {RAW_LAYOUT}')
    return clips


def _folders(folder: Path) -> list[Path]:
    """A folder and all that are in it, however deep."""
    return [folder, *(path for path in folder.rglob('*') if path.is_dir())]


def _wanted(lists: list[Path]) -> dict[str, set[int]]:
    """Frame numbers by clip, of lists of frames."""
    wanted: dict[str, set[int]] = {}
    for path in lists:
        with named(str(path)):
            lines = path.read_text().split('\n')
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            match = re.fullmatch(r'(\S+)\s+(\d+)\s+[lr]', line.strip())
            if not match:
                raise ValueError(
                    f'{path}, line {number}: need FOLDER FRAME SIDE as in '
                    f"'dataset3/keyframe4 390 l', found {line.strip()[:60]!r}"
                )
            wanted.setdefault(match[1].strip('/'), set()).add(int(match[2]))
    return wanted


def _frames(folder: Path, numbers: list[int], targets: set[int]) -> Iterator[RawFrame]:
    for number in numbers:
        image = read_picture(folder / 'image_02' / 'data' / f'{number:010d}.png')
        height, width = image.shape[:2]
        facts, points = (
            f'frame_data{number - 1:06d}.json',
            f'scene_points{number - 1:06d}.tiff',
        )
        with named(f'{folder}: {facts}'):
            camera, T = _facts(_found(folder, 'frame_data', facts))
        with named(f'{folder}: {points}'):
            depth = _depth(_found(folder, 'scene_points', points))
        yield RawFrame(
            number,
            image,
            camera.resized(width, height) if camera else None,
            None if depth is None else _resized(depth, width, height),
            T,
            number in targets,
        )


def _found(folder: Path, kind: str, name: str) -> bytes | None:
    """A file of the truth, wherever the layouts in use put it."""
    for where in KNOWN_FOLDERS:
        for inner in (kind, 'groundtruth', '.'):
            path = folder / where / inner / name
            if path.is_file():
                return path.read_bytes()
    return None


def _facts(raw: bytes | None) -> tuple[Intrinsics | None, np.ndarray | None]:
    """Camera of the full-size left picture and T_world_cam [mm], of a frame_data json."""
    if raw is None:
        return None, None
    facts: dict[str, Any] = json.loads(raw)
    K = np.array(facts['camera-calibration']['KL'], float).reshape(3, 3)
    # `camera-pose` maps the world of the keyframe into the camera
    T_cam_world = np.array(facts['camera-pose'], float).reshape(4, 4)
    return Intrinsics.from_matrix(K, 1280, HEIGHT), np.linalg.inv(T_cam_world)


def _depth(raw: bytes | None) -> np.ndarray | None:
    """Z-depth of the left picture [mm], NaN where unknown, of a file of scene points x, y, z."""
    if raw is None:
        return None
    stored = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED) if raw else None
    if stored is None or stored.ndim != 3 or stored.shape[2] != 3:
        found = 'nothing readable' if stored is None else f'{stored.shape}'
        raise ValueError(f'scene points need a tiff of x, y, z, found {found}')
    height, width = stored.shape[:2]
    rows = height // 2 if height > width else height  # the left picture's above the right's
    depth = stored[:rows, :, 0]  # OpenCV gives z, y, x
    return np.where(depth > 0, depth, np.nan).astype(np.float32)


def _resized(depth: np.ndarray, width: int, height: int) -> np.ndarray:
    if depth.shape == (height, width):
        return depth
    return cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _raw_frames(video: Path) -> Iterator[RawFrame]:
    points, facts = (_Beside(video.parent, kind) for kind in ('scene_points', 'frame_data'))
    for number, frame in enumerate(VideoFrames(video)):
        height = frame.image.shape[0] // 2
        left = np.ascontiguousarray(frame.image[:height])
        name = f'frame_data{number:06d}.json'
        raw = facts(name)
        with named(f'{video.parent}: {name}'):
            camera, T = _facts(raw)
        name = f'scene_points{number:06d}.tiff'
        raw = points(name)
        with named(f'{video.parent}: {name}'):
            depth = _depth(raw)
        camera = camera.resized(left.shape[1], height) if camera else None
        yield RawFrame(number, left, camera, depth, T)
    points.close()
    facts.close()


class _Beside:
    """Files of a folder or of the archive of its name, asked for by rising number."""

    def __init__(self, parent: Path, kind: str) -> None:
        self._folder = parent / kind
        archive = parent / f'{kind}.tar.gz'
        packed = archive.is_file() and not self._folder.is_dir()
        self._named = partial(named, str(archive))
        with self._named():
            self._archive = tarfile.open(archive, 'r|gz') if packed else None  # noqa: SIM115 (close)
        self._waiting: dict[str, bytes] = {}
        self.close: Callable[[], None] = self._archive.close if self._archive else lambda: None

    def __call__(self, name: str) -> bytes | None:
        path = self._folder / name
        if self._archive is None:
            return path.read_bytes() if path.is_file() else None
        while name not in self._waiting:
            with self._named():
                member = self._archive.next()
                stream = None if member is None else self._archive.extractfile(member)
                content = None if stream is None else stream.read()
            if member is None:
                return None
            if content is not None:
                self._waiting[Path(member.name).name] = content
        return self._waiting.pop(name)
