# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: on a GPU where TensorRT is absent, and the reference that others are held to."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime as ort

from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines.cuda import Gpu, prove_gpu
from endosfm3d_ros.engines.engine import EngineError, check_count, check_inputs, last_line

CUDA = 'CUDAExecutionProvider'
DTYPES: dict[str, np.dtype] = {
    'tensor(uint8)': np.dtype(np.uint8),
    'tensor(float)': np.dtype(np.float32),
}
CAPTURE_ERROR = 1e-2  # of a captured run against another of the same kernels
_state = vars(ort.capi.onnxruntime_pybind11_state).values()
# its own, which have no base in common; what its Python refuses, and CUDA below it
REFUSALS: tuple[type[Exception], ...] = (
    *(kind for kind in _state if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,
)


class OnnxRuntimeEngine:
    """
    One graph run by ONNX Runtime on the CPU.

    :param graph: a checked graph of a bundle.
    :param threads: CPU threads; 0 lets ONNX Runtime choose.
    """

    def __init__(self, graph: Graph, threads: int = 0) -> None:
        self.runtime = f'ONNX Runtime {ort.__version__}'
        options = session_options(graph)
        options.intra_op_num_threads = threads
        options.add_session_config_entry(
            'session.intra_op.allow_spinning', '0'
        )  # a robot has other work to do
        self._graph = graph
        self._session = open_session(graph, options, ['CPUExecutionProvider'])
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, *pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph once; see `Engine`."""
        check_count(self._graph, self._inputs, pictures)
        feed = dict(zip(self._inputs, pictures, strict=True))
        with _as_engine_error('ONNX Runtime failed'):
            outputs = self._session.run(self._outputs, feed)
        return dict(zip(self._outputs, outputs, strict=True))


class OnnxRuntimeCudaEngine:
    """
    One graph run by ONNX Runtime's CUDA provider, captured as a CUDA graph where it can be.

    ONNX Runtime keeps a CUDA graph for each thread that runs a session. All runs are therefore of
    one thread of the engine's own: whoever calls, nothing is captured while pictures come.

    :param graph: a checked graph of a bundle.
    :param capture: try to; a graph of which a part stays on the CPU can not be captured.
    :ivar runtime: says 'CUDA graph' where one was captured, else why not.
    :raises EngineError: no GPU, no such provider, or the graph does not run there.
    """

    def __init__(self, graph: Graph, capture: bool = True) -> None:
        gpu = require_cuda()
        self._thread = ThreadPoolExecutor(1, 'onnxruntime-cuda')  # it ends with this engine
        options, name = session_options(graph), f'ONNX Runtime {ort.__version__}'
        self.runtime = f'{name} CUDA on {gpu.name}'
        if capture:
            try:
                self._bound = self._open(graph, options, [_cuda_provider(True)])
            except EngineError as error:
                capture = False
                self.runtime += f' (not captured: {str(error).split(";")[0]})'
            else:
                self.runtime = f'{name} CUDA graph on {gpu.name}'
        if not capture:
            providers = [_cuda_provider(False), 'CPUExecutionProvider']
            self._bound = self._open(graph, options, providers)

    def run(self, *pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph once; see `Engine`."""
        return self._thread.submit(self._bound.run, *pictures).result()

    def _open(self, graph: Graph, options: ort.SessionOptions, providers: list[Any]) -> 'Bound':
        def opened() -> Bound:
            return Bound(open_session(graph, options, providers), graph)

        return self._thread.submit(opened).result()


class Bound:
    """
    A session whose inputs and outputs lie at fixed places, as a CUDA graph needs them.

    Every run goes by these places. ONNX Runtime captures the first run there is and only replays
    it from then on, so one with places of its own would be repeated for ever.

    :param session: of a graph with static sides.
    :param graph: which one it is, for its inputs' size.
    :param device: 'cuda', or 'cpu' to do the same without a GPU.
    :raises EngineError: an output has no static sides, the graph does not run, or its captured
        run does not look at new pictures.
    """

    def __init__(self, session: ort.InferenceSession, graph: Graph, device: str = 'cuda') -> None:
        self._session, self._graph = session, graph
        self._inputs = [value.name for value in session.get_inputs()]
        picture = np.zeros((graph.height, graph.width, 3), np.uint8)
        with _as_engine_error('ONNX Runtime gives no memory for the pictures'):
            self._binding = session.io_binding()
            self._pictures = [
                ort.OrtValue.ortvalue_from_numpy(picture, device, 0) for _ in self._inputs
            ]
            for place, name in zip(self._pictures, self._inputs, strict=True):
                self._binding.bind_ortvalue_input(name, place)
            self._outputs = {value.name: _place(value, device) for value in session.get_outputs()}
            for name, place in self._outputs.items():
                self._binding.bind_ortvalue_output(name, place)
        self.run(*(picture for _ in self._pictures))  # this one is captured
        self._check()

    def run(self, *pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph once; see `Engine`."""
        return self._run(pictures, None)

    def _run(
        self, pictures: Sequence[np.ndarray], options: ort.RunOptions | None
    ) -> dict[str, np.ndarray]:
        check_count(self._graph, self._inputs, pictures)
        shown = list(zip(self._pictures, pictures, strict=True))
        with _as_engine_error('ONNX Runtime failed'):
            for place, picture in shown:
                place.update_inplace(picture)
            self._session.run_with_iobinding(self._binding, options)
            return {name: value.numpy() for name, value in self._outputs.items()}

    def _check(self) -> None:
        """Hold a captured run of other pictures against one that is not captured."""
        rng, graph = np.random.default_rng(0), self._graph
        noise = rng.integers(0, 256, (len(self._pictures), graph.height, graph.width, 3), np.uint8)
        said = {name: value.copy() for name, value in self.run(*noise).items()}
        options = ort.RunOptions()
        options.add_run_config_entry('gpu_graph_id', '-1')  # neither capture nor replay
        for name, wanted in self._run(tuple(noise), options).items():
            if not np.allclose(said[name], wanted, CAPTURE_ERROR, CAPTURE_ERROR):
                raise EngineError(
                    f'{graph.path}: captured as a CUDA graph it gives another {name!r} than run '
                    'plainly; set the parameter `engine` to openvino'
                )


def require_cuda() -> Gpu:
    """
    Prove that ONNX Runtime could run on a GPU here.

    :raises EngineError: it has no CUDA provider, or there is no GPU.
    """
    if CUDA not in ort.get_available_providers():
        raise EngineError(
            f'ONNX Runtime {ort.__version__} here is built without CUDA; '
            'run: pip install onnxruntime-gpu (instead of onnxruntime)'
        )
    gpu = prove_gpu()
    with _as_engine_error('ONNX Runtime does not find CUDA'):
        ort.preload_dlls()  # what pip installed lies where the loader does not look
    return gpu


def session_options(graph: Graph) -> ort.SessionOptions:
    """Options that fix a graph's sides to its size."""
    options = ort.SessionOptions()
    for name, side in (('height', graph.height), ('width', graph.width)):
        options.add_free_dimension_override_by_name(name, side)
    return options


def open_session(
    graph: Graph, options: ort.SessionOptions, providers: list[Any]
) -> ort.InferenceSession:
    """
    Load a graph.

    :param providers: those to run on, the first one for certain.
    :raises EngineError: ONNX Runtime does not take it, or not on that provider.
    """
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]
    cure = 'export the bundle again'
    if first == CUDA:
        cure = f'look at nvidia-smi, set the parameter `engine` to openvino, or {cure}'
    try:  # without its own way back to the CPU, which it only prints
        session = ort.InferenceSession(graph.data, options, providers=providers, enable_fallback=0)
    except REFUSALS as error:
        raise EngineError(
            f'{graph.path}: ONNX Runtime can not load it ({last_line(error)}); {cure}'
        ) from error
    if session.get_providers()[0] != first:  # it falls back by itself, and only prints why
        raise EngineError(
            f'ONNX Runtime can not start {first} (CUDA or cuDNN does not load); '
            "run: pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    found = [(value.shape, DTYPES.get(value.type)) for value in session.get_inputs()]
    check_inputs(graph, found)
    return session


def _cuda_provider(captured: bool) -> tuple[str, dict[str, str]]:
    settings = {'cudnn_conv_algo_search': 'EXHAUSTIVE', 'enable_cuda_graph': str(int(captured))}
    return CUDA, settings


def _place(value: Any, device: str) -> ort.OrtValue:
    """Memory for an output of a session."""
    dtype = DTYPES.get(value.type)
    if dtype is None or not all(isinstance(side, int) for side in value.shape):
        raise EngineError(
            f'the output {value.name!r} is {value.type} of {value.shape}, needed numbers of float '
            'for all its sides; export the bundle again'
        )
    return ort.OrtValue.ortvalue_from_shape_and_type(value.shape, dtype, device, 0)


@contextmanager
def _as_engine_error(what: str) -> Iterator[None]:
    """Whatever ONNX Runtime or CUDA below it raises, as one line that begins with `what`."""
    try:
        yield
    except EngineError:
        raise
    except REFUSALS as error:
        raise EngineError(f'{what}: {last_line(error)}') from error
