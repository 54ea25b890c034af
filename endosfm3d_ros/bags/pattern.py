# SPDX-License-Identifier: Apache-2.0
"""Pictures that need no file: a textured pattern that moves, to try a machine's transport with."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from endosfm3d_ros.bags.source import (
    DEFAULT_FRAME_ID,
    FrameSource,
    check_rate,
    evenly_spaced_stamp,
)
from endosfm3d_ros.core.frame import Frame

PREFIX = 'pattern:'
FORM = re.compile(r'pattern:(\d+)x(\d+)@([\d.]+)')
SECONDS = 10
READY = 4  # pictures that are sent in turn, so that nothing is made while time is measured
LARGEST = 8192


class PatternFrames(FrameSource):
    """
    A few textured pictures over and over.

    :param width: of the pictures [px].
    :param height: of the pictures [px].
    :param rate: frames a second [Hz].
    :param count: how many.
    :param frame_id: the optical frame.
    """

    def __init__(
        self,
        width: int,
        height: int,
        rate: float,
        count: int,
        frame_id: str = DEFAULT_FRAME_ID,
    ) -> None:
        self._frame_id = frame_id
        super().__init__(Path(f'{PREFIX}{width}x{height}@{rate:g}'), rate, count)
        rng = np.random.default_rng(0)
        small = rng.integers(0, 256, (READY, -(-height // 8), -(-width // 8), 3), np.uint8)
        self._pictures = [cv2.resize(picture, (width, height)) for picture in small]

    def __iter__(self) -> Iterator[Frame]:
        """Give the pictures in turn, evenly stamped."""
        for index in range(self.count or 0):
            stamp_ns = evenly_spaced_stamp(index, self.rate)
            yield Frame(self._pictures[index % READY], stamp_ns, self._frame_id)


def pattern_frames(
    text: str, rate: float | None = None, frame_id: str | None = None
) -> PatternFrames:
    """
    Ten seconds of a pattern.

    :param text: such as `pattern:1920x1080@30`.
    :param rate: instead of the one in the text [Hz].
    :param frame_id: the optical frame, instead of the usual one.
    :raises ValueError: it is not of that form, or no size or rate.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise ValueError(f'{text}: needed a pattern such as {PREFIX}1920x1080@30')
    width, height = int(found[1]), int(found[2])
    rate = float(found[3]) if rate is None else rate
    check_rate(rate)
    if not 16 <= width <= LARGEST or not 16 <= height <= LARGEST:
        raise ValueError(f'{text}: needed sides of 16 to {LARGEST} px')
    count = max(1, round(SECONDS * rate))
    return PatternFrames(width, height, rate, count, frame_id or DEFAULT_FRAME_ID)
