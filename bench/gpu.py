# SPDX-License-Identifier: Apache-2.0
"""
Depth on an NVIDIA GPU, batch 1, every way there is on that machine, each with its error.

    python -m bench.gpu --out gpu.json            # torch, and ONNX Runtime if it has CUDA
    python -m bench.gpu --network training.paper.x:make --size 518x518
    python -m bench.gpu --out gpu.json --minutes 9     # where a machine is lent for ten

Needs torch and no ROS. Times are medians and 99th percentiles of 300 runs after 50: on the device
by events, and by the host's clock with the copies in and out; fewer where they would take longer
than half a minute. The error is the largest relative difference of depth from torch in single
precision on the CPU. TensorRT is measured where it is installed and the bundle was compiled
(`endosfm3d compile`). What takes minutes to get ready, all that torch compiles, comes
last, and the figures are written after every row.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.torch_network import shipped_network
from endosfm3d_ros.bundle import Graph, open_bundle
from endosfm3d_ros.engines.engine import Engine, EngineError
from endosfm3d_ros.engines.plans import cache_folder
from endosfm3d_ros.engines.tensorrt_build import gate_pictures

WARM_UP, RUNS = 50, 300
LONGEST_S = 30.0  # for the runs of one clock [s]
SIZES = ('224x280', '224x392')

Run = Callable[[], torch.Tensor]  # on the device, from one fixed picture there
Work = Callable[[], tuple[np.ndarray, dict[str, Any]]]  # depth, and what its row says beside it


class Depth(nn.Module):
    """The depth of a network that says more."""

    def __init__(self, network: nn.Module, half: bool) -> None:
        super().__init__()
        self.network, self.half_products = network, half

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """(H, W, 3) uint8 -> (H, W) float32."""
        with torch.autocast(
            'cuda', torch.float16, enabled=self.half_products, cache_enabled=False
        ):
            return self.network(picture)[0].float()


def torch_ways(
    network: nn.Module, picture: torch.Tensor, are_compiled: bool
) -> Iterator[tuple[str, Callable[[], Run]]]:
    """Eager and captured, or compiled and compiled ahead; in single and half precision."""
    for half in (False, True):
        depth, name = Depth(network, half).eval(), 'fp16' if half else 'fp32'
        if are_compiled:
            yield f'torch.compile {name}', lambda d=depth: compiled(d, picture)
            yield f'AOTInductor {name}', lambda d=depth: ahead(d, picture)
        else:
            yield f'torch eager {name}', lambda d=depth: lambda: d(picture)
            yield f'torch CUDA graph {name}', lambda d=depth: captured(d, picture)


def captured(depth: nn.Module, picture: torch.Tensor) -> Run:
    """One CUDA graph of the whole network."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            depth(picture)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        said = depth(picture)

    def run() -> torch.Tensor:
        graph.replay()
        return said

    return run


def compiled(depth: nn.Module, picture: torch.Tensor) -> Run:
    """What torch.compile makes of it, given all the time it wants, for this very size."""
    torch._dynamo.reset()  # or it takes a second size for a sign that sizes are to be left open
    fast = torch.compile(depth, mode='max-autotune', dynamic=False)
    return lambda: fast(picture)


def ahead(depth: nn.Module, picture: torch.Tensor) -> Run:
    """A library compiled ahead, as one would ship it."""
    with tempfile.TemporaryDirectory() as folder:
        package = torch._inductor.aoti_compile_and_package(
            torch.export.export(depth, (picture,)), package_path=f'{folder}/depth.pt2'
        )
        fast = torch._inductor.aoti_load_package(package)
        fast(picture)
    return lambda: fast(picture)


def engines(size: tuple[int, int]) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """The shipped graph in our own engines, which take pictures of the host."""
    for precision, name in (('graph', 'fp32'), ('half', 'fp16')):
        yield f'ONNX Runtime CUDA {name}', lambda p=precision: onnxruntime_cuda(size, p, False)
        yield (
            f'ONNX Runtime CUDA {name}, graph',
            lambda p=precision: onnxruntime_cuda(size, p, True),
        )
    yield 'TensorRT', lambda: tensorrt(size)


def onnxruntime_cuda(size: tuple[int, int], precision: str, with_graph: bool) -> Engine:
    """
    ONNX Runtime on the GPU.

    :param precision: see `prepared`.
    :raises EngineError: it does not run there, or not as a CUDA graph where one is asked for.
    """
    from endosfm3d_ros.engines.onnxruntime import OnnxRuntimeCudaEngine
    from endosfm3d_ros.engines.prepared import prepared

    graph = shipped_graph(size)
    engine = OnnxRuntimeCudaEngine(replace(graph, data=prepared(graph, precision)), with_graph)
    if with_graph and 'CUDA graph' not in engine.runtime:
        raise EngineError(engine.runtime)
    return engine


def tensorrt(size: tuple[int, int]) -> Engine:
    """The plan that was compiled on this machine."""
    from endosfm3d_ros.engines.tensorrt import TensorRtEngine

    return TensorRtEngine(shipped_graph(size), cache_folder())


def shipped_graph(size: tuple[int, int]) -> Graph:
    """The shipped graph of a size; EngineError where there is none."""
    graphs = {(graph.height, graph.width): graph for graph in open_bundle('compact').depth}
    if size not in graphs:
        there = ', '.join(f'{height}x{width}' for height, width in graphs)
        raise EngineError(f'no shipped graph of {size[0]}x{size[1]}; there are {there}')
    return graphs[size]


def percentiles(clock: str, once: Callable[[], float]) -> dict[str, float]:
    """
    Median and p99 of many runs.

    :param clock: what the figures are called.
    :param once: runs once and says how long it took [ms].
    """
    times: list[float] = []
    end = time.monotonic() + LONGEST_S
    while len(times) < WARM_UP + RUNS and (len(times) <= WARM_UP or time.monotonic() < end):
        times.append(once())
    median, p99 = np.percentile(times[WARM_UP:], (50, 99)).tolist()
    runs = len(times) - WARM_UP
    return {f'{clock}_p50_ms': median, f'{clock}_p99_ms': p99, f'{clock}_runs': runs}


def timed(run: Callable[[], Any]) -> dict[str, float]:
    """Median and p99 of the host's clock [ms]."""

    def once() -> float:
        begun = time.perf_counter()
        run()
        return (time.perf_counter() - begun) * 1e3

    return percentiles('host', once)


def timed_on_device(run: Run, picture: torch.Tensor, here: torch.Tensor) -> dict[str, float]:
    """The same by events, and by the host's clock with a picture copied in and depth out."""
    pinned, out = here.pin_memory(), run().cpu().pin_memory()

    def whole() -> None:
        picture.copy_(pinned, non_blocking=True)
        out.copy_(run(), non_blocking=True)
        torch.cuda.synchronize()

    def once() -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    return {**percentiles('device', once), **timed(whole)}


def measure(
    network: nn.Module,
    size: tuple[int, int],
    are_compiled: bool,
    ours: bool,
    end: float = math.inf,
) -> Iterator[dict[str, Any]]:
    """
    Time ways at one size.

    :param network: (H, W, 3) uint8 -> depth first.
    :param are_compiled: what torch compiles; else all that is ready soon.
    :param ours: of the latter also the shipped graph in our engines.
    :param end: of `time.monotonic()`; no way begins after it [s].
    :return: a row for each way, as soon as it is known.
    """
    shown = gate_pictures(*size)[-1]
    here = torch.from_numpy(shown)
    with torch.inference_mode():
        wanted = network.cpu()(here)[0].numpy()
    picture = here.cuda()

    def torch_way(make: Callable[[], Run]) -> tuple[np.ndarray, dict[str, Any]]:
        with torch.no_grad():
            run = make()
            return run().cpu().numpy(), timed_on_device(run, picture, here)

    def engine_way(make: Callable[[], Engine]) -> tuple[np.ndarray, dict[str, Any]]:
        engine = make()
        depth = engine.run(shown)['depth'].copy()
        return depth, {'runtime': engine.runtime, **timed(lambda: engine.run(shown))}

    ways: list[tuple[str, Work]] = [
        (way, lambda m=make: torch_way(m))
        for way, make in torch_ways(network.cuda(), picture, are_compiled)
    ]
    if ours and not are_compiled:
        ways += [(way, lambda m=make: engine_way(m)) for way, make in engines(size)]
    for way, work in ways:
        row: dict[str, Any] = {'way': way, 'size': f'{size[0]}x{size[1]}'}
        try:
            if time.monotonic() > end:
                raise TimeoutError('no time was left for it')
            depth, facts = work()
            row |= {'error': float(np.max(np.abs(depth / wanted - 1))), **facts}
        except Exception as error:  # noqa: BLE001  one way's failure is not the others'
            row['missing'] = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
        yield row


def as_line(row: dict[str, Any]) -> str:
    """A row for people."""
    start = f'| {row["size"]} | {row["way"]} |'
    if 'missing' in row:
        return f'{start} not measured: {row["missing"]} | | |'
    device = (
        f'{row["device_p50_ms"]:.2f} / {row["device_p99_ms"]:.2f}'
        if 'device_p50_ms' in row
        else '–'
    )
    host = f'{row["host_p50_ms"]:.2f} / {row["host_p99_ms"]:.2f}'
    return f'{start} {device} | {host} | {row["error"]:.1e} |'


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', action='append', metavar='HxW', help='repeat for more')
    parser.add_argument('--network', metavar='MODULE:FUNCTION', help='makes another network')
    parser.add_argument('--out', type=Path, help='write the figures as JSON')
    parser.add_argument(
        '--minutes', type=float, default=math.inf, help='begin no way after so many'
    )
    asked = parser.parse_args()
    end = time.monotonic() + asked.minutes * 60.0
    if not torch.cuda.is_available():
        print('bench.gpu: torch sees no GPU; run it on a machine that has one', file=sys.stderr)
        return 1
    make: Callable[[], nn.Module] = shipped_network
    if asked.network:
        module, _, function = asked.network.partition(':')
        make = getattr(import_module(module), function)
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}')
    print(
        '| size | way | device p50 / p99 [ms] | host with copies [ms] | off by |\n'
        + '|---' * 5
        + '|'
    )
    rows = []
    sizes = [tuple(int(side) for side in text.split('x')) for text in asked.size or SIZES]
    for are_compiled, (height, width) in product((False, True), sizes):
        for row in measure(make(), (height, width), are_compiled, not asked.network, end):
            rows.append(row)
            print(as_line(row), flush=True)
            if asked.out:
                asked.out.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
