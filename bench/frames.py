# SPDX-License-Identifier: Apache-2.0
"""Pictures that lie ready in memory, so that nothing is decoded while something is measured."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from endosfm3d_ros.bags.source import FrameSource, evenly_spaced_stamp
from endosfm3d_ros.core.frame import Frame

FRAME_ID = 'endoscope_optical'
KEPT = 25  # pictures in memory; shown to and fro, so that the motion never jumps


class ReadyFrames(FrameSource):
    """
    A few pictures to and fro.

    :param pictures: (H, W, 3) uint8 RGB each.
    :param rate: frames a second [Hz].
    :param stop: gives frames until it is set.
    """

    def __init__(self, pictures: list[np.ndarray], rate: float, stop: threading.Event) -> None:
        super().__init__(Path('ready'), rate, None)
        self._stop = stop
        self._order = [*pictures, *pictures[-2:0:-1]]

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames."""
        for index in itertools.takewhile(lambda _: not self._stop.is_set(), itertools.count()):
            picture = self._order[index % len(self._order)]
            yield Frame(picture, evenly_spaced_stamp(index, self.rate), FRAME_ID)
