# SPDX-License-Identifier: Apache-2.0
"""Robots for the tests here, which can import robot.py: `test` itself is a package of Python's."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import rclpy
from std_srvs.srv import Trigger

sys.path.append(str(Path(__file__).parent))
from robot import RobotWithNode, RobotWithProcess


@pytest.fixture(scope='module')
def ros() -> Iterator[None]:
    rclpy.init()
    if not _hears_itself():  # seen once: for minutes nothing in this process was discovered
        warnings.warn('DDS did not discover its own service: begun anew', stacklevel=1)
        rclpy.shutdown()
        rclpy.init()
    yield
    rclpy.try_shutdown()


def _hears_itself() -> bool:
    node = rclpy.create_node('hearing')
    node.create_service(Trigger, '/hearing/ask', lambda asked, answer: answer)
    heard = node.create_client(Trigger, '/hearing/ask').wait_for_service(timeout_sec=10.0)
    node.destroy_node()
    return bool(heard)


@pytest.fixture
def with_node(
    ros: None, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., RobotWithNode]]:
    """Makes robots with the node in this process, and ends them."""
    with ExitStack() as robots:

        def make(*parameters: str, start: bool = True) -> RobotWithNode:
            robot = RobotWithNode(*parameters)
            robots.callback(robot.end)
            if start and robot.scope.start():
                robot.ready()
            return robot

        yield make


@pytest.fixture
def with_process(ros: None, tmp_path: Path) -> Iterator[RobotWithProcess]:
    """A robot with the node in a process of its own."""
    robot = RobotWithProcess(tmp_path / 'node.log')
    yield robot
    robot.end()
