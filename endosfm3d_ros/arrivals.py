# SPDX-License-Identifier: Apache-2.0
"""What was sent to the node and never came to its callback."""

from endosfm3d_ros.traffic import SequenceGaps


class Arrivals:
    """
    Counts the pictures lost before the node: on the way, or replaced by a newer one in the
    subscription's own queue.
    """

    def __init__(self) -> None:
        self._gaps, self._lost, self._can_tell = SequenceGaps(), 0, True

    def note(self, number: int | None, publishers: int) -> None:
        """
        Note one picture that came.

        :param number: its publisher's own count; None where the middleware does not tell.
        :param publishers: how many publish on the topic now; numbers of two are two counts mixed.
            None is there when the last one left right behind its picture.
        """
        if number is None or publishers > 1:
            self._can_tell = False
            self._gaps = SequenceGaps()  # what is counted next has no number before it
        else:
            self._can_tell = True
            self._lost += self._gaps.add(number)

    @property
    def lost(self) -> int:
        """While the topic had one publisher; -1 as long as that can not be known."""
        return self._lost if self._can_tell else -1
