# SPDX-License-Identifier: Apache-2.0
"""An image topic of a rosbag2 (mcap or sqlite3, folder or single file) as a stream of frames."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from struct import unpack_from
from typing import Any

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from endosfm3d_ros.bags.nodes import own_pictures
from endosfm3d_ros.bags.source import FrameSource, check_rate
from endosfm3d_ros.core.frame import Frame

STORAGE_SUFFIXES = frozenset(('.mcap', '.db3'))
IMAGE_TYPES = frozenset(('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'))

Decode = Callable[[Any], np.ndarray]
"""Takes a message with the fields of Image or CompressedImage, gives (H, W, 3) uint8 RGB."""

TYPES = get_typestore(Stores.ROS2_JAZZY)


def is_bag(path: Path) -> bool:
    """Whether this file or folder is a rosbag2, by its name or its metadata.yaml."""
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or any(_storage_files(path))
    return path.suffix.lower() in STORAGE_SUFFIXES


def is_part_of(file: Path, path: Path) -> bool:
    """Whether a file is what is read from this path: itself, or a bag's file in its folder."""
    parts = _storage_files(path) if path.is_dir() else [path]
    return file.exists() and any(part.exists() and file.samefile(part) for part in parts)


class BagFrames(FrameSource):
    """The pictures of one image topic, under their own stamps, in the order of recording."""

    def __init__(
        self,
        path: Path,
        decode: Decode,
        topic: str | None = None,
        rate: float | None = None,
        frame_id: str | None = None,
    ) -> None:
        """
        Find the image topic.

        :param path: a bag's folder or its storage file.
        :param decode: takes a message, gives its picture.
        :param topic: which image topic; may be left out when there is one only, beside those that
            a node of ours sent.
        :param rate: overrides the nominal rate [Hz]; stamps stay the bag's own.
        :param frame_id: overrides the frame id of the messages.
        :raises ValueError: no readable bag, no such topic, or none was named where there are
            several, or only those of a node of ours.
        """
        check_rate(rate)
        storage = storage_of(path)
        with opened(storage) as reader:
            topics = sorted({one.topic for one in reader.connections})
            image_topics = sorted({one.topic for one in _connections(reader)})
        topic = _choose_topic(path, image_topics, topics, topic)
        with opened(storage) as reader:
            connections = _connections(reader, topic)
            count = sum(one.msgcount for one in connections)
            first = islice(reader.messages(connections), 32)
            stamps = [_stamp_in(raw) or time for _, time, raw in first]
        if not count:
            raise ValueError(f'{path}: topic {topic} holds no message')
        super().__init__(path, rate or _usual_rate(stamps), count)
        self.name = f'{path.name} {topic}'
        self.topic = topic
        self._storage, self._decode, self._frame_id = storage, decode, frame_id

    def __iter__(self) -> Iterator[Frame]:
        """
        Decode the messages in order; a stamp of zero is replaced by the time of recording.

        What can not be read is left out, as the live node does; `shortfall` counts it.
        """
        self.shortfall, reason = '', ''
        given = left_out = 0
        for number, (time, kind, raw) in enumerate(_messages(self._storage, self.topic), 1):
            try:
                frame = self._frame(time, kind, raw)
            except (ValueError, SerdeError) as error:
                left_out += 1
                reason = reason or f'message {number}: {" ".join(str(error).split())}'
                continue
            if not frame.frame_id:
                raise ValueError(f'{self.name}: message {number} names no frame; add --frame-id')
            given += 1
            yield frame
        if not given:
            raise ValueError(f'{self.name}: no message could be read; the first, {reason}')
        if left_out:
            self.shortfall = (
                f'{self.name}: {left_out} of {given + left_out} messages could not be read and '
                f'were left out; the first, {reason}'
            )

    def _frame(self, time: int, kind: str, raw: bytes) -> Frame:
        """
        One message as a frame.

        :param time: of recording [ns].
        :param kind: name of its type.
        :param raw: CDR.
        :raises ValueError: what the message says is no picture.
        """
        message: Any = TYPES.deserialize_cdr(raw, kind)
        header, stamp = message.header, message.header.stamp
        if stamp.sec < 0 or stamp.nanosec >= 1_000_000_000:
            raise ValueError(f'stamp {stamp.sec} s {stamp.nanosec} ns is no time')
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        frame_id = self._frame_id or header.frame_id.lstrip('/')
        return Frame(self._decode(message), stamp_ns or time, frame_id)


def topics_of(path: Path) -> dict[str, str]:
    """Type of every topic of a bag, by name."""
    with opened(storage_of(path)) as reader:
        return {one.topic: one.msgtype for one in reader.connections}


def read_messages(
    path: Path, topic: str, received_ns: int | None = None
) -> Iterator[tuple[int, Any]]:
    """
    Read the messages of a topic of common interfaces, in the order of recording.

    :param received_ns: only those recorded at this very moment [ns]; default: all.
    :return: the time of recording [ns] and the message's fields under their ROS names.
    """
    window = {} if received_ns is None else {'start': received_ns, 'stop': received_ns + 1}
    with opened(storage_of(path)) as reader:
        connections = [one for one in reader.connections if one.topic == topic]
        for connection, time, raw in reader.messages(connections, **window):
            yield time, TYPES.deserialize_cdr(raw, connection.msgtype)


def _messages(storage: Path, topic: str) -> Iterator[tuple[int, str, bytes]]:
    """The time of recording [ns], the type and the bytes of each message, in order."""
    with opened(storage) as reader:
        for connection, time, raw in reader.messages(_connections(reader, topic)):
            yield time, connection.msgtype, raw


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """Open a bag; whatever the block around its reading raises becomes one line with its name."""
    try:
        with Reader(path) as reader:
            yield reader
    except Exception as error:  # a broken file raises what its storage library likes
        mend = '`mcap recover`' if path.suffix == '.mcap' else '`ros2 bag reindex`'
        raise ValueError(
            f'{path}: not a readable rosbag2 ({error}); if its recording broke off, try {mend}'
        ) from error


def _connections(reader: Reader, topic: str | None = None) -> list[Connection]:
    """The connections of one image topic, or of all of them."""
    images = (one for one in reader.connections if one.msgtype in IMAGE_TYPES)
    return [one for one in images if topic in (None, one.topic)]


def _storage_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in STORAGE_SUFFIXES)


def storage_of(path: Path) -> Path:
    """What to open: the path, or the only storage file of a folder without metadata.yaml."""
    if not path.is_dir() or (path / 'metadata.yaml').is_file():
        return path
    files = _storage_files(path)
    if len(files) > 1:
        names = ', '.join(file.name for file in files)
        raise ValueError(
            f'{path}: several bag files and no metadata.yaml ({names}); '
            'give one of them, or run `ros2 bag reindex`'
        )
    return files[0]


def _choose_topic(path: Path, images: list[str], topics: list[str], topic: str | None) -> str:
    """The image topic asked for, or the only camera's there is; topics are sorted names."""
    there = ', '.join(images) or 'none'
    if topic is not None:
        if topic not in images:
            found = 'is no image topic' if topic in topics else 'is not in this bag'
            raise ValueError(f'{path}: {topic} {found}; image topics there: {there}')
        return topic
    if not images:
        raise ValueError(f'{path}: no image topic; topics: {", ".join(topics) or "none"}')
    ours = own_pictures(topics)
    cameras = [one for one in images if one not in ours]
    if not cameras:
        raise ValueError(
            f'{path}: no picture of a camera, only what a node of ours made of one: {there}; '
            'record with `endosfm3d record --with-input`, or name one of them with --topic'
        )
    if len(cameras) > 1:
        raise ValueError(
            f'{path}: several image topics; choose one with --topic: {", ".join(cameras)}'
        )
    return cameras[0]


def _stamp_in(raw: bytes) -> int:
    """The stamp that a message of IMAGE_TYPES begins with, CDR [ns]; 0 where it has none."""
    if len(raw) < 12:
        return 0
    sec, nanosec = unpack_from('<iI' if raw[1] & 1 else '>iI', raw, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def _usual_rate(stamps: list[int]) -> float:
    """
    Frame rate by the median step of the first stamps [ns]: the times of recording tell how they
    came, often several at once. 1 Hz if they say nothing.
    """
    steps = np.diff(stamps)
    steps = steps[steps > 0]  # no loop, and no picture twice
    return min(1e9 / float(np.median(steps)), 1000.0) if len(steps) else 1.0
