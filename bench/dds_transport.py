# SPDX-License-Identifier: Apache-2.0
"""
What moving the pictures costs before any work is done: player -> empty node -> recorder over DDS.

Three processes, as in the demo. The player sends pictures that are ready in memory; the node reads
each one and answers, under its stamp, with messages of the sizes that the real one sends, but
computes nothing; the recorder writes them into a bag. docs/performance.md explains the columns.
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
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, PointCloud2

from endosfm3d_ros.allocator import keep_freed_pictures
from endosfm3d_ros.bags.pattern import PatternFrames
from endosfm3d_ros.player import play
from endosfm3d_ros.recorder import record
from endosfm3d_ros.traffic import Ages, MessageInfo, SequenceGaps

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / 'config' / 'fastdds_large_images.xml'
MODES = {'720p25': (1280, 720, 25.0), '1080p30': (1920, 1080, 30.0), '1080p60': (1920, 1080, 60.0)}
PROFILES = ('none', 'receiver', 'sender', 'both')
TOPIC = '/bench/image_raw'
NETWORK_SIZE = (320, 256)
# name -> (type, encoding, bytes a pixel): what the node answers with, at the network's size
OUTPUTS: dict[str, tuple[Any, str, int]] = {
    '/bench/rgb': (Image, 'rgb8', 3),
    '/bench/depth': (Image, '32FC1', 4),
    '/bench/confidence': (Image, '32FC1', 4),
    '/bench/points': (PointCloud2, '', 16),
}


@dataclass(frozen=True)
class Case:
    """
    One run.

    :param mode: a key of MODES.
    :param profile: who has the large-image profile: none, receiver (node, recorder), sender, both.
    :param keep: whether the processes keep freed pictures (allocator.py).
    :param seconds: how long the player plays.
    """

    mode: str
    profile: str
    keep: bool
    seconds: float


def run_player(case: Case) -> dict[str, Any]:
    """The sender; its CPU time is that of sending alone, for there is nothing to decode."""
    width, height, rate = MODES[case.mode]
    rclpy.init(args=[])
    node = rclpy.create_node('bench_player')
    played = play(node, PatternFrames(width, height, rate, round(rate * case.seconds)), TOPIC)
    cpu_ms = played.cpu_ms_per_frame * played.sent
    return {'sent': played.sent, 'rate': played.rate, 'late': played.late, 'cpu_ms': cpu_ms}


def run_node(case: Case) -> dict[str, Any]:
    """The empty node: best effort, the newest picture only, as the real one listens."""
    stop = stopped_by_signal()
    node = rclpy.create_node('bench_node')
    answers = {name: _answer(*what) for name, what in OUTPUTS.items()}
    publishers = {name: node.create_publisher(type(m), name, 5) for name, m in answers.items()}
    gaps, ages = SequenceGaps(), Ages()
    received = 0

    def take(message: Image, info: MessageInfo) -> None:
        nonlocal received
        stamp = message.header.stamp
        ages.add(stamp.sec * 1_000_000_000 + stamp.nanosec, time.time_ns())
        gaps.add(info['publication_sequence_number'] or 0)
        received += 1
        for name, answer in answers.items():
            answer.header = message.header
            publishers[name].publish(answer)

    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, TOPIC, take, profile)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    cpu = time.process_time()
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.1)
    cpu_ms = (time.process_time() - cpu) * 1e3
    age = ages.percentiles()
    return {
        'received': received,
        'lost_between': gaps.lost,
        'missed_before': gaps.missed_before,
        'cpu_ms': cpu_ms,
        'age_ms': asdict(age) if age else None,
    }


def run_recorder(case: Case) -> dict[str, Any]:
    """The recorder as it is, of all that the node answers."""
    stop = stopped_by_signal()
    node = rclpy.create_node('bench_recorder')
    with tempfile.TemporaryDirectory() as folder:
        recorded = record(node, Path(folder, 'run.mcap'), list(OUTPUTS), stop=stop)
    return {**asdict(recorded), 'cpu_ms': recorded.cpu_seconds * 1e3}


ROLES = {'recorder': run_recorder, 'node': run_node, 'player': run_player}


def measure(case: Case) -> dict[str, Any]:
    """Run the three processes of one case: what each of them saw, and the load around it."""
    row: dict[str, Any] = {'case': asdict(case), 'load': [os.getloadavg()[0]]}
    with tempfile.TemporaryDirectory() as folder:
        files = {role: Path(folder, f'{role}.json') for role in ROLES}
        processes = {role: _start(role, case, file) for role, file in files.items()}
        try:
            processes['player'].wait(timeout=case.seconds * 4 + 60)
            time.sleep(1.0)  # what is on its way arrives
        finally:
            for process in processes.values():
                process.send_signal(signal.SIGINT)
        for role, process in processes.items():
            if process.wait(timeout=60) or not files[role].is_file():
                raise RuntimeError(f'the {role} of {case} failed; its lines stand above')
            row[role] = json.loads(files[role].read_text())
    row['load'].append(os.getloadavg()[0])
    return row


def _start(role: str, case: Case, result: Path) -> subprocess.Popen[bytes]:
    """One role in a process of its own, with or without the large-image profile."""
    environment = {k: v for k, v in os.environ.items() if 'DEFAULT_PROFILES_FILE' not in k}
    environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if case.profile in ('both', 'sender' if role == 'player' else 'receiver'):
        environment['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(PROFILE)
    words = ['--role', role, '--case', json.dumps(asdict(case)), '--out', str(result)]
    return subprocess.Popen(
        [sys.executable, '-m', 'bench.dds_transport', *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def stopped_by_signal() -> threading.Event:
    """Start rclpy; the event is set by Ctrl-C instead of an exception somewhere."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    return stop


def _answer(message_type: Any, encoding: str, bytes_a_pixel: int) -> Any:
    """A message of an output's size, its content noise."""
    width, height = NETWORK_SIZE
    noise = np.random.default_rng(0).integers(0, 256, width * height * bytes_a_pixel, np.uint8)
    message = message_type(width=width, height=height, data=array('B', noise.tobytes()))
    if encoding:
        message.encoding, message.step = encoding, width * bytes_a_pixel
    else:
        message.point_step, message.row_step = bytes_a_pixel, width * bytes_a_pixel
    return message


HEADER = (
    '| input | profile | memory | sent | lost at node | lost at recorder | node p50/p95/p99 [ms] '
    '| recorder p50/p95/p99 [ms] | CPU player + node + recorder [ms a frame] | load |\n'
    + '|---' * 10 + '|'
)  # fmt: skip


def as_line(row: dict[str, Any]) -> str:
    """A row of the table."""
    case, player, node, recorder = (row[key] for key in ('case', 'player', 'node', 'recorder'))
    sent, received = player['sent'], node['received']
    topics = recorder['topics']
    recorded = sum(topic['received'] for topic in topics.values())
    at_recorder = topics.get('/bench/depth', {}).get('from_stamp_ms')
    return '| {} | {} | {} | {} at {:.1f} Hz | {} | {} | {} | {} | {} | {:.1f} – {:.1f} |'.format(
        case['mode'],
        case['profile'],
        'kept' if case['keep'] else 'default',
        sent,
        player['rate'],
        _lost(sent - received, sent),
        _lost(received * len(OUTPUTS) - recorded, received * len(OUTPUTS)),
        _ages(node['age_ms']),
        _ages(at_recorder),
        ' + '.join(f'{part["cpu_ms"] / sent:.1f}' for part in (player, node, recorder)),
        *row['load'],
    )


def _lost(lost: int, of: int) -> str:
    return f'{lost / of:.1%}' if of else '–'


def _ages(age: dict[str, float] | None) -> str:
    return '{p50:.1f} / {p95:.1f} / {p99:.1f}'.format(**age) if age else '–'


def main(arguments: list[str] | None = None) -> int:
    """Measure every case asked for; prints a table as it goes."""
    parser = argparse.ArgumentParser(prog='python -m bench', description=__doc__)
    parser.add_argument('--seconds', type=float, default=60.0, help='of each run (default: 60)')
    parser.add_argument('--modes', nargs='+', choices=MODES, default=list(MODES))
    parser.add_argument('--profiles', nargs='+', choices=PROFILES, default=list(PROFILES))
    parser.add_argument(
        '--memory', nargs='+', choices=('kept', 'default'), default=['kept', 'default'],
        help='whether freed pictures are kept; default: both ways',
    )  # fmt: skip
    parser.add_argument('--out', type=Path, help='write all figures as JSON')
    parser.add_argument('--role', choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument('--case', type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.role:
        case = Case(**asked.case)
        if case.keep:
            keep_freed_pictures()
        asked.out.write_text(json.dumps(ROLES[asked.role](case)))
        return 0
    rows = []
    print(HEADER, flush=True)
    for mode in asked.modes:
        for profile in asked.profiles:
            for memory in asked.memory:
                row = measure(Case(mode, profile, memory == 'kept', asked.seconds))
                rows.append(row)
                print(as_line(row), flush=True)
                if asked.out:
                    asked.out.write_text(json.dumps(rows, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
