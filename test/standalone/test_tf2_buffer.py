# SPDX-License-Identifier: Apache-2.0
"""Laws of the buffer, true of the stand-in and of the real tf2_ros alike."""

import math
import threading

import numpy as np
import pytest
import tf2_ros
from geometry_msgs.msg import TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.duration import Duration
from rclpy.time import Time

LATEST = Time()


def seconds(value):
    return Time(nanoseconds=round(value * 1e9))


def transform(
    parent, child, stamp=0.0, translation=(0.0, 0.0, 0.0), turn_about_z=0.0, rotation=None
):
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp = seconds(stamp).to_msg()
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = map(float, translation)
    half = turn_about_z / 2
    q.x, q.y, q.z, q.w = rotation or (0.0, 0.0, math.sin(half), math.cos(half))
    return message


def buffer(*messages, static=(), cache=10.0):
    result = tf2_ros.Buffer(Duration(seconds=cache))
    for message in messages:
        result.set_transform(message, 'test')
    for message in static:
        result.set_transform_static(message, 'test')
    return result


def matrix(message):
    q, t = message.transform.rotation, message.transform.translation
    x, y, z, w = q.x, q.y, q.z, q.w
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = t.x, t.y, t.z
    return T


def T(tree, target, source, time=LATEST):
    return matrix(tree.lookup_transform(target, source, time))


numbers = st.floats(-3.0, 3.0)
vectors = st.tuples(numbers, numbers, numbers)
quaternions = (
    st.tuples(numbers, numbers, numbers, numbers)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: tuple(np.array(q) / np.linalg.norm(q)))
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(vectors, quaternions), min_size=4, max_size=4))
def test_lookups_chain_and_invert(motions):
    """odom -> base -> camera on one branch, odom -> arm -> tool on the other."""
    links = [('odom', 'base'), ('base', 'camera'), ('odom', 'arm'), ('arm', 'tool')]
    messages = [
        transform(*link, 1.0, translation, rotation=rotation)
        for link, (translation, rotation) in zip(links, motions, strict=True)
    ]
    tree = buffer(*messages)
    T_odom_base, T_base_camera, T_odom_arm, T_arm_tool = map(matrix, messages)
    T_odom_camera = T_odom_base @ T_base_camera
    np.testing.assert_allclose(T(tree, 'odom', 'camera'), T_odom_camera, atol=1e-9)
    np.testing.assert_allclose(T(tree, 'camera', 'odom'), np.linalg.inv(T_odom_camera), atol=1e-9)
    np.testing.assert_allclose(
        T(tree, 'camera', 'tool'),
        np.linalg.inv(T_odom_camera) @ T_odom_arm @ T_arm_tool,
        atol=1e-9,
    )


def test_the_answer_bears_target_source_and_the_time_used():
    tree = buffer(transform('odom', 'camera', 1.5, (1, 2, 3)))
    found = tree.lookup_transform('odom', 'camera', LATEST)
    assert (found.header.frame_id, found.child_frame_id) == ('odom', 'camera')
    assert (found.header.stamp.sec, found.header.stamp.nanosec) == (1, 500_000_000)
    assert found.transform.translation.y == 2.0


def test_between_two_stamps_the_motion_is_interpolated():
    tree = buffer(
        transform('odom', 'camera', 1.0, (0, 0, 0), 0.0),
        transform('odom', 'camera', 2.0, (4, 0, 0), 1.0),
    )
    expected = matrix(transform('odom', 'camera', translation=(1, 0, 0), turn_about_z=0.25))
    np.testing.assert_allclose(T(tree, 'odom', 'camera', seconds(1.25)), expected, atol=1e-12)


def test_the_rotation_takes_the_shorter_way_whatever_the_sign_of_the_quaternion():
    far = transform('odom', 'camera', 2.0, turn_about_z=0.2)
    q = far.transform.rotation
    q.z, q.w = -q.z, -q.w
    tree = buffer(transform('odom', 'camera', 1.0), far)
    expected = matrix(transform('odom', 'camera', turn_about_z=0.1))
    np.testing.assert_allclose(T(tree, 'odom', 'camera', seconds(1.5)), expected, atol=1e-12)


def test_messages_may_come_in_any_order():
    stamps = [3.0, 1.0, 2.0]
    tree = buffer(*(transform('odom', 'camera', s, (s, 0, 0)) for s in stamps))
    for stamp in (1.0, 1.5, 2.0, 2.75, 3.0):
        assert T(tree, 'odom', 'camera', seconds(stamp))[0, 3] == pytest.approx(stamp)


@pytest.mark.parametrize('stamp', [0.9, 2.1])
def test_nothing_is_invented_beyond_the_ends(stamp):
    tree = buffer(transform('odom', 'camera', 1.0), transform('odom', 'camera', 2.0))
    assert not tree.can_transform('odom', 'camera', seconds(stamp))
    with pytest.raises(tf2_ros.ExtrapolationException):
        tree.lookup_transform('odom', 'camera', seconds(stamp))


def test_the_latest_is_the_latest_that_the_whole_chain_knows():
    tree = buffer(
        transform('odom', 'base', 1.0, (1, 0, 0)),
        transform('odom', 'base', 3.0, (3, 0, 0)),
        transform('base', 'camera', 1.0, (0, 1, 0)),
        transform('base', 'camera', 2.0, (0, 2, 0)),
    )
    assert tree.get_latest_common_time('odom', 'camera').nanoseconds == 2_000_000_000
    assert T(tree, 'odom', 'camera')[:3, 3].tolist() == pytest.approx([2.0, 2.0, 0.0])


def test_a_static_transform_holds_at_any_time_and_does_not_hold_back_the_latest():
    tree = buffer(
        transform('odom', 'camera', 5.0, (1, 0, 0)),
        static=[transform('camera', 'tip', 0.0, (0, 0, 1))],
    )
    assert T(tree, 'odom', 'tip')[:3, 3].tolist() == [1.0, 0.0, 1.0]
    assert T(tree, 'camera', 'tip', seconds(123.0))[:3, 3].tolist() == [0.0, 0.0, 1.0]


def test_the_past_is_forgotten_after_the_cache_time():
    stamps = np.arange(0.5, 5.0, 0.5)
    tree = buffer(*(transform('odom', 'camera', s) for s in stamps), cache=2.0)
    assert tree.can_transform('odom', 'camera', seconds(3.0))
    assert not tree.can_transform('odom', 'camera', seconds(1.0))
    tree.set_transform(transform('odom', 'camera', 0.5), 'too late')
    assert not tree.can_transform('odom', 'camera', seconds(0.5))


def test_a_frame_to_itself_is_the_identity_even_if_unknown():
    np.testing.assert_array_equal(T(buffer(), 'nowhere', 'nowhere'), np.eye(4))


def test_an_unknown_frame_is_a_lookup_exception():
    with pytest.raises(tf2_ros.LookupException):
        buffer(transform('odom', 'camera', 1.0)).lookup_transform('odom', 'probe', LATEST)


def test_two_trees_are_a_connectivity_exception():
    tree = buffer(transform('odom', 'camera', 1.0), transform('map', 'robot', 1.0))
    with pytest.raises(tf2_ros.ConnectivityException):
        tree.lookup_transform('odom', 'robot', LATEST)
    assert not tree.can_transform('odom', 'robot', LATEST)


@pytest.mark.parametrize('name', ['', '/camera'])
def test_a_name_must_not_be_empty_nor_begin_with_a_slash(name):
    with pytest.raises(tf2_ros.InvalidArgumentException):
        buffer(transform('odom', 'camera', 1.0)).lookup_transform('odom', name, LATEST)


def test_a_slash_of_a_sender_is_stripped():
    assert T(buffer(transform('/odom', '/camera', 1.0)), 'odom', 'camera').shape == (4, 4)


def test_every_failure_is_a_transform_exception():
    for name in ('Connectivity', 'Extrapolation', 'InvalidArgument', 'Lookup'):
        exception = getattr(tf2_ros, f'{name}Exception')
        assert issubclass(exception, tf2_ros.TransformException)


def test_broken_transforms_are_left_out(capfd):
    tree = buffer(
        transform('odom', 'odom', 1.0),
        transform('', 'a', 1.0),
        transform('odom', '', 1.0),
        transform('odom', 'b', 1.0, (math.nan, 0, 0)),
        transform('odom', 'c', 1.0, rotation=(0.0, 0.0, 0.0, 0.0)),
    )
    for child in ('a', 'b', 'c'):
        with pytest.raises(tf2_ros.LookupException):
            tree.lookup_transform('odom', child, LATEST)
    capfd.readouterr()  # what it logs about them


def test_a_lookup_may_wait_for_what_comes():
    tree = buffer()
    late = threading.Timer(0.15, tree.set_transform, [transform('odom', 'camera', 1.0), 'late'])
    late.start()
    assert not tree.can_transform('odom', 'camera', LATEST)
    assert tree.can_transform('odom', 'camera', LATEST, Duration(seconds=10))
    late.join()
