# SPDX-License-Identifier: Apache-2.0
"""Record topics into one bag, and know of each what was lost on the way and how late it came."""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

from endosfm3d_ros.allocator import keep_freed_pictures
from endosfm3d_ros.bags.background import BackgroundWriter, Message
from endosfm3d_ros.bags.nodes import USUAL
from endosfm3d_ros.bags.recording import McapWriter, OfferedQos
from endosfm3d_ros.node_topics import inputs_of_node, known_inputs, topics_of_node
from endosfm3d_ros.outfile import check_outfile, write_outfile
from endosfm3d_ros.traffic import (
    Ages,
    MessageInfo,
    Percentiles,
    SequenceGaps,
    stamp_at,
    stamp_offset,
)
from endosfm3d_ros.typed import check_count, check_topic

LARGE_TYPES = frozenset(('sensor_msgs/msg/Image', 'sensor_msgs/msg/PointCloud2'))
LARGE_DEPTH, SMALL_DEPTH = 10, 200
"""Messages that may wait for us in DDS."""


@dataclass(frozen=True)
class TopicFacts:
    """
    What was seen of one topic.

    :param type_name: like `sensor_msgs/msg/Image`.
    :param received: messages that came.
    :param lost: messages lost between publisher and us while we listened; None where that can not
        be known: of several publishers, whose numbers cannot be told apart, or without numbers.
    :param missed_before: messages sent before the first one that came; 0 where `lost` is None.
    :param dropped: messages that came but were not written, because the disk was too slow.
    :param megabytes: size of all that came, serialised [MB].
    :param from_stamp_ms: age at receipt by the message's own stamp; None for types without one.
    :param from_send_ms: age at receipt by the time it was handed to DDS.
    """

    type_name: str
    received: int
    lost: int | None
    missed_before: int
    dropped: int
    megabytes: float
    from_stamp_ms: Percentiles | None
    from_send_ms: Percentiles | None


@dataclass(frozen=True)
class Recorded:
    """
    What a recorder did.

    :param topics: facts of every topic that was found.
    :param absent: topics that never had a publisher.
    :param seconds: time between the first and the last message [s].
    :param cpu_seconds: CPU time of this process [s].
    """

    topics: dict[str, TopicFacts]
    absent: list[str]
    seconds: float
    cpu_seconds: float


class Listener:
    """
    One topic that is recorded.

    :ivar received: messages that came.
    :ivar first, last: when the first and the last one came, by the steady clock [s]; 0 before.
    :ivar several_publishers: more than one was seen at once.
    """

    def __init__(
        self, node: Node, topic: str, offers: Sequence[TopicEndpointInfo], bag: BackgroundWriter
    ) -> None:
        """Subscribe to a topic that has the publishers `offers`."""
        self.topic, self.type_name = topic, offers[0].topic_type
        self.received = self.dropped = self.bytes = 0
        self.first = self.last = 0.0
        self.several_publishers, self._numbered = False, True
        self._gaps, self._from_stamp, self._from_send = SequenceGaps(), Ages(), Ages()
        self._bag = bag
        message_type = _message_type(self.type_name, topic)
        self._stamp_offset = stamp_offset(message_type)
        node.create_subscription(message_type, topic, self._take, _fitting_qos(offers), raw=True)

    def facts(self) -> TopicFacts:
        """What was seen so far."""
        can_tell = self._numbered and not self.several_publishers
        return TopicFacts(
            type_name=self.type_name,
            received=self.received,
            lost=self._gaps.lost if can_tell else None,
            missed_before=self._gaps.missed_before if can_tell else 0,
            dropped=self.dropped,
            megabytes=round(self.bytes * 1e-6, 3),
            from_stamp_ms=self._from_stamp.percentiles(),
            from_send_ms=self._from_send.percentiles(),
        )

    def _take(self, raw: bytes, info: MessageInfo) -> None:
        received_ns = info['received_timestamp'] or time.time_ns()
        sent_ns = info['source_timestamp'] or received_ns
        number = info['publication_sequence_number']
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.received += 1
        self.bytes += len(raw)
        if number is None:
            self._numbered = False
        else:
            self._gaps.add(number)
        self._from_send.add(sent_ns, received_ns)
        self._from_stamp.add(stamp_at(raw, self._stamp_offset), received_ns)
        message = Message(self.topic, self.type_name, raw, received_ns, sent_ns, number or 0)
        self.dropped += not self._bag.put(message)


class Recorder:
    """
    Subscribes to topics as their publishers appear.

    :ivar listeners: the topics found so far, by name.
    """

    def __init__(
        self,
        node: Node,
        topics: Sequence[str],
        writer: McapWriter,
        bag: BackgroundWriter,
        also: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """
        Look for topics from now on.

        :param node: must be spun.
        :param topics: full names.
        :param writer: gets every topic declared.
        :param bag: gets the messages.
        :param also: asked every second for more full names.
        """
        self.listeners: dict[str, Listener] = {}
        self._node, self._topics, self._writer, self._bag = node, list(topics), writer, bag
        self._also = also
        self._find()
        node.create_timer(0.1, self._find)
        node.create_timer(1.0, self._look_around)

    @property
    def absent(self) -> list[str]:
        """Topics that had no publisher so far."""
        return [topic for topic in self._topics if topic not in self.listeners]

    def _find(self) -> None:
        """Subscribe to what appeared."""
        for topic in self.absent:
            if offers := self._node.get_publishers_info_by_topic(topic):
                self._writer.add_topic(topic, offers[0].topic_type, _offered_qos(offers))
                self.listeners[topic] = Listener(self._node, topic, offers, self._bag)
                print(f'recording {topic} [{offers[0].topic_type}]', flush=True)

    def _look_around(self) -> None:
        """Take up new names, and see who has several publishers."""
        self._topics += [topic for topic in self._also() if topic not in self._topics]
        for topic, listener in self.listeners.items():
            listener.several_publishers |= self._node.count_publishers(topic) > 1


def record(
    node: Node,
    out: Path,
    topics: Sequence[str],
    *,
    stop: threading.Event,
    overwrite: bool = False,
    watch: str | None = None,
    count: int | None = None,
    silence_s: float | None = None,
    facts: Mapping[str, str] | None = None,
    also: Callable[[], Sequence[str]] = tuple,
) -> Recorded:
    """
    Record until told to stop, or the watched topic has given enough or fallen silent.

    :param node: subscribes; it is spun here.
    :param out: the .mcap file.
    :param topics: full names; each is recorded as soon as somebody publishes it.
    :param stop: set it (from a signal, another thread) to end; the bag is whole then.
    :param overwrite: replace a bag of that name.
    :param watch: the topic that `count` and `silence_s` are about; None for the first one.
    :param count: end after so many of its messages.
    :param silence_s: end when it was silent for so long after its first message [s].
    :param facts: written into the bag, beside what was seen of every topic.
    :param also: asked every second for more topics.
    :return: what was seen; the bag holds the same as JSON under the fact `recorder`.
    :raises ValueError: the bag cannot be written, or a type is not known here.
    """
    cpu = time.process_time()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # lz4: the node that is recorded needs the cores more than the disk needs the room.
    with McapWriter(out, overwrite=overwrite, compression='lz4') as writer:
        with BackgroundWriter(writer) as bag:
            recorder = Recorder(node, topics, writer, bag, also)
            while not (stop.is_set() or bag.error):
                executor.spin_once(timeout_sec=0.1)
                watched = recorder.listeners.get(watch or topics[0])
                if watched and _enough(watched, count, silence_s):
                    break
            executor.remove_node(node)
        heard = [listener for listener in recorder.listeners.values() if listener.received]
        recorded = Recorded(
            topics={topic: one.facts() for topic, one in recorder.listeners.items()},
            absent=recorder.absent,
            seconds=max((one.last for one in heard), default=0.0)
            - min((one.first for one in heard), default=0.0),
            cpu_seconds=time.process_time() - cpu,
        )
        writer.add_facts({**(facts or {}), 'recorder': json.dumps(asdict(recorded))})
    return recorded


def _enough(watched: Listener, count: int | None, silence_s: float | None) -> bool:
    """Whether the watched topic has given enough, or has been silent for too long."""
    if count is not None and watched.received >= count:
        return True
    silent = time.monotonic() - watched.last
    return silence_s is not None and watched.received > 0 and silent > silence_s


def _message_type(type_name: str, topic: str) -> Any:
    """The class of a message type."""
    package, _, name = type_name.split('/')
    try:
        return getattr(import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f'{topic} is a {type_name}, which is not installed here; '
            f'install {package} or source its workspace'
        ) from error


def _fitting_qos(offers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """What every publisher of a topic can serve: reliable and latched if all of them are."""
    profiles = [offer.qos_profile for offer in offers]
    reliable = all(one.reliability == ReliabilityPolicy.RELIABLE for one in profiles)
    latched = all(one.durability == DurabilityPolicy.TRANSIENT_LOCAL for one in profiles)
    return QoSProfile(
        depth=LARGE_DEPTH if offers[0].topic_type in LARGE_TYPES else SMALL_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _offered_qos(offers: Sequence[TopicEndpointInfo]) -> OfferedQos:
    """The profile for the bag; the graph does not tell how many messages a publisher keeps."""
    fitting = _fitting_qos(offers)
    return OfferedQos(fitting.reliability.name.lower(), fitting.durability.name.lower())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d record`."""
    parser.add_argument('out', type=Path, help='the bag to write, e.g. run.mcap')
    parser.add_argument(
        'topics', nargs='*', metavar='TOPIC',
        help="full names; recorded as soon as they are published (default: all of the node's)",
    )  # fmt: skip
    parser.add_argument(
        '--node',
        default=USUAL,
        help='the node whose topics are meant (default: %(default)s)',
    )
    parser.add_argument(
        '--with-input',
        action='store_true',
        help="the node's input, too: its image topic, what it takes of camera_info and robot, TF; "
        'what `endosfm3d replay` needs to do the work again',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace a bag of that name')
    parser.add_argument(
        '--watch',
        metavar='TOPIC',
        help='what --count and --silence are about (default: the first)',
    )
    parser.add_argument('--count', type=int, metavar='N', help='end after N messages of it')
    parser.add_argument(
        '--silence', type=float, metavar='SECONDS',
        help='end when nothing came on it for so long (default: record until Ctrl-C)',
    )  # fmt: skip
    parser.add_argument(
        '--facts', type=Path, metavar='FILE.json', help='write loss and latency of each as JSON'
    )


def _check_names(topics: Sequence[str], watch: str | None) -> None:
    """Refuse topics that are none to record, or one to watch that is none of them."""
    if relative := [topic for topic in topics if not topic.startswith('/')]:
        raise ValueError(f'{", ".join(relative)}: needed full names, which begin with /')
    for topic in topics:
        check_topic(topic)
    if watch and watch not in topics:
        raise ValueError(f'--watch {watch} is none of the recorded topics: {", ".join(topics)}')


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d record`: 0 when messages were recorded, 1 with one line on stderr when not."""
    topics = arguments.topics or topics_of_node(arguments.node)
    try:
        _check_names([arguments.node], None)
        _check_names(topics, None if arguments.with_input else arguments.watch)
        check_count('--count', arguments.count)
        check_outfile(arguments.facts)
    except ValueError as error:
        print(f'endosfm3d record: {error}', file=sys.stderr)
        return 1
    keep_freed_pictures()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('endosfm3d_recorder')
    also: Callable[[], Sequence[str]] = tuple
    try:
        if arguments.with_input:
            topics = list(dict.fromkeys([*topics, *inputs_of_node(node, arguments.node)]))
            _check_names(topics, arguments.watch)
            also = partial(known_inputs, node, arguments.node)
        recorded = record(
            node,
            arguments.out,
            topics,
            stop=stop,
            overwrite=arguments.overwrite,
            watch=arguments.watch,
            count=arguments.count,
            silence_s=arguments.silence,
            also=also,
        )
        write_outfile(arguments.facts, json.dumps(asdict(recorded), indent=2))
    except (ValueError, OSError) as error:
        print(f'endosfm3d record: {error}', file=sys.stderr)
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    _show(recorded)
    if not any(topic.received for topic in recorded.topics.values()):
        print(f'endosfm3d record: nothing came on {", ".join(topics)}', file=sys.stderr)
        return 1
    return 0


def _show(recorded: Recorded) -> None:
    """One line per topic."""
    for name, topic in recorded.topics.items():
        lost = 'lost unknown' if topic.lost is None else f'{topic.lost} lost'
        age = topic.from_stamp_ms or topic.from_send_ms
        late = f', age p50 {age.p50:.1f} p99 {age.p99:.1f} ms' if age else ''
        dropped = f', {topic.dropped} DROPPED (slow disk)' if topic.dropped else ''
        print(f'{name}: {topic.received} messages, {lost}{dropped}{late}')
    if recorded.absent:
        print(f'never published: {", ".join(recorded.absent)}')
