# SPDX-License-Identifier: Apache-2.0
"""
Depth of one network picture in every runtime of this machine, and in torch as people run it.

    python -m bench engines --bundles compact
"""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from typing import Any

import cv2
import numpy as np

from endosfm3d_ros.bench import SIZES, WARM_UP, Stopwatch, endoscope_pictures
from endosfm3d_ros.bundle import Bundle, open_bundle
from endosfm3d_ros.engines.loading import ON_GPU, Options, make, preferred

Run = Callable[[np.ndarray], np.ndarray]
THREADS = 2


def measure(name: str, runs: int = 100) -> list[dict[str, Any]]:
    """
    Time a bundle's first depth graph.

    :param name: the bundle's name or folder.
    :return: a row for each way: its times [ms], how long it took to get ready [s], the largest
        relative difference of depth from ONNX Runtime's on the CPU, and what ran; or why it does
        not run.
    """
    bundle = open_bundle(name)
    height, width = bundle.sizes[0]
    wide = endoscope_pictures(*SIZES['720p'], count=1)[0]
    picture = cv2.resize(wide, (width, height), interpolation=cv2.INTER_AREA)
    reference = make(bundle.depth[0], 'onnxruntime-cpu', Options(threads=1))
    wanted = reference.run(picture)['depth'].copy()
    rows = []
    for way, work in _ways(bundle):
        begun = time.perf_counter()
        row: dict[str, Any] = {'bundle': name, 'way': way}
        rows.append(row)
        try:
            row['runtime'], run = work()
            off = np.max(np.abs(run(picture) / wanted - 1))
        except (
            ImportError,
            RuntimeError,
            ValueError,
        ) as error:  # torch without a C++ compiler too
            row['missing'] = ' '.join(str(error).split())
            continue
        row['ready_s'], row['error'] = time.perf_counter() - begun, float(off)
        watch = Stopwatch()
        for _ in range(WARM_UP + runs):
            watch.timed(way, run, picture)
        row |= vars(watch.costs()[way])
    return rows


def _ways(bundle: Bundle) -> Iterator[tuple[str, Callable[[], tuple[str, Run]]]]:
    for kind, threads in product(('openvino', 'onnxruntime-cpu'), (1, 2)):
        label = f'{kind.removesuffix("-cpu")}, {threads} thread{"s" if threads > 1 else ""}'
        yield label, lambda k=kind, t=threads: _engine(bundle, k, t)
    for kind in ON_GPU:
        yield kind, lambda k=kind: _engine(bundle, k, 0)
    if bundle.name == 'compact':
        yield 'torch eager, 2 threads', lambda: _torch(compiled=False)
        yield 'torch.compile, 2 threads', lambda: _torch(compiled=True)


def _engine(bundle: Bundle, kind: str, threads: int) -> tuple[str, Run]:
    engine = make(preferred(bundle.depth[0], kind), kind, Options(threads=threads))
    return engine.runtime, lambda picture: engine.run(picture)['depth']


def _torch(compiled: bool) -> tuple[str, Run]:
    if not find_spec('torch'):
        raise ImportError('torch is not installed; run: make setup-training')
    import torch

    from bench.torch_network import shipped_network

    torch.set_num_threads(THREADS)
    network = shipped_network()
    module = torch.compile(network) if compiled else network

    def run(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(picture))[0].numpy()

    return f'torch {torch.__version__}', run


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    head = '| bundle | runtime | p50 / p95 / p99 [ms] | CPU [ms] | ready [s] | off by |'
    lines = [head, '|---' * 6 + '|']
    for row in rows:
        start = f'| {row["bundle"]} | {row["way"]} |'
        if 'missing' in row:
            lines.append(f'{start} not here: {row["missing"].split(";")[0]} | | | |')
            continue
        lines.append(
            f'{start} {row["p50"]:.1f} / {row["p95"]:.1f} / {row["p99"]:.1f} | {row["cpu"]:.1f} '
            f'| {row["ready_s"]:.1f} | {row["error"]:.0e} |'
        )
    return '\n'.join(lines)
