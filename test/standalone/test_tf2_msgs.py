# SPDX-License-Identifier: Apache-2.0
import json
import sys
from pathlib import Path

import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.serialization import deserialize_message, serialize_message
from tf2_msgs.msg import TFMessage

JAZZY = 'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087'


def a_message():
    message = TFMessage(transforms=[TransformStamped(child_frame_id=name) for name in 'ab'])
    message.transforms[1].header.frame_id = 'odom'
    message.transforms[1].transform.translation.z = 0.25
    return message


def test_a_message_survives_the_wire_format():
    assert deserialize_message(serialize_message(a_message()), TFMessage) == a_message()


def test_the_type_hash_is_that_of_jazzy():
    description = Path(sys.prefix, 'share', 'tf2_msgs', 'msg', 'TFMessage.json')
    if not description.is_file():
        pytest.skip('tf2_msgs comes from a ROS distribution here')
    entries = json.loads(description.read_text())['type_hashes']
    assert {e['type_name']: e['hash_string'] for e in entries}['tf2_msgs/msg/TFMessage'] == JAZZY


def test_rosbags_computes_the_same_type_hash_and_reads_the_same_bytes():
    typesys = pytest.importorskip('rosbags.typesys')
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    read = store.deserialize_cdr(serialize_message(a_message()), 'tf2_msgs/msg/TFMessage')
    assert store.hash_rihs01('tf2_msgs/msg/TFMessage') == JAZZY
    assert [t.child_frame_id for t in read.transforms] == ['a', 'b']
    assert read.transforms[1].transform.translation.z == 0.25
