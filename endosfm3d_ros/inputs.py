# SPDX-License-Identifier: Apache-2.0
"""
What a user says of the video before anything is made of it: interlaced, overlays. The same for the
live node and for the offline replay.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from endosfm3d_ros.core.frame import Frame
from endosfm3d_ros.core.picture.deinterlace import is_interlaced, one_field
from endosfm3d_ros.core.picture.overlays import boxes_from

LOOK_EVERY = 50  # frames; looking for combs costs a millisecond at 1080p


class Inputs:
    """
    Makes the frame that the pipeline sees.

    :param values: the node's parameters by name.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._seen = 0
        self.change(values)

    def change(self, values: Mapping[str, Any]) -> None:
        """Go on by other values of the parameters that may change live."""
        self._field: str = values['deinterlace']
        self._covered = boxes_from(values['overlays'])

    def take(self, frame: Frame) -> tuple[Frame, str]:
        """
        Read one frame.

        :return: the frame to reconstruct, and what a person should know of it, or ''.
        """
        self._seen += 1
        warning = ''
        if self._field != 'none':
            frame = replace(frame, image=one_field(frame.image, self._field))
        elif self._seen % LOOK_EVERY == 2 and is_interlaced(frame.image):
            warning = (
                'the video is interlaced: every picture shows two moments; set deinterlace to top '
                'or bottom, or switch the video processor to progressive'
            )
        if self._covered:
            frame = replace(frame, covered=self._covered)
        return frame, warning
