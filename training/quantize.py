# SPDX-License-Identifier: Apache-2.0
"""
Add int8 depth graphs to a bundle, for CPUs: post-training quantisation by NNCF, calibrated on
rendered pictures and on your own frames, and kept only if depth hardly changes.

    python -m training quantize BUNDLE [--frames VIDEO ...] [--worlds FOLDER ...]

Half of the pictures calibrate, the other half judge. The demo's rendered clip is always among
them; FOLDER holds pairs of `python -m training synthesize`.
"""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx

from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bundle import MANIFEST, Bundle, Graph, open_bundle, write_manifest
from endosfm3d_ros.core.picture.field_of_view import find_field_of_view
from endosfm3d_ros.core.prepare import choose_window, prepare
from endosfm3d_ros.engines.loading import Options, make
from endosfm3d_ros.evaluation.depth import depth_errors
from endosfm3d_ros.evaluation.truth import read_truth_folder
from training.bundle_writer import new_folder, print_parity
from training.parity import (
    BOUNDS,
    RENDERED,
    RUNTIMES,
    Row,
    check_parity,
    parity_pictures,
    worst_errors,
)

ALLOWED_CHANGE = 0.05  # mean relative difference of int8 depth from fp32 depth
ALLOWED_COST = 0.01  # what abs rel against the truth may grow by
BESIDE_BOUND = 0.25  # of all but the depth of pictures: sigmas, a guess of the focal length, noise
LEAST = 4  # pictures: of each kind, with a truth and without, one calibrates and one judges
EVERY = 5  # frames of a user's video one is taken


@dataclass(frozen=True)
class Sample:
    """
    A picture to calibrate on or to judge by.

    :param picture: (h, w, 3) uint8 RGB, of the network's size.
    :param truth: (h, w) z-depth [mm], NaN where unknown; None where nothing is known.
    """

    picture: np.ndarray
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class Cost:
    """
    What int8 costs, on pictures that did not calibrate it, median-scaled.

    :param change: mean relative difference of int8 depth from fp32 depth.
    :param abs_rel_fp32: mean |d - d*| / d* against the truth; abs_rel_int8 likewise.
    :param pictures: that were judged; with_truth: of them had a truth.
    """

    change: float
    abs_rel_fp32: float
    abs_rel_int8: float
    pictures: int
    with_truth: int

    def check(self) -> None:
        """Refuse a graph that says something else; ValueError with both figures."""
        cost = self.abs_rel_int8 - self.abs_rel_fp32
        if not (self.change <= ALLOWED_CHANGE and cost <= ALLOWED_COST):
            raise ValueError(
                f'int8 changes depth by {self.change:.3f} (allowed {ALLOWED_CHANGE}) and costs '
                f'{cost:+.3f} abs rel (allowed {ALLOWED_COST}); the bundle stays as it was: '
                'calibrate on more frames of your scope with --frames'
            )


def quantize(
    bundle: Path, videos: Sequence[Path] = (), worlds: Sequence[Path] = (), most: int = 200
) -> tuple[list[Row], dict[str, Cost]]:
    """
    Add int8 variants of every depth graph, all of them or none.

    :param bundle: a bundle's folder; it is replaced as a whole.
    :param videos: what the scope showed; worlds: folders of rendered pairs.
    :param most: pictures in all.
    :return: parity with fp32, and the cost by graph.
    :raises ValueError: int8 is too far off; the bundle is left as it was.
    """
    opened = open_bundle(str(bundle))
    raw = json.loads((bundle / MANIFEST).read_text(encoding='utf-8'))
    made: dict[str, bytes] = {}
    rows: list[Row] = []
    costs: dict[str, Cost] = {}
    for graph, entry in zip(opened.depth, raw['graphs']['depth'], strict=True):
        samples = _spread(list(_samples(graph, opened, videos, worlds, most)), most)
        file = f'{graph.path.stem}_int8.onnx'
        if file not in made:  # one file may serve several sizes
            made[file] = quantized(graph, [sample.picture for sample in samples[::2]])
        narrow = Graph(graph.path.with_name(file), made[file], graph.height, graph.width, '')
        name = f'depth {graph.height}x{graph.width}'
        rows += _rows(name, graph, narrow)
        costs[name] = measure(graph, narrow, samples[1::2])
        costs[name].check()
        entry['variants'] = {**entry.get('variants', {}), 'int8': {'file': file}}
    check_parity(rows)
    parity = {**raw['card'].get('parity', {}), **{row.name: row.error for row in rows}}
    measured = {name: asdict(cost) for name, cost in costs.items()}
    raw['card'] = {**raw['card'], 'parity': parity, 'int8': measured}
    with new_folder(bundle) as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
        for file, data in made.items():
            (folder / file).write_bytes(data)
        write_manifest(folder, raw)
    return rows, costs


def measure(graph: Graph, narrow: Graph, samples: Sequence[Sample]) -> Cost:
    """
    What a graph loses in int8, as OpenVINO runs both.

    :param samples: pictures that calibrated nothing.
    """
    full, int8 = (make(g, 'openvino', Options()) for g in (graph, narrow))
    changes, before, after = [], [], []
    for sample in samples:
        wanted, found = (engine.run(sample.picture)['depth'].copy() for engine in (full, int8))
        if change := depth_errors(found, wanted, farthest=np.inf):
            changes.append(change.abs_rel)
        if sample.truth is None:
            continue
        first, second = depth_errors(wanted, sample.truth), depth_errors(found, sample.truth)
        if first and second:
            before.append(first.abs_rel)
            after.append(second.abs_rel)
    if not before:
        raise ValueError('no picture with a truth to judge by; install the package again')
    return Cost(
        float(np.mean(changes)),
        float(np.mean(before)),
        float(np.mean(after)),
        len(samples),
        len(before),
    )


def quantized(graph: Graph, pictures: list[np.ndarray]) -> bytes:
    """The graph with int8 convolutions and products, in ONNX's own quantisation operators."""
    import endosfm3d_ros.engines.openvino  # noqa: F401, I001 - silences the telemetry that NNCF shares
    import nncf
    import onnxslim

    nncf.set_log_level(logging.ERROR)
    model = onnxslim.slim(onnx.load_model_from_string(graph.data))
    (name,) = (value.name for value in model.graph.input)
    attention = any(node.op_type == 'Softmax' for node in model.graph.node)
    found = nncf.quantize(
        model,
        nncf.Dataset(pictures, lambda picture: {name: picture}),
        model_type=nncf.ModelType.TRANSFORMER if attention else None,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pictures),
        ignored_scope=nncf.IgnoredScope(names=_beside_depth(model), validate=False),
    )
    return bytes(found.SerializeToString(deterministic=True))


def _beside_depth(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that depth does not need: a handful of numbers, best left as they are."""
    makers = {output: node for node in model.graph.node for output in node.output}
    needed, waiting = set(), ['depth']
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            waiting.extend(node.input)
    return [node.name for node in model.graph.node if node.name not in needed]


def _rows(name: str, graph: Graph, narrow: Graph) -> list[Row]:
    """
    Parity of int8 with fp32, which was held against the network when it was exported.

    Its ranges are those of pictures. Noise, which calibrated nothing, only has to stay near.
    """
    rendered, noise = parity_pictures(graph.height, graph.width, 1)
    rows = []
    for runtime in RUNTIMES:
        full = make(graph, runtime, Options())
        for shown, of, bound in (
            (rendered, name, BOUNDS['int8']),
            (noise, f'{name} of noise', BESIDE_BOUND),
        ):
            truth = tuple(v.copy() for v in full.run(*shown).values())
            errors = worst_errors(narrow, runtime, [shown], [truth])
            rows += [
                Row(of, 'int8', runtime, output, error,
                    bound if output == 'depth' else BESIDE_BOUND)
                for output, error in errors.items()
            ]  # fmt: skip
    return rows


def _samples(
    graph: Graph, bundle: Bundle, videos: Sequence[Path], worlds: Sequence[Path], most: int
) -> Iterator[Sample]:
    """Everything there is, at a graph's size; of a video about as many as are taken in all."""
    size = graph.width, graph.height

    def small(depth: np.ndarray) -> np.ndarray:
        return cv2.resize(depth.astype(np.float32), size, interpolation=cv2.INTER_NEAREST_EXACT)

    truth = read_truth_folder(RENDERED.parent)
    for number, frame in enumerate(open_frames(RENDERED)):
        if number in truth.depth_frames:
            picture = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
            yield Sample(picture, small(truth.read_depth(number).depth))
    for folder in worlds:
        for path in sorted(folder.glob('*.npz')):
            with np.load(path) as world:
                images, depths = world['images'], world['depths']
            for image, depth in zip(images[:, 1], depths[:, 1], strict=True):
                yield Sample(cv2.resize(image, size, interpolation=cv2.INTER_AREA), small(depth))
    for video in videos:
        source = open_frames(video)
        every = max(EVERY, (source.count or 0) // most)
        for number, frame in enumerate(source):
            if number % every == 0:
                window = choose_window(find_field_of_view(frame.image), bundle.sizes)
                if (window.network_height, window.network_width) == (graph.height, graph.width):
                    yield Sample(prepare(frame.image, window))


def _spread(samples: list[Sample], most: int) -> list[Sample]:
    """
    At most so many, from everywhere: half of them with a truth, however long the videos are that
    have none, or nothing would be left to judge by.
    """
    known = [sample for sample in samples if sample.truth is not None]
    others = [sample for sample in samples if sample.truth is None]
    known = _evenly(known, max(most // 2, most - len(others)))
    return known + _evenly(others, most - len(known))


def _evenly(samples: list[Sample], most: int) -> list[Sample]:
    if len(samples) <= most:
        return samples
    return [samples[i] for i in np.linspace(0, len(samples) - 1, most).round().astype(int)]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('bundle', type=Path, help='folder of a bundle; replaced as a whole')
    parser.add_argument(
        '--frames', type=Path, nargs='+', default=[], metavar='VIDEO',
        help='videos, folders of pictures or bags of your own scope',
    )  # fmt: skip
    parser.add_argument('--worlds', type=Path, nargs='+', default=[], help='rendered pairs')
    parser.add_argument('--most', type=int, default=200, help='pictures in all (200)')
    a = parser.parse_args()
    if a.most < LEAST:
        raise ValueError(f'--most is {a.most}, needed {LEAST} and more')
    rows, costs = quantize(a.bundle, a.frames, a.worlds, a.most)
    print_parity(rows)
    for name, cost in costs.items():
        print(
            f'  {name}: int8 changes depth by {cost.change:.3f}; abs rel {cost.abs_rel_fp32:.4f} '
            f'-> {cost.abs_rel_int8:.4f} on {cost.with_truth} pictures with a truth'
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())
