# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on a CPU: the default where there is no GPU."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines.engine import EngineError, check_count, check_inputs, last_line

# Importing OpenVINO reports its use to its maker, from a fork that can hang a node at its end.
# Nothing leaves
# an operating theatre from here: without that module OpenVINO falls back on its own silent
# stand-in.
sys.modules['openvino_telemetry'] = None  # type: ignore[assignment]
import openvino as ov  # noqa: E402

UNKNOWN = 'No conversion rule found'  # how OpenVINO begins to name operators it does not know
SMALL = 2e9
"""
Below so many operations one thread is the better share of the cores: for the compact network
(0.4e9) two take a third less time where the cores are idle, and twice the CPU time, spent in
waiting for each other, where they are not (docs/performance.md).
"""


class _SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (
        ('address', ctypes.c_void_p),
        ('flags', ctypes.c_int),
        ('size', ctypes.c_size_t),
    )


@contextmanager
def own_signal_stack() -> Iterator[None]:
    """
    Give this thread its alternate signal stack back.

    OpenVINO puts one of its own there when it compiles, and frees it later: the next SIGTERM or
    Ctrl-C, whose handlers Python runs on that stack, would end the process with a segmentation
    fault.
    """
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


class OpenVinoEngine:
    """
    One graph compiled by OpenVINO for this CPU, in float32.

    :param graph: a checked graph of a bundle.
    :param threads: CPU threads; 0 takes one for a small graph, and all cores for a large one.
    :param cache: folder where OpenVINO keeps what it compiled, for a faster start; None keeps
        nothing.
    """

    def __init__(self, graph: Graph, threads: int = 0, cache: Path | None = None) -> None:
        self.runtime = f'OpenVINO {ov.__version__.split("-")[0]}'
        options = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'}
        try:
            core = ov.Core()
            if cache and _is_ours(cache):
                core.set_property({'CACHE_DIR': str(cache)})
            model = core.read_model(graph.data)
            check_inputs(graph, [_shape_and_type(value) for value in model.inputs])
            if model.is_dynamic():
                size = [graph.height, graph.width, 3]
                model.reshape({value.get_any_name(): size for value in model.inputs})
            if not threads and operations(model) < SMALL:
                threads = 1
            if threads:
                options['INFERENCE_NUM_THREADS'] = str(threads)
            with own_signal_stack():
                compiled = core.compile_model(model, 'CPU', options)
        except EngineError:
            raise
        except RuntimeError as error:
            raise EngineError(
                f'{graph.path}: OpenVINO can not compile it ({_why(error)}); '
                'export the bundle again, or set the parameter `engine` to onnxruntime'
            ) from error
        self._graph, self._request = graph, compiled.create_infer_request()
        self._inputs = [value.get_any_name() for value in compiled.inputs]
        self._names = [output.get_any_name() for output in compiled.outputs]

    def run(self, *pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph once; see `Engine`."""
        check_count(self._graph, self._inputs, pictures)
        try:
            results = self._request.infer(list(pictures), share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f'OpenVINO failed: {last_line(error)}') from error
        return dict(zip(self._names, (results[i] for i in range(len(self._names))), strict=True))


def operations(model: ov.Model) -> float:
    """
    Multiplications and additions of a graph's convolutions and products, once through; infinite
    where one has sides that are only known when it runs.
    """
    total = 0.0
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind not in ('Convolution', 'GroupConvolution', 'MatMul'):
            continue
        if any(one.get_partial_shape().is_dynamic for one in (*node.inputs(), node.output(0))):
            return float('inf')
        shapes = [one.get_shape() for one in node.inputs()]
        if kind in ('Convolution', 'GroupConvolution'):
            first = 1 if kind == 'Convolution' else 2  # what comes before makes the output's depth
            per_value = np.prod(shapes[1][first:])
        else:
            per_value = shapes[0][-2 if node.get_attributes()['transpose_a'] else -1]
        total += 2.0 * float(np.prod(node.output(0).get_shape()) * per_value)
    return total


def _why(error: Exception) -> str:
    """What OpenVINO has against a graph: the operators that it does not know, or its last line."""
    lines = (line.strip('- ') for line in str(error).splitlines())
    return next((line for line in lines if line.startswith(UNKNOWN)), last_line(error))


def _is_ours(cache: Path) -> bool:
    """Make the folder; False where that fails or others may write what we would run."""
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = cache.stat()
    except OSError:
        return False  # a faster start is not worth a failed one
    return facts.st_uid == os.geteuid() and not facts.st_mode & 0o022


def _shape_and_type(value: ov.Output) -> tuple[list[int | None], np.dtype]:
    sides = [side.get_length() if side.is_static else None for side in value.partial_shape]
    return sides, value.element_type.to_dtype()
