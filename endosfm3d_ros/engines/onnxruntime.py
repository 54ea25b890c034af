# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: the reference that other runtimes are compared with."""

import numpy as np
import onnxruntime as ort

from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines.engine import EngineError, check_inputs, last_line

DTYPES = {'tensor(uint8)': np.dtype(np.uint8)}
_state = ort.capi.onnxruntime_pybind11_state
REFUSALS = (
    _state.Fail, _state.InvalidArgument, _state.InvalidGraph, _state.InvalidProtobuf,
    _state.NoSuchFile, _state.NotImplemented, _state.RuntimeException,
)  # fmt: skip


class OnnxRuntimeEngine:
    """
    One graph run by ONNX Runtime on the CPU.

    :param graph: a checked graph of a bundle.
    :param threads: CPU threads; 0 lets ONNX Runtime choose.
    """

    def __init__(self, graph: Graph, threads: int = 0) -> None:
        self.runtime = f'ONNX Runtime {ort.__version__}'
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry(
            'session.intra_op.allow_spinning', '0'
        )  # a robot has other work to do
        for name, side in (('height', graph.height), ('width', graph.width)):
            options.add_free_dimension_override_by_name(name, side)
        try:
            self._session = ort.InferenceSession(
                graph.data, options, providers=['CPUExecutionProvider']
            )
        except REFUSALS as error:
            raise EngineError(
                f'{graph.path}: ONNX Runtime can not load it ({last_line(error)}); '
                'export the bundle again'
            ) from error
        inputs = self._session.get_inputs()
        check_inputs(graph, [(value.shape, DTYPES.get(value.type)) for value in inputs])
        self._inputs = [value.name for value in inputs]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, *pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph once; see `Engine`."""
        try:
            feed = dict(zip(self._inputs, pictures, strict=True))
            outputs = self._session.run(self._outputs, feed)
        except REFUSALS as error:
            raise EngineError(f'ONNX Runtime failed: {last_line(error)}') from error
        return dict(zip(self._outputs, outputs, strict=True))
