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
    assert captured.why_not_captured == ''
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


@pytest.mark.parametrize('broken', ['enqueue', 'out', 'wait', 'end_capture'])
def test_where_nothing_can_be_captured_frames_go_to_the_streams_themselves(
    cuda: RecordingCuda, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    note = cuda._note

    def fail(*call: object) -> None:
        if cuda.captured is not None and call[0] == broken:
            raise EngineError('not while a stream is captured; look at nvidia-smi')
        note(*call)

    def fail_at_the_end(stream: int) -> int:
        cuda.captured = None
        raise EngineError('not while a stream is captured; look at nvidia-smi')

    monkeypatch.setattr(cuda, '_note', fail)
    if broken == 'end_capture':
        monkeypatch.setattr(cuda, 'end_capture', fail_at_the_end)
    depth, motion = RecordingPlan(cuda, 'depth', 1, 'depth'), RecordingPlan(cuda, 'm', 2, 'motion')
    captured = CapturedPlans(cuda, [depth, motion])
    assert captured.why_not_captured == 'not while a stream is captured'
    main = next(call[1] for call in cuda.calls if call[0] == 'stream')
    assert (('discard', main) in cuda.calls) == (broken != 'end_capture')
    cuda.calls.clear()
    for one, other in ((1, 2), (5, 7)):
        said = captured.run(picture(one), picture(other))
        assert (said['depth'][0], said['motion'][0]) == (other, 10.0 * other + one)
    names = [call[0] for call in cuda.calls]
    assert names == [
        'in', 'in', 'record', 'wait', 'enqueue', 'out', 'enqueue', 'out', 'record', 'wait',
        'synchronize',
    ] * 2  # fmt: skip


def test_no_capture_is_left_open_whatever_goes_wrong(
    cuda: RecordingCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = RecordingPlan(cuda, 'depth', 1, 'depth')

    def fail(stream: int) -> None:
        if cuda.captured is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr(plan, 'enqueue', fail)
    with pytest.raises(KeyboardInterrupt):
        CapturedPlans(cuda, [plan])
    assert cuda.captured is None and cuda.calls[-1][0] == 'discard'


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
