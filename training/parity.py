# SPDX-License-Identifier: Apache-2.0
"""
Parity: does every runtime say what the network says, in every precision, on rendered and on noise
pictures?
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

import endosfm3d_ros
from endosfm3d_ros.bags.videos import VideoFrames
from endosfm3d_ros.bundle import Bundle, Graph
from endosfm3d_ros.engines.loading import Options, make

RUNTIMES = 'openvino', 'onnxruntime-cpu'
FP32_BOUND = 1e-4  # of the output's norm
BOUNDS = {'fp32': FP32_BOUND, 'fp16': 1e-2, 'int8': 1e-1}
RENDERED = Path(endosfm3d_ros.__file__).parent / 'demo_clip' / 'clip.mp4'
APART = 5  # frames between the two pictures of a rendered pair


@dataclass(frozen=True)
class Row:
    """
    How far one output of one graph is from the network in one runtime, at worst over pictures.

    :param graph: such as 'depth 256x320'.
    :param precision: 'fp32', 'fp16' or 'int8'.
    :param runtime: its name.
    :param output: its name; of depth its reciprocal is compared.
    :param error: norm of the difference over the norm of the output; of a logarithm the largest
        difference itself.
    :param bound: what is allowed.
    """

    graph: str
    precision: str
    runtime: str
    output: str
    error: float
    bound: float

    @property
    def name(self) -> str:
        """One line's worth, for people."""
        return f'{self.graph} {self.precision} {self.runtime}: {self.output}'


def parity(
    bundle: Bundle, kind: str, reference: nn.Module, fp32_bound: float = FP32_BOUND
) -> list[Row]:
    """
    Compare all graphs of a kind with the module that they were made of.

    :param kind: 'depth' or 'motion'.
    :param reference: takes and gives tensors as the graphs take and give arrays.
    :param fp32_bound: what is allowed in single precision.
    """
    bounds = {**BOUNDS, 'fp32': fp32_bound}
    rows = []
    for graph in bundle.depth if kind == 'depth' else bundle.motion:
        count = 1 if kind == 'depth' else 2
        pictures = list(parity_pictures(graph.height, graph.width, count))
        with torch.no_grad():
            said = [reference(*(torch.from_numpy(p) for p in shown)) for shown in pictures]
        truth = [_arrays(one) for one in said]
        for precision in ('fp32', *graph.others):
            chosen = graph if precision == 'fp32' else graph.variant(precision)
            for runtime in RUNTIMES:
                errors = worst_errors(chosen, runtime, pictures, truth)
                name = f'{kind} {graph.height}x{graph.width}'
                rows += [
                    Row(name, precision, runtime, output, error, bounds[precision])
                    for output, error in errors.items()
                ]
    return rows


def worst_errors(
    graph: Graph,
    runtime: str,
    pictures: list[tuple[np.ndarray, ...]],
    truth: list[tuple[np.ndarray, ...]],
) -> dict[str, float]:
    """The largest error of each output over the pictures, by the output's name."""
    engine = make(graph, runtime, Options())
    worst: dict[str, float] = {}
    for shown, expected in zip(pictures, truth, strict=True):
        said = engine.run(*shown)
        for (name, found), wanted in zip(said.items(), expected, strict=True):
            worst[name] = max(worst.get(name, 0.0), output_error(name, found, wanted))
    return worst


def check_parity(rows: list[Row]) -> None:
    """
    Refuse what is too far off.

    :raises ValueError: naming the first.
    """
    for row in rows:
        if not row.error <= row.bound:  # not a number is no parity
            raise ValueError(
                f'{row.name} differs from the network by {row.error:.1e}, '
                f'allowed {row.bound:g}; nothing was written'
            )


def output_error(name: str, found: np.ndarray, wanted: np.ndarray) -> float:
    """
    How far an output is off: see `Row.error`.

    :param name: of the output.
    """
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if a.shape != b.shape:
        return float('inf')
    if name == 'log_focal':
        return float(np.abs(a - b).max())
    if name == 'depth':
        a, b = 1.0 / a, 1.0 / b
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12))


def parity_pictures(height: int, width: int, count: int) -> Iterator[tuple[np.ndarray, ...]]:
    """
    Pictures to compare on: one set from the rendered clip that ships, one of noise.

    :param count: pictures of a set, one after the other in time.
    :return: sets of (height, width, 3) uint8 RGB.
    """
    frames = [frame.image for frame in islice(VideoFrames(RENDERED), APART * count)]
    yield tuple(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        for image in frames[::APART][:count]
    )
    rng = np.random.default_rng(0)
    rows, columns = -(-height // 8), -(-width // 8)
    coarse = rng.integers(0, 256, (count, rows, columns, 3), np.uint8)
    blocks = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    fine = rng.integers(0, 64, (count, height, width, 3), np.uint8)
    yield tuple(np.ascontiguousarray(a // 4 * 3 + b) for a, b in zip(blocks, fine, strict=True))


def _arrays(said: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[np.ndarray, ...]:
    return tuple(t.numpy() for t in (said if isinstance(said, tuple) else (said,)))
