# SPDX-License-Identifier: Apache-2.0
"""What a subscriber can know of its transport: messages lost, and how old each one came."""

import struct
from array import array
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np


class MessageInfo(TypedDict):
    """What rclpy tells a callback of two arguments, raw or not; times in ns, 0 when unknown."""

    source_timestamp: int
    received_timestamp: int
    publication_sequence_number: int | None


@dataclass(frozen=True)
class Percentiles:
    """Ages of messages [ms]."""

    p50: float
    p95: float
    p99: float
    worst: float


class SequenceGaps:
    """Counts the messages between those that came, by their publisher's numbers (1, 2, 3 ...)."""

    def __init__(self) -> None:
        self.lost = 0
        self.missed_before = 0
        self._last: int | None = None

    def add(self, number: int) -> int:
        """
        Take the number of a message.

        :param number: publication_sequence_number.
        :return: how many were lost since the one before; what was sent before the first that
            came is counted in `missed_before`, not here.
        """
        gap = 0
        if self._last is None:
            self.missed_before = number - 1
        elif number > self._last:  # else another publisher took over, and counts from one
            gap = number - self._last - 1
        self._last = number
        self.lost += gap
        return gap


class Ages:
    """How old messages were when they were received."""

    def __init__(self) -> None:
        self._ages_ns = array('q')

    def add(self, sent_ns: int, received_ns: int) -> None:
        """Take one message's times [ns]; a time of zero says nothing and is left out."""
        if sent_ns > 0 and received_ns > 0:
            self._ages_ns.append(received_ns - sent_ns)

    def percentiles(self) -> Percentiles | None:
        """The ages so far [ms]; None before the first."""
        if not self._ages_ns:
            return None
        ages = np.frombuffer(self._ages_ns, np.int64) * 1e-6
        p50, p95, p99, worst = np.percentile(ages, (50, 95, 99, 100))
        return Percentiles(float(p50), float(p95), float(p99), float(worst))


def stamp_offset(message_type: Any) -> int | None:
    """
    Where the stamp of a serialised message lies.

    :param message_type: the class of a message.
    :return: bytes before `sec`; None for a type that begins with neither header nor transforms.
    """
    first = next(iter(message_type.get_fields_and_field_types().values()), '')
    # four bytes of encapsulation; a sequence has its length before its first element
    return {'std_msgs/Header': 4, 'sequence<geometry_msgs/TransformStamped>': 8}.get(first)


def stamp_at(raw: bytes, offset: int | None) -> int:
    """The stamp in a serialised message [ns]; 0 where there is none."""
    if offset is None or len(raw) < offset + 8:
        return 0
    sec, nanosec = struct.unpack_from('<iI' if raw[1] & 1 else '>iI', raw, offset)
    return int(sec) * 1_000_000_000 + int(nanosec)
