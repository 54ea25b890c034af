# SPDX-License-Identifier: Apache-2.0
"""The runtime that is chosen, and the one line that says why."""

import gc
import os
import subprocess
import sys
import threading
from enum import IntEnum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from endosfm3d_ros.bundle import Graph, open_bundle
from endosfm3d_ros.engines import cuda, loading, onnxruntime
from endosfm3d_ros.engines.cuda import Gpu
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.loading import Options, load
from endosfm3d_ros.engines.onnxruntime import Bound, OnnxRuntimeEngine
from endosfm3d_ros.engines.tensorrt_build import gate_pictures

GPU = Gpu('NVIDIA H200', '9.0', '13.0')


def no_gpu() -> Gpu:
    raise EngineError('no CUDA driver (libcuda.so.1 does not load); needed an NVIDIA GPU')


@pytest.fixture(scope='module')
def graph() -> Graph:
    return open_bundle('compact').depth[0]


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that the driver tells of, and an ONNX Runtime that believes to have a provider."""
    monkeypatch.setattr(ort, 'get_available_providers', lambda: [onnxruntime.CUDA])
    monkeypatch.setattr(onnxruntime, 'prove_gpu', lambda: GPU)
    monkeypatch.setattr(loading, 'prove_gpu', lambda: GPU)
    monkeypatch.setitem(sys.modules, 'tensorrt', None)


def test_without_a_gpu_auto_takes_openvino_and_says_so_in_one_short_line(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, 'prove_gpu', no_gpu)
    why = load([graph], 'auto').why
    assert why.startswith('engine auto: OpenVINO ')
    assert why.endswith('; no CUDA driver (libcuda.so.1 does not load)')


def test_with_a_gpu_and_nothing_for_it_auto_says_what_to_install(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, 'prove_gpu', lambda: GPU)
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    why = load([graph], 'auto').why
    assert 'OpenVINO' in why and '\n' not in why
    assert 'not tensorrt: TensorRT can not be imported' in why and 'tensorrt-cu13>=10.12' in why
    assert 'not onnxruntime-cuda: ' in why and 'pip install onnxruntime-gpu' in why


@pytest.mark.parametrize('wanted', ['auto', 'onnxruntime', 'openvino'])
def test_every_word_that_runs_here_runs(graph: Graph, wanted: str) -> None:
    loaded = load([graph], wanted, Options(threads=1))
    assert loaded.engines[0].runtime in loaded.why
    said = loaded.engines[0].run(np.zeros((224, 280, 3), np.uint8))
    assert said['depth'].shape == (224, 280)


def test_a_gpu_s_runtime_asked_for_by_name_is_not_replaced(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    for options in (Options(), Options(auto_compile=True)):
        with pytest.raises(EngineError, match='TensorRT can not be imported') as refusal:
            load([graph], 'tensorrt', options)
        assert '\n' not in str(refusal.value)


def test_a_provider_that_does_not_start_is_an_error_not_a_slow_cpu(
    graph: Graph, a_gpu: None
) -> None:
    """ONNX Runtime itself falls back without a word but in its log."""
    with pytest.raises(EngineError, match='can not start CUDAExecutionProvider'):
        onnxruntime.OnnxRuntimeCudaEngine(graph)
    loaded = load([graph], 'onnxruntime')
    assert isinstance(loaded.engines[0], OnnxRuntimeEngine)
    assert 'not onnxruntime-cuda: ONNX Runtime can not start' in loaded.why


def test_bound_memory_says_what_a_plain_run_says(
    graph: Graph, cpu_session: ort.InferenceSession
) -> None:
    """The code that a GPU runs, with the memory here; the CUDA graph alone is left out."""
    bound, plain = Bound(cpu_session, graph, 'cpu'), OnnxRuntimeEngine(graph)
    for picture in gate_pictures(224, 280)[-3:]:
        said, wanted = bound.run(picture), plain.run(picture)
        assert said.keys() == wanted.keys()
        for name, value in wanted.items():
            assert np.array_equal(said[name], value)


def test_a_gpu_without_memory_does_not_keep_auto_from_the_cpu(
    graph: Graph, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime raises the builtin RuntimeError where it finds no memory on a GPU."""
    real = onnxruntime.open_session
    monkeypatch.setattr(
        onnxruntime, 'open_session', lambda g, o, _: real(g, o, ['CPUExecutionProvider'])
    )
    why = load([graph], 'auto').why
    assert why.startswith('engine auto: OpenVINO')
    assert 'not onnxruntime-cuda: ONNX Runtime gives no memory for the pictures: ' in why


@pytest.mark.parametrize(
    'raised', [onnxruntime.ort.capi.onnxruntime_pybind11_state.EPFail, RuntimeError, ValueError]
)
def test_cuda_s_errors_are_an_engine_s(
    graph: Graph, a_gpu: None, monkeypatch: pytest.MonkeyPatch, raised: type[Exception]
) -> None:
    asked = []

    def fail(*_: Any, **settings: Any) -> None:
        asked.append(settings)
        raise raised('CUDA failure 2:\nout of memory')

    monkeypatch.setattr(ort, 'InferenceSession', fail)
    with pytest.raises(EngineError, match='can not load it .out of memory.'):
        onnxruntime.OnnxRuntimeCudaEngine(graph)
    assert all(settings['enable_fallback'] == 0 for settings in asked)


@pytest.mark.parametrize('kind', ['openvino', 'onnxruntime-cpu', 'onnxruntime-cuda'])
def test_a_runtime_that_does_not_import_is_one_line_with_its_cure(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import endosfm3d_ros.engines as package

    name = kind.split('-')[0]
    monkeypatch.delattr(package, name, raising=False)
    monkeypatch.setitem(sys.modules, f'endosfm3d_ros.engines.{name}', None)
    cure = f'{kind} can not be imported .*; run: pip install .*{loading.PACKAGES[kind]}'
    with pytest.raises(EngineError, match=cure):
        loading.make(graph, kind, Options())


class CapturingSession:
    """
    A session that captures its first run, whichever way it is asked to, and replays that.

    :param is_stale: the replay looks at the pictures of the captured run.
    """

    def __init__(self, session: ort.InferenceSession, is_stale: bool) -> None:
        self._session, self._is_stale, self.runs = session, is_stale, 0
        self.threads: set[threading.Thread] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *_: Any) -> None:
        raise AssertionError('captured with buffers that are given back')

    def run_with_iobinding(self, binding: Any, options: ort.RunOptions | None = None) -> None:
        plainly = options and options.get_run_config_entry('gpu_graph_id') == '-1'
        self.runs += not plainly
        self.threads.add(threading.current_thread())
        if plainly or not self._is_stale or self.runs == 1:
            self._session.run_with_iobinding(binding, options)


@pytest.fixture
def cpu_session(graph: Graph) -> ort.InferenceSession:
    options = onnxruntime.session_options(graph)
    return onnxruntime.open_session(graph, options, ['CPUExecutionProvider'])


def test_what_is_captured_is_a_run_of_the_bound_memory(
    graph: Graph, cpu_session: ort.InferenceSession
) -> None:
    session = CapturingSession(cpu_session, is_stale=False)
    bound, picture = Bound(session, graph, 'cpu'), gate_pictures(224, 280)[-1]
    wanted = OnnxRuntimeEngine(graph).run(picture)
    assert np.array_equal(bound.run(picture)['depth'], wanted['depth'])
    assert session.runs == 3


def test_a_capture_that_repeats_its_first_picture_is_an_error(
    graph: Graph, cpu_session: ort.InferenceSession
) -> None:
    with pytest.raises(EngineError, match="another 'depth' than run plainly"):
        Bound(CapturingSession(cpu_session, is_stale=True), graph, 'cpu')


@pytest.fixture
def cuda_on_cpu(
    a_gpu: None, cpu_session: ort.InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> CapturingSession:
    """What an engine for CUDA opens, on the CPU; it notes the threads that run it."""
    session = CapturingSession(cpu_session, is_stale=False)
    monkeypatch.setattr(onnxruntime, 'open_session', lambda *_: session)
    monkeypatch.setattr(onnxruntime, 'Bound', partial(Bound, device='cpu'))
    return session


def test_cuda_runs_in_one_thread_whoever_calls_and_it_ends_with_the_engine(
    graph: Graph, cuda_on_cpu: CapturingSession
) -> None:
    """ONNX Runtime would capture anew in each thread that the node starts at activate."""
    engine = onnxruntime.OnnxRuntimeCudaEngine(graph)
    picture = gate_pictures(224, 280)[-1]
    for _ in range(2):
        caller = threading.Thread(target=engine.run, args=(picture,))
        caller.start()
        caller.join()
    engine.run(picture)
    (own,) = cuda_on_cpu.threads
    assert own not in (threading.current_thread(), caller) and own.is_alive()
    del engine
    gc.collect()
    own.join(5.0)
    assert not own.is_alive()


def test_a_capture_that_is_refused_is_told_in_the_runtime(
    graph: Graph, cuda_on_cpu: CapturingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ' CUDA graph on ' in onnxruntime.OnnxRuntimeCudaEngine(graph).runtime

    def opened(graph: Graph, options: ort.SessionOptions, providers: list[Any]) -> Any:
        if providers[0][1]['enable_cuda_graph'] == '1':
            raise EngineError('a part of it stays on the CPU; export it anew')
        return cuda_on_cpu

    monkeypatch.setattr(onnxruntime, 'open_session', opened)
    runtime = onnxruntime.OnnxRuntimeCudaEngine(graph).runtime
    assert runtime.endswith(' CUDA on NVIDIA H200 (not captured: a part of it stays on the CPU)')
    plain = onnxruntime.OnnxRuntimeCudaEngine(graph, capture=False).runtime
    assert plain.endswith(' CUDA on NVIDIA H200')


def test_an_output_with_open_sides_can_not_be_bound(
    graph: Graph, cpu_session: ort.InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = CapturingSession(cpu_session, is_stale=False)
    value = SimpleNamespace(name='depth', type='tensor(float)', shape=['height', 280])
    monkeypatch.setattr(session, 'get_outputs', lambda: [value], raising=False)
    with pytest.raises(EngineError, match="'depth' is tensor.float. of .'height', 280."):
        Bound(session, graph, 'cpu')


def test_no_driver_a_driver_that_fails_and_one_without_a_gpu_are_told_apart(
    tmp_path: Path,
) -> None:
    source = tmp_path / 'cuda.c'
    source.write_text(
        '#include <string.h>\n'
        'int cuInit(unsigned f) { return INIT; }\n'
        'int cuDeviceGetCount(int *n) { *n = COUNT; return 0; }\n'
        'int cuDriverGetVersion(int *v) { *v = 13010; return 0; }\n'
        'int cuDeviceGetName(char *s, int n, int d) { strcpy(s, "A GPU"); return 0; }\n'
        'int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 : 0; return 0; }\n'
    )
    code = (
        'from endosfm3d_ros.engines.cuda import prove_gpu\n'
        'from endosfm3d_ros.engines.engine import EngineError\n'
        'try: print(prove_gpu())\n'
        'except EngineError as error: print(error)\n'
    )

    def said(*defines: str) -> str:
        folder = tmp_path / ''.join(defines)
        folder.mkdir()
        if defines:
            subprocess.run(
                ['gcc', '-shared', '-fPIC', *defines, '-o', folder / 'libcuda.so.1', source],
                check=True,
            )
        done = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, check=True,
            cwd=Path(cuda.__file__).parents[2],
            env={**os.environ, 'LD_LIBRARY_PATH': str(folder)},
        )  # fmt: skip
        return done.stdout.strip()

    assert said('-DINIT=100', '-DCOUNT=0').startswith('no GPU that works (cuInit says 100)')
    assert said('-DINIT=0', '-DCOUNT=0').startswith('the CUDA driver sees no GPU')
    found = said('-DINIT=0', '-DCOUNT=1')
    assert found == "Gpu(name='A GPU', capability='9.0', driver='13.1')"


def test_a_driver_that_is_older_than_cuda_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    code = IntEnum('cudaError_t', {'cudaErrorInsufficientDriver': 35})

    def stream(*_: int) -> tuple[IntEnum]:
        return (code(35),)

    stream.__name__ = 'cudaStreamCreateWithFlags'
    floor = cuda.Cuda.__new__(cuda.Cuda)
    floor._cudart = SimpleNamespace(
        cudaError_t=code, cudaStreamCreateWithFlags=stream, cudaStreamNonBlocking=1,
        cudaDriverGetVersion=lambda: (0, 12040), cudaRuntimeGetVersion=lambda: (0, 13050),
    )  # fmt: skip
    monkeypatch.setattr(cuda, 'prove_gpu', lambda: Gpu('a GPU', '8.6', '12.4'))
    with pytest.raises(EngineError) as refusal:
        floor.stream()
    assert str(refusal.value) == (
        'cudaStreamCreateWithFlags says cudaErrorInsufficientDriver: the driver speaks CUDA 12.4, '
        "cuda-python needs 13.5; update the driver, or run: pip install 'cuda-python<13'"
    )


def test_openvino_keeps_what_it_compiled_where_it_is_told_to(graph: Graph, tmp_path: Path) -> None:
    options = Options(cache=str(tmp_path))
    picture = gate_pictures(224, 280)[-1]
    first = load([graph], 'openvino', options).engines[0].run(picture)['depth'].copy()
    kept = sorted((tmp_path / 'openvino').glob('*.blob'))
    assert kept
    again = load([graph], 'openvino', options).engines[0].run(picture)['depth']
    assert np.array_equal(first, again)
    for blob in kept:
        blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2])  # a full disk, say
    mended = load([graph], 'openvino', options).engines[0].run(picture)['depth']
    assert np.array_equal(first, mended)


def test_openvino_does_not_read_a_cache_that_others_may_write(
    graph: Graph, tmp_path: Path
) -> None:
    (tmp_path / 'openvino').mkdir()
    (tmp_path / 'openvino').chmod(0o777)
    load([graph], 'openvino', Options(cache=str(tmp_path)))
    assert list((tmp_path / 'openvino').iterdir()) == []


def foreign(*nodes: Any, inputs: tuple[str, ...] = ('picture',), rows: int = 32) -> Graph:
    """A graph of somebody else, whose last node makes depth of `grey`, the inputs' sum."""
    picture = partial(helper.make_tensor_value_info, elem_type=TensorProto.UINT8)
    casts = [helper.make_node('Cast', [n], [f'{n}_f'], to=TensorProto.FLOAT) for n in inputs]
    mean = helper.make_node('ReduceMean', ['sum'], ['grey'], axes=[2], keepdims=0)
    made = helper.make_graph(
        [*casts, helper.make_node('Sum', [f'{n}_f' for n in inputs], ['sum']), mean, *nodes],
        'foreign',
        [picture(name, shape=[rows, 48, 3]) for name in inputs],
        [helper.make_tensor_value_info('depth', TensorProto.FLOAT, [32, 48])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in
         (('one', 1.0), ('nothing', 0.0))],
    )  # fmt: skip
    opsets = [helper.make_opsetid('', 17), helper.make_opsetid('com.acme', 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    return Graph(Path('foreign.onnx'), model.SerializeToString(), 32, 48, '')


DEPTH = helper.make_node('Add', ['grey', 'one'], ['depth'])


@pytest.mark.parametrize('kind', ['openvino', 'onnxruntime-cpu'])
def test_sides_that_only_a_run_tells_do_not_keep_a_graph_from_running(kind: str) -> None:
    graph = foreign(
        helper.make_node('NonZero', ['grey'], ['where']),
        helper.make_node('Cast', ['where'], ['where_f'], to=TensorProto.FLOAT),
        helper.make_node('ReduceMax', ['where_f'], ['last'], keepdims=0),
        helper.make_node('Mul', ['last', 'nothing'], ['zero']),
        helper.make_node('Sum', ['grey', 'one', 'zero'], ['depth']),
    )
    said = loading.make(graph, kind, Options()).run(np.full((32, 48, 3), 7, np.uint8))
    assert np.all(said['depth'] == 8.0)


@pytest.mark.parametrize('kind', ['openvino', 'onnxruntime-cpu'])
@pytest.mark.parametrize('given', [1, 3])
def test_a_graph_is_not_run_on_fewer_or_more_pictures_than_it_takes(kind: str, given: int) -> None:
    engine = loading.make(foreign(DEPTH, inputs=('previous', 'current')), kind, Options())
    with pytest.raises(EngineError, match=f'inputs are previous, current.*{given} needed'):
        engine.run(*(np.zeros((32, 48, 3), np.uint8),) * given)


def test_an_operator_that_openvino_does_not_know_is_named() -> None:
    strange = helper.make_node('Strange', ['grey'], ['depth'], domain='com.acme')
    with pytest.raises(EngineError, match=r'can not compile it \(No .* com\.acme\.Strange\)'):
        loading.make(foreign(strange), 'openvino', Options())


@pytest.mark.parametrize('kind', ['openvino', 'onnxruntime-cpu'])
def test_a_graph_of_another_size_is_no_fault_of_the_runtime(kind: str) -> None:
    with pytest.raises(EngineError) as said:
        loading.make(foreign(DEPTH, rows=64), kind, Options())
    assert str(said.value) == (
        'foreign.onnx: takes [64, 48, 3] uint8, the manifest says pictures of [32, 48, 3] uint8; '
        'export the bundle again'
    )
