# SPDX-License-Identifier: Apache-2.0
"""Configured and cleaned up again and again, from outside, the node grows no larger."""

import psutil
import pytest
from robot import RobotWithProcess, wall

pytestmark = [pytest.mark.ros, pytest.mark.slow]
CYCLES, SETTLED = 200, 20


def resident_mib(robot: RobotWithProcess) -> float:
    return float(psutil.Process(robot.process.pid).memory_info().rss) / (1 << 20)


def test_memory_after_two_hundred_cycles_is_that_after_twenty(
    with_process: RobotWithProcess,
) -> None:
    robot = with_process
    robot.ready()
    assert robot.answer_to(robot.message(wall(0)))['valid'] == 'true'
    assert robot.go('deactivate') and robot.go('cleanup')
    settled = 0.0
    for cycle in range(1, CYCLES + 1):
        for transition in ('configure', 'activate', 'deactivate', 'cleanup'):
            assert robot.go(transition), transition
        if cycle == SETTLED:
            settled = resident_mib(robot)
        if cycle % 20 == 0:
            print(f'cycle {cycle}: {resident_mib(robot):.1f} MiB')
    assert resident_mib(robot) <= 1.05 * settled
