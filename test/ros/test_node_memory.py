# SPDX-License-Identifier: Apache-2.0
"""Configured and cleaned up again and again, from outside, the node grows no larger."""

import psutil
import pytest
from robot import RobotWithProcess, wall

pytestmark = pytest.mark.ros
A_FEW, ALL = (12, 6), (200, 20)  # cycles, and those after which memory has settled
SPARE_MIB = 20.0  # so much the C library's arenas may keep by chance; 13 were seen once


def resident_mib(robot: RobotWithProcess) -> float:
    return float(psutil.Process(robot.process.pid).memory_info().rss) / (1 << 20)


@pytest.mark.parametrize(
    ('cycles', 'settling'), [A_FEW, pytest.param(*ALL, marks=pytest.mark.slow)]
)
def test_memory_after_many_cycles_is_that_after_few(
    with_process: RobotWithProcess, cycles: int, settling: int
) -> None:
    robot = with_process
    robot.ready()
    assert robot.answer_to(robot.message(wall(0)))['valid'] == 'true'
    active = resident_mib(robot)
    assert robot.go('deactivate') and robot.go('cleanup')
    assert resident_mib(robot) < active - 20  # cleanup lets the networks go
    settled = 0.0
    for cycle in range(1, cycles + 1):
        for transition in ('configure', 'activate', 'deactivate', 'cleanup'):
            assert robot.go(transition), transition
        if cycle == settling:
            settled = resident_mib(robot)
        if cycle % 20 == 0:
            print(f'cycle {cycle}: {resident_mib(robot):.1f} MiB')
    assert resident_mib(robot) <= settled + SPARE_MIB
