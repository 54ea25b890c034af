# SPDX-License-Identifier: Apache-2.0
"""
TensorRT 10.12 to 11: plans that `endosfm3d compile` built on this very machine.

Nothing is believed before it is checked, cheapest first: record, hash, origin, GPU, and only then
TensorRT's runtime, which kills a process that has no GPU.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines import plans
from endosfm3d_ros.engines.captured import CapturedPlans, Plan, Tensor
from endosfm3d_ros.engines.cuda import (
    Cuda,
    CudaFloor,
    Gpu,
    packaged_cuda,
    prove_gpu,
    spoken_cuda,
)
from endosfm3d_ros.engines.engine import EngineError, check_inputs

OLDEST, NEWEST = (10, 12), (12, 0)  # versions from the first to before the second


class TensorRtEngine:
    """
    One graph as a plan that was compiled for this GPU; see `Engine`.

    :param graph: a checked graph of a bundle.
    :param cache: folder that `endosfm3d compile` wrote to.
    :param machine: TensorRT, CUDA and GPU; tests bring their own.
    :raises EngineError: anything is missing, changed, foreign or stale, with the command that
        mends it.
    """

    def __init__(self, graph: Graph, cache: Path, machine: 'Machine | None' = None) -> None:
        machine = machine or Machine()
        self.runtime = f'TensorRT {machine.version}'
        plan, record = load_plan(graph, cache, machine)
        cuda = machine.cuda()
        weakref.finalize(self, cuda.close)
        self._captured = CapturedPlans(cuda, [plan])
        self.runtime = f'TensorRT {machine.version} ({record.precision}) on {record.gpu}'
        if self._captured.why_not_captured:
            self.runtime += f' (not captured: {self._captured.why_not_captured})'
        noise = np.random.default_rng(0).integers(0, 256, (graph.height, graph.width, 3), np.uint8)
        said = self.run(*(noise for tensor in plan.tensors if tensor.is_input))
        if strange := [name for name, value in said.items() if not np.isfinite(value).all()]:
            raise EngineError(
                f'the plan for {graph.path.name} {graph.height}x{graph.width} gives no finite '
                f'{strange[0]}; run: {plans.how_to_build(graph)}'
            )

    def run(self, *pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph once; see `Engine`."""
        return self._captured.run(*pictures)


class Machine:
    """TensorRT, CUDA and the GPU of this machine, each touched no earlier than it is asked for."""

    def __init__(self) -> None:
        self._trt = import_tensorrt()

    @property
    def version(self) -> str:
        """TensorRT's version."""
        return str(self._trt.__version__)

    def gpu(self) -> Gpu:
        """The GPU, proven by its driver."""
        return prove_gpu()

    def cuda(self) -> CudaFloor:
        """CUDA for one engine."""
        return Cuda()

    def plan(self, data: bytes) -> Plan:
        """Make a plan's bytes ready to run; only after `gpu`."""
        return TensorRtPlan(self._trt, data)


def load_plan(graph: Graph, cache: Path, machine: Machine) -> tuple[Plan, plans.Record]:
    """
    Find a graph's plan, refuse it for any reason there is, and load it.

    :raises EngineError: see `TensorRtEngine`.
    """
    folder = plans.find_plan(cache, graph, machine.version, _capability_if_any(machine))
    record = plans.read_record(folder, graph)
    data = plans.read_plan(folder, record, graph)
    plans.check_origin(record, graph, machine.version)
    plans.check_gpu(record, machine.gpu().capability, graph)
    try:
        plan = machine.plan(data)
    except NotStartedError:
        raise
    except EngineError as error:
        raise EngineError(f'{error}; run: {plans.how_to_build(graph)}') from error
    inputs = [tensor for tensor in plan.tensors if tensor.is_input]
    check_inputs(graph, [(tensor.shape, tensor.dtype) for tensor in inputs])
    plans.check_tensors(record, described(plan), graph)
    plans.check_error(record, graph)
    return plan, record


def described(plan: Plan) -> list[list[Any]]:
    """Inputs and outputs, as a record has them."""
    return [
        [t.name, 'in' if t.is_input else 'out', list(t.shape), str(t.dtype)] for t in plan.tensors
    ]


def how_to_install() -> str:
    """The command that installs TensorRT and CUDA of what this machine's driver speaks."""
    cuda = packaged_cuda()
    return f"pip install 'tensorrt-cu{cuda}>=10.12,<12' 'cuda-python<{cuda + 1}'"


def import_tensorrt() -> ModuleType:
    """
    Import TensorRT, of a version that this code was written for.

    :raises EngineError: it is not there, lacks a library, or is too old or too new.
    """
    try:
        import tensorrt as trt
    except (ImportError, OSError, RuntimeError) as error:
        why = ' '.join(str(error).split()) or type(error).__name__
        raise EngineError(
            f'TensorRT can not be imported ({why[:200]}); run: {how_to_install()}'
        ) from error
    version = str(getattr(trt, '__version__', 'unknown'))
    digits = version.split('.')[:2]
    found = tuple(int(d) for d in digits) if all(d.isdigit() for d in digits) else (0, 0)
    if not OLDEST <= found < NEWEST:
        raise EngineError(
            f'TensorRT {version} is here, needed 10.12 to 11; run: {how_to_install()}'
        )
    return trt


@dataclass
class Said:
    """
    What TensorRT says, kept for the one line of an error.

    :ivar worst: the last error.
    :ivar warning: the last warning: that CUDA does not start is no more to TensorRT.
    """

    worst: str = ''
    warning: str = ''

    def line(self) -> str:
        """The last error."""
        return self.worst or 'it does not say why'


def make_logger(trt: ModuleType, said: Said) -> Any:
    """A logger that keeps the last error and the last warning instead of printing pages."""

    class Logger(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                said.worst = ' '.join(text.split())[:300]
            elif severity == trt.ILogger.Severity.WARNING:
                said.warning = ' '.join(text.split())[:300]

    return Logger()


class NotStartedError(EngineError):
    """TensorRT itself does not start here; no other plan would help."""


def start(make: Callable[[Any], Any], logger: Any, said: Said) -> Any:
    """
    Make the first of TensorRT's objects, a runtime or a builder.

    :param make: its class.
    :raises NotStartedError: CUDA does not start, with a driver that is too old for instance.
    """
    try:
        return make(logger)
    except TypeError as error:  # all that the bindings make of it
        raise NotStartedError(
            f'TensorRT can not start: {said.worst or said.warning or said.line()} (the driver '
            f'speaks CUDA {spoken_cuda() or "none"}: update it, or take a TensorRT made for it); '
            f'run: {how_to_install()}'
        ) from error


class TensorRtPlan:
    """
    A plan in TensorRT's hands; see `Plan`.

    :param trt: TensorRT.
    :param data: the plan's bytes.
    :raises EngineError: TensorRT does not take them.
    """

    def __init__(self, trt: ModuleType, data: bytes) -> None:
        self._said = Said()
        self._logger = make_logger(trt, self._said)  # TensorRT keeps no reference
        self._runtime = runtime = start(trt.Runtime, self._logger, self._said)
        self._engine = engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise EngineError(f'TensorRT does not take the plan: {self._said.line()}')
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError(f'TensorRT can not run the plan: {self._said.line()}')
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.tensors = tuple(
            Tensor(
                name,
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                tuple(int(side) for side in engine.get_tensor_shape(name)),
                np.dtype(trt.nptype(engine.get_tensor_dtype(name))),
            )
            for name in names
        )

    def bind(self, name: str, address: int) -> None:
        """See `Plan`."""
        context = self._context
        if not context.set_tensor_address(name, address):
            raise EngineError(f'TensorRT refuses memory for {name}: {self._said.line()}')

    def enqueue(self, stream: int) -> None:
        """See `Plan`."""
        context = self._context
        if not context.execute_async_v3(stream):
            raise EngineError(f'TensorRT failed: {self._said.line()}')


def _capability_if_any(machine: Machine) -> str:
    try:
        return machine.gpu().capability
    except EngineError:
        return ''
