# SPDX-License-Identifier: Apache-2.0
"""Compile a graph for this GPU: build, hold against the ONNX graph, write with a record."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from endosfm3d_ros.bundle import SHIPPED, Graph
from endosfm3d_ros.engines import plans
from endosfm3d_ros.engines.captured import CapturedPlans
from endosfm3d_ros.engines.cuda import Gpu
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.tensorrt import (
    Machine,
    Said,
    TensorRtEngine,
    described,
    import_tensorrt,
    make_logger,
    start,
)

GIBI = 1 << 30
ALLOWED_ERROR = {'half': 2e-2, 'graph': 5e-3}  # the second: TensorFloat-32, and other sums
QUANTILE = 0.999  # of the values of an output; single pixels at a step of depth may differ
STEP = 'axis_angle', 'translation'  # what a motion graph says in thousandths and less
TINY = 1e-9  # a smaller step is none
CLIP = SHIPPED.parent / 'demo_clip' / 'clip.mp4'
PICTURES = 8
TIMING_CACHE = 'timing.cache'

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """
    How to build.

    :param precision: one of `plans.PRECISIONS`.
    :param workspace_gib: memory that TensorRT may try out while it builds [GiB].
    :param level: TensorRT's builder optimisation level, 0 (fast) to 5 (thorough).
    """

    precision: str = 'half'
    workspace_gib: float = 2.0
    level: int = 3


def compile_graph(
    graph: Graph, cache: Path, options: Options, progress: Progress = lambda line: None
) -> plans.Record:
    """
    Compile one graph of one size for this GPU and write its plan.

    :param graph: a checked graph of a bundle.
    :param cache: see `plans.cache_folder`.
    :param progress: called with a line now and then.
    :return: the record that was written.
    :raises EngineError: no TensorRT, no GPU, a graph that TensorRT does not take, or a plan that
        says something else than the graph; nothing is written then.
    """
    machine = Machine()
    gpu = machine.gpu()  # before any of TensorRT's own objects
    try:
        from endosfm3d_ros.engines.prepared import prepared
    except ImportError as error:
        raise EngineError(
            f'compiling needs onnx and onnxruntime ({error}); run: pip install onnx onnxruntime'
        ) from error
    exported = options.precision == 'half' and 'fp16' in graph.others
    model = prepared(graph.variant('fp16') if exported else graph, options.precision)
    timings = cache / 'engines' / f'trt{machine.version}-sm{gpu.capability.replace(".", "")}'
    data = build(import_tensorrt(), model, options, timings / TIMING_CACHE, progress)
    record = measured(graph, data, machine, gpu, options)
    plans.check_error(record, graph)
    folder = plans.plan_folder(cache, graph, options.precision, machine.version, gpu.capability)
    plans.write_plan(folder, data, record)
    TensorRtEngine(graph, cache, machine)  # as the node will load it
    return record


def build(
    trt: ModuleType, model: bytes, options: Options, timing_cache: Path, progress: Progress
) -> bytes:
    """
    Let TensorRT build a plan.

    :param model: an ONNX model with static sides; its types are the plan's types.
    :param timing_cache: file with the timings of earlier builds; read and written.
    :raises EngineError: TensorRT does not take it, in its own words.
    """
    said = Said()
    logger = make_logger(trt, said)
    builder = start(trt.Builder, logger, said)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        why = said.line()
        if parser.num_errors:
            problem = parser.get_error(0)
            why = ' '.join(problem.desc().split())[:300]
        raise EngineError(f'TensorRT can not read the graph: {why}')
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace_gib * GIBI))
    config.builder_optimization_level = options.level
    config.progress_monitor = make_monitor(trt, progress)
    stored = timing_cache.read_bytes() if timing_cache.is_file() else b''
    cache = config.create_timing_cache(stored)
    if not config.set_timing_cache(cache, False):  # of another driver or GPU: begin anew
        cache = config.create_timing_cache(b'')
        config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f'TensorRT can not build the graph: {said.line()}')
    timing_cache.parent.mkdir(parents=True, exist_ok=True)
    timing_cache.write_bytes(bytes(cache.serialize()))
    return bytes(plan)


def make_monitor(trt: ModuleType, progress: Progress) -> Any:
    """What TensorRT tells while it builds, as lines."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            progress(f'{phase}: {step + 1} of {self._steps.get(phase, 0)}')
            return True  # go on

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()


def measured(
    graph: Graph, data: bytes, machine: Machine, gpu: Gpu, options: Options
) -> plans.Record:
    """Run a plan beside the ONNX graph on the same pictures; its record, not judged yet."""
    from endosfm3d_ros.engines.onnxruntime import OnnxRuntimeEngine

    plan = machine.plan(data)
    cuda = machine.cuda()
    try:
        captured = CapturedPlans(cuda, [plan])
        inputs = sum(tensor.is_input for tensor in plan.tensors)
        reference = OnnxRuntimeEngine(graph)
        pictures = gate_pictures(graph.height, graph.width)
        errors: dict[str, list[float]] = {}
        for i in range(len(pictures) - inputs + 1):
            shown = pictures[i : i + inputs]
            wanted, said = reference.run(*shown), captured.run(*shown)
            for name, value in said.items():
                errors.setdefault(name, []).append(difference(name, value, wanted[name]))
        median = _median_ms(captured, pictures[:inputs])
    finally:
        cuda.close()
    return plans.Record(
        plan_sha256=hashlib.sha256(data).hexdigest(),
        onnx_sha256=graph.sha256,
        tensorrt=machine.version,
        capability=gpu.capability,
        gpu=gpu.name,
        driver=gpu.driver,
        precision=options.precision,
        height=graph.height,
        width=graph.width,
        tensors=described(plan),
        flags={'strongly_typed': True, 'level': options.level, 'workspace': options.workspace_gib},
        error={name: float(np.max(values)) for name, values in errors.items()},
        allowed_error=ALLOWED_ERROR[options.precision],
        median_ms=median,
    )


def difference(name: str, found: np.ndarray, wanted: np.ndarray) -> float:
    """
    How far two outputs are apart, relative where they are large; infinite where not finite.

    :param name: of the output. Those of STEP are small as a whole, so that theirs is relative to
        the largest of their numbers.
    """
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float('inf')
    apart = np.abs(found.astype(np.float64) - wanted)
    if name in STEP:
        return float(np.max(apart) / max(np.max(np.abs(wanted)), TINY))
    return float(np.quantile(apart / np.maximum(np.abs(wanted), 1e-1), QUANTILE))


def _median_ms(captured: CapturedPlans, pictures: Sequence[np.ndarray], runs: int = 100) -> float:
    times = []
    for _ in range(runs + 10):
        begun = time.perf_counter()
        captured.run(*pictures)
        times.append((time.perf_counter() - begun) * 1e3)
    return float(np.median(times[10:]))


def gate_pictures(height: int, width: int) -> list[np.ndarray]:
    """
    Pictures of the demo's clip, and one of noise, for the gate.

    :return: PICTURES of (height, width, 3) uint8 RGB.
    """
    clip = cv2.VideoCapture(str(CLIP))
    pictures = [np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)]
    while len(pictures) < PICTURES:
        there, bgr = clip.read()
        if not there:
            raise EngineError(f'{CLIP}: has no {PICTURES} pictures; install the package again')
        small = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)
        pictures.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
    return pictures
