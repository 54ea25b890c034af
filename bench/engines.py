# SPDX-License-Identifier: Apache-2.0
"""
Depth of one network picture in every runtime of this machine, and in torch as people run it.

    python -m bench engines --bundles compact
"""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np

from endosfm3d_ros.bench import SIZES, WARM_UP, Stopwatch, endoscope_pictures
from endosfm3d_ros.bundle import Bundle, open_bundle
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.loading import Options, load

Run = Callable[[np.ndarray], np.ndarray]
THREADS = 2


def measure(name: str, runs: int = 100) -> list[dict[str, Any]]:
    """
    Time a bundle's first depth graph.

    :param name: the bundle's name or folder.
    :return: a row for each way: its times [ms], how long it took to get ready [s], and the largest
        relative difference of depth from ONNX Runtime's; or why it does not run.
    """
    bundle = open_bundle(name)
    height, width = bundle.sizes[0]
    wide = endoscope_pictures(*SIZES['720p'], count=1)[0]
    picture = cv2.resize(wide, (width, height), interpolation=cv2.INTER_AREA)
    reference = load(bundle.depth[:1], 'onnxruntime', Options(threads=1)).engines[0]
    wanted = reference.run(picture)['depth'].copy()
    rows = []
    for way, make in _ways(bundle):
        begun = time.perf_counter()
        row: dict[str, Any] = {'bundle': name, 'way': way}
        rows.append(row)
        try:
            run = make()
            off = np.max(np.abs(run(picture) / wanted - 1))
        except (EngineError, ImportError, ValueError) as error:
            row['missing'] = ' '.join(str(error).split())
            continue
        row['ready_s'], row['error'] = time.perf_counter() - begun, float(off)
        watch = Stopwatch()
        for _ in range(WARM_UP + runs):
            watch.timed(way, run, picture)
        row |= vars(watch.costs()[way])
    return rows


def _ways(bundle: Bundle) -> Iterator[tuple[str, Callable[[], Run]]]:
    for word, threads in (
        ('openvino', 1), ('openvino', 2), ('onnxruntime', 1), ('onnxruntime', 2), ('tensorrt', 0),
    ):  # fmt: skip
        label = f'{word}, {threads} thread{"s" if threads > 1 else ""}' if threads else word
        yield label, lambda w=word, t=threads: _engine(bundle, w, t)
    if bundle.name == 'compact':
        yield 'torch eager, 2 threads', lambda: _torch(compiled=False)
        yield 'torch.compile, 2 threads', lambda: _torch(compiled=True)


def _engine(bundle: Bundle, word: str, threads: int) -> Run:
    engine = load(bundle.depth[:1], word, Options(threads=threads)).engines[0]
    return lambda picture: engine.run(picture)['depth']


def _torch(compiled: bool) -> Run:
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

    return run


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
