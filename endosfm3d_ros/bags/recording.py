# SPDX-License-Identifier: Apache-2.0
"""Write a run's messages into one .mcap file that rosbag2, Foxglove and our report read."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from mcap.well_known import MessageEncoding, Profile, SchemaEncoding
from mcap.writer import CompressionType, Writer

from endosfm3d_ros.bags.definitions import message_definition, type_hash

FACTS_RECORD = 'endosfm3d'
"""Name of the metadata record that holds the facts of a run."""


@dataclass(frozen=True)
class OfferedQos:
    """
    The quality of service a topic was published with; `ros2 bag play` offers the same again.

    :param reliability: reliable or best_effort.
    :param durability: volatile or transient_local.
    :param depth: messages kept.
    """

    reliability: str = 'reliable'
    durability: str = 'volatile'
    depth: int = 10

    def as_yaml(self) -> str:
        """
        The profile as rosbag2 keeps it in a channel.

        Policies are the numbers of rmw, which Humble writes and every later reader still takes;
        Humble does not take the names that Jazzy writes.
        """
        reliability = {'reliable': 1, 'best_effort': 2}[self.reliability]
        durability = {'transient_local': 1, 'volatile': 2}[self.durability]
        infinite = '{sec: 9223372036, nsec: 854775807}'
        return (
            f'- {{history: 1, depth: {self.depth}, reliability: {reliability}, '
            f'durability: {durability}, deadline: {infinite}, lifespan: {infinite}, '
            f'liveliness: 1, liveliness_lease_duration: {infinite}, '
            'avoid_ros_namespace_conventions: false}'
        )


def facts_beside(bag: Path) -> Path:
    """Where the facts of a bag lie, that were measured while it was recorded."""
    return bag.parent / f'{bag.stem}.facts.json'  # of a folder, too, that is refused later


def _changed_ns(path: Path) -> int:
    """When a file was last written [ns]; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def check_name(path: Path, overwrite: bool = False) -> None:
    """
    Refuse a name that a recording can not have.

    :param path: the file to write.
    :param overwrite: a file of that name may be replaced, and what broke off under it.
    :raises ValueError: it is no .mcap, or it is there already, or one that broke off is.
    """
    if path.suffix != '.mcap':
        raise ValueError(f'{path}: a recording is one .mcap file; give it a name like run.mcap')
    if path.exists() and not overwrite:
        raise ValueError(
            f'{path}: this file is there already; choose another name, or add --overwrite'
        )
    part = part_of(path)
    if part.exists() and part.stat().st_size and not overwrite:
        raise ValueError(
            f'{part}: what is left of a recording that broke off; `mcap recover` may mend it: '
            'move it, choose another name, or add --overwrite'
        )


def part_of(path: Path) -> Path:
    """Where a recording lies until it is whole."""
    return path.with_name(path.name + '.part')


class McapWriter:
    """
    One bag being written; use it in a `with` block, from any thread.

    Messages go to `<path>.part` beside the final name and the file gets its name when the block
    ends well, so a run that broke off never leaves something that looks like a whole bag.
    """

    def __init__(
        self, path: str | Path, *, overwrite: bool = False, compression: str = 'zstd'
    ) -> None:
        """
        Start a bag.

        :param path: the .mcap file to write.
        :param overwrite: replace a file of that name at the end, instead of refusing.
        :param compression: of every chunk: zstd (small), lz4 (a quarter of the CPU time), none.
        :raises ValueError: as `check_name`, or it cannot be written.
        """
        self.path = Path(path)
        check_name(self.path, overwrite)
        self.part_path = part_of(self.path)
        self.counts: dict[str, int] = {}
        self._channels: dict[str, tuple[int, str]] = {}
        self._schemas: dict[str, int] = {}
        self._lock = threading.RLock()  # mcap's writer has none
        self._facts_before = _changed_ns(facts_beside(self.path))
        try:
            self._file = self.part_path.open('wb')
        except OSError as error:
            raise ValueError(
                f'{self.path}: cannot write there ({error.strerror}); '
                'choose a folder that exists and that you may write to'
            ) from error
        self._writer = Writer(self._file, compression=CompressionType[compression.upper()])
        self._writer.start(
            profile=Profile.ROS2, library=f'endosfm3d_ros, mcap-python/{version("mcap")}'
        )

    def add_topic(self, topic: str, type_name: str, qos: OfferedQos | None = None) -> None:
        """
        Declare a topic; `write` does it with the default profile when it was not done before.

        :param topic: full name.
        :param type_name: like `sensor_msgs/msg/Image`.
        :param qos: what its publishers offer.
        :raises ValueError: another type than this topic had, or a type without a definition here.
        """
        with self._lock:
            if topic not in self._channels:
                self._register(topic, type_name, qos or OfferedQos())
            elif self._channels[topic][1] != type_name:
                raise ValueError(
                    f'topic {topic} is {self._channels[topic][1]} in this bag, not {type_name}'
                )

    def _register(self, topic: str, type_name: str, qos: OfferedQos) -> None:
        definition = message_definition(type_name)
        if type_name not in self._schemas:
            self._schemas[type_name] = self._writer.register_schema(
                type_name, SchemaEncoding.ROS2, definition.encode()
            )
        metadata = {
            'offered_qos_profiles': qos.as_yaml(),
            'topic_type_hash': type_hash(type_name),
        }
        channel = self._writer.register_channel(
            topic, MessageEncoding.CDR, self._schemas[type_name], metadata
        )
        self._channels[topic] = (channel, type_name)
        self.counts[topic] = 0

    def write(
        self,
        topic: str,
        type_name: str,
        raw: bytes,
        log_time_ns: int,
        publish_time_ns: int,
        sequence: int = 0,
    ) -> None:
        """
        Add one message.

        :param topic: full name.
        :param type_name: like `sensor_msgs/msg/Image`.
        :param raw: the message as CDR, with its encapsulation header.
        :param log_time_ns: when it was received; readers order and play by it [ns].
        :param publish_time_ns: when it was sent [ns].
        :param sequence: the publisher's own number of it; 0 when unknown.
        :raises ValueError: the disk is full; or as `add_topic`.
        """
        with self._lock:
            self.add_topic(topic, type_name)
            channel = self._channels[topic][0]
            with self._disk_errors():
                self._writer.add_message(
                    channel, log_time_ns, raw, publish_time_ns, sequence & 0xFFFFFFFF
                )
            self.counts[topic] += 1

    def add_facts(self, facts: Mapping[str, str]) -> None:
        """Add facts of the run (clip, versions, machine ...) that `RunBag.facts` gives back."""
        with self._lock:
            self._writer.add_metadata(FACTS_RECORD, dict(facts))

    def close(self) -> None:
        """Write the index and give the file its final name; ValueError when the disk is full."""
        with self._lock, self._disk_errors():
            self._writer.finish()
            self._file.close()
            os.replace(self.part_path, self.path)
            facts = facts_beside(self.path)
            if self._facts_before and _changed_ns(facts) == self._facts_before:
                facts.unlink()  # they are of the bag that was there before

    def abandon(self) -> None:
        """
        Stop without giving the file its final name; `<path>.part` stays, readable, if it holds a
        message.
        """
        with self._lock:
            with suppress(OSError):  # a full disk may be why
                self._writer.finish()
            with suppress(OSError):
                self._file.close()
            if not any(self.counts.values()):
                self.part_path.unlink(missing_ok=True)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(
                f'{self.path}: writing stopped ({error.strerror}); make room on the disk; '
                f'what was written lies in {self.part_path.name}'
            ) from error

    def __enter__(self) -> Self:
        """Write in this block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close after a good end, abandon after a bad one."""
        if error is None:
            self.close()
        else:
            self.abandon()
