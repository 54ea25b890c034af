# SPDX-License-Identifier: Apache-2.0
"""Video files and folders of pictures as streams of frames."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2

from endosfm3d_ros.bags.source import (
    DEFAULT_FRAME_ID,
    FrameSource,
    check_rate,
    evenly_spaced_stamp,
)
from endosfm3d_ros.core.frame import Frame

PICTURE_SUFFIXES = frozenset(
    ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
)


class VideoFrames(FrameSource):
    """The frames of a video file, stamped evenly at its rate."""

    def __init__(self, path: Path, rate: float | None = None, frame_id: str | None = None) -> None:
        """
        Open a video and read its first frame, so that a bad one is refused before any work.

        :param path: a file.
        :param rate: overrides the frame rate that the file announces [Hz].
        :param frame_id: the optical frame of the camera.
        :raises ValueError: not a video, a codec that is unknown here, or no rate announced.
        """
        check_rate(rate)
        capture = _open_capture(path)
        announced = capture.get(cv2.CAP_PROP_FPS)
        length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        codec = (
            int(capture.get(cv2.CAP_PROP_FOURCC))
            .to_bytes(4, 'little')
            .decode('latin-1')
            .strip('\0 ')
        )
        readable = capture.grab() and capture.retrieve()[0]
        capture.release()
        if not readable:
            raise ValueError(
                f'{path}: no frame could be decoded (codec {codec or "unknown"!r}); '
                'convert it, for example with '
                f'`ffmpeg -i {path.name} -c:v libx264 converted.mp4`'
            )
        if rate is None and not (math.isfinite(announced) and 0.01 <= announced <= 1000.0):
            raise ValueError(
                f'{path}: the file announces no usable frame rate ({announced:g}); add --rate'
            )
        super().__init__(
            path, announced if rate is None else rate, int(length) if length > 0 else None
        )
        self._frame_id = frame_id or DEFAULT_FRAME_ID

    def __iter__(self) -> Iterator[Frame]:
        """Decode the frames in order; of a truncated file those that are there: `shortfall`."""
        self.shortfall = ''
        capture = _open_capture(self.path)
        index = 0
        try:
            while True:
                readable, bgr = capture.read()
                if not readable:
                    break
                image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                yield Frame(image, evenly_spaced_stamp(index, self.rate), self._frame_id)
                index += 1
        finally:
            capture.release()
        if self.count is not None and index < self.count:
            self.shortfall = (
                f'{self.path}: {index} of the {self.count} frames it announces could be read'
            )


class PictureFrames(FrameSource):
    """The pictures of a folder, naturally sorted (frame2 before frame10), stamped evenly."""

    def __init__(self, path: Path, rate: float | None = None, frame_id: str | None = None) -> None:
        """
        List the pictures.

        :param path: a folder.
        :param rate: frame rate, which pictures cannot tell [Hz].
        :param frame_id: the optical frame of the camera.
        :raises ValueError: no pictures in the folder, or no rate.
        """
        check_rate(rate)
        self._pictures = sorted(
            (
                file
                for file in path.iterdir()
                if file.suffix.lower() in PICTURE_SUFFIXES and file.name[0] != '.'
            ),
            key=_natural_order,
        )
        if not self._pictures:
            needed = ' '.join(sorted(PICTURE_SUFFIXES))
            raise ValueError(
                f'{path}: neither a bag nor pictures in this folder '
                f'(looked for metadata.yaml, {needed})'
            )
        if rate is None:
            raise ValueError(
                f'{path}: a folder of pictures has no frame rate; add one, for example --rate 25'
            )
        super().__init__(path, rate, len(self._pictures))
        self._frame_id = frame_id or DEFAULT_FRAME_ID

    def __iter__(self) -> Iterator[Frame]:
        """Read the pictures in order; one that cannot be read is a ValueError that names it."""
        for index, file in enumerate(self._pictures):
            bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if bgr is None:
                raise ValueError(
                    f'{file}: this picture cannot be read; repair it or take it out of the folder'
                )
            image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            yield Frame(image, evenly_spaced_stamp(index, self.rate), self._frame_id)


def _natural_order(file: Path) -> list[tuple[int, int, str]]:
    """Key that sorts the numbers in a name by value and the text between them by letters."""
    parts = re.findall(r'[0-9]+|[^0-9]+', file.name)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part.lower()) for part in parts]


def _open_capture(path: Path) -> cv2.VideoCapture:
    """Open a video file for reading from its first frame."""
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise ValueError(
            f'{path}: one picture is no video; give the folder of pictures and --rate'
        )
    # Without this OpenCV's FFmpeg writes its own lines about a broken file beside our one.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ValueError(
            f'{path}: not a video that OpenCV can open, or its end is missing; '
            f'`ffprobe {path.name}` tells more'
        )
    return capture
