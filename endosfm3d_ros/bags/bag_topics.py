# SPDX-License-Identifier: Apache-2.0
"""Any topics of a rosbag2 (mcap or sqlite3), still serialised, in the order of recording."""

from collections.abc import Collection, Iterator
from pathlib import Path

from endosfm3d_ros.bags.bag_frames import opened, storage_of


def topic_types(path: Path) -> dict[str, str]:
    """
    What a bag holds.

    :param path: a bag's folder or its storage file.
    :return: type by topic, like `geometry_msgs/msg/PoseStamped`.
    :raises ValueError: no readable bag.
    """
    with opened(storage_of(path)) as reader:
        return {one.topic: one.msgtype for one in reader.connections}


def raw_messages(path: Path, topics: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """
    Read some topics together.

    :param path: a bag's folder or its storage file.
    :param topics: their names; those that are not there give nothing.
    :return: topic and CDR of each message.
    :raises ValueError: no readable bag.
    """
    with opened(storage_of(path)) as reader:
        wanted = [one for one in reader.connections if one.topic in topics]
        if not wanted:  # rosbags would take no connection for all of them
            return
        for connection, _, raw in reader.messages(wanted):
            yield connection.topic, bytes(raw)
