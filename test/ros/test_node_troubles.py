# SPDX-License-Identifier: Apache-2.0
"""The node when something is wrong: with its parameters, its topics, its clock, or itself."""

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from robot import PATIENCE_S, REMAPPED, ROOT, RobotWithNode, wall
from sensor_msgs.msg import Image

from endosfm3d_ros.endoscope_node import MAX_FAILURES

pytestmark = pytest.mark.ros


Make = Callable[..., RobotWithNode]


def set_parameter(robot: RobotWithNode, name: str, value: Any) -> Any:
    wanted = Parameter(name, value=value).to_parameter_msg()
    request = SetParameters.Request(parameters=[wanted])
    return robot.call(SetParameters, '/endosfm3d/set_parameters', request).results[0]


# parameters


@pytest.mark.parametrize(
    ('parameter', 'said'),
    [
        ('modle:=compact', "unknown parameter 'modle'; known: autostart, "),
        ('engine_threads:=two', "engine_threads: 'two' is not int"),
        ('path.rate:=9.0', 'path.rate: 9.0 is not within 0.01 to 2'),
    ],
)
def test_a_wrong_parameter_at_the_start_is_named_in_one_line(
    with_node: Make, parameter: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        with_node(parameter)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'words', [['-p', 'modle:=compact'], ['-p', 'model'], ['-p', 'use_sim_time:=1']]
)
def test_the_process_says_what_was_typed_wrong_in_one_line_and_ends_with_two(
    words: list[str],
) -> None:
    command = [sys.executable, '-m', 'endosfm3d_ros.node', *REMAPPED, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]  # before it rcl may have one of its own
    assert line.startswith('endosfm3d_node: ') and words[-1].split(':')[0] in line
    assert 'Traceback' not in done.stderr


END_WITHOUT_WAKING = """
import threading, time
import rclpy
from endosfm3d_ros.node import main

def end():
    while not (rclpy.ok() and rclpy.get_global_executor().get_nodes()):
        time.sleep(0.05)
    time.sleep(0.5)
    context = rclpy.get_default_context().handle
    with context:
        context.shutdown()

threading.Thread(target=end, daemon=True).start()
raise SystemExit(main(['--ros-args', '-p', 'autostart:=false']))
"""


def test_an_end_that_comes_while_the_spin_sleeps_is_seen() -> None:
    """What rclpy does at a signal: it wakes the spin, and only then ends the context."""
    command = [sys.executable, '-c', END_WITHOUT_WAKING]
    assert subprocess.run(command, cwd=ROOT, timeout=PATIENCE_S / 2).returncode == 0


def test_an_integer_is_taken_for_a_float_at_the_start_and_later(with_node: Make) -> None:
    robot = with_node(
        'intrinsics.prior_field_of_view:=60',
        'intrinsics.fixed:=[640, 480, 500, 501, 320, 240]',
        'qos_overrides./scope/image.subscription.depth:=2',
        start=False,
    )
    assert robot.scope.get_parameter('intrinsics.prior_field_of_view').value == 60.0
    assert list(robot.scope.get_parameter('intrinsics.fixed').value)[3] == 501.0
    assert set_parameter(robot, 'intrinsics.prior_field_of_view', 75).successful
    assert robot.scope.get_parameter('intrinsics.prior_field_of_view').value == 75.0
    assert not set_parameter(robot, 'intrinsics.prior_field_of_view', 500).successful
    assert robot.go('configure')
    refused = set_parameter(robot, 'intrinsics.prior_field_of_view', 80)
    assert not refused.successful and 'read at configure' in refused.reason


def test_what_may_change_live_goes_with_the_next_picture_and_another_scale_opens_an_epoch(
    with_node: Make,
) -> None:
    robot = with_node('scale.source:=constant', 'scale.constant:=2.0')
    before = robot.answer_to(robot.message(wall(0)))
    assert (before['scale'], before['scale_state'], before['epoch']) == ('2', 'constant', '0')
    near = np.nanmedian(np.frombuffer(robot.seen['depth/image'][-1].data, np.float32))
    assert set_parameter(robot, 'scale.constant', 4.0).successful
    after = robot.answer_to(robot.message(wall(0)))  # the same picture again: depth by scale alone
    assert (after['scale'], after['epoch']) == ('4', '1')
    assert 'the scale changed from 2 to 4' in robot.log()
    far = np.nanmedian(np.frombuffer(robot.seen['depth/image'][-1].data, np.float32))
    assert far == pytest.approx(2 * near, rel=1e-3)
    for name, value in (('field_of_view', 'full'), ('path.rate', 1.0), ('epoch.gap', 1.0)):
        assert set_parameter(robot, name, value).successful, name
    assert set_parameter(robot, 'intrinsics.zoom_agility', 0.1).successful
    assert not set_parameter(robot, 'scale.constant', -1.0).successful
    assert robot.answer_to(robot.message(wall(1)))['epoch'] == '1'  # none of these opens one
    settings = robot.scope._pipeline.settings
    assert (settings.find_circle, settings.gap_s, settings.zoom_agility) == (False, 1.0, 0.1)


def test_a_live_change_beside_one_that_is_not_is_refused_as_a_whole_with_the_reason(
    with_node: Make,
) -> None:
    robot = with_node()
    wanted = [Parameter('epoch.gap', value=1.0), Parameter('tf.mode', value='none')]
    request = SetParametersAtomically.Request(parameters=[p.to_parameter_msg() for p in wanted])
    answer = robot.call(
        SetParametersAtomically, '/endosfm3d/set_parameters_atomically', request
    ).result
    assert not answer.successful and answer.reason.startswith('tf.mode: read at configure')
    assert robot.scope._values['epoch.gap'] == 2.0


def test_a_node_that_was_shut_down_takes_parameters_and_does_nothing_with_them(
    with_node: Make,
) -> None:
    robot = with_node(start=False)
    assert robot.go('shutdown') and robot.state() == 'finalized'
    assert set_parameter(robot, 'epoch.gap', 1.0).successful


@pytest.mark.parametrize(
    ('name', 'wrong', 'right', 'said'),
    [
        ('model', 'nonesuch', 'photometric', "no bundle 'nonesuch'"),
        ('intrinsics.source', 'fixed', 'estimated', 'intrinsics.fixed (width'),
        ('odom_frame_id', '/', 'odom', 'names no frame'),
    ],
)
def test_a_node_that_can_not_be_configured_says_why_and_stays_for_another_try(
    with_node: Make, name: str, wrong: str, right: str, said: str
) -> None:
    robot = with_node(f'{name}:={wrong}')
    robot.wait_for_log(said)
    robot.wait_for_log('ros2 lifecycle set /endosfm3d configure')
    assert robot.state() == 'unconfigured'
    assert '_network' not in vars(robot.scope)  # neither made for nothing, nor kept
    assert set_parameter(robot, name, right).successful
    assert robot.go('configure') and robot.go('activate')


# activation


def test_an_activation_that_fails_says_why_and_leaves_nothing_behind(with_node: Make) -> None:
    robot = with_node('qos_overrides./scope/image.subscription.depth:=-3')
    robot.wait_for_log('on_activate: ')
    for _ in range(2):
        assert robot.state() == 'unconfigured'
        assert not any(thread.name == 'reconstruction' for thread in threading.enumerate())
        robot.wait(lambda: not robot.node.count_publishers('/endosfm3d/depth/image'), 'an end')
        assert robot.go('configure') and not robot.go('activate')


# the node's own failures


class Breakable:
    """A depth network that fails when it is told to."""

    def __init__(self, network: Any) -> None:
        self.network, self.broken = network, False

    def __call__(self, picture: np.ndarray) -> Any:
        if self.broken:
            raise KeyError('driver hiccup')
        return self.network(picture)


def broken(robot: RobotWithNode) -> Breakable:
    network = Breakable(robot.scope._pipeline.depth_network)
    robot.scope._pipeline.depth_network = network
    return network


def test_an_unexpected_failure_is_told_with_its_traceback_and_the_next_picture_is_answered(
    with_node: Make,
) -> None:
    robot = with_node()
    network = broken(robot)
    assert robot.answer_to(robot.message(wall(0)))['epoch'] == '0'
    network.broken = True
    robot.camera.publish(robot.message(wall(2)))
    robot.wait_for_log("KeyError: 'driver hiccup'")
    assert 'Traceback' in robot.log()
    robot.wait(lambda: level(robot) == DiagnosticStatus.ERROR, 'an error in the diagnostics')
    network.broken = False
    assert robot.answer_to(robot.message(wall(4)))['epoch'] == '1'
    assert 'epoch 1: a picture failed; ' in robot.seen['status'][-1].status[0].message
    robot.wait(lambda: level(robot) != DiagnosticStatus.ERROR, 'an end of the error')


def level(robot: RobotWithNode) -> bytes | None:
    seen = robot.seen['diagnostics']
    return seen[-1].status[0].level if seen else None


def test_failures_without_end_deactivate_the_node_and_it_can_be_activated_again(
    with_node: Make,
) -> None:
    robot = with_node('scale.source:=kinematics')  # of a robot that never comes
    network = broken(robot)
    network.broken = True
    for number in range(MAX_FAILURES):
        robot.camera.publish(robot.message(wall(float(number))))
        failed = robot.scope._diagnostics
        robot.wait(
            lambda failed=failed, n=number: failed._failed > n or robot.scope.state != 'active',  # type: ignore[misc]
            'a failure',
        )
    robot.wait_for_log(f'{MAX_FAILURES} pictures in a row failed: deactivated')
    assert robot.state() == 'inactive'
    assert robot.log().count('Traceback') <= 3  # the same one every few seconds
    robot.seen['diagnostics'].clear()
    robot.wait(lambda: level(robot) == DiagnosticStatus.ERROR, 'an error in the diagnostics')
    network.broken = False
    assert robot.go('activate')
    robot.ready()
    assert robot.answer_to(robot.message(wall(0)))['valid'] == 'true'


# what else runs on a robot


def test_pictures_of_two_drivers_leave_the_loss_unknown(with_node: Make) -> None:
    robot = with_node()
    assert robot.answer_to(robot.message(wall(0)))['lost'] == '0'
    second = robot.node.create_publisher(Image, '/scope/image', 5)
    robot.wait(lambda: robot.scope.count_publishers('/scope/image') == 2, 'a second driver')
    assert robot.answer_to(robot.message(wall(2)))['lost'] == '-1'
    robot.node.destroy_publisher(second)


def test_diagnostics_come_while_simulated_time_stands_still(with_node: Make) -> None:
    robot = with_node('use_sim_time:=true')
    robot.wait(lambda: bool(robot.seen['diagnostics']), 'a diagnostics message')
