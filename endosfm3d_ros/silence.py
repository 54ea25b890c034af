# SPDX-License-Identifier: Apache-2.0
"""Why no picture comes: who publishes the topic, what they offer, and what else there is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
SILENT_AFTER_S = 5.0
AGAIN_AFTER_S = 30.0


@dataclass(frozen=True)
class Offer:
    """
    One publisher of the topic.

    :param node: its node's full name.
    :param type_name: what it sends, like `sensor_msgs/msg/Image`.
    :param qos: how it sends it.
    """

    node: str
    type_name: str
    qos: QoSProfile


class Silence:
    """Notes when something came last, and says once, then now and then, that nothing does."""

    def __init__(self, now_s: float) -> None:
        """Begin to wait at this time of a steady clock [s]."""
        self._since_s, self._said_s = now_s, float('-inf')

    def broken(self, now_s: float) -> None:
        """Something came."""
        self._since_s, self._said_s = now_s, float('-inf')

    def lasts_s(self, now_s: float) -> float:
        """How long nothing came [s]."""
        return now_s - self._since_s

    def is_worth_a_line(self, now_s: float) -> bool:
        """Whether it is time to say so; True counts as said."""
        if self.lasts_s(now_s) < SILENT_AFTER_S or now_s - self._said_s < AGAIN_AFTER_S:
            return False
        self._said_s = now_s
        return True


def offers_on(node: Node, topic: str) -> list[Offer]:
    """Everybody who publishes on a topic."""
    return [
        Offer(f'{one.node_namespace.rstrip("/")}/{one.node_name}', one.topic_type, one.qos_profile)
        for one in node.get_publishers_info_by_topic(topic)
    ]


def nothing_on(node: Node, topic: str, wanted_type: str) -> str:
    """
    Explain why nothing came on a topic that is not the pictures' own.

    :param topic: its full name.
    :param wanted_type: what the node listens for, best effort: it takes every offer of that type.
    :return: one line with the topic and who publishes it.
    """
    offers = offers_on(node, topic)
    wrong = next((one for one in offers if one.type_name != wanted_type), None)
    if wrong:
        return f'{wrong.node} publishes {wrong.type_name} on {topic}, needed {wanted_type}'
    there = ', '.join(f'{one.node} ({words(one.qos)})' for one in offers) or 'none'
    return f'nothing on {topic}; publishers: {there}'


def pictures_there(node: Node) -> dict[str, str]:
    """Type of every image topic that somebody else publishes now."""
    own = f'{node.get_fully_qualified_name()}/'
    return {
        name: kind
        for name, kinds in node.get_topic_names_and_types()
        for kind in kinds
        if kind in IMAGE_TYPES and not name.startswith(own) and node.count_publishers(name)
    }


def why_silent(
    topic: str,
    wanted_type: str,
    wanted_qos: QoSProfile,
    offers: Iterable[Offer],
    pictures: Mapping[str, str],
) -> str:
    """
    Explain why nothing comes, and what to do.

    :param topic: full name of the input.
    :param wanted_type: what the node listens for.
    :param wanted_qos: how it listens.
    :param offers: who publishes on the topic.
    :param pictures: image topics that are published, with their types.
    :return: one line.
    """
    offers = list(offers)
    if not offers:
        return f'publishers: none{_elsewhere(topic, wanted_type, pictures)}'
    wrong = next((one for one in offers if one.type_name != wanted_type), None)
    if wrong:
        if wrong.type_name == IMAGE_TYPES[1]:
            cure = 'set image_transport: compressed, with image remapped to the name without it'
        else:
            cure = 'remap image to an image topic'
        return f'{wrong.node} publishes {wrong.type_name}, needed {wanted_type}: {cure}'
    for one in offers:
        if clash := _clash(one.qos, wanted_qos):
            return f'{one.node} offers {clash}: set qos_overrides.{topic}.subscription to fit'
    there = ', '.join(f'{one.node} ({words(one.qos)})' for one in offers)
    return (
        f'publishers: {there}; they fit and send nothing that comes through: is the driver '
        'running? `endosfm3d doctor --topic` measures what is lost on the way'
    )


def _elsewhere(topic: str, wanted_type: str, pictures: Mapping[str, str]) -> str:
    """What to remap to, where there is any choice."""
    fitting = sorted(name for name, kind in pictures.items() if kind == wanted_type)
    if fitting:
        name = 'image' if wanted_type == IMAGE_TYPES[0] else 'image/compressed'
        return f'; pictures are on {", ".join(fitting)}: start with -r {name}:={fitting[0]}'
    if pictures:
        other = sorted(pictures)[0]
        return f'; {other} is a {pictures[other]}: see the parameter image_transport'
    return ', and no other image topic is in sight: same ROS_DOMAIN_ID and discovery range?'


def _clash(offered: QoSProfile, wanted: QoSProfile) -> str:
    """What of an offer does not fit, in words; '' when it fits."""
    if (
        wanted.reliability == ReliabilityPolicy.RELIABLE
        and offered.reliability == ReliabilityPolicy.BEST_EFFORT
    ):
        return 'best effort, and reliable is asked for'
    if (
        wanted.durability == DurabilityPolicy.TRANSIENT_LOCAL
        and offered.durability == DurabilityPolicy.VOLATILE
    ):
        return 'volatile, and transient local is asked for'
    return ''


def words(qos: QoSProfile) -> str:
    """An offer as a person says it: 'best effort, volatile'."""
    return f'{qos.reliability.name}, {qos.durability.name}'.lower().replace('_', ' ')
