# SPDX-License-Identifier: Apache-2.0
"""Metres from the robot that holds the scope, over real DDS: a pose topic, or TF."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot import PER_FRAME, RobotWithNode, wall
from tf2_msgs.msg import TFMessage

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.outputs import METRIC_TOPICS

pytestmark = pytest.mark.ros
Make = Callable[..., RobotWithNode]
BUT_METRIC = tuple(topic for topic in PER_FRAME if topic not in (*METRIC_TOPICS, 'tf'))
MM_PER_PX, POSES_PER_PICTURE = 0.2, 2
FRAMES = 200
# a sideways motion tells focal length and scale apart only where one is known
KNOWN_K = (
    'intrinsics.source:=fixed',
    'intrinsics.fixed:=[320.0, 240.0, 300.0, 300.0, 159.5, 119.5]',
)


def shift_px(stamp_ns: int, start_ns: int) -> float:
    return 110.0 * (1 - np.cos((stamp_ns - start_ns) * 1e-9))


def flat(picture: np.ndarray) -> DepthMap:
    size = picture.shape[:2]
    return DepthMap(np.full(size, 25.0, np.float32), np.full(size, 0.1, np.float32))


def slide(robot: RobotWithNode, tell: Callable[[int, float], None]) -> dict[str, str]:
    """
    Slide the scope along the wall until lengths are metric, and let the robot tell it.

    :param tell: sends one pose: stamp [ns] and place along x [m].
    :return: the last status.
    """
    robot.scope._pipeline.depth_network = flat  # light falloff takes this wall for bumpy
    start_ns, status = robot.stamp_ns, {'scale_state': 'nominal'}
    for _ in range(FRAMES):
        for _ in range(POSES_PER_PICTURE):
            robot.stamp_ns += 20_000_000
            place = shift_px(robot.stamp_ns, start_ns) * MM_PER_PX * 1e-3
            tell(robot.stamp_ns, place)
        robot.stamp_ns -= 40_000_000  # message() adds it again
        image = wall(shift_px(robot.stamp_ns + 40_000_000, start_ns))
        status = robot.answer_to(robot.message(image), BUT_METRIC)
        if status['scale_state'] == 'kinematic':
            return status
    return status


def test_a_pose_topic_anchors_the_scale_and_metric_topics_begin_then(with_node: Make) -> None:
    robot = with_node('scale.source:=kinematics', 'require_metric:=true', *KNOWN_K)
    poses = robot.node.create_publisher(PoseStamped, '/robot_pose', 100)
    robot.wait(lambda: poses.get_subscription_count() == 1, 'a listener')

    def tell(stamp_ns: int, place: float) -> None:
        message = PoseStamped()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        message.pose.position.x, message.pose.orientation.w = place, 1.0
        poses.publish(message)

    status = slide(robot, tell)
    assert status['scale_state'] == 'kinematic' and status['epoch'] == '1', diagnosis(robot)
    assert float(status['scale_sigma']) < 0.04
    robot.wait(lambda: bool(robot.seen['depth/image']) and bool(robot.seen['tf']), 'metric topics')
    depth = np.nanmedian(np.frombuffer(robot.seen['depth/image'][-1].data, np.float32))
    assert depth == pytest.approx(300 * MM_PER_PX * 1e-3, rel=0.05)  # a pixel is depth / focal
    robot.wait(lambda: 'nominal mm is' in diagnosis(robot), 'the scale in /diagnostics')
    assert 'the scale changed from 1 to' in robot.log()


def test_tf_anchors_the_scale(with_node: Make) -> None:
    robot = with_node(
        'scale.source:=kinematics',
        'scale.base_frame_id:=/base',  # tf2 knows no slash
        'scale.tip_frame_id:=/ecm',
        *KNOWN_K,
    )
    send = tells_tf(robot)

    def tell(stamp_ns: int, place: float) -> None:
        send(stamp_ns, place)
        seen = robot.scope._kinematics._poses  # type: ignore[union-attr]
        robot.wait(lambda: bool(seen) and seen[-1][0] == stamp_ns, 'a look into TF')

    assert slide(robot, tell)['scale_state'] == 'kinematic', diagnosis(robot)


def test_a_still_robot_anchors_nothing_and_the_diagnostics_say_what_is_missing(
    with_node: Make,
) -> None:
    robot = with_node('scale.source:=kinematics')
    for number in range(60):
        robot.answer_to(robot.message(wall(2.0 * number)))
    assert robot.status()['scale_state'] == 'nominal'
    said = 'kinematics: no robot poses yet; nothing on /robot_pose; publishers: none'
    robot.wait(lambda: said in diagnosis(robot), 'what is missing')


def test_frames_that_tf_does_not_have_are_named_with_what_tf_says(with_node: Make) -> None:
    robot = with_node(
        'scale.source:=kinematics', 'scale.base_frame_id:=base', 'scale.tip_frame_id:=nose'
    )
    robot.answer_to(robot.message(wall(0)))
    said = 'kinematics: no robot poses yet; TF from base to nose: '
    robot.wait(lambda: said in diagnosis(robot), 'the frames asked for')
    assert 'exist' in diagnosis(robot).removeprefix(said)


def tells_tf(robot: RobotWithNode, topic: str = '/tf') -> Callable[[int, float], None]:
    """A robot that sends its tip to TF: stamp [ns] and place along x [m]."""
    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    robots = robot.node.create_publisher(TFMessage, topic, latched)
    listeners = 3 if topic == '/tf' else 2
    robot.wait(lambda: robots.get_subscription_count() == listeners, 'listeners')

    def tell(stamp_ns: int, place: float) -> None:
        one = TransformStamped(child_frame_id='ecm')
        one.header.frame_id = 'base'
        one.header.stamp.sec, one.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        one.transform.translation.x, one.transform.rotation.w = place, 1.0
        robots.publish(TFMessage(transforms=[one]))

    return tell


BY_TF = ('scale.source:=kinematics', 'scale.base_frame_id:=base', 'scale.tip_frame_id:=ecm')


def test_a_bag_that_loops_tells_the_robot_by_tf_in_every_round(with_node: Make) -> None:
    robot = with_node(*BY_TF)
    begin_ns, tell = robot.stamp_ns, tells_tf(robot)
    kinematics = robot.scope._kinematics
    assert kinematics
    poses = kinematics._poses
    for _ in range(2):
        robot.answer_to(robot.message(wall(0), stamp_ns=begin_ns + 10**9))
        robot.wait(lambda: kinematics._picture_ns == begin_ns + 10**9, 'its end')
        for second in (2, 15):
            stamp_ns = begin_ns + second * 10**9
            tell(stamp_ns, 0.01)
            robot.wait(lambda ns=stamp_ns: bool(poses) and poses[-1][0] == ns, 'a look into TF')  # type: ignore[misc]
        robot.answer_to(robot.message(wall(2), stamp_ns=begin_ns + 15 * 10**9))


def test_a_tip_that_tf_holds_still_for_ever_is_no_picture_refused(with_node: Make) -> None:
    robot = with_node(*BY_TF)
    tells_tf(robot, '/tf_static')(robot.stamp_ns, 0.01)
    said = 'kinematics: no robot poses yet; TF from base to ecm: static, needed one that moves'
    robot.wait(lambda: said in diagnosis(robot), 'what is missing')
    assert 'refused' not in robot.log()


def test_half_a_pair_of_frames_is_refused_and_the_other_half_mends_it(with_node: Make) -> None:
    robot = with_node('scale.source:=kinematics', 'scale.base_frame_id:=base')
    robot.wait_for_log(
        "not configured: scale.base_frame_id is 'base' and scale.tip_frame_id is ''"
    )
    assert robot.state() == 'unconfigured'
    robot.scope.set_parameters([Parameter('scale.tip_frame_id', value='ecm')])
    assert robot.go('configure')


def test_a_pose_that_is_none_is_refused_in_one_line(with_node: Make) -> None:
    robot = with_node('scale.source:=kinematics')
    poses = robot.node.create_publisher(PoseStamped, '/robot_pose', 100)
    robot.wait(lambda: poses.get_subscription_count() == 1, 'a listener')
    message = PoseStamped()
    message.header.stamp.sec, message.pose.orientation.w = 1, 0.0
    poses.publish(message)
    robot.wait_for_log('robot_pose refused: a pose at [0.0, 0.0, 0.0] with quaternion [0.0, ')


def test_a_deactivation_amid_a_picture_is_no_failure(with_node: Make) -> None:
    robot = with_node('scale.source:=kinematics')
    begun, seconds = threading.Event(), 0.5

    def slow(picture: np.ndarray) -> DepthMap:
        begun.set()
        time.sleep(seconds)
        return flat(picture)

    robot.scope._pipeline.depth_network = slow
    for number in range(3):
        if number:
            robot.scope.trigger_activate()
            robot.ready()
        begun.clear()
        robot.camera.publish(robot.message(wall(2.0 * number)))
        robot.wait(begun.is_set, 'a picture at work')
        robot.scope.trigger_deactivate()
    end = time.monotonic() + 2.5  # an inactive node reports its failures, once a second
    robot.wait(lambda: time.monotonic() > end, 'two reports')
    levels = {message.status[0].level for message in robot.seen['diagnostics']}
    assert DiagnosticStatus.ERROR not in levels
    assert 'a picture failed' not in robot.log()


def diagnosis(robot: RobotWithNode) -> str:
    seen = robot.seen['diagnostics']
    pairs = seen[-1].status[0].values if seen else []
    return str({pair.key: pair.value for pair in pairs}.get('scale'))
