# SPDX-License-Identifier: Apache-2.0
"""Listen to an image topic for a while as the node does, and keep what a person has to know."""

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from endosfm3d_ros.complaints import kind as kind_of
from endosfm3d_ros.core.picture.deinterlace import is_interlaced
from endosfm3d_ros.messages_in import frame_from
from endosfm3d_ros.silence import IMAGE_TYPES, Offer, offers_on, pictures_there, why_silent
from endosfm3d_ros.traffic import Ages, MessageInfo, Percentiles, SequenceGaps, stamp_at

DISCOVERY_S = 5.0  # a publisher that is not found in this time is not there
READ_EVERY_S = 0.5  # a picture is read as the node reads it; all others are only counted
QUEUE = 5
UNNAMED = '_NODE_NAME_UNKNOWN_'  # rmw's word for a node that was not discovered yet
HEADER_AT = 4  # bytes before the header of a serialised picture

Read = Callable[[bytes], Any]


@dataclass(frozen=True)
class Watched:
    """
    What was seen of one image topic.

    :param topic: its full name.
    :param offers: who publishes on it.
    :param received: pictures that came.
    :param lost: pictures lost between the first and the last that came; None where publishers'
        numbers can not be told apart or the middleware gives none.
    :param seconds: time between the first and the last [s].
    :param intervals_ms: between two receipts: median, 99th percentile and longest [ms].
    :param stamp_rate: pictures a second by their stamps [Hz]; NaN where they say nothing.
    :param from_stamp: age at receipt by the pictures' stamps; None without stamps.
    :param from_send: age at receipt by the time of sending.
    :param zero_stamps: pictures without a stamp.
    :param backward_stamps: pictures stamped before the one before.
    :param repeated_stamps: pictures stamped as the one before.
    :param pictures: 'encoding WIDTHxHEIGHT in FRAME' of the pictures that were read, with counts.
    :param refusals: what the node would refuse them for, with counts; numbers of the first one.
    :param combed: of them, how many look interlaced.
    :param why_silent: why nothing came; '' where something did.
    """

    topic: str
    offers: tuple[Offer, ...]
    received: int = 0
    lost: int | None = 0
    seconds: float = 0.0
    intervals_ms: tuple[float, float, float] = (float('nan'),) * 3
    stamp_rate: float = float('nan')
    from_stamp: Percentiles | None = None
    from_send: Percentiles | None = None
    zero_stamps: int = 0
    backward_stamps: int = 0
    repeated_stamps: int = 0
    pictures: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    combed: int = 0
    why_silent: str = ''

    @property
    def rate(self) -> float:
        """Pictures a second by receipt [Hz]; NaN for fewer than two."""
        return (self.received - 1) / self.seconds if self.seconds else float('nan')


class Watch:
    """
    Counts the pictures of one topic.

    :param kind: the message's class, Image or CompressedImage.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._gaps, self._from_stamp, self._from_send = SequenceGaps(), Ages(), Ages()
        self._stamps, self._times = array('q'), array('d')
        self._numbered = True
        self._read_next_s = 0.0
        self.pictures: dict[str, int] = {}
        self.refusals: dict[str, int] = {}
        self._refusal_of: dict[str, str] = {}  # a kind of refusal -> the first of it
        self.combed = 0

    def take(self, raw: bytes, info: MessageInfo) -> None:
        """Take a serialised picture."""
        received_ns = info['received_timestamp'] or time.time_ns()
        number = info['publication_sequence_number']
        stamp_ns = stamp_at(raw, HEADER_AT)
        now_s = time.monotonic()
        self._times.append(now_s)
        self._stamps.append(stamp_ns)
        self._from_stamp.add(stamp_ns, received_ns)
        self._from_send.add(info['source_timestamp'], received_ns)
        if number is None:
            self._numbered = False
        else:
            self._gaps.add(number)
        if now_s >= self._read_next_s:
            self._read_next_s = now_s + READ_EVERY_S
            self._read(raw)

    def seen(self, topic: str, offers: tuple[Offer, ...], why: str = '') -> Watched:
        """Sum up."""
        times, stamps = np.frombuffer(self._times), np.frombuffer(self._stamps, np.int64)
        steps, waits = np.diff(stamps), np.diff(times)
        can_tell = self._numbered and len(offers) <= 1
        forward = steps[steps > 0]
        intervals = np.percentile(waits, (50, 99, 100)) * 1e3 if len(waits) else [float('nan')] * 3
        return Watched(
            topic,
            offers,
            received=len(times),
            lost=self._gaps.lost if can_tell else None,
            seconds=float(times[-1] - times[0]) if len(times) else 0.0,
            intervals_ms=(float(intervals[0]), float(intervals[1]), float(intervals[2])),
            stamp_rate=float(1e9 / np.median(forward)) if len(forward) else float('nan'),
            from_stamp=self._from_stamp.percentiles(),
            from_send=self._from_send.percentiles(),
            zero_stamps=int((stamps == 0).sum()),
            backward_stamps=int((steps < 0).sum()),
            repeated_stamps=int(((steps == 0) & (stamps[1:] != 0)).sum()),
            pictures=self.pictures,
            refusals=self.refusals,
            combed=self.combed,
            why_silent=why,
        )

    def _read(self, raw: bytes) -> None:
        """Read one as the node does: what it would refuse is found before theatre."""
        message: Any = deserialize_message(raw, self._kind)
        frame_id = message.header.frame_id or '(no frame_id)'
        if self._kind is Image:
            what = f'{message.encoding} {message.width}x{message.height} in {frame_id}'
        else:
            what = f'{message.format or "(no format)"}, compressed, in {frame_id}'
        self.pictures[what] = self.pictures.get(what, 0) + 1
        try:
            self.combed += is_interlaced(frame_from(message).image)
        except ValueError as error:
            why = ' '.join(str(error).split())
            why = self._refusal_of.setdefault(kind_of(why), why)
            self.refusals[why] = self.refusals.get(why, 0) + 1


def watch(node: Node, topic: str, seconds: float, patience_s: float = DISCOVERY_S) -> Watched:
    """
    Listen to an image topic.

    :param node: listens; nothing else may spin it.
    :param topic: an Image or CompressedImage topic.
    :param seconds: how long, once a publisher was found [s].
    :param patience_s: how long to look for one [s].
    """
    topic = node.resolve_topic_name(topic)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        _spin(executor, patience_s, lambda: _is_known(offers_on(node, topic)))
        offers = tuple(offers_on(node, topic))
        kind = CompressedImage if offers and offers[0].type_name == IMAGE_TYPES[1] else Image
        qos = QoSProfile(depth=QUEUE, reliability=ReliabilityPolicy.BEST_EFFORT)
        if not offers or offers[0].type_name not in IMAGE_TYPES:
            _spin(executor, 0.5)  # others are found too: they tell what to remap to
            why = why_silent(topic, IMAGE_TYPES[0], qos, offers, pictures_there(node))
            return Watched(topic, offers, why_silent=why)
        counted = Watch(kind)
        subscription = node.create_subscription(kind, topic, counted.take, qos, raw=True)
        _spin(executor, seconds)
        node.destroy_subscription(subscription)
        now = tuple(offers_on(node, topic)) or offers
        silent = not counted.pictures
        why = why_silent(topic, offers[0].type_name, qos, now, {}) if silent else ''
        return counted.seen(topic, now, why)
    finally:
        executor.shutdown()


def _is_known(offers: list[Offer]) -> bool:
    """Whether there are publishers, and their nodes' names came too (a little later)."""
    return bool(offers) and not any(UNNAMED in one.node for one in offers)


def _spin(
    executor: SingleThreadedExecutor, seconds: float, done: Callable[[], bool] = lambda: False
) -> None:
    end = time.monotonic() + seconds
    while rclpy.ok() and not done() and (rest := end - time.monotonic()) > 0:
        try:
            executor.spin_once(timeout_sec=min(rest, 0.1))
        except ExternalShutdownException as error:
            raise KeyboardInterrupt from error  # Ctrl-C, whichever of the two was quicker
    if not rclpy.ok():
        raise KeyboardInterrupt
