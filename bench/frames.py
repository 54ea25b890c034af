# SPDX-License-Identifier: Apache-2.0
"""Pictures that lie ready in memory, so that nothing is decoded while something is measured."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from endosfm3d_ros.bags.source import FrameSource, evenly_spaced_stamp
from endosfm3d_ros.bundle import SHIPPED
from endosfm3d_ros.core.frame import Frame

CLIP = SHIPPED.parent / 'demo_clip' / 'clip.mp4'
FRAME_ID = 'endoscope_optical'
SIZES = {'720p': (1280, 720), '1080p': (1920, 1080)}
KEPT = 25  # pictures in memory; shown to and fro, so that the motion never jumps


def endoscope_pictures(width: int, height: int, count: int = KEPT) -> list[np.ndarray]:
    """
    The demo's clip as a scope's video output shows it: the round picture between black sides.

    :param width: of the output [px].
    :param height: of the output, and of the picture in it [px].
    :return: (height, width, 3) uint8 RGB each, consecutive frames.
    """
    clip, pictures = cv2.VideoCapture(str(CLIP)), []
    while len(pictures) < count:
        there, bgr = clip.read()
        if not there:
            raise ValueError(f'{CLIP}: has no {count} pictures; install the package again')
        wide = round(bgr.shape[1] * height / bgr.shape[0])
        large = cv2.resize(bgr, (wide, height), interpolation=cv2.INTER_CUBIC)
        whole = np.zeros((height, width, 3), np.uint8)
        left = (width - wide) // 2
        whole[:, left : left + wide] = cv2.cvtColor(large, cv2.COLOR_BGR2RGB)
        pictures.append(whole)
    return pictures


class ReadyFrames(FrameSource):
    """
    A few pictures to and fro.

    :param pictures: (H, W, 3) uint8 RGB each.
    :param rate: frames a second [Hz].
    :param stop: gives frames until it is set.
    """

    def __init__(
        self, pictures: list[np.ndarray], rate: float, stop: threading.Event
    ) -> None:
        super().__init__(Path('ready'), rate, None)
        self._stop = stop
        self._order = [*pictures, *pictures[-2:0:-1]]

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames."""
        for index in itertools.takewhile(lambda _: not self._stop.is_set(), itertools.count()):
            picture = self._order[index % len(self._order)]
            yield Frame(picture, evenly_spaced_stamp(index, self.rate), FRAME_ID)
