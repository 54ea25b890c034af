# SPDX-License-Identifier: Apache-2.0
"""Read a run's .mcap back, without ROS: topics, facts, and messages with both of their times."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mcap.exceptions import InvalidMagic, McapError
from mcap.reader import NonSeekingReader, make_reader
from mcap.records import Message, Schema
from mcap.summary import Summary
from rosbags.typesys.store import Typestore
from zstandard import ZstdError

from endosfm3d_ros.bags.definitions import typestore_of
from endosfm3d_ros.bags.recording import FACTS_RECORD, part_of

BROKEN = (McapError, ValueError, RuntimeError, struct.error, ZstdError)
"""What readers and decompressors raise at bytes that changed: a checksum is a ValueError."""


class Stored(NamedTuple):
    """
    One message of a bag.

    :param log_time_ns: when it was received [ns].
    :param publish_time_ns: when it was sent [ns].
    :param message: its fields under their ROS names; arrays of numbers are numpy arrays.
    :param raw: the same as it lies in the bag, CDR.
    :param sequence: the publisher's own number of it; 0 when unknown.
    """

    log_time_ns: int
    publish_time_ns: int
    message: Any
    raw: bytes
    sequence: int


@dataclass(frozen=True)
class Topic:
    """
    One topic of a bag.

    :param type_name: like `sensor_msgs/msg/Image`.
    :param count: messages in the bag.
    """

    type_name: str
    count: int


def check_is_file(path: Path) -> None:
    """
    Refuse what can not be a run's bag.

    :raises ValueError: a folder, a bag of another storage, or nothing is there.
    """
    kinds = [one.suffix for one in (path.iterdir() if path.is_dir() else [path])]
    in_parts = kinds.count('.mcap') > 1 and (path / 'metadata.yaml').is_file()
    if '.db3' in kinds or in_parts:
        raise ValueError(
            f'{path}: needed one .mcap file; make one: `rosbags-convert --src {path} '
            f'--dst {path.stem or "run"}_one --dst-storage mcap`'
        )
    if path.is_dir():
        raise ValueError(f'{path}: a folder; give the .mcap file in it')
    if not path.is_file():
        part = part_of(path)
        found = f', only {part.name} of a run that broke off' if part.is_file() else ''
        raise ValueError(f'{path}: no such recording{found}')


class RunBag:
    """
    A finished run: `topics`, `facts`, and `messages(topic)` as often as wanted.

    :ivar topics: what was recorded, by name.
    :ivar facts: what the recorder wrote about the run.
    """

    def __init__(self, path: str | Path) -> None:
        """
        Read the index.

        :param path: a .mcap file.
        :raises ValueError: no such file, or no whole bag.
        """
        self.path = Path(path)
        check_is_file(self.path)
        try:
            with self.path.open('rb') as file:
                reader = make_reader(file)
                summary = reader.get_summary()
                self.facts = {
                    key: value
                    for record in reader.iter_metadata()
                    if record.name == FACTS_RECORD
                    for key, value in record.metadata.items()
                }
        except InvalidMagic as error:
            raise ValueError(f'{self.path}: needed a .mcap file, this is none') from error
        except BROKEN as error:
            raise self._broken(str(error) or type(error).__name__) from error
        if summary is None or summary.statistics is None:
            raise self._broken('no index at its end')
        self.topics = _topics(summary)
        self._typestores: dict[str, Typestore] = {}

    def messages(self, topic: str) -> Iterator[Stored]:
        """
        The messages of a topic in the order they were written, which is that of receipt; their
        times may jump back, where a clock did or a clip was looped.

        :raises ValueError: no such topic in the bag.
        """
        if topic not in self.topics:
            raise ValueError(
                f'{self.path}: no topic {topic}; '
                f'there are {", ".join(sorted(self.topics)) or "none"}'
            )
        return self._messages(topic)

    def _messages(self, topic: str) -> Iterator[Stored]:
        for schema, record in self._records(topic):
            message = self._typestore(schema).deserialize_cdr(
                record.data, self.topics[topic].type_name
            )
            yield Stored(
                record.log_time, record.publish_time, message, record.data, record.sequence
            )

    def _records(self, topic: str) -> Iterator[tuple[Schema | None, Message]]:
        """The messages as they are stored, each chunk checked for changed bytes."""
        with self.path.open('rb') as file:
            try:
                reader = NonSeekingReader(file, validate_crcs=True)
                for schema, _, record in reader.iter_messages([topic], log_time_order=False):
                    yield schema, record
            except BROKEN as error:
                raise self._broken(str(error) or type(error).__name__) from error

    def _typestore(self, schema: Schema | None) -> Typestore:
        """What deserialises a type, made once from the definition in the bag."""
        if schema is None:
            raise self._broken('a topic without a message definition')
        if schema.name not in self._typestores:
            self._typestores[schema.name] = typestore_of(schema.name, schema.data.decode())
        return self._typestores[schema.name]

    def _broken(self, found: str) -> ValueError:
        return ValueError(
            f'{self.path}: not a whole recording ({found}); '
            '`mcap recover` may mend one that broke off'
        )


def _topics(summary: Summary) -> dict[str, Topic]:
    """Type and count of every topic."""
    counts = summary.statistics.channel_message_counts if summary.statistics else {}
    return {
        channel.topic: Topic(summary.schemas[channel.schema_id].name, counts.get(channel.id, 0))
        for channel in summary.channels.values()
        if channel.schema_id in summary.schemas
    }
