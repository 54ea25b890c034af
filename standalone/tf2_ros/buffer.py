# SPDX-License-Identifier: Apache-2.0
"""The last seconds of the tree of frames, and lookups in it."""

import threading
import time as wall
from typing import Protocol

import rclpy.logging
from builtin_interfaces.msg import Time as TimeMessage
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from tf2_ros.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)
from tf2_ros.motion import (
    IDENTITY,
    Motion,
    NotARotationError,
    motion_from_message,
    motion_to_message,
)
from tf2_ros.track import Static, Track

DEFAULT_CACHE_TIME = Duration(seconds=10)
LATEST = 0  # the time that means: the latest instant at which the whole chain is known
NO_WAIT = Duration()
POLL_SECONDS = 0.02
MAX_DEPTH = 1000  # a longer chain is a loop


class History(Protocol):
    """What is known of one child frame: :class:`Track` or :class:`Static`."""

    def at(self, time: int) -> tuple[str, Motion]:
        """:return: parent and motion child -> parent at that time [ns]."""

    def latest(self) -> tuple[int, str]:
        """:return: newest stamp [ns], 0 where it holds for ever, and the parent then."""


class Buffer:
    """Stand-in for tf2_ros.Buffer: the same answers for chains of known frames."""

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        """
        :param cache_time: how long the past is kept; None for ten seconds.
        :param node: unused; upstream offers a service with it that we don't.
        """
        self._cache = (cache_time or DEFAULT_CACHE_TIME).nanoseconds
        self._histories: dict[str, History] = {}
        self._frames: set[str] = set()
        self._lock = threading.Lock()
        self._logger = rclpy.logging.get_logger('tf2_buffer')

    def clear(self) -> None:
        """Forget what changes with time; static transforms and names stay, as upstream."""
        with self._lock:
            for history in self._histories.values():
                if isinstance(history, Track):
                    history.clear()

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """
        Take in one instant of a changing transform; a broken one is logged and left out.

        :param transform: maps child_frame_id into header.frame_id [m].
        :param authority: who says so, for the log.
        """
        self._set(transform, authority, static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """
        Take in a transform that holds for ever; a broken one is logged and left out.

        :param transform: maps child_frame_id into header.frame_id [m].
        :param authority: who says so, for the log.
        """
        self._set(transform, authority, static=True)

    def lookup_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time | TimeMessage,
        timeout: Duration = NO_WAIT,
    ) -> TransformStamped:
        """
        Look up the transform that maps points of the source frame into the target frame.

        :param target_frame: frame to map into.
        :param source_frame: frame to map from.
        :param time: instant; zero for the latest that the whole chain knows.
        :param timeout: how long to wait until the chain is known; somebody else must spin.
        :return: [m], stamped with the instant that was used.
        :raises LookupException: a frame is unknown, or the frames form a loop.
        :raises ConnectivityException: the frames belong to different trees.
        :raises ExtrapolationException: the chain is not known at that instant.
        :raises InvalidArgumentException: a name is empty or begins with a slash.
        """
        self.can_transform(target_frame, source_frame, time, timeout)
        with self._lock:
            stamp, motion = self._lookup(target_frame, source_frame, _nanoseconds(time))
        found = TransformStamped(child_frame_id=source_frame)
        found.header.frame_id = target_frame
        found.header.stamp = Time(nanoseconds=stamp).to_msg()
        found.transform = motion_to_message(motion)
        return found

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time | TimeMessage,
        timeout: Duration = NO_WAIT,
        return_debug_tuple: bool = False,
    ) -> bool | tuple[bool, str]:
        """
        Tell whether :meth:`lookup_transform` would succeed.

        :param timeout: how long to wait for a yes.
        :param return_debug_tuple: also return why not.
        """
        until = wall.monotonic() + timeout.nanoseconds * 1e-9
        while True:
            try:
                with self._lock:
                    self._lookup(target_frame, source_frame, _nanoseconds(time))
                answer, reason = True, ''
            except TransformException as error:
                answer, reason = False, str(error)
            if answer or wall.monotonic() >= until:
                return (answer, reason) if return_debug_tuple else answer
            wall.sleep(POLL_SECONDS)

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        """
        Find the newest instant at which the whole chain is known.

        :raises TransformException: as :meth:`lookup_transform`.
        """
        with self._lock:
            self._check_frames(target_frame, source_frame)
            return Time(nanoseconds=self._common_time(target_frame, source_frame))

    def _set(self, transform: TransformStamped, authority: str, *, static: bool) -> None:
        parent = transform.header.frame_id.removeprefix('/')
        child = transform.child_frame_id.removeprefix('/')
        problem = ''
        if not parent or not child or parent == child:
            problem = 'both frames need a name, and not the same one'
        try:
            motion = motion_from_message(transform.transform)
        except NotARotationError as error:
            problem = str(error)
        if problem:
            self._logger.error(f'ignored {child!r} in {parent!r} from {authority!r}: {problem}')
            return
        with self._lock:
            self._frames |= {parent, child}
            if static:
                self._histories[child] = Static(parent, motion)
                return
            track = self._histories.get(child)
            if not isinstance(track, Track):
                track = self._histories[child] = Track(self._cache)
            if not track.insert(_nanoseconds(transform.header.stamp), parent, motion):
                self._logger.warning(
                    f'ignored {child!r} from {authority!r}: older than the buffer'
                )

    def _check_frames(self, *frames: str) -> None:
        for frame in frames:
            if not frame or frame.startswith('/'):
                raise InvalidArgumentException(
                    f'frame {frame!r}: a name must not be empty nor begin with a slash'
                )
            if frame not in self._frames:
                raise LookupException(f'frame {frame!r} does not exist')

    def _lookup(self, target: str, source: str, time: int) -> tuple[int, Motion]:
        """:return: the stamp used [ns] and the motion source -> target."""
        if target == source:
            history = self._histories.get(target)
            return (history.latest()[0] if history and time == LATEST else time), IDENTITY
        self._check_frames(target, source)
        if time == LATEST:
            time = self._common_time(target, source)
        top, source_to_top, missing = self._climb(source, target, time)
        if top == target:
            return time, source_to_top
        end, target_to_top, target_missing = self._climb(target, top, time)
        if end == top:
            return time, target_to_top.inverse() @ source_to_top
        if error := target_missing or missing:
            raise ExtrapolationException(f'{error}, looking from {source!r} to {target!r}')
        raise _unconnected(target, source)

    def _climb(
        self, frame: str, until: str, time: int
    ) -> tuple[str, Motion, ExtrapolationException | None]:
        """:return: where it ended, the motion frame -> there, and what was missing."""
        motion = IDENTITY
        for _ in range(MAX_DEPTH):
            history = self._histories.get(frame)
            if frame == until or history is None:
                return frame, motion, None
            try:
                parent, step = history.at(time)
            except ExtrapolationException as error:
                return frame, motion, error
            frame, motion = parent, step @ motion
        raise LookupException('the frames form a loop')

    def _common_time(self, target: str, source: str) -> int:
        """:return: newest time known on the whole chain [ns]; LATEST where all of it is static."""
        if target == source:
            history = self._histories.get(target)
            return history.latest()[0] if history else LATEST
        up, down = self._ancestors(source), self._ancestors(target)
        if not (common := [frame for frame in up if frame in down]):
            raise _unconnected(target, source)
        stamps = [
            stamp
            for branch in (up, down)
            for stamp in list(branch.values())[: list(branch).index(common[0])]
        ]
        return min((stamp for stamp in stamps if stamp != LATEST), default=LATEST)

    def _ancestors(self, frame: str) -> dict[str, int]:
        """:return: the frame and all above it, each with the newest stamp of its way up [ns]."""
        found: dict[str, int] = {}
        while (history := self._histories.get(frame)) and history.latest()[1]:
            if frame in found:
                raise LookupException('the frames form a loop')
            found[frame], frame = history.latest()
        return found | {frame: LATEST}


def _unconnected(target: str, source: str) -> ConnectivityException:
    return ConnectivityException(
        f'no connection from {source!r} to {target!r}: they are not in the same tree'
    )


def _nanoseconds(time: Time | TimeMessage) -> int:
    return time.nanoseconds if isinstance(time, Time) else time.sec * 10**9 + time.nanosec
