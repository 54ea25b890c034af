# SPDX-License-Identifier: Apache-2.0
"""
The whole product live: player -> node -> listener over DDS, each in a process of its own.

    python -m bench live --sizes 720p --rates 25
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from bench.frames import KEPT, ReadyFrames
from endosfm3d_ros.allocator import keep_freed_pictures
from endosfm3d_ros.bench import SIZES, endoscope_pictures
from endosfm3d_ros.outputs import PRIVATE_TOPICS
from endosfm3d_ros.player import play
from endosfm3d_ros.traffic import stamp_at, stamp_offset

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / 'config' / 'fastdds_large_images.xml'
TOPIC, NODE = '/bench/image_raw', '/endosfm3d'
# what a listener takes: everything, all but the cloud, or the depth alone
WANTS = {
    'all': list(PRIVATE_TOPICS),
    'no_cloud': [name for name in PRIVATE_TOPICS if name != 'points'],
    'depth': ['depth/image'],
}
NODES = {
    'endosfm3d': [sys.executable, '-m', 'endosfm3d_ros.node'],
    'plain': [sys.executable, '-m', 'bench.plain_node'],
}
SETTLE_S, PATIENCE_S = 2.0, 120.0


@dataclass(frozen=True)
class Case:
    """
    One run.

    :param node: a key of NODES.
    :param size: a key of SIZES.
    :param rate: frames a second that the player sends [Hz].
    :param wants: a key of WANTS.
    :param model: a bundle's name or folder.
    :param engine: the parameter `engine`.
    :param threads: the parameter `engine_threads`.
    :param seconds: how long is measured, once it runs [s].
    """

    node: str = 'endosfm3d'
    size: str = '720p'
    rate: float = 25.0
    wants: str = 'all'
    model: str = 'compact'
    engine: str = 'auto'
    threads: int = 0
    seconds: float = 20.0


def run_player(case: Case, stop: threading.Event) -> dict[str, Any]:
    """Send until told to stop."""
    node = rclpy.create_node('bench_player')
    pictures = endoscope_pictures(*SIZES[case.size], KEPT)
    played = play(node, ReadyFrames(pictures, case.rate, stop), TOPIC, wait_for=0)
    return asdict(played)


def run_listener(case: Case, stop: threading.Event, first: Path) -> dict[str, Any]:
    """Take messages as bytes; when each depth was stamped and when it came."""
    node = rclpy.create_node('bench_listener')
    heard: dict[str, list[tuple[int, int]]] = {}
    depths = heard.setdefault('depth/image', [])
    for name in WANTS[case.wants]:
        kind = PRIVATE_TOPICS[name]
        offset, ages = stamp_offset(kind), heard.setdefault(name, [])

        def take(raw: bytes, offset: int | None = offset, ages: list = ages) -> None:
            ages.append((stamp_at(raw, offset), time.time_ns()))
            if ages is depths and len(ages) == 1:
                first.touch()

        reliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        node.create_subscription(kind, f'{NODE}/{name}', take, reliable, raw=True)
    _spin(node, stop)
    return {'heard': heard}


def measure(case: Case, sample_s: float | None = None) -> dict[str, Any]:
    """
    Run one case.

    :param sample_s: look at the node's memory so often, and give that and every age too [s].
    :return: the case and its figures; times in ms, CPU per answered frame.
    :raises RuntimeError: the node gave no depth, or a process failed; its lines stand above.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {role: Path(folder, f'{role}.json') for role in ('player', 'listener')}
        helpers = {role: _start(_role(role, case, file)) for role, file in files.items()}
        node = None
        try:
            _until(lambda: all(Path(f'{file}.up').exists() for file in files.values()))
            begun = time.time_ns()
            node = _start([*NODES[case.node], *_ros_arguments(case)])
            first = Path(f'{files["listener"]}.first')  # it makes this file at the first depth
            process = psutil.Process(node.pid)
            _until(lambda: first.exists() or not _alive(node))
            if not first.exists():
                raise RuntimeError(f'the node of {case} ended; its lines stand above')
            time.sleep(SETTLE_S)
            window = _measured(process, case.seconds, sample_s)
        finally:
            _end([one for one in (node, *helpers.values()) if one])
        said = {role: json.loads(file.read_text()) for role, file in files.items()}
    row = {'case': asdict(case), 'load': os.getloadavg()[0], **_figures(said, window, begun)}
    if sample_s:
        row |= _course(said, window)
    return row


def _measured(process: psutil.Process, seconds: float, sample_s: float | None) -> dict[str, Any]:
    """CPU time, memory and the clock at both ends of a stretch of work, and in between."""

    def now() -> dict[str, float]:
        used, memory = process.cpu_times(), process.memory_info()
        return {
            'clock_ns': time.time_ns(),
            'cpu_ms': (used.user + used.system) * 1e3,
            'rss_mb': memory.rss / 1e6,
            'own_mb': (memory.rss - memory.shared) / 1e6,  # not files, not what DDS shares
        }

    samples = [now()]
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, sample_s or left))
        samples.append(now())
    return {'begin': samples[0], 'end': samples[-1], 'samples': samples}


def _figures(said: dict[str, Any], window: dict[str, Any], begun: int) -> dict[str, Any]:
    heard = {name: np.array(ages, np.int64) for name, ages in said['listener']['heard'].items()}
    depth, (begin, end) = heard['depth/image'], (window['begin'], window['end'])
    inside = (depth[:, 1] >= begin['clock_ns']) & (depth[:, 1] < end['clock_ns'])
    ages = (depth[inside, 1] - depth[inside, 0]) * 1e-6
    sent = np.array(said['player']['stamps_ns'])
    asked = int(((sent >= begin['clock_ns']) & (sent < end['clock_ns'])).sum())
    answered = int(inside.sum())
    return {
        'sent': asked,
        'answered': answered,
        'dropped_share': 1 - answered / max(asked, 1),
        'rate_hz': answered / (end['clock_ns'] - begin['clock_ns']) * 1e9,
        'latency_ms': dict(
            zip(('p50', 'p95', 'p99'), np.percentile(ages, (50, 95, 99)).tolist(), strict=True)
        ) if answered else None,
        'cpu_ms': (end['cpu_ms'] - begin['cpu_ms']) / max(answered, 1),
        'rss_mb': end['rss_mb'],
        'first_depth_s': (int(depth[0, 1]) - begun) * 1e-9,
        'messages': {name: len(ages) for name, ages in heard.items()},
    }  # fmt: skip


def _course(said: dict[str, Any], window: dict[str, Any]) -> dict[str, Any]:
    """
    Of the process [s, MB, MB without files and shared memory, CPU-ms] and every depth's age
    [s, ms], since the begin of the stretch.
    """
    begin, end = window['begin']['clock_ns'], window['end']['clock_ns']
    process = [
        ((one['clock_ns'] - begin) * 1e-9, one['rss_mb'], one['own_mb'], one['cpu_ms'])
        for one in window['samples']
    ]
    ages = [
        ((came - begin) * 1e-9, (came - stamp) * 1e-6)
        for stamp, came in said['listener']['heard']['depth/image']
        if begin <= came < end
    ]
    return {'process': process, 'ages': ages}


def _spin(node: Any, stop: threading.Event) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.1)


def _ros_arguments(case: Case) -> list[str]:
    values = {'model': case.model, 'engine': case.engine, 'engine_threads': case.threads}
    words = [f'{name}:={value}' for name, value in values.items()]
    return [
        '--ros-args', '-r', f'image:={TOPIC}', '-r', f'__node:={NODE[1:]}',
        *(word for pair in words for word in ('-p', pair)),
    ]  # fmt: skip


def _role(role: str, case: Case, out: Path) -> list[str]:
    words = ['--role', role, '--case', json.dumps(asdict(case)), '--out', str(out)]
    return [sys.executable, '-m', 'bench.live', *words]


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, 'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE)}
    environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ctrl-C for all of them; what does not heed it is killed."""
    for one in processes:
        one.send_signal(signal.SIGINT)
    for one in processes:
        try:
            one.wait(timeout=20)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def _alive(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def _until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f'nothing came within {PATIENCE_S:.0f} s')
        time.sleep(0.02)


def play_role(role: str, case: Case, out: Path) -> None:
    """One of the helpers, in its own process, until Ctrl-C."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    keep_freed_pictures()
    Path(f'{out}.up').touch()
    if role == 'player':
        said = run_player(case, stop)
    else:
        said = run_listener(case, stop, Path(f'{out}.first'))
    out.write_text(json.dumps(said))


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        '| node | input | answered | live rate [Hz] | stamp to listener p50 / p95 / p99 [ms] '
        '| CPU [ms a frame] | memory [MB] | first depth [s] | load |',
        '|---' * 9 + '|',
    ]
    for row in rows:
        case, age = row['case'], row['latency_ms'] or dict.fromkeys(('p50', 'p95', 'p99'), np.nan)
        name = case['node'] if case['node'] == 'plain' else f'{case["model"]}, {case["engine"]}'
        lines.append(
            f'| {name}, {case["wants"]} | {case["size"]}{case["rate"]:g} '
            f'| {row["answered"]} of {row["sent"]} | {row["rate_hz"]:.1f} '
            f'| {age["p50"]:.0f} / {age["p95"]:.0f} / {age["p99"]:.0f} | {row["cpu_ms"]:.1f} '
            f'| {row["rss_mb"]:.0f} | {row["first_depth_s"]:.1f} | {row["load"]:.1f} |'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--role', required=True)
    parser.add_argument('--case', type=json.loads, required=True)
    parser.add_argument('--out', type=Path, required=True)
    asked = parser.parse_args()
    play_role(asked.role, Case(**asked.case), asked.out)
