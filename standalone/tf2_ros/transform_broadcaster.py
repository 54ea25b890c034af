# SPDX-License-Identifier: Apache-2.0
"""Publish transforms that change with time."""

from collections.abc import Iterable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage


def as_list(transform: TransformStamped | Iterable[TransformStamped]) -> list[TransformStamped]:
    """:return: the transforms given, one or many, as a list."""
    return list(transform) if isinstance(transform, Iterable) else [transform]


class TransformBroadcaster:
    """Publisher on ``/tf``."""

    def __init__(self, node: Node, qos: QoSProfile | int | None = None) -> None:
        """
        :param node: node that owns the publisher.
        :param qos: profile or history depth; None for tf2's own: reliable, keep last 100.
        """
        self.pub_tf = node.create_publisher(
            TFMessage, '/tf', QoSProfile(depth=100) if qos is None else qos
        )

    def sendTransform(self, transform: TransformStamped | Iterable[TransformStamped]) -> None:
        """
        Publish all in one message.

        :param transform: one transform or several; each maps child into header.frame_id [m].
        """
        self.pub_tf.publish(TFMessage(transforms=as_list(transform)))
