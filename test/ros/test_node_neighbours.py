# SPDX-License-Identifier: Apache-2.0
"""The node among others: nobody sends, somebody sends otherwise, somebody knows the camera."""

import time
from collections.abc import Callable

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from robot import PATIENCE_S, PER_FRAME, RobotWithNode, RobotWithProcess, wall
from sensor_msgs.msg import CompressedImage, Image
from tf2_msgs.msg import TFMessage

pytestmark = pytest.mark.ros
Make = Callable[..., RobotWithNode]
BUT_TF = tuple(topic for topic in PER_FRAME if topic != 'tf')


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('endosfm3d_ros.silence.SILENT_AFTER_S', 1.0)


# nothing comes


@pytest.mark.usefixtures('impatient')
def test_a_silent_driver_is_named_with_what_it_offers_and_a_picture_ends_it(
    with_node: Make,
) -> None:
    robot = with_node()
    robot.wait_for_log('s; publishers: /robot (reliable, volatile); they fit and send')
    robot.wait(lambda: 'nothing on /scope/image' in sentence(robot), 'the same in /diagnostics')
    assert level(robot) == DiagnosticStatus.WARN
    robot.answer_to(robot.message(wall(0)))
    robot.wait(lambda: level(robot) == DiagnosticStatus.OK, 'an end of the silence')


@pytest.mark.usefixtures('impatient')
def test_a_best_effort_driver_that_a_reliable_listener_never_hears_is_explained(
    with_node: Make,
) -> None:
    robot = with_node('qos_overrides./scope/image.subscription.reliability:=reliable', start=False)
    robot.node.destroy_publisher(robot.camera)
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    robot.node.create_publisher(Image, '/scope/image', qos)
    assert robot.scope.start()
    robot.wait_for_log('/robot offers best effort, and reliable is asked for: set qos_overrides.')


def test_compressed_pictures_under_the_topic_of_raw_ones_are_explained(
    with_process: RobotWithProcess,
) -> None:
    robot = with_process  # one process can not have two types of one topic
    robot.node.destroy_publisher(robot.camera)
    robot.node.create_publisher(CompressedImage, '/scope/image', 1)
    robot.wait_for_log('publishes sensor_msgs/msg/CompressedImage, needed sensor_msgs/msg/Image')


def sentence(robot: RobotWithNode) -> str:
    seen = robot.seen['diagnostics']
    return str(seen[-1].status[0].message) if seen else ''


def level(robot: RobotWithNode) -> bytes | None:
    seen = robot.seen['diagnostics']
    return seen[-1].status[0].level if seen else None


# a camera that has a parent


def transform(parent: str, child: str) -> TFMessage:
    one = TransformStamped(child_frame_id=child)
    one.header.frame_id = parent
    one.transform.rotation.w = 1.0
    return TFMessage(transforms=[one])


def show_until(robot: RobotWithNode, done: Callable[[], bool]) -> None:
    """Send pictures until something holds: with them the node looks at what others send."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, robot.log()
        robot.answer_to(robot.message(wall(0)), BUT_TF)
        time.sleep(0.03)  # as a camera does: more of our own transforms a second push theirs out


@pytest.mark.parametrize(('topic', 'listeners'), [('/tf', 2), ('/tf_static', 1)])
def test_a_camera_that_has_a_parent_gets_no_second_one_and_the_log_says_what_to_set(
    with_node: Make, topic: str, listeners: int
) -> None:
    robot = with_node()
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    others = robot.node.create_publisher(TFMessage, topic, latched)
    robot.wait(lambda: others.get_subscription_count() == listeners, 'listeners')
    robot.answer_to(robot.message(wall(0)))
    others.publish(transform('ecm_tip', 'scope_optical'))
    show_until(robot, lambda: "'scope_optical' already has the parent 'ecm_tip'" in robot.log())
    robot.seen['tf'].clear()
    robot.answer_to(robot.message(wall(2)), BUT_TF)
    assert 'set tf.mode to inverse' in robot.log()
    assert not any(said.transforms[0].header.frame_id == 'odom' for said in robot.seen['tf'])
    robot.wait(lambda: 'ecm_tip' in sentence(robot), 'the same in /diagnostics')


def test_inverse_mode_lives_with_a_camera_that_has_a_parent(with_node: Make) -> None:
    robot = with_node('tf.mode:=inverse')
    others = robot.node.create_publisher(TFMessage, '/tf', 10)
    robot.wait(lambda: others.get_subscription_count() == 2, 'listeners')
    others.publish(transform('ecm_tip', 'scope_optical'))
    parents = robot.scope._tf._parents
    show_until(robot, lambda: parents.foreign('scope_optical', 'odom') == 'ecm_tip')
    robot.answer_to(robot.message(wall(0)))
    said = robot.seen['tf'][-1].transforms[0]
    assert (said.header.frame_id, said.child_frame_id) == ('scope_optical', 'odom')


def test_odom_goes_from_one_camera_to_another_and_the_one_before_is_no_foreign_parent(
    with_node: Make,
) -> None:
    robot = with_node('tf.mode:=inverse')
    parents = robot.scope._tf._parents
    show_until(robot, lambda: ('odom', 'scope_optical') in parents._seen)
    robot.answer_to(robot.message(wall(0), 'other_optical'))
    assert robot.seen['tf'][-1].transforms[0].header.frame_id == 'other_optical'
    assert 'already has the parent' not in robot.log()


def test_tf_mode_none_sends_nothing(with_node: Make) -> None:
    robot = with_node('tf.mode:=none')
    robot.answer_to(robot.message(wall(0)), BUT_TF)
    robot.answer_to(robot.message(wall(2)), BUT_TF)
    assert not robot.seen['tf']


# publishers and subscribers that come and go


def test_a_driver_that_starts_again_is_heard_and_what_it_sends_is_counted(with_node: Make) -> None:
    robot = with_node()
    robot.answer_to(robot.message(wall(0)))
    robot.node.destroy_publisher(robot.camera)
    robot.wait(lambda: not robot.scope.count_publishers('/scope/image'), 'its end')
    robot.camera = robot.node.create_publisher(Image, '/scope/image', 5)
    robot.ready()
    answer = robot.answer_to(robot.message(wall(2)))
    assert (answer['valid'], answer['received'], answer['lost']) == ('true', '2', '0')


def test_a_listener_that_comes_late_gets_what_follows(with_node: Make) -> None:
    robot = with_node()
    robot.answer_to(robot.message(wall(0)))
    late: list[Image] = []
    robot.node.create_subscription(Image, '/endosfm3d/depth/image', late.append, 5)
    publisher = robot.scope._topics['depth/image']
    robot.wait(lambda: publisher.get_subscription_count() == 2, 'the late listener')
    robot.answer_to(robot.message(wall(2)))
    robot.wait(lambda: len(late) == 1, 'its first picture')


def test_a_listener_that_asks_for_what_is_not_offered_is_named_while_pictures_come(
    with_node: Make,
) -> None:
    robot = with_node()
    robot.answer_to(robot.message(wall(0)))
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    robot.node.create_subscription(Image, '/endosfm3d/depth/image', lambda _: None, latched)
    show_until(robot, lambda: 'requesting incompatible QoS' in robot.log())
    assert '/endosfm3d/depth/image' in robot.log() and 'DURABILITY' in robot.log()
