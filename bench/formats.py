# SPDX-License-Identifier: Apache-2.0
"""
Does every picture of a full-HD camera come through, in every encoding that cameras send?

Two processes with the shipped profile. The sender publishes pictures that are ready in memory; the
reader listens best effort with a queue of five, reads each picture to RGB as the node does, and
counts what is missing by the publisher's own numbers. Nothing is asserted: the table is printed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from bench.dds_transport import PROFILE, ROOT, stopped_by_signal
from endosfm3d_ros.allocator import keep_freed_pictures
from endosfm3d_ros.bags.pattern import PatternFrames
from endosfm3d_ros.messages_in import image_to_rgb
from endosfm3d_ros.player import Schedule
from endosfm3d_ros.traffic import Ages, MessageInfo, SequenceGaps

WIDTH, HEIGHT, RATE = 1920, 1080, 30.0
TOPIC = '/bench/picture'
QUEUE = 5
ENCODINGS = {'rgb8': 3, 'yuv422': 2, 'bayer_rggb8': 1, 'mono16': 2, 'jpeg': 0}


def picture_message(encoding: str) -> Any:
    """A full-HD picture: noise for raw encodings, a smooth pattern for jpeg."""
    if encoding == 'jpeg':
        image = next(iter(PatternFrames(WIDTH, HEIGHT, RATE, 1))).image
        soft = cv2.GaussianBlur(image, (0, 0), 6.0)
        jpeg = cv2.imencode('.jpg', soft, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        return CompressedImage(format='jpeg', data=array('B', jpeg.tobytes()))
    step = WIDTH * ENCODINGS[encoding]
    data = np.random.default_rng(0).integers(0, 256, step * HEIGHT, np.uint8).tobytes()
    message = Image(width=WIDTH, height=HEIGHT, encoding=encoding, step=step)
    message.data = array('B', data)
    return message


def run_sender(encoding: str, seconds: float) -> dict[str, Any]:
    """Publish at 30 Hz once somebody listens."""
    rclpy.init(args=[])
    node = rclpy.create_node('bench_sender')
    message = picture_message(encoding)
    publisher = node.create_publisher(type(message), TOPIC, QUEUE)
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)
    schedule = Schedule(1.0 / RATE, by_stamps=False)
    count, begun = round(seconds * RATE), time.monotonic()
    cpu = time.process_time()
    message.header.frame_id = 'scope'
    for _ in range(count):
        time.sleep(max(0.0, schedule.next_due(0, time.monotonic()) - time.monotonic()))
        schedule.begun(time.monotonic())
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(time.time_ns(), 1_000_000_000)
        publisher.publish(message)
    rate = (count - 1) / (time.monotonic() - begun)
    time.sleep(1.0)
    size = len(message.data)
    return {'sent': count, 'rate': rate, 'cpu_s': time.process_time() - cpu, 'bytes': size}


def run_reader(encoding: str) -> dict[str, Any]:
    """Read every picture to RGB; the numbers tell what did not come."""
    stop = stopped_by_signal()
    node = rclpy.create_node('bench_reader')
    gaps, ages, received = SequenceGaps(), Ages(), 0

    def take(message: Any, info: MessageInfo) -> None:
        nonlocal received
        stamp = message.header.stamp
        ages.add(stamp.sec * 1_000_000_000 + stamp.nanosec, time.time_ns())
        gaps.add(info['publication_sequence_number'] or 0)
        received += 1
        image_to_rgb(message)

    qos = QoSProfile(depth=QUEUE, reliability=ReliabilityPolicy.BEST_EFFORT)
    kind = CompressedImage if encoding == 'jpeg' else Image
    node.create_subscription(kind, TOPIC, take, qos)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    cpu = time.process_time()
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.1)
    age = ages.percentiles()
    return {
        'received': received,
        'lost': gaps.lost + gaps.missed_before,
        'cpu_s': time.process_time() - cpu,
        'age_ms': [age.p50, age.p95, age.p99] if age else [float('nan')] * 3,
    }


def measure(encoding: str, seconds: float) -> str:
    """Run both processes; a row of the table."""
    environment = {k: v for k, v in os.environ.items() if 'DEFAULT_PROFILES_FILE' not in k}
    environment['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(PROFILE)
    environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        files = {role: Path(folder, f'{role}.json') for role in ('reader', 'sender')}
        asked = ['--encodings', encoding, '--seconds', str(seconds)]
        command = [sys.executable, '-m', 'bench.formats', *asked]
        running = {
            role: subprocess.Popen(
                [*command, '--role', role, '--out', str(file)], cwd=ROOT, env=environment
            )
            for role, file in files.items()
        }
        try:
            running['sender'].wait(timeout=seconds * 4 + 60)
        finally:
            running['reader'].send_signal(signal.SIGINT)
            running['reader'].wait(timeout=60)
            running['sender'].kill()
        sent, read = (json.loads(files[role].read_text()) for role in ('sender', 'reader'))
    count = sent['sent']
    columns = (
        encoding,
        f'{sent["bytes"] / 1e6:.2f}',
        f'{count} at {sent["rate"]:.1f} Hz',
        read['received'],
        read['lost'],
        ' / '.join(f'{age:.1f}' for age in read['age_ms']),
        f'{1e3 * sent["cpu_s"] / count:.1f} + {1e3 * read["cpu_s"] / count:.1f}',
        f'{before:.1f} – {os.getloadavg()[0]:.1f}',
    )
    return f'| {" | ".join(map(str, columns))} |'


def main(arguments: list[str] | None = None) -> int:
    """Measure every encoding asked for; prints a table as it goes."""
    parser = argparse.ArgumentParser(prog='python -m bench.formats', description=__doc__)
    parser.add_argument('--seconds', type=float, default=60.0, help='of each run (default: 60)')
    parser.add_argument('--encodings', nargs='+', choices=ENCODINGS, default=list(ENCODINGS))
    parser.add_argument('--role', choices=('sender', 'reader'), help=argparse.SUPPRESS)
    parser.add_argument('--out', type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.role:
        keep_freed_pictures()
        (encoding,) = asked.encodings
        sender = asked.role == 'sender'
        seen = run_sender(encoding, asked.seconds) if sender else run_reader(encoding)
        asked.out.write_text(json.dumps(seen))
        return 0
    print('| encoding | MB a picture | sent | received | lost | age p50 / p95 / p99 [ms] ', end='')
    print('| CPU sender + reader [ms a picture] | load |\n' + '|---' * 8 + '|', flush=True)
    for encoding in asked.encodings:
        print(measure(encoding, asked.seconds), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
