# SPDX-License-Identifier: Apache-2.0
"""
The paper's networks on a CPU: torch as people run it, OpenVINO in fp32 and in int8.

    python -m bench paper

The weights are random, so that nobody's are needed: times do not hang on them, accuracy does.
`python -m training quantize` judges what int8 costs a trained bundle.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from endosfm3d_ros.bench import SIZES, WARM_UP, Stopwatch, endoscope_pictures
from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines.loading import Options, make

HEIGHT, WIDTH = 224, 280
THREADS = 2
CALIBRATION = 40  # pictures
EAGER = 'depth, torch eager'  # what the others are held against


def measure(runs: int = 60) -> list[dict[str, Any]]:
    """
    Time depth and motion of one picture of HEIGHT x WIDTH, on THREADS threads.

    :return: a row for each way: p50, p95, p99 and CPU time [ms], and p50 of torch eager over its.
    """
    wide = endoscope_pictures(*SIZES['720p'], count=CALIBRATION)
    pictures = [cv2.resize(one, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for one in wide]
    watch = Stopwatch()
    ways = _ways(pictures)
    for _ in range(WARM_UP + runs):  # in turn, so that a slower moment meets them all
        for name, run in ways.items():
            watch.timed(name, run)
    costs = watch.costs()
    eager = costs[EAGER].p50
    return [{'way': way, **vars(cost), 'ratio': eager / cost.p50} for way, cost in costs.items()]


def _ways(pictures: list[np.ndarray]) -> dict[str, Callable[[], Any]]:
    import torch

    from training.networks.attention_motion import AttentionMotion
    from training.networks.depth_anything import DepthAnything
    from training.paper import PaperModel, bundle_parts
    from training.quantize import quantized

    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    depth, motion = DepthAnything(True, None).adapt(), AttentionMotion()
    model = PaperModel(depth.eval(), motion.eval(), HEIGHT, WIDTH, 30.0, {})
    parts = {part.kind: part for part in bundle_parts(model, half=False)}
    graphs = {
        kind: Graph(Path(kind), part.models['fp32'].SerializeToString(), HEIGHT, WIDTH, '')
        for kind, part in parts.items()
    }
    narrow = Graph(Path('int8'), quantized(graphs['depth'], pictures), HEIGHT, WIDTH, '')
    engines = {
        kind: make(graph, 'openvino', Options(threads=THREADS))
        for kind, graph in {**graphs, 'int8': narrow}.items()
    }
    before, now = pictures[:2]
    tensor = torch.from_numpy(now)

    def eager() -> None:
        with torch.inference_mode():
            parts['depth'].reference(tensor)

    def both() -> None:
        engines['int8'].run(now)
        engines['motion'].run(before, now)

    return {
        EAGER: eager,
        'depth, OpenVINO fp32': lambda: engines['depth'].run(now),
        'depth, OpenVINO int8': lambda: engines['int8'].run(now),
        'motion, OpenVINO fp32': lambda: engines['motion'].run(before, now),
        'depth int8, then motion': both,
    }


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = ['| way | p50 / p95 / p99 [ms] | CPU [ms] | torch eager over it |', '|---' * 4 + '|']
    for row in rows:
        lines.append(
            f'| {row["way"]} | {row["p50"]:.1f} / {row["p95"]:.1f} / {row["p99"]:.1f} '
            f'| {row["cpu"]:.1f} | {row["ratio"]:.1f} |'
        )
    return '\n'.join(lines)
