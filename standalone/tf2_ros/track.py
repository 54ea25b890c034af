# SPDX-License-Identifier: Apache-2.0
"""What is known of one child frame: its parent and motion, over time or for ever."""

from bisect import bisect_left, bisect_right

from tf2_ros.exceptions import ExtrapolationException
from tf2_ros.motion import Motion, interpolate


class Static:
    """A motion that holds for ever."""

    def __init__(self, parent: str, motion: Motion) -> None:
        """:param motion: child -> parent."""
        self._parent = parent
        self._motion = motion

    def at(self, time: int) -> tuple[str, Motion]:
        """:return: parent and motion; the time [ns] does not matter."""
        return self._parent, self._motion

    def latest(self) -> tuple[int, str]:
        """:return: 0, which stands for: at any time, and the parent."""
        return 0, self._parent


class Track:
    """Motions by stamp, the oldest first, none older than the cache time."""

    def __init__(self, cache_time: int) -> None:
        """:param cache_time: how much older than the newest an entry may be [ns]."""
        self._cache_time = cache_time
        self._stamps: list[int] = []
        self._entries: list[tuple[str, Motion]] = []

    def clear(self) -> None:
        """Forget all."""
        self._stamps.clear()
        self._entries.clear()

    def insert(self, stamp: int, parent: str, motion: Motion) -> bool:
        """:return: False for what is too old [ns] to be kept."""
        if self._stamps:
            oldest = self._stamps[-1] - self._cache_time
            keep = bisect_left(self._stamps, oldest)
            del self._stamps[:keep], self._entries[:keep]
            if stamp < oldest:
                return False
        # Behind its equals: of two entries with one stamp the later said is the one that counts.
        place = bisect_right(self._stamps, stamp)
        self._stamps.insert(place, stamp)
        self._entries.insert(place, (parent, motion))
        return True

    def latest(self) -> tuple[int, str]:
        """:return: newest stamp [ns] and the parent then; (0, '') where nothing is known."""
        return (self._stamps[-1], self._entries[-1][0]) if self._stamps else (0, '')

    def at(self, time: int) -> tuple[str, Motion]:
        """
        Interpolate between the two neighbours; nothing is invented beyond the ends.

        :param time: [ns]; 0 for the newest.
        :raises ExtrapolationException: before the first or after the last.
        """
        if not self._stamps:
            raise ExtrapolationException('nothing is known any more')
        if time == 0:
            return self._entries[-1]
        first, last = self._stamps[0], self._stamps[-1]
        if not first <= time <= last:
            raise ExtrapolationException(
                f'asked for {time * 1e-9:.9f} s, known from {first * 1e-9:.9f} '
                f'to {last * 1e-9:.9f} s'
            )
        newer = bisect_right(self._stamps, time)
        parent, older_motion = self._entries[newer - 1]
        if self._stamps[newer - 1] == time or self._entries[newer][0] != parent:
            return parent, older_motion
        span = self._stamps[newer] - self._stamps[newer - 1]
        ratio = (time - self._stamps[newer - 1]) / span
        return parent, interpolate(older_motion, self._entries[newer][1], ratio)
