# SPDX-License-Identifier: Apache-2.0
"""Publish transforms that never change."""

from collections.abc import Iterable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage
from tf2_ros.transform_broadcaster import as_list


class StaticTransformBroadcaster:
    """Latched publisher on ``/tf_static``: who comes late gets the whole set."""

    def __init__(self, node: Node, qos: QoSProfile | int | None = None) -> None:
        """
        :param node: node that owns the publisher.
        :param qos: profile or history depth; None for tf2's own: transient local, keep last 1.
        """
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.pub_tf = node.create_publisher(
            TFMessage, '/tf_static', latched if qos is None else qos
        )
        self._sent: dict[str, TransformStamped] = {}

    def sendTransform(self, transform: TransformStamped | Iterable[TransformStamped]) -> None:
        """
        Add to the set and publish the set.

        :param transform: one transform or several. As in upstream's Python, the first one of a
            child frame stays: static means static.
        """
        for each in as_list(transform):
            self._sent.setdefault(each.child_frame_id, each)
        self.pub_tf.publish(TFMessage(transforms=list(self._sent.values())))
