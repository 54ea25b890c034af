# SPDX-License-Identifier: Apache-2.0
"""Where the robot held the scope, from a bag: a pose topic, or TF, as the live node reads them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from tf2_msgs.msg import TFMessage
from tf2_ros import Buffer, TransformException

from endosfm3d_ros.bags.bag_frames import is_bag
from endosfm3d_ros.bags.bag_topics import raw_messages, topic_types
from endosfm3d_ros.kinematics_in import LOOK_EVERY_S
from endosfm3d_ros.messages_in import robot_motion, stamp_of
from endosfm3d_ros.parameters import robot_frames

POSE_TYPE = 'geometry_msgs/msg/PoseStamped'
TF_TOPICS = ('/tf', '/tf_static')

Pose = tuple[int, np.ndarray]
"""Stamp [ns] and T_base_tip (4, 4) [mm]."""


class BagKinematics:
    """
    The stamped poses of a bag, taken in the order of recording.

    :param path: what is replayed.
    :param values: the node's parameters by name.
    :param topic: the pose topic; None takes the only one there is.
    :ivar refused: poses that could not be used.
    :raises ValueError: it is no bag, the bag has no such topic or frame pair, or one frame of TF
        is set and the other is not.
    """

    def __init__(self, path: Path, values: Mapping[str, Any], topic: str | None) -> None:
        if not is_bag(path):
            raise ValueError(
                f'{path}: scale.source kinematics needs a bag with the robot in it; a video or a '
                'folder of pictures has no poses'
            )
        self.refused = 0
        self._path = path
        self._why = ''  # TF told no pose, at the last look that failed
        frames, types = robot_frames(values), topic_types(path)
        if frames:
            if TF_TOPICS[0] not in types:
                raise ValueError(f'{path}: no /tf in the bag, which scale.tip_frame_id needs')
            self._topic, poses = f'/tf, {frames[0]} to {frames[1]}', self._from_tf(*frames)
        else:
            self._topic = _choose(path, types, topic)
            poses = self._from_topic()
        self._poses, self._next = poses, next(poses, None)
        if self._next is None:
            why = f': {self._why}' if self._why else ''
            raise ValueError(f'{path}: no pose of the robot could be read from {self._topic}{why}')

    def until(self, stamp_ns: int) -> list[Pose]:
        """The poses that are not later than a picture [ns] and were not taken yet."""
        taken = []
        while self._next and self._next[0] <= stamp_ns:
            taken.append(self._next)
            self._next = next(self._poses, None)
        return taken

    def _from_topic(self) -> Iterator[Pose]:
        for _, raw in raw_messages(self._path, (self._topic,)):
            message: Any = deserialize_message(raw, PoseStamped)
            pose = message.pose
            yield from self._read(message.header, pose.position, pose.orientation)

    def _from_tf(self, base: str, tip: str) -> Iterator[Pose]:
        """What a lookup of the latest would say after each message, as often as the node looks."""
        buffer, last_ns = Buffer(), None
        for topic, raw in raw_messages(self._path, TF_TOPICS):
            message: Any = deserialize_message(raw, TFMessage)
            for one in message.transforms:
                if topic == TF_TOPICS[1]:
                    buffer.set_transform_static(one, 'bag')
                else:
                    buffer.set_transform(one, 'bag')
            try:
                found = buffer.lookup_transform(base, tip, Time())
            except TransformException as error:
                self._why = ' '.join(str(error).split())
                continue  # the chain is not whole yet
            at = found.transform
            for pose in self._read(found.header, at.translation, at.rotation):
                if last_ns is None or not 0 <= pose[0] - last_ns < LOOK_EVERY_S * 1e9:
                    last_ns = pose[0]
                    yield pose

    def _read(self, header: Any, position: Any, orientation: Any) -> Iterator[Pose]:
        try:
            yield stamp_of(header), robot_motion(position, orientation)
        except ValueError:
            self.refused += 1


def _choose(path: Path, types: Mapping[str, str], topic: str | None) -> str:
    """The pose topic asked for, or the only one there is."""
    poses = sorted(name for name, kind in types.items() if kind == POSE_TYPE)
    there = ', '.join(poses) or 'none'
    if topic is not None and topic not in poses:
        raise ValueError(f'{path}: {topic} is no PoseStamped topic there; those: {there}')
    if topic is None and len(poses) != 1:
        raise ValueError(
            f'{path}: choose a PoseStamped topic with --robot-pose, or TF with '
            f'scale.base_frame_id and scale.tip_frame_id; topics there: {there}'
        )
    return topic or poses[0]
