# SPDX-License-Identifier: Apache-2.0
"""Words of a command line that nothing can be done with, refused before anything starts."""

from rclpy.exceptions import InvalidTopicNameException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.validate_full_topic_name import validate_full_topic_name
from rclpy.validate_topic_name import validate_topic_name


def check_topic(name: str) -> None:
    """
    Refuse a name that no topic can have; rclpy's own refusals are many lines, of many types.

    :param name: as typed, full or below the root.
    :raises ValueError: one line with what ROS says of it.
    """
    try:
        validate_topic_name(name)
        validate_full_topic_name(expand_topic_name(name, 'endosfm3d', '/'))
    except (InvalidTopicNameException, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0].removeprefix('Invalid topic name: ').rstrip(':')
        raise ValueError(f'{name!r} is no name of a topic: {why}') from error


def check_count(word: str, count: int | None) -> None:
    """
    Refuse to do something no times.

    :param word: as typed, like --count.
    :param count: None where it was not typed.
    :raises ValueError: it is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f'{word} {count}; needed 1 or more')
