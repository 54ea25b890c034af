# SPDX-License-Identifier: Apache-2.0
"""Which of the calibrations that came is a picture's own."""

from endosfm3d_ros.core.picture.rectify import Calibration

KEPT = 32  # a second of them: no picture waits longer for its turn


class Calibrations:
    """
    The last ones that were told; put from one thread, asked from another.

    :ivar refusal: why the newest camera_info could not be used; '' where it could.
    """

    def __init__(self) -> None:
        self.refusal = ''
        self._told: tuple[tuple[int, Calibration], ...] = ()  # replaced as a whole

    def put(self, stamp_ns: int, calibration: Calibration) -> None:
        """Take one with its stamp [ns]; 0, as drivers leave it, is not later than any picture."""
        self.refusal = ''
        self._told = (*self._told[1 - KEPT :], (stamp_ns, calibration))

    def at(self, stamp_ns: int) -> Calibration | None:
        """
        Choose the newest one that is not later than a picture, as `replay` does.

        :param stamp_ns: the picture's [ns].
        :return: the newest of all where all are later (another clock, a bag that begins anew);
            None before the first.
        """
        told = self._told
        fitting = [one for stamp, one in told if stamp <= stamp_ns] or [one for _, one in told]
        return fitting[-1] if fitting else None
