# SPDX-License-Identifier: Apache-2.0
"""The node as a robot meets it, over real DDS: what comes out of what goes in."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from nav_msgs.msg import Odometry
from robot import (
    HEIGHT,
    PATIENCE_S,
    PER_FRAME,
    WIDTH,
    RobotWithNode,
    RobotWithProcess,
    stamp,
    wall,
)
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from endosfm3d_ros.complaints import PAUSE_S
from endosfm3d_ros.core.geometry import rotation_from_quaternion

pytestmark = pytest.mark.ros
TRIES = 5
METRIC_ONLY = ('depth/image', 'depth/confidence', 'points', 'odometry', 'path', 'tf')


@pytest.fixture
def robot(with_node: Callable[..., RobotWithNode]) -> RobotWithNode:
    return with_node()


def depth_of(message: Image) -> np.ndarray:
    """(h, w) of a 32FC1 message [m]."""
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


def looked_at(odometry: Odometry, depth_m: float) -> np.ndarray:
    """
    The place so far along the optical axis (3,) in odom [m].

    A flat wall that slides by tells a turn hardly from a shift; both move what is looked at.
    """
    at, turn = odometry.pose.pose.position, odometry.pose.pose.orientation
    R = rotation_from_quaternion(turn.x, turn.y, turn.z, turn.w)
    return np.array([at.x, at.y, at.z]) + depth_m * R[:, 2]


def test_every_output_of_a_frame_bears_its_stamp_and_the_right_frame_and_size(
    with_process: RobotWithProcess,
) -> None:
    robot = with_process
    robot.ready()
    stamps = []
    for number in range(8):
        message = robot.message(wall(2.0 * number))
        stamps.append(stamp(message))
        robot.answer_to(message)
    for topic in PER_FRAME:
        assert [stamp(message) for message in robot.seen[topic]] == stamps, topic
    depth, info = robot.seen['depth/image'][-1], robot.seen['depth/camera_info'][-1]
    assert (depth.encoding, depth.width, depth.height) == ('32FC1', info.width, info.height)
    assert (robot.seen['rgb/image'][-1].width, robot.seen['points'][-1].width) == (
        depth.width,
        depth.width,
    )
    assert (
        robot.seen['input/camera_info'][-1].width,
        robot.seen['input/camera_info'][-1].height,
    ) == (WIDTH, HEIGHT)
    for topic in ('depth/image', 'rgb/image', 'points', 'depth/camera_info', 'input/camera_info'):
        assert robot.seen[topic][-1].header.frame_id == 'scope_optical', topic
    transform = robot.seen['tf'][-1].transforms[0]
    assert (transform.header.frame_id, transform.child_frame_id) == ('odom', 'scope_optical')
    odometry = robot.seen['odometry'][-1]
    assert (odometry.header.frame_id, odometry.child_frame_id) == ('odom', 'scope_optical')
    assert odometry.pose.pose.position.y == pytest.approx(transform.transform.translation.y)
    aim = looked_at(odometry, float(np.nanmedian(depth_of(depth))))
    assert aim[1] < -5e-4  # the wall slid left: the scope looks farther right, which is odom's -y
    status = robot.status()
    assert (status['valid'], status['scale_state']) == ('true', 'nominal')
    assert status['camera_model'] == 'pinhole_approximation'
    assert (status['received'], status['lost'], status['dropped']) == ('8', '0', '0')


def bad_messages(robot: RobotWithNode) -> dict[str, Image]:
    """One of every kind of wrong picture, with what the log has to say of it."""
    bad = {
        "encoding 'hsv12' is not read": robot.message(wall(0)),
        'with step 7 and': robot.message(wall(0)),
        'stamp 0 s 0 ns': robot.message(wall(0), stamp_ns=0),
        'empty frame_id': robot.message(wall(0), frame_id=''),
        "are both 'odom'": robot.message(wall(0), frame_id='/odom'),
    }
    encoding, step, *_ = bad.values()
    encoding.encoding = 'hsv12'
    step.step = 7
    return bad


def test_bad_pictures_get_one_clear_line_each_and_the_next_good_one_is_answered(
    robot: RobotWithNode,
) -> None:
    robot.answer_to(robot.message(wall(0)))
    bad = bad_messages(robot)
    for said, message in bad.items():
        robot.camera.publish(message)
        robot.wait_for_log(said)
    assert robot.answer_to(robot.message(wall(2)))['valid'] == 'true'
    complaints = [line for line in robot.log().splitlines() if 'picture refused' in line]
    assert len(complaints) == len(bad) and 'Traceback' not in robot.log()


def test_bad_pictures_without_end_do_not_flood_the_log(robot: RobotWithNode) -> None:
    diagnostics, begun = robot.scope._diagnostics, time.monotonic()
    for number in range(20):
        bad = robot.message(wall(0), stamp_ns=-1_000_000_000 * (number + 1))
        robot.camera.publish(bad)
        robot.wait(lambda n=number: diagnostics._refused > n, 'a refusal')  # type: ignore[misc]
    pauses = (time.monotonic() - begun) // PAUSE_S
    complaints = [line for line in robot.log().splitlines() if 'picture refused' in line]
    assert 1 <= len(complaints) <= 1 + pauses


def test_black_frozen_tiny_huge_and_changed_pictures_are_survived_and_said(
    robot: RobotWithNode,
) -> None:
    assert robot.answer_to(robot.message(wall(0)))['valid'] == 'true'
    black = robot.answer_to(robot.message(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    assert (black['valid'], black['reason']) == ('false', 'black')
    depth = np.frombuffer(robot.seen['depth/image'][-1].data, np.float32)
    points = np.frombuffer(robot.seen['points'][-1].data, np.float32).reshape(-1, 4)
    assert np.isnan(depth).all() and np.isnan(points[:, :3]).all()
    for _ in range(7):
        frozen = robot.answer_to(robot.message(wall(4)))
    assert (frozen['valid'], frozen['reason']) == ('false', 'frozen')
    assert robot.answer_to(robot.message(np.full((1, 1, 3), 90, np.uint8)))['valid'] == 'false'
    large = cv2.resize(wall(0), (1280, 960))
    answer = robot.answer_to(robot.message(large))
    assert answer['valid'] == 'true' and int(answer['epoch']) == 2  # each change of size opens one
    assert robot.seen['input/camera_info'][-1].width == 1280


def test_a_stamp_that_goes_back_opens_an_epoch_and_the_log_says_so(robot: RobotWithNode) -> None:
    for number in range(4):
        robot.answer_to(robot.message(wall(2.0 * number)))
    answer = robot.answer_to(robot.message(wall(0), stamp_ns=1_600_000_000_000_000_000))
    assert answer['epoch'] == '1' and 'a looping bag?' in robot.log()


def test_reset_opens_an_epoch_with_the_next_picture(robot: RobotWithNode) -> None:
    assert robot.answer_to(robot.message(wall(0)))['epoch'] == '0'
    assert robot.call(Trigger, '/endosfm3d/reset', Trigger.Request()).success
    assert robot.answer_to(robot.message(wall(2)))['epoch'] == '1'


def test_a_lifecycle_manager_walks_the_node_round_and_it_works_again(
    with_process: RobotWithProcess,
) -> None:
    robot = with_process
    robot.ready()
    assert robot.answer_to(robot.message(wall(0)))['received'] == '1'
    assert robot.go(Transition.TRANSITION_DEACTIVATE) and robot.go(Transition.TRANSITION_CLEANUP)
    robot.wait(lambda: robot.camera.get_subscription_count() == 0, 'the input to close')
    assert robot.go(Transition.TRANSITION_CONFIGURE) and robot.go(Transition.TRANSITION_ACTIVATE)
    assert robot.state() == 'active'
    robot.ready()
    again = robot.answer_to(robot.message(wall(2)))
    assert (again['valid'], again['received']) == ('true', '1')  # counted from the activation


@pytest.mark.parametrize('transition', [Transition.TRANSITION_ACTIVATE, 'configure', 200, 'fly'])
def test_a_transition_that_is_not_possible_is_answered_with_no_and_the_node_goes_on(
    robot: RobotWithNode, transition: int | str
) -> None:
    assert not robot.go(transition)
    assert robot.state() == 'active'
    robot.wait_for_log('possible now: deactivate, shutdown')
    assert robot.answer_to(robot.message(wall(0)))['valid'] == 'true'


def test_ctrl_c_in_a_stream_of_pictures_is_a_clean_end(with_process: RobotWithProcess) -> None:
    robot, stop = with_process, threading.Event()
    robot.ready()
    pictures = [robot.message(wall(float(number))) for number in range(10)]

    def play() -> None:
        while not stop.wait(1 / 60):
            message = pictures[robot.stamp_ns // 40_000_000 % 10]
            robot.stamp_ns += 40_000_000
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(
                robot.stamp_ns, 1_000_000_000
            )
            robot.camera.publish(message)

    player = threading.Thread(target=play)
    player.start()
    try:
        robot.wait(lambda: len(robot.seen['status']) > 20, 'twenty answers')
        robot.process.send_signal(signal.SIGINT)
        assert robot.process.wait(PATIENCE_S) == 0
    finally:
        stop.set()
        player.join()
    assert not any(word in robot.log() for word in ('Traceback', '[ERROR]', 'terminate'))


def test_ctrl_c_while_the_libraries_load_is_a_clean_end(
    with_process: RobotWithProcess, tmp_path: Path
) -> None:
    for attempt in range(TRIES):  # on a busy machine the signal may come when all is loaded
        robot = with_process if attempt == 0 else RobotWithProcess(tmp_path / f'{attempt}.log')
        loading = psutil.Process(robot.process.pid)
        end = time.monotonic() + PATIENCE_S
        while not any('numpy' in area.path for area in loading.memory_maps()):
            assert time.monotonic() < end
            time.sleep(0.01)
        robot.process.send_signal(signal.SIGINT)
        assert robot.process.wait(PATIENCE_S) == 0
        said = robot.log()
        if attempt:
            robot.end()
        assert 'Traceback' not in said
        if said == '':
            return
    pytest.fail(f'{TRIES} times too late: {said}')


def test_metric_is_required_and_nothing_is_anchored_so_all_lengths_are_withheld(
    with_node: Callable[..., RobotWithNode],
) -> None:
    robot = with_node('require_metric:=true')
    told = tuple(topic for topic in PER_FRAME if topic not in METRIC_ONLY)
    assert robot.answer_to(robot.message(wall(0)), told)['scale_state'] == 'nominal'
    robot.answer_to(robot.message(wall(2)), told)
    assert not any(robot.seen[topic] for topic in METRIC_ONLY)
    robot.seen['diagnostics'].clear()
    robot.wait(lambda: bool(robot.seen['diagnostics']), 'a diagnostics message')
    status = robot.seen['diagnostics'][-1].status[0]
    assert status.level == DiagnosticStatus.WARN
    assert status.message == 'no lengths are sent (require_metric); scale: none'


def test_tf_inverse_hangs_odom_under_the_camera(with_node: Callable[..., RobotWithNode]) -> None:
    robot = with_node('tf.mode:=inverse', 'odom_frame_id:=/odom')
    robot.answer_to(robot.message(wall(0)))
    transform = robot.seen['tf'][-1].transforms[0]
    assert (transform.header.frame_id, transform.child_frame_id) == ('scope_optical', 'odom')
