# SPDX-License-Identifier: Apache-2.0
"""The node's transforms, and who else gives the same frame a parent: two tear the tree apart."""

import time
from contextlib import ExitStack
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage
from tf2_ros import TransformBroadcaster

from endosfm3d_ros.callback_groups import Polled, waiting

KEPT = 100  # messages until they are looked at
LOOK_EVERY_S = 1.0  # at what others send
FORGOTTEN_AFTER_S = 5.0  # a parent that nobody repeats; one of /tf_static stays


class Parents:
    """Which frame hangs under which, as everybody tells it."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], float] = {}  # (child, parent) -> until when [s]
        self._own: set[tuple[str, str]] = set()

    def note(self, message: Any, is_static: bool) -> None:
        """Read a tf2_msgs/TFMessage."""
        until = float('inf') if is_static else time.monotonic() + FORGOTTEN_AFTER_S
        for one in message.transforms:
            pair = one.child_frame_id.lstrip('/'), one.header.frame_id.lstrip('/')
            self._seen[pair] = max(until, self._seen.get(pair, 0.0))

    def claim(self, child: str, parent: str) -> None:
        """Say that we send this: we hear ourselves, also after we went on to another parent."""
        self._own.add((child, parent))

    def foreign(self, child: str, ours: str) -> str:
        """A parent of this frame beside those that we give it; '' when there is none."""
        now = time.monotonic()
        self._seen = {pair: until for pair, until in self._seen.items() if until > now}
        theirs = self._seen.keys() - self._own - {(child, ours)}
        return min((p for c, p in theirs if c == child), default='')


def explain_second_parent(child: str, theirs: str, ours: str, mode: str) -> str:
    """
    Say what is wrong and what to do.

    :param child: the frame that would have two parents.
    :param theirs: the parent it has already.
    :param ours: the one that we would give it.
    :param mode: tf.mode.
    """
    said = (
        f'{child!r} already has the parent {theirs!r} in TF, and {ours!r} would be a second one, '
        'which tears the tree: no TF is sent'
    )
    if mode == 'child':
        return f'{said}; set tf.mode to inverse (odom hangs under the camera) or none'
    return f'{said}; set odom_frame_id to a name of its own, or tf.mode to none'


class TfOut:
    """
    Sends the node's transforms, and keeps silent where somebody else's would clash with them.

    :param node: publishes and listens.
    :param mode: tf.mode; none neither sends nor listens.
    :param taken: gives everything back.
    """

    def __init__(self, node: Node, mode: str, taken: ExitStack) -> None:
        self._mode, self._parents = mode, Parents()
        self._broadcaster = TransformBroadcaster(node)
        self._heard: list[tuple[Subscription, bool]] = []  # and whether it is /tf_static
        self._looked_s = float('-inf')
        taken.callback(node.destroy_publisher, self._broadcaster.pub_tf)
        if mode == 'none':
            return
        latched = QoSProfile(depth=KEPT, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        polled = Polled()
        for topic, qos in (('/tf', QoSProfile(depth=KEPT)), ('/tf_static', latched)):
            note = self._parents.note  # never called: `_look` takes the messages
            subscription = node.create_subscription(
                TFMessage, topic, note, qos, callback_group=polled
            )
            taken.callback(node.destroy_subscription, subscription)
            self._heard.append((subscription, topic == '/tf_static'))

    def send(self, message: TFMessage) -> str:
        """Send our one transform; else say why it was not sent."""
        transform = message.transforms[0]
        ours, child = transform.header.frame_id, transform.child_frame_id
        self._look()
        if theirs := self._parents.foreign(child, ours):
            return explain_second_parent(child, theirs, ours, self._mode)
        self._parents.claim(child, ours)
        self._broadcaster.sendTransform(message.transforms)
        return ''

    def _look(self) -> None:
        """Read what came on /tf and /tf_static since the last time."""
        if time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        for subscription, is_static in self._heard:
            for message in waiting(subscription, KEPT):
                self._parents.note(message, is_static)
