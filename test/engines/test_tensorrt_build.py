# SPDX-License-Identifier: Apache-2.0
"""How TensorRT is asked to build and to load, by a TensorRT that only writes it down."""

from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from endosfm3d_ros import cli
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.engines import cuda, tensorrt, tensorrt_build
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.tensorrt import TensorRtPlan
from endosfm3d_ros.engines.tensorrt_build import Options, build, difference, gate_pictures
from training import compile as in_a_checkout


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2


class Logger:
    Severity = Severity

    def __init__(self) -> None:
        pass


def fake_trt() -> Any:
    """TensorRT's names; its objects are mocks that keep one list of calls, in `calls`."""
    calls = MagicMock()
    trt = SimpleNamespace(
        ILogger=Logger, IProgressMonitor=Logger, calls=calls, Builder=calls.Builder,
        OnnxParser=calls.OnnxParser, Runtime=calls.Runtime,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        MemoryPoolType=SimpleNamespace(WORKSPACE='workspace'),
        TensorIOMode=SimpleNamespace(INPUT='in', OUTPUT='out'), nptype=lambda dtype: dtype,
    )  # fmt: skip
    builder = calls.Builder.return_value
    builder.build_serialized_network.return_value = b'the plan'
    cache = builder.create_builder_config.return_value.create_timing_cache.return_value
    cache.serialize.return_value = b'new timings'
    calls.OnnxParser.return_value.parse.return_value = True
    return trt


def names(trt: Any) -> list[str]:
    return [call[0].replace('()', '').split('.', 1)[-1] for call in trt.calls.mock_calls]


def test_a_build_is_strongly_typed_and_keeps_its_timings(tmp_path: Path) -> None:
    trt, timings = fake_trt(), tmp_path / 'deep' / 'timing.cache'
    assert build(trt, b'model', Options(workspace_gib=0.5), timings, print) == b'the plan'
    calls, builder = trt.calls, trt.calls.Builder.return_value
    builder.create_network.assert_called_once_with(1 << 1)
    calls.OnnxParser.return_value.parse.assert_called_once_with(b'model')
    config = builder.create_builder_config.return_value
    config.set_memory_pool_limit.assert_called_once_with('workspace', 1 << 29)
    assert config.builder_optimization_level == 3
    assert timings.read_bytes() == b'new timings'
    order = names(trt)
    assert order.index('create_network') < order.index('OnnxParser') < order.index('parse')
    assert order.index('create_builder_config.create_timing_cache') < order.index(
        'create_builder_config.set_timing_cache'
    ) < order.index('build_serialized_network')  # fmt: skip
    config.create_timing_cache.assert_called_once_with(b'')
    build(trt, b'model', Options(), timings, print)
    assert config.create_timing_cache.call_args.args == (b'new timings',)


def test_timings_of_another_gpu_are_left_alone(tmp_path: Path) -> None:
    trt = fake_trt()
    config = trt.calls.Builder.return_value.create_builder_config.return_value
    config.set_timing_cache.side_effect = [False, True]
    (tmp_path / 'timing.cache').write_bytes(b'of another')
    build(trt, b'model', Options(), tmp_path / 'timing.cache', print)
    assert [c.args[0] for c in config.create_timing_cache.call_args_list] == [b'of another', b'']
    assert all(c.args[1] is False for c in config.set_timing_cache.call_args_list)


def test_what_tensorrt_says_is_in_the_one_line_of_a_failure(tmp_path: Path) -> None:
    trt = fake_trt()
    parser = trt.calls.OnnxParser.return_value
    parser.parse.return_value, parser.num_errors = False, 1
    parser.get_error.return_value.desc.return_value = 'no importer\nfor node Det'
    with pytest.raises(EngineError, match='can not read the graph: no importer for node Det'):
        build(trt, b'', Options(), tmp_path / 'timing.cache', print)
    trt = fake_trt()
    builder = trt.calls.Builder.return_value

    def fail(network: Any, config: Any) -> None:
        logger = trt.calls.Builder.call_args.args[0]
        logger.log(Severity.ERROR, 'out of\nmemory')

    builder.build_serialized_network.side_effect = fail
    with pytest.raises(EngineError, match='can not build the graph: out of memory'):
        build(trt, b'', Options(), tmp_path / 'timing.cache', print)
    assert not (tmp_path / 'timing.cache').exists()


@pytest.mark.parametrize(
    ('driver', 'packages'),
    [
        ('12.4', "'tensorrt-cu12>=10.12,<12' 'cuda-python<13'"),
        ('13.0', "'tensorrt-cu13>=10.12,<12' 'cuda-python<14'"),
    ],
)
def test_a_driver_that_is_too_old_for_tensorrt_is_named_with_the_packages_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, packages: str
) -> None:
    """TensorRT logs CUDA's error 35 as a warning, and its bindings raise a TypeError."""
    monkeypatch.setattr(cuda, 'prove_gpu', lambda: tensorrt.Gpu('a GPU', '8.6', driver))
    trt = fake_trt()

    def fail(logger: Any) -> None:
        logger.log(Severity.WARNING, 'Unable to determine GPU memory usage: CUDA error 35')
        raise TypeError('pybind11::init(): factory function returned nullptr')

    trt.calls.Builder.side_effect = trt.calls.Runtime.side_effect = fail
    machine = MagicMock(version='11.4.0', plan=lambda data: TensorRtPlan(trt, data))
    monkeypatch.setattr(tensorrt, 'plans', MagicMock())
    for work in (
        lambda: build(trt, b'', Options(), tmp_path / 'timing.cache', print),
        lambda: tensorrt.load_plan(open_bundle('photometric').depth[0], tmp_path, machine),
    ):
        with pytest.raises(EngineError) as refusal:
            work()
        assert str(refusal.value).startswith('TensorRT can not start: Unable to determine GPU')
        assert f'error 35 (the driver speaks CUDA {driver}: ' in str(refusal.value)
        assert str(refusal.value).endswith(f'run: pip install {packages}')


def test_a_plan_that_tensorrt_does_not_take_is_none_and_an_error() -> None:
    trt = fake_trt()

    def refuse(data: bytes) -> None:
        trt.calls.Runtime.call_args.args[0].log(Severity.ERROR, 'magic tag does not match')

    trt.calls.Runtime.return_value.deserialize_cuda_engine.side_effect = refuse
    with pytest.raises(EngineError, match='does not take the plan: magic tag does not match'):
        TensorRtPlan(trt, b'junk')


def test_a_loaded_plan_tells_its_tensors_and_passes_addresses_and_streams_on() -> None:
    trt = fake_trt()
    engine = trt.calls.Runtime.return_value.deserialize_cuda_engine.return_value
    engine.num_io_tensors = 2
    engine.get_tensor_name.side_effect = ['picture', 'depth'].__getitem__
    engine.get_tensor_mode.side_effect = {'picture': 'in', 'depth': 'out'}.get
    engine.get_tensor_shape.side_effect = {'picture': (4, 6, 3), 'depth': (4, 6)}.get
    engine.get_tensor_dtype.side_effect = {'picture': np.uint8, 'depth': np.float32}.get
    plan = TensorRtPlan(trt, b'plan')
    said = [(t.name, t.is_input, t.shape, t.size) for t in plan.tensors]
    assert said == [('picture', True, (4, 6, 3), 72), ('depth', False, (4, 6), 96)]
    context = engine.create_execution_context.return_value
    plan.bind('picture', 4711)
    context.set_tensor_address.assert_called_once_with('picture', 4711)
    plan.enqueue(12)
    context.execute_async_v3.assert_called_once_with(12)
    context.execute_async_v3.return_value = False
    with pytest.raises(EngineError, match='TensorRT failed'):
        plan.enqueue(12)
    context.set_tensor_address.return_value = False
    with pytest.raises(EngineError, match='refuses memory for depth'):
        plan.bind('depth', 1)


def test_the_gate_s_difference_is_relative_and_never_passes_what_is_not_finite() -> None:
    wanted = np.full((100, 100), 50.0, np.float32)
    assert difference('depth', wanted * np.float32(1.01), wanted) == pytest.approx(0.01, rel=1e-3)
    assert difference('depth', wanted, wanted) == 0.0
    broken = wanted.copy()
    broken[0, 0] = np.nan
    for found in (broken, wanted[:50]):
        assert difference('depth', found, wanted) == float('inf')


def test_a_plan_that_says_that_nothing_moves_does_not_pass_the_gate() -> None:
    step = np.array([1.5e-3, -8e-4, 1.2e-3], np.float32)  # of a hand's usual speed
    for name in ('axis_angle', 'translation'):
        assert difference(name, np.zeros(3, np.float32), step) == 1.0
        assert difference(name, step * np.float32(1.001), step) == pytest.approx(1e-3, rel=1e-2)
        assert difference(name, np.zeros(3, np.float32), np.zeros(3, np.float32)) == 0.0


def test_the_gate_looks_at_pictures_of_tissue() -> None:
    pictures = gate_pictures(224, 280)
    assert len(pictures) == tensorrt_build.PICTURES
    assert all(p.shape == (224, 280, 3) and p.dtype == np.uint8 for p in pictures)
    red, _, blue = pictures[-1].reshape(-1, 3).mean(0)
    assert red > blue  # RGB


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['compact'], 'TensorRT can not be imported'),
        (['compact', '--size', '100x100'], 'no graph of size 100x100; the bundle has 224x280'),
        (['nonesuch'], "no bundle 'nonesuch'"),
    ],
)
def test_compile_without_what_it_needs_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(__import__('sys').modules, 'tensorrt', None)
    monkeypatch.setattr('sys.argv', ['compile', *words])
    for main in (lambda: cli.main(['compile', *words]), in_a_checkout.main):
        assert main() == 1
        error = capsys.readouterr().err
        assert said in error and error.startswith('endosfm3d compile: ')
        assert error.count('\n') == 1


def test_nothing_is_written_when_the_gate_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = open_bundle('photometric').depth[0]
    record = MagicMock(error={'depth': 0.5}, allowed_error=0.02)
    machine = MagicMock(version='11.4.0')
    machine.gpu.return_value = tensorrt.Gpu('a GPU', '9.0', '13.0')
    monkeypatch.setattr(tensorrt_build, 'Machine', lambda: machine)
    monkeypatch.setattr(tensorrt_build, 'import_tensorrt', fake_trt)
    monkeypatch.setattr(tensorrt_build, 'measured', lambda *_: record)
    with pytest.raises(EngineError, match='off by 5.0e-01, allowed 2.0e-02'):
        tensorrt_build.compile_graph(graph, tmp_path, Options())
    assert not list(tmp_path.rglob('plan.*'))
