# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
import time

import pytest
import rclpy
import tf2_ros
from geometry_msgs.msg import TransformStamped

pytestmark = pytest.mark.ros

# Runs in another process, begins late, and prints the transform over a moving and a fixed link.
LISTENER = """
import json, sys, time
import rclpy, tf2_ros
from rclpy.time import Time
rclpy.init()
node = rclpy.create_node('listener')
buffer = tf2_ros.Buffer()
listener = tf2_ros.TransformListener(buffer, node)
until = time.monotonic() + 120
while not buffer.can_transform('odom', 'tip', Time()):
    rclpy.spin_once(node, timeout_sec=0.1)
    if time.monotonic() > until:
        sys.exit('heard nothing in 120 s')
found = buffer.lookup_transform('odom', 'tip', Time())
t, stamp = found.transform.translation, found.header.stamp
print(json.dumps({'xyz': [t.x, t.y, t.z], 'stamp': [stamp.sec, stamp.nanosec]}))
node.destroy_node()
rclpy.try_shutdown()
"""


def link(parent, child, x, stamp=0):
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp.sec = stamp
    message.transform.translation.x = x
    return message


@pytest.fixture
def node():
    rclpy.init()
    node = rclpy.create_node('broadcaster')
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def test_a_listener_in_another_process_joins_a_moving_and_a_fixed_link(node):
    fixed = tf2_ros.StaticTransformBroadcaster(node)
    fixed.sendTransform(link('camera', 'probe', 7.0))
    fixed.sendTransform([link('camera', 'tip', 0.5)])  # the set grows, a late listener gets it all
    moving = tf2_ros.TransformBroadcaster(node)
    process = subprocess.Popen(
        [sys.executable, '-c', LISTENER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None:
        moving.sendTransform(link('odom', 'camera', 2.0, stamp=42))
        time.sleep(0.05)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    heard = json.loads(output.strip().splitlines()[-1])
    assert heard == {'xyz': [2.5, 0.0, 0.0], 'stamp': [42, 0]}


def test_the_broadcasters_speak_as_tf2_does(node):
    tf2_ros.TransformBroadcaster(node)
    tf2_ros.StaticTransformBroadcaster(node)
    (moving,) = node.get_publishers_info_by_topic('/tf')
    (fixed,) = node.get_publishers_info_by_topic('/tf_static')
    assert moving.topic_type == fixed.topic_type == 'tf2_msgs/msg/TFMessage'
    assert moving.qos_profile.durability.name == 'VOLATILE'
    assert fixed.qos_profile.durability.name == 'TRANSIENT_LOCAL'
    assert moving.qos_profile.reliability.name == fixed.qos_profile.reliability.name == 'RELIABLE'
