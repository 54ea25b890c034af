# SPDX-License-Identifier: Apache-2.0
"""A plan is refused for whatever reason there is, in one line and in one order."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording import RecordingCuda, RecordingPlan

from endosfm3d_ros.bundle import Graph, open_bundle
from endosfm3d_ros.engines import plans
from endosfm3d_ros.engines.captured import Tensor
from endosfm3d_ros.engines.cuda import Gpu
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.tensorrt import TensorRtEngine

VERSION, PLAN = '11.4.0.106', b'a plan of TensorRT'
TENSORS = [['picture', 'in', [224, 280, 3], 'uint8'], ['depth', 'out', [224, 280], 'float32']]


class FakePlan(RecordingPlan):
    """Says one value everywhere."""

    def __init__(self, cuda: RecordingCuda, value: float, tensors: list[list[Any]]) -> None:
        super().__init__(cuda, 'plan', 1, 'depth')
        self.value = value
        self.tensors = tuple(
            Tensor(name, how == 'in', tuple(shape), np.dtype(dtype))
            for name, how, shape, dtype in tensors
        )

    def compute(self) -> None:
        for tensor in self.tensors:
            if not tensor.is_input:
                values = np.full(tensor.size // 4, self.value, np.float32)
                self.cuda.memory[self.at[tensor.name]][:] = values.view(np.uint8)


class FakeMachine:
    """A machine whose every part may be missing; what was asked of it, in order."""

    def __init__(self) -> None:
        self.version, self.asked = VERSION, []
        self.capability, self.takes, self.value, self.tensors = '9.0', True, 1.0, TENSORS

    def gpu(self) -> Gpu:
        self.asked.append('gpu')
        if not self.capability:
            raise EngineError('no CUDA driver')
        return Gpu('NVIDIA H200', self.capability, '13.0')

    def cuda(self) -> RecordingCuda:
        self.asked.append('cuda')
        return self.floor

    def plan(self, data: bytes) -> FakePlan:
        assert 'gpu' in self.asked, 'a runtime without a proven GPU kills the process'
        self.asked.append('plan')
        if not self.takes:
            raise EngineError('TensorRT does not take the plan: magic tag does not match')
        self.floor = RecordingCuda()
        return FakePlan(self.floor, self.value, self.tensors)


@pytest.fixture(scope='module')
def graph() -> Graph:
    return open_bundle('compact').depth[0]


@pytest.fixture
def record(graph: Graph) -> plans.Record:
    return plans.Record(
        plan_sha256=sha256(PLAN).hexdigest(), onnx_sha256=graph.sha256, tensorrt=VERSION,
        capability='9.0', gpu='NVIDIA H200', driver='13.0', precision='half', height=224,
        width=280, tensors=TENSORS, flags={}, error={'depth': 1e-3}, allowed_error=2e-2,
        median_ms=0.5,
    )  # fmt: skip


@pytest.fixture
def written(tmp_path: Path, graph: Graph, record: plans.Record) -> Callable[..., Path]:
    """Writes a plan under the name that fits this machine, with a record changed as asked."""

    def write(**changes: Any) -> Path:
        folder = plans.plan_folder(tmp_path, graph, 'half', VERSION, '9.0')
        plans.write_plan(folder, PLAN, replace(record, **changes))
        return folder

    return write


def test_a_plan_that_fits_runs_and_names_its_runtime(
    tmp_path: Path, graph: Graph, written: Callable[..., Path]
) -> None:
    written()
    engine = TensorRtEngine(graph, tmp_path, FakeMachine())
    assert engine.runtime == f'TensorRT {VERSION} (half) on NVIDIA H200'
    assert_says_one(engine)


def test_a_plan_that_can_not_be_captured_runs_and_says_so(
    tmp_path: Path, graph: Graph, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written()

    def fail(cuda: RecordingCuda, stream: int) -> None:
        raise EngineError('cudaStreamBeginCapture says no; look at nvidia-smi')

    monkeypatch.setattr(RecordingCuda, 'begin_capture', fail)
    engine = TensorRtEngine(graph, tmp_path, FakeMachine())
    assert engine.runtime.endswith('H200 (not captured: cudaStreamBeginCapture says no)')
    assert_says_one(engine)


def assert_says_one(engine: TensorRtEngine) -> None:
    picture = np.zeros((224, 280, 3), np.uint8)
    assert (engine.run(picture)['depth'] == 1.0).all()


@pytest.mark.parametrize(
    ('changes', 'machine', 'said', 'asked_last'),
    [
        ({'plan_sha256': 'f' * 64}, {}, 'its SHA-256 is .* its record says ffff', 'gpu'),
        ({'onnx_sha256': 'e' * 64}, {}, 'another graph: eeee.*here is [0-9a-f]{12}…', 'gpu'),
        ({'width': 336}, {}, 'another size: 224x336, here is 224x280', 'gpu'),
        ({'tensorrt': '10.16.1'}, {}, 'TensorRT: 10.16.1, here is 11.4.0.106', 'gpu'),
        ({'capability': '8.6'}, {}, 'compute capability: 8.6, here is 9.0', 'gpu'),
        ({}, {'capability': ''}, 'no CUDA driver', 'gpu'),
        ({}, {'takes': False}, 'magic tag does not match; run: .*endosfm3d compile', 'plan'),
        ({'tensors': TENSORS[:1]}, {}, 'another inputs and outputs', 'plan'),
        ({}, {'tensors': [['picture', 'in', [112, 140, 3], 'uint8']]}, 'takes .112, 140', 'plan'),
        ({'error': {'depth': 0.3}}, {}, 'off by 3.0e-01, allowed 2.0e-02', 'plan'),
        ({'error': {'depth': float('nan')}}, {}, 'off by nan', 'plan'),
        ({'error': {}}, {}, 'off by inf', 'plan'),
        ({}, {'value': float('nan')}, "gives no finite depth; run: .*compile", 'cuda'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line_no_later_than_it_must(
    changes: dict[str, Any], machine: dict[str, Any], said: str, asked_last: str,
    tmp_path: Path, graph: Graph, written: Callable[..., Path],
) -> None:  # fmt: skip
    written(**changes)
    here = FakeMachine()
    vars(here).update(machine)
    with pytest.raises(EngineError, match=said) as refusal:
        TensorRtEngine(graph, tmp_path, here)
    assert '\n' not in str(refusal.value)
    assert here.asked[-1] == asked_last


def test_of_many_wrongs_the_cheapest_to_find_is_told_first(
    tmp_path: Path, graph: Graph, record: plans.Record
) -> None:
    """Everything is wrong; each cure brings the next complaint, in the order of the checks."""
    folder = plans.plan_folder(tmp_path, graph, 'half', VERSION, '9.0')
    machine = FakeMachine()
    machine.takes, machine.capability = False, ''
    bad = replace(
        record, plan_sha256='0' * 64, onnx_sha256='0' * 64, tensorrt='10.12', capability='8.9',
        tensors=[], error={},
    )  # fmt: skip

    def complaint() -> str:
        with pytest.raises(EngineError) as refusal:
            TensorRtEngine(graph, tmp_path, machine)
        return str(refusal.value)

    assert 'is not compiled for this GPU' in complaint()
    folder.mkdir(parents=True)
    (folder / plans.RECORD).write_text('{"format": 1')
    assert 'not the record of a plan' in complaint()
    cures: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ('its SHA-256', {'plan_sha256': record.plan_sha256}, {}),
        ('another graph', {'onnx_sha256': graph.sha256}, {}),
        ('another TensorRT', {'tensorrt': VERSION}, {}),
        ('no CUDA driver', {}, {'capability': '9.0'}),
        ('compute capability', {'capability': '9.0'}, {}),
        ('does not take the plan', {}, {'takes': True}),
        ('inputs and outputs', {'tensors': TENSORS}, {}),
        ('is off by inf', {'error': {'depth': 0.0}}, {}),
    ]
    for said, cure, at_machine in cures:
        plans.write_plan(folder, PLAN, bad)
        assert said in complaint()
        bad = replace(bad, **cure)
        vars(machine).update(at_machine)
    plans.write_plan(folder, PLAN, bad)
    assert TensorRtEngine(graph, tmp_path, machine).runtime.startswith('TensorRT')


@pytest.mark.parametrize(
    'text', ['', '[]', '{}', '{"format": 2}', '{"format": 1, "surprise": 3}', '\xff']
)
def test_a_record_that_is_none_is_refused(
    text: str, tmp_path: Path, graph: Graph, written: Callable[..., Path]
) -> None:
    (written() / plans.RECORD).write_bytes(text.encode('latin-1'))
    with pytest.raises(EngineError, match='not the record of a plan .*endosfm3d compile'):
        TensorRtEngine(graph, tmp_path, FakeMachine())


def test_a_plan_cut_short_missing_or_open_to_everybody_is_refused(
    tmp_path: Path, graph: Graph, written: Callable[..., Path]
) -> None:
    plan = written() / plans.PLAN
    plan.chmod(0o666)
    with pytest.raises(EngineError, match='everybody may write it'):
        TensorRtEngine(graph, tmp_path, FakeMachine())
    plan.chmod(0o644)
    plan.write_bytes(PLAN[:-1])
    with pytest.raises(EngineError, match='changed or cut short'):
        TensorRtEngine(graph, tmp_path, FakeMachine())
    plan.unlink()
    with pytest.raises(EngineError, match='No such file.*endosfm3d compile'):
        TensorRtEngine(graph, tmp_path, FakeMachine())


def test_a_plan_of_another_version_beside_is_named_not_run(
    tmp_path: Path, graph: Graph, record: plans.Record
) -> None:
    folder = plans.plan_folder(tmp_path, graph, 'graph', '10.12.0', '9.0')
    plans.write_plan(folder, PLAN, replace(record, tensorrt='10.12.0', precision='graph'))
    with pytest.raises(EngineError, match=r'another TensorRT: 10\.12\.0, here is 11\.4'):
        TensorRtEngine(graph, tmp_path, FakeMachine())


def test_half_precision_is_taken_before_single(
    tmp_path: Path, graph: Graph, record: plans.Record
) -> None:
    for precision in reversed(plans.PRECISIONS):
        folder = plans.plan_folder(tmp_path, graph, precision, VERSION, '9.0')
        plans.write_plan(folder, PLAN, replace(record, precision=precision))
        assert f'({precision})' in TensorRtEngine(graph, tmp_path, FakeMachine()).runtime


@pytest.mark.parametrize('version', ['10.11.0', '12.0.1', '8.6', 'unknown'])
def test_a_tensorrt_that_is_too_old_or_too_new_is_refused(
    version: str, tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'tensorrt.py').write_text(f'__version__ = {version!r}\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)
    with pytest.raises(EngineError, match=f'TensorRT {version} is here, needed 10.12 to 11'):
        TensorRtEngine(graph, tmp_path)
    monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)


def test_the_record_is_plain_json_that_a_person_can_read(
    graph: Graph, written: Callable[..., Path]
) -> None:
    raw = json.loads((written() / plans.RECORD).read_text())
    assert raw['onnx_sha256'] == graph.sha256 and raw['tensors'][0][0] == 'picture'


def test_the_command_that_builds_is_one_that_this_shell_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = open_bundle('compact').depth[0]
    monkeypatch.setenv('PATH', str(tmp_path / 'path'))
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'venv' / 'python'))
    rest = f'compile {graph.path.parent}'
    assert plans.how_to_build(graph) == f'ros2 run endosfm3d_ros endosfm3d {rest}'
    for folder, told in (('venv', tmp_path / 'venv' / 'endosfm3d'), ('path', 'endosfm3d')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'endosfm3d').touch(mode=0o755)
        assert plans.how_to_build(graph) == f'{told} {rest}'
