# SPDX-License-Identifier: Apache-2.0
"""What a frame costs on this machine, stage by stage, and what each runtime that is here takes."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from endosfm3d_ros import parameters
from endosfm3d_ros.bundle import Bundle, BundleError, open_bundle
from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.core.picture.field_of_view import FieldOfView, find_field_of_view
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.prepare import Window, choose_window, prepare
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.loading import KINDS
from endosfm3d_ros.messages_in import frame_from
from endosfm3d_ros.messages_out import header, image_message
from endosfm3d_ros.outfile import check_outfile, write_outfile
from endosfm3d_ros.outputs import Outputs, Traffic
from endosfm3d_ros.replay import add_parameter_argument, parameters_from
from endosfm3d_ros.share import DEMO_CLIP
from endosfm3d_ros.typed import check_count

CLIP = DEMO_CLIP / 'clip.mp4'
SIZES = {'720p': (1280, 720), '1080p': (1920, 1080)}
WARM_UP = 10
PERIOD_NS = 40_000_000


@dataclass(frozen=True)
class Cost:
    """
    What one stage takes, over many frames.

    :param p50: wall time [ms]; p95 and p99 likewise.
    :param cpu: mean CPU time of this process, all threads [ms].
    """

    p50: float
    p95: float
    p99: float
    cpu: float


class Stopwatch:
    """Wall and CPU time of named stages."""

    def __init__(self) -> None:
        self._wall: dict[str, list[float]] = {}
        self._cpu: dict[str, list[float]] = {}

    def timed(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do the work and note what it took under a name; what it gives."""
        begun = self.now()
        said = work(*arguments)
        self.note(name, begun)
        return said

    def now(self) -> tuple[float, float]:
        """Wall and CPU clock, for `note`."""
        return time.perf_counter(), time.process_time()

    def note(self, name: str, begun: tuple[float, float]) -> None:
        """Note what passed since then under a name."""
        wall, cpu = self.now()
        self._wall.setdefault(name, []).append((wall - begun[0]) * 1e3)
        self._cpu.setdefault(name, []).append((cpu - begun[1]) * 1e3)

    def costs(self, skipped: int = WARM_UP) -> dict[str, Cost]:
        """Every stage, without its first frames."""
        found = {}
        for name, wall in self._wall.items():
            first = skipped if len(wall) > skipped else 0  # the path comes now and then only
            p50, p95, p99 = np.percentile(wall[first:], (50, 95, 99)).tolist()
            found[name] = Cost(p50, p95, p99, float(np.mean(self._cpu[name][first:])))
        return found


def endoscope_pictures(width: int, height: int, count: int) -> list[np.ndarray]:
    """
    The demo's clip as a scope's video output shows it: the round picture between black sides.

    :param width: of the output [px].
    :param height: of the output, and of the picture in it [px].
    :return: (height, width, 3) uint8 RGB each, consecutive frames.
    :raises ValueError: the clip is not there.
    """
    clip = cv2.VideoCapture(str(CLIP))
    pictures: list[np.ndarray] = []
    while len(pictures) < count:
        there, bgr = clip.read()
        if not there:
            raise ValueError(f'{CLIP}: has no {count} pictures; install the package again')
        wide = round(bgr.shape[1] * height / bgr.shape[0])
        large = cv2.resize(bgr, (wide, height), interpolation=cv2.INTER_CUBIC)
        whole = np.zeros((height, width, 3), np.uint8)
        left = (width - wide) // 2
        whole[:, left : left + wide] = cv2.cvtColor(large, cv2.COLOR_BGR2RGB)
        pictures.append(whole)
    return pictures


def stages(values: dict[str, Any], size: str, frames: int) -> dict[str, Cost]:
    """
    Time the node's work on one frame, without DDS.

    :param values: every parameter by name.
    :param size: a key of SIZES.
    :param frames: how many to time.
    :return: decode, step (with field of view, prepare and depth of it, timed once more alone) and
        messages (with every topic of them).
    """
    bundle = open_bundle(values['model'])
    network = DepthGraphs(bundle, values['engine'], parameters.engine_options(values))
    pipeline = Pipeline(network, bundle.sizes, parameters.settings(values))
    outputs, watch = Outputs(values), Stopwatch()
    pictures = endoscope_pictures(*SIZES[size], count=25)
    inputs = [image_message(picture, header(1, 'camera')) for picture in pictures]
    order = [*inputs, *inputs[-2:0:-1]]
    field: FieldOfView | None = None
    window: Window | None = None
    for i in range(WARM_UP + frames):
        message = order[i % len(order)]
        message.header = header((i + 1) * PERIOD_NS, 'camera')
        frame = watch.timed('decode', frame_from, message)
        said = watch.timed('step', pipeline.step, frame)
        _time_messages(outputs, said, watch)
        field = watch.timed('step: field of view', find_field_of_view, frame.image, field)
        window = choose_window(field, bundle.sizes, window)
        small = watch.timed('step: prepare', prepare, frame.image, window)
        watch.timed('step: depth', network, small)
    return watch.costs()


def _time_messages(outputs: Outputs, said: Reconstruction, watch: Stopwatch) -> None:
    """Make all messages; each one's time under its topic."""
    whole = begun = watch.now()
    for topic, _ in outputs.messages(said, Traffic()):
        watch.note(f'messages: {topic}', begun)
        begun = watch.now()
    watch.note('messages', whole)


def engines(
    bundle: Bundle, words: list[str], runs: int, values: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """
    Time a bundle's first depth graph in every runtime.

    :param words: values of the parameter `engine`; values: the node's others by name.
    :return: by word: the runtime, its cost, and the time until the engine was ready [s]; or why it
        does not run.
    """
    found: dict[str, dict[str, Any]] = {}
    height, width = bundle.sizes[0]
    wide = endoscope_pictures(*SIZES['720p'], count=1)[0]
    picture = cv2.resize(wide, (width, height), interpolation=cv2.INTER_AREA)
    for word in words:
        begun, watch = time.perf_counter(), Stopwatch()
        try:
            network = DepthGraphs(bundle, word, parameters.engine_options(values))
        except EngineError as error:
            found[word] = {'missing': str(error)}
            continue
        ready_s = time.perf_counter() - begun
        for _ in range(WARM_UP + runs):
            watch.timed('depth', network, picture)
        cost = watch.costs()['depth']
        found[word] = {'runtime': network.runtime, 'ready_s': ready_s, **asdict(cost)}
    return found


def machine() -> dict[str, Any]:
    """The machine, as far as the figures depend on it."""
    return {
        'cpu': _cpu_name(),
        'cores': psutil.cpu_count(),
        'load': os.getloadavg()[0],
        'python': sys.version.split()[0],
    }


def _cpu_name() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return 'unknown'
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else 'unknown'


def as_table(costs: dict[str, Cost]) -> str:
    """Stages as lines that line up."""
    head = f'{"":<26}{"p50":>8}{"p95":>8}{"p99":>8}{"CPU":>8}   [ms]'
    rows = [
        f'{name:<26}{one.p50:8.2f}{one.p95:8.2f}{one.p99:8.2f}{one.cpu:8.2f}'
        for name, one in costs.items()
    ]
    return '\n'.join([head, *rows])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d bench`."""
    parser.add_argument('--frames', type=int, default=150, help='to time (default: 150)')
    parser.add_argument('--size', choices=list(SIZES), nargs='+', default=['720p'])
    parser.add_argument('--out', type=Path, help='write the figures as JSON')
    add_parameter_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d bench`."""
    try:
        check_count('--frames', arguments.frames)
        check_outfile(arguments.out)
        values = parameters_from(arguments.parameters)
        bundle = open_bundle(values['model'])
        here = machine()
        print(f'{here["cpu"]}, {here["cores"]} cores, load {here["load"]:.1f}')
        found: dict[str, Any] = {'machine': here, 'stages': {}}
        for size in arguments.size:
            costs = stages(values, size, arguments.frames)
            print(f'\n{bundle.name} {bundle.version}, {size}, a frame:\n{as_table(costs)}')
            found['stages'][size] = {name: asdict(cost) for name, cost in costs.items()}
        found['engines'] = engines(bundle, list(KINDS), arguments.frames, values)
        write_outfile(arguments.out, json.dumps(found, indent=1))
    except (ValueError, BundleError, EngineError) as error:
        print(f'endosfm3d bench: {error}', file=sys.stderr)
        return 1
    print(f'\ndepth {bundle.sizes[0][0]}x{bundle.sizes[0][1]} by engine:')
    for word, one in found['engines'].items():
        if 'missing' in one:
            print(f'{word:<13}{one["missing"]}')
        else:
            line = f'p50 {one["p50"]:.1f} p95 {one["p95"]:.1f} CPU {one["cpu"]:.1f} ms'
            print(f'{word:<13}{line}, ready after {one["ready_s"]:.1f} s  ({one["runtime"]})')
    return 0
