# SPDX-License-Identifier: Apache-2.0
"""Why no picture comes, in one line that says what to do."""

from typing import Any
from unittest.mock import Mock

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from endosfm3d_ros.silence import (
    AGAIN_AFTER_S,
    SILENT_AFTER_S,
    Offer,
    Silence,
    nothing_on,
    why_silent,
)

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.mark.parametrize(
    ('wanted', 'qos', 'offers', 'pictures', 'said'),
    [
        (IMAGE, BEST_EFFORT, [], {}, 'publishers: none, and no other image topic is in sight'),
        (IMAGE, BEST_EFFORT, [], {'/b': IMAGE, '/a': IMAGE}, 'on /a, /b: start with -r image:=/a'),
        (COMPRESSED, BEST_EFFORT, [], {'/a': COMPRESSED}, 'start with -r image/compressed:=/a'),
        (IMAGE, BEST_EFFORT, [], {'/a': COMPRESSED}, 'see the parameter image_transport'),
        (
            IMAGE,
            BEST_EFFORT,
            [Offer('/cam', COMPRESSED, RELIABLE)],
            {},
            '/cam publishes sensor_msgs/msg/CompressedImage, needed sensor_msgs/msg/Image: '
            'set image_transport: compressed',
        ),
        (IMAGE, BEST_EFFORT, [Offer('/x', 'std_msgs/msg/String', RELIABLE)], {}, 'remap image to'),
        (
            IMAGE,
            RELIABLE,
            [Offer('/cam', IMAGE, BEST_EFFORT)],
            {},
            '/cam offers best effort, and reliable is asked for: set qos_overrides./t.',
        ),
        (IMAGE, LATCHED, [Offer('/cam', IMAGE, RELIABLE)], {}, 'volatile, and transient'),
        (
            IMAGE,
            BEST_EFFORT,
            [Offer('/cam', IMAGE, RELIABLE)],
            {},
            'publishers: /cam (reliable, volatile); they fit and send nothing',
        ),
    ],
)
def test_the_reason_is_named_with_its_cure(
    wanted: str, qos: QoSProfile, offers: list[Offer], pictures: dict[str, str], said: str
) -> None:
    line = why_silent('/t', wanted, qos, offers, pictures)
    assert said in line and '\n' not in line


def test_silence_is_told_after_five_seconds_and_then_now_and_then() -> None:
    silence = Silence(100.0)
    told = [now for now in range(100, 180) if silence.is_worth_a_line(float(now))]
    assert told == [SILENT_AFTER_S + 100 + n * AGAIN_AFTER_S for n in range(3)]
    silence.broken(200.0)
    assert not silence.is_worth_a_line(204.9) and silence.is_worth_a_line(205.0)


POSE, TRANSFORM = 'geometry_msgs/msg/PoseStamped', 'geometry_msgs/msg/TransformStamped'


@pytest.mark.parametrize(
    ('kinds', 'said'),
    [
        ([], 'nothing on /t; publishers: none'),
        ([POSE], 'nothing on /t; publishers: /arm/ecm (reliable, volatile)'),
        ([POSE, TRANSFORM], f'/arm/ecm publishes {TRANSFORM} on /t, needed {POSE}'),
    ],
)
def test_who_publishes_what_nothing_came_on_is_told(kinds: list[str], said: str) -> None:
    node: Any = Mock()
    node.get_publishers_info_by_topic.return_value = [
        Mock(node_name='ecm', node_namespace='/arm', topic_type=kind, qos_profile=RELIABLE)
        for kind in kinds
    ]
    assert nothing_on(node, '/t', POSE) == said
