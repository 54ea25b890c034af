# SPDX-License-Identifier: Apache-2.0
"""What a running node of ours sends and works from, for whoever records it."""

import time

from rclpy.node import Node, NodeNameNonExistentError

from endosfm3d_ros.bags.bag_frames import IMAGE_TYPES
from endosfm3d_ros.camera_bag import INFO_TYPE, beside
from endosfm3d_ros.kinematics_bag import POSE_TYPE
from endosfm3d_ros.outputs import PRIVATE_TOPICS

PATIENCE_S = 10.0  # how long to look for what a node listens to
SETTLED_S = 1.0  # so long nothing more became known: most of it is there


def topics_of_node(name: str) -> list[str]:
    """Every topic that our node of this full name sends; the first one comes with each frame."""
    own = [
        f'{name}/{topic}' for topic in ('status', *(t for t in PRIVATE_TOPICS if t != 'status'))
    ]
    return [*own, '/tf', '/diagnostics']


def inputs_of_node(node: Node, name: str, patience_s: float = PATIENCE_S) -> list[str]:
    """
    Every topic that our node of this full name works from, and what a replay needs beside it.

    :param node: asks the graph; it need not be spun.
    :param name: full name of a node that is active: before it has no input.
    :param patience_s: how long to look for it [s].
    :return: its image topic, the calibration beside that where somebody sends it, what the node
        takes of calibration and robot, and TF.
    :raises ValueError: it takes no pictures.
    """
    known: list[str] = []
    since = time.monotonic()
    end = since + patience_s
    while time.monotonic() < end:
        now = known_inputs(node, name)
        if now != known:
            known, since = now, time.monotonic()
        if known and time.monotonic() - since >= SETTLED_S:
            break
        time.sleep(0.1)
    if not known:
        raise ValueError(
            f'--with-input: {name} takes no pictures; needed a node that is active (`ros2 '
            f'lifecycle get {name}`), or another name with --node'
        )
    return known


def known_inputs(node: Node, name: str) -> list[str]:
    """
    What `inputs_of_node` gives, as far as it is known by now; none before the image topic.

    DDS tells one subscription after the other, on a busy machine seconds apart, and drivers come
    late: ask again.
    """
    found = _subscriptions(node, name)
    images = sorted(topic for topic, kind in found.items() if kind in IMAGE_TYPES)
    if not images:
        return []
    infos = {one for one in map(beside, images) if node.count_publishers(one)}
    others = {topic for topic, kind in found.items() if kind in (INFO_TYPE, POSE_TYPE)}
    return [*images, *sorted(infos | others), '/tf', '/tf_static']


def _subscriptions(node: Node, name: str) -> dict[str, str]:
    """Type of every topic that a node listens to; none where nobody has that name."""
    namespace, _, base = name.rpartition('/')
    try:
        found = node.get_subscriber_names_and_types_by_node(base, namespace or '/')
    except NodeNameNonExistentError:
        return {}
    return {topic: kinds[0] for topic, kinds in found}
