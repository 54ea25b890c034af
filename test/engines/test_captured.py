# SPDX-License-Identifier: Apache-2.0
"""The order in which CUDA is called, written down by a CUDA that has no GPU."""

import numpy as np
import pytest
from recording import SIZE, U8, RecordingCuda, RecordingPlan

from endosfm3d_ros.engines.captured import CapturedPlans, Tensor
from endosfm3d_ros.engines.engine import EngineError


@pytest.fixture
def cuda() -> RecordingCuda:
    return RecordingCuda()


def picture(value: int) -> np.ndarray:
    return np.full(SIZE, value, np.uint8)


def test_one_plan_is_captured_once_after_a_first_run_and_a_frame_is_one_launch(
    cuda: RecordingCuda,
) -> None:
    captured = CapturedPlans(cuda, [RecordingPlan(cuda, 'depth', 1, 'depth')])
    order = [call[0] for call in cuda.calls if call[0] not in ('event', 'device', 'pinned')]
    assert order == [
        'stream', 'enqueue', 'synchronize', 'begin', 'in', 'enqueue', 'out', 'end'
    ]  # fmt: skip
    cuda.calls.clear()
    assert captured.run(picture(3))['depth'].tolist() == [3.0, 3.0]
    assert captured.run(picture(9))['depth'].tolist() == [9.0, 9.0]
    assert [call[0] for call in cuda.calls] == ['launch', 'synchronize'] * 2  # nothing is taken


def test_a_frame_gives_the_very_arrays_of_the_frame_before(cuda: RecordingCuda) -> None:
    captured = CapturedPlans(cuda, [RecordingPlan(cuda, 'depth', 1, 'depth')])
    first = captured.run(picture(1))
    assert captured.run(picture(2)) is first and first['depth'][0] == 2.0


def test_two_plans_fork_after_the_copies_in_and_join_before_the_end(cuda: RecordingCuda) -> None:
    depth = RecordingPlan(cuda, 'depth', 1, 'depth')
    motion = RecordingPlan(cuda, 'motion', 2, 'motion')
    captured = CapturedPlans(cuda, [depth, motion])
    main, side = (call[1] for call in cuda.calls if call[0] == 'stream')
    graph = cuda.graph
    names = [call[0] for call in graph]
    assert names == [
        'in', 'in', 'record', 'wait', 'enqueue', 'out', 'enqueue', 'out', 'record', 'wait'
    ]  # fmt: skip
    fork, join = (call[1] for call in graph if call[0] == 'record')
    assert graph[2:4] == [('record', fork, main), ('wait', side, fork)]
    assert graph[-2:] == [('record', join, side), ('wait', main, join)]
    assert {call[-1] for call in graph[:2]} == {main}
    assert [call[-1] for call in graph[4:8]] == [main, main, side, side]
    # depth looks at the last picture, which motion has second: one copy serves both
    assert depth.at['depth_0'] == motion.at['motion_1'] != motion.at['motion_0']
    said = captured.run(picture(1), picture(2))
    assert (said['depth'][0], said['motion'][0]) == (2.0, 21.0)


def test_plans_that_do_not_belong_together_are_refused(cuda: RecordingCuda) -> None:
    depth = RecordingPlan(cuda, 'depth', 1, 'depth')
    twin = RecordingPlan(cuda, 'twin', 1, 'depth')
    with pytest.raises(EngineError, match="two plans have an output 'depth'"):
        CapturedPlans(cuda, [depth, twin])
    small = RecordingPlan(cuda, 'small', 1, 'other')
    small.tensors = (Tensor('small_0', True, (2, 2, 3), U8), small.tensors[1])
    with pytest.raises(EngineError, match='needed plans of one size'):
        CapturedPlans(cuda, [depth, small])


def test_the_wrong_number_of_pictures_is_not_run(cuda: RecordingCuda) -> None:
    captured = CapturedPlans(cuda, [RecordingPlan(cuda, 'motion', 2, 'motion')])
    with pytest.raises(ValueError, match='zip'):
        captured.run(picture(1))
