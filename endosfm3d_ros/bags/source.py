# SPDX-License-Identifier: Apache-2.0
"""What a stream of frames is, whatever it is read from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from endosfm3d_ros.core.frame import Frame

FIRST_STAMP_NS = 1_000_000_000_000_000_000
"""First stamp of a source without a clock: fixed, so that replays are equal; never zero [ns]."""

DEFAULT_FRAME_ID = 'endoscope_optical'
"""The optical frame of a source that names none."""


class FrameSource(ABC):
    """
    Frames in the order of the recording; iterating again starts at the first frame again.

    :ivar name: what a person calls it: file or folder name, with the topic of a bag.
    :ivar rate: nominal frame rate [Hz].
    :ivar count: frames the source announces; None when it does not say.
    :ivar shortfall: after an iteration, one sentence on frames that are there or announced and
        could not be read, or ''.
    """

    def __init__(self, path: Path, rate: float, count: int | None) -> None:
        self.path = path
        self.name = path.name
        self.rate = rate
        self.count = count
        self.shortfall = ''

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Read the frames from the first one."""


def check_rate(rate: float | None) -> None:
    """Refuse a rate that is no rate [Hz]; None means that none was given."""
    if rate is not None and not 0.01 <= rate <= 1000.0:
        raise ValueError(f'--rate must lie between 0.01 and 1000 Hz, found {rate:g}')


def evenly_spaced_stamp(index: int, rate: float) -> int:
    """Stamp of frame number `index` (from 0) of a source without a clock, at `rate` [Hz]; [ns]."""
    return FIRST_STAMP_NS + round(index * 1e9 / rate)
