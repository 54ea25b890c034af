# SPDX-License-Identifier: Apache-2.0
"""Two scopes on one robot, each with its node in a namespace; one of them plays in a loop."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.publisher import Publisher
from robot import Robot, RobotWithNode, stamp, wall
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

from endosfm3d_ros.endoscope_node import EndoscopeNode

pytestmark = pytest.mark.ros
GONE_S = 10.0  # DDS is told within milliseconds
SIDES = ('left', 'right')


class TwoScopes(Robot):
    """A robot with two drivers and two nodes, in one process."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes = {side: self._scope(side) for side in SIDES}
        self.drivers: dict[str, Publisher] = {}
        self.said: dict[str, list[DiagnosticArray]] = defaultdict(list)
        for side in SIDES:
            self.drivers[side] = self.node.create_publisher(Image, f'/{side}/image', 5)
            status = f'/{side}/endosfm3d/status'
            self.node.create_subscription(DiagnosticArray, status, self.said[side].append, 20)
            self.executor.add_node(self.scopes[side])
            assert self.scopes[side].start()

    def _scope(self, side: str) -> EndoscopeNode:
        words = ['-r', f'__ns:=/{side}', '-p', f'odom_frame_id:={side}_odom']
        return EndoscopeNode(cli_args=['--ros-args', *words])

    def log(self) -> str:
        return 'see above'

    def send(self, side: str, number: int, stamp_ns: int) -> dict[str, str]:
        """One picture of a side, and the status that answers it."""
        message = self.message(wall(2.0 * number), f'{side}_optical', stamp_ns)
        self.drivers[side].publish(message)
        said = self.said[side]
        self.wait(lambda: bool(said) and stamp(said[-1]) == stamp_ns, f'an answer of {side}')
        return {pair.key: pair.value for pair in said[-1].status[0].values}

    def end(self) -> int:
        for scope in self.scopes.values():
            scope.close()
            scope.destroy_node()
        return super().end()


@pytest.fixture
def two(ros: Any) -> Iterator[TwoScopes]:
    robot = TwoScopes()
    yield robot
    robot.end()


def frames(robot: Robot) -> set[tuple[str, str]]:
    """Every parent and child that TF told."""
    sent: list[TFMessage] = robot.seen['tf']
    links = (one for message in sent for one in message.transforms)
    return {(one.header.frame_id, one.child_frame_id) for one in links}


def diagnosed(robot: Robot) -> set[str]:
    """Whom `/diagnostics` told of, by name."""
    return {message.status[0].name for message in robot.seen['diagnostics']}


def test_two_nodes_do_not_disturb_each_other_while_one_of_them_plays_a_loop(
    two: TwoScopes,
) -> None:
    robot, begin = two, 1_700_000_000_000_000_000
    for side in SIDES:
        robot.wait(lambda side=side: robot.drivers[side].get_subscription_count() == 1, 'an ear')  # type: ignore[misc]
        listens = f'/{side}/endosfm3d/status'
        robot.wait(lambda topic=listens: bool(robot.node.count_publishers(topic)), 'a mouth')  # type: ignore[misc]
    epochs = {side: [] for side in SIDES}
    for number in range(9):
        looped = begin + (number % 3) * 40_000_000  # three pictures, again and again
        epochs['left'].append(robot.send('left', number % 3, looped)['epoch'])
        straight = begin + number * 40_000_000
        epochs['right'].append(robot.send('right', number, straight)['epoch'])
    assert epochs['left'] == ['0', '0', '0', '1', '1', '1', '2', '2', '2']
    assert epochs['right'] == ['0'] * 9
    both = {('left_odom', 'left_optical'), ('right_odom', 'right_optical')}
    robot.wait(lambda: frames(robot) >= both, 'the motion of both')
    assert frames(robot) == both
    names = {f'{side}/endosfm3d' for side in SIDES}
    robot.wait(lambda: diagnosed(robot) == names, 'the diagnostics of both')


def test_a_node_that_ended_offers_nothing_any_more(ros: None) -> None:
    """Else the next robot of this process asks a ghost."""
    gone, there = RobotWithNode(), '/endosfm3d/get_state'
    gone.wait(lambda: gone.node.count_services(there) == 1, 'a service')
    watching = rclpy.create_node('watching')
    gone.end()
    end = time.monotonic() + GONE_S
    while watching.count_services(there) and time.monotonic() < end:
        time.sleep(0.05)
    left = watching.count_services(there)
    watching.destroy_node()
    assert not left
