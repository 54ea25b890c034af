# SPDX-License-Identifier: Apache-2.0
"""Where the robot holds the scope: from a pose topic, or from TF."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from threading import Lock
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.time import Time
from tf2_ros import Buffer, TransformException, TransformListener

from endosfm3d_ros.callback_groups import Polled, waiting
from endosfm3d_ros.messages_in import robot_motion, stamp_of
from endosfm3d_ros.parameters import robot_frames
from endosfm3d_ros.silence import nothing_on

TOPIC = 'robot_pose'
LOOK_EVERY_S = 0.02  # in TF
KEPT = 2000  # poses between two pictures

Refuse = Callable[[str, ValueError], None]


class KinematicsIn:
    """
    Collects stamped poses until a worker takes them.

    :param node: listens.
    :param values: the node's parameters by name.
    :param refuse: is told of a pose that can not be used.
    :param taken: gives everything back.
    :raises ValueError: one frame of TF is set and the other is not.
    """

    def __init__(
        self, node: Node, values: Mapping[str, Any], refuse: Refuse, taken: ExitStack
    ) -> None:
        self._poses: deque[tuple[int, np.ndarray]] = deque(maxlen=KEPT)
        self._refuse = refuse
        self._subscription: Subscription | None = None
        self._looking = Lock()  # two threads look
        self._buffer = Buffer()  # given the node, the real one would offer a service for ever
        self._picture_ns = 0
        self._node, self._heard = node, False
        self._trouble = ''  # of TF
        frames = robot_frames(values)
        if frames is None:
            qos = QoSProfile(depth=KEPT, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._subscription = node.create_subscription(
                PoseStamped, TOPIC, self._on_pose, qos, callback_group=Polled()
            )
            taken.callback(node.destroy_subscription, self._subscription)
            return
        self._base, self._tip = frames
        listener = TransformListener(self._buffer, node)
        taken.callback(listener.unregister)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timer = node.create_timer(LOOK_EVERY_S, self._look_up, clock=steady)
        taken.callback(node.destroy_timer, timer)

    @property
    def trouble(self) -> str:
        """
        Why there are no poses: of TF now, with the frames asked for, or of the topic as long as
        none ever came; '' where there are.
        """
        if self._subscription and not self._heard:
            topic = self._subscription.topic_name
            return nothing_on(self._node, topic, 'geometry_msgs/msg/PoseStamped')
        return self._trouble

    def look(self) -> None:
        """Read the poses that wait: now and then, so that one that is none is refused at once."""
        if self._subscription:
            with self._looking:
                for message in waiting(self._subscription, KEPT):
                    self._on_pose(message)

    def take(self, picture_ns: int) -> list[tuple[int, np.ndarray]]:
        """
        Take the poses since the last call.

        :param picture_ns: stamp of the newest picture [ns]: where it goes back, so does the robot,
            and TF is read anew: it takes what is older than what it has for outdated.
        :return: stamp [ns] and T_base_tip (4, 4) [mm] of each.
        """
        if picture_ns < self._picture_ns:
            self._buffer.clear()
        self._picture_ns = picture_ns
        self.look()
        return [self._poses.popleft() for _ in range(len(self._poses))]

    def _on_pose(self, message: PoseStamped) -> None:
        self._heard, pose = True, message.pose
        self._put(message.header, pose.position, pose.orientation)

    def _look_up(self) -> None:
        try:
            found = self._buffer.lookup_transform(self._base, self._tip, Time())
        except TransformException as error:
            why = ' '.join(str(error).split())
            self._trouble = f'TF from {self._base} to {self._tip}: {why}'
            return
        if found.header.stamp.sec == found.header.stamp.nanosec == 0:
            self._trouble = f'TF from {self._base} to {self._tip}: static, needed one that moves'
            return
        self._trouble = ''
        self._put(found.header, found.transform.translation, found.transform.rotation)

    def _put(self, header: Any, position: Any, orientation: Any) -> None:
        try:
            self._poses.append((stamp_of(header), robot_motion(position, orientation)))
        except ValueError as error:
            self._refuse(TOPIC, error)
