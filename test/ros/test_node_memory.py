# SPDX-License-Identifier: Apache-2.0
"""Configured and cleaned up again and again, from outside, the node grows no larger."""

import psutil
import pytest
from robot import RobotWithProcess, wall

pytestmark = pytest.mark.ros
A_FEW, ALL = (14, 6), (200, 20)  # cycles, and those after which memory has settled


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
    seen = []
    for cycle in range(1, cycles + 1):
        for transition in ('configure', 'activate', 'deactivate', 'cleanup'):
            assert robot.go(transition), transition
        seen.append(resident_mib(robot))
        if cycle % 20 == 0:
            print(f'cycle {cycle}: {seen[-1]:.1f} MiB')
    # what the C library keeps goes up and down by chance; what is lost does not come back
    assert min(seen[-3:]) <= 1.05 * max(seen[:settling])
