# SPDX-License-Identifier: Apache-2.0
"""Robots for the tests here, which can import robot.py: `test` itself is a package of Python's."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import rclpy

sys.path.append(str(Path(__file__).parent))
from robot import RobotWithNode, RobotWithProcess


@pytest.fixture(scope='module')
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    gc.collect()  # nodes lie in circles, and until they are collected their services are offered
    rclpy.try_shutdown()


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
