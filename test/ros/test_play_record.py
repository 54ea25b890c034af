# SPDX-License-Identifier: Apache-2.0
"""Player and recorder over real DDS, each its own process: all arrives, or is counted as lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from endosfm3d_ros.bags.background import BackgroundWriter
from endosfm3d_ros.bags.definitions import type_hash
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.bags.recording import McapWriter
from endosfm3d_ros.cli import main
from endosfm3d_ros.player import LINGER_S, Schedule, play
from endosfm3d_ros.recorder import LARGE_DEPTH, Listener, Recorder, record
from endosfm3d_ros.traffic import MessageInfo, SequenceGaps

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / 'config' / 'fastdds_large_images.xml'
TOPIC = '/test/image_raw'
PATIENCE_S = 120.0


def command(*words: Any) -> subprocess.Popen[str]:
    """Start an `endosfm3d` command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, '-u', '-m', 'endosfm3d_ros.cli', *map(str, words)],
        cwd=ROOT,
        env={**os.environ, 'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE)},
        text=True,
        stdout=PIPE,
        stderr=PIPE,
    )


def wait_for_size(path: Path, size: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < end, f'{path.name} does not grow to {size} bytes'
        time.sleep(0.05)


def finish(process: subprocess.Popen[str], seconds: float = PATIENCE_S) -> tuple[str, str]:
    """Wait for its end, which must be a good one."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, f'{out}\n{err}'
    return out, err


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Sixty different pictures at 30 Hz."""
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 30.0, (160, 120))
    small = np.random.default_rng(3).integers(0, 256, (60, 3, 4, 3), np.uint8)
    for picture in small:
        writer.write(cv2.resize(picture, (160, 120)))
    writer.release()
    return path


@pytest.fixture
def node() -> Iterator[Node]:
    rclpy.init()
    node = rclpy.create_node('test_play_record')
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


@contextmanager
def recorder_of(node: Node, path: Path, topics: list[str]) -> Iterator[Recorder]:
    with McapWriter(path) as writer, BackgroundWriter(writer) as bag:
        yield Recorder(node, topics, writer, bag)


def spin_until(node: Node, done: Any, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, 'it did not happen in time'
        rclpy.spin_once(node, timeout_sec=0.05)


def ours(errors: str) -> list[str]:
    """Lines on stderr, but for Kilted's word on the older name of the profile's variable."""
    return [line for line in errors.splitlines() if 'but it is deprecated' not in line]


def test_every_frame_played_is_recorded_under_its_stamp(tmp_path: Path, clip: Path):
    out, played, recorded = (tmp_path / name for name in ('a.mcap', 'p.json', 'r.json'))
    recorder = command('record', out, TOPIC, '--count', 60, '--silence', 10, '--facts', recorded)
    finish(command('play', clip, '--to', TOPIC, '--frame-id', 'scope', '--facts', played))
    finish(recorder)

    topic = json.loads(recorded.read_text())['topics'][TOPIC]
    assert (topic['received'], topic['lost'], topic['missed_before'], topic['dropped']) == (
        60,
        0,
        0,
        0,
    )
    facts = json.loads(played.read_text())
    assert facts['sent'] == 60
    assert 10.0 < facts['rate'] < 33.0  # never faster; slower where the machine is busy

    capture = cv2.VideoCapture(str(clip))
    stored = list(RunBag(out).messages(TOPIC))
    assert [m.sequence for m in stored] == list(range(1, 61))
    stamps = []
    for message in stored:
        header = message.message.header
        stamps.append(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)
        assert stamps[-1] <= message.publish_time_ns <= message.log_time_ns
        assert (header.frame_id, message.message.encoding) == ('scope', 'rgb8')
        picture = message.message.data.reshape(120, 160, 3)
        np.testing.assert_array_equal(picture[..., ::-1], capture.read()[1])
    assert stamps == facts['stamps_ns']
    assert np.diff(stamps).min() > 10_000_000  # never two in one bunch


def test_a_recorder_that_sleeps_counts_exactly_what_it_lost(tmp_path: Path, clip: Path):
    out, played, recorded = (tmp_path / name for name in ('a.mcap', 'p.json', 'r.json'))
    recorder = command('record', out, TOPIC, '--silence', 6, '--facts', recorded)
    player = command(
        'play', clip, '--to', TOPIC, '--rate', 100, '--loop', '--count', 500,
        '--best-effort', '--facts', played,
    )  # fmt: skip
    assert recorder.stdout is not None
    assert recorder.stdout.readline().startswith(f'recording {TOPIC}')
    wait_for_size(out.with_name('a.mcap.part'), 50_000)  # pictures come
    recorder.send_signal(signal.SIGSTOP)
    time.sleep(2.0)
    recorder.send_signal(signal.SIGCONT)
    finish(player)
    finish(recorder)

    topic = json.loads(recorded.read_text())['topics'][TOPIC]
    sent = json.loads(played.read_text())['stamps_ns']
    stamps = [m.message.header.stamp for m in RunBag(out).messages(TOPIC)]
    came = {stamp.sec * 1_000_000_000 + stamp.nanosec for stamp in stamps}
    assert came <= set(sent)
    first, last = sent.index(min(came)), sent.index(max(came))
    assert topic['lost'] == last - first + 1 - len(came)
    assert topic['missed_before'] == first
    assert topic['lost'] > 10  # of two seconds at 100 Hz, less what DDS kept


def test_an_interrupted_recorder_leaves_a_whole_bag(tmp_path: Path, clip: Path):
    out, recorded = tmp_path / 'a.mcap', tmp_path / 'r.json'
    recorder = command('record', out, TOPIC, '--facts', recorded)
    player = command('play', clip, '--to', TOPIC, '--loop')
    assert recorder.stdout is not None
    assert recorder.stdout.readline().startswith(f'recording {TOPIC}')
    wait_for_size(out.with_name('a.mcap.part'), 50_000)  # a chunk of pictures was written
    recorder.send_signal(signal.SIGINT)
    finish(recorder)
    player.send_signal(signal.SIGINT)
    said, _ = finish(player)
    assert 'sent ' in said
    received = json.loads(recorded.read_text())['topics'][TOPIC]['received']
    assert received > 5
    bag = RunBag(out)
    assert len(list(bag.messages(TOPIC))) == bag.topics[TOPIC].count == received
    assert json.loads(bag.facts['recorder'])['topics'][TOPIC]['received'] == received


def test_the_player_outlives_its_last_picture_so_that_best_effort_readers_get_it(
    clip: Path, node: Node
):
    played = play(node, open_frames(clip), TOPIC, count=2, wait_for=0)
    left_s = time.time() - played.stamps_ns[-1] * 1e-9
    assert left_s >= LINGER_S


def test_a_player_without_listeners_gives_up_in_one_line(clip: Path):
    player = command('play', clip, '--to', '/test/nobody', '--wait', 0.5)
    _, err = player.communicate(timeout=PATIENCE_S)
    assert player.returncode == 1
    assert '0 of 1 subscribers on /test/nobody after 0.5 s' in err
    assert len(ours(err)) == 1


def test_a_full_queue_shows_as_a_gap_in_the_numbers(tmp_path: Path, node: Node):
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(Image, '/test/gap', profile)
    with recorder_of(node, tmp_path / 'a.mcap', ['/test/gap']) as recorder:
        spin_until(node, lambda: publisher.get_subscription_count() == 1)
        publisher.publish(Image())
        listener = recorder.listeners['/test/gap']
        spin_until(node, lambda: listener.received == 1)
        for _ in range(LARGE_DEPTH + 7):
            publisher.publish(Image())
        spin_until(node, lambda: listener.received == 1 + LARGE_DEPTH)
        assert (listener.facts().lost, listener.facts().missed_before) == (7, 0)


def test_what_was_latched_before_the_recorder_came_is_recorded(tmp_path: Path, node: Node):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = node.create_publisher(TFMessage, '/test/tf_static', latched)
    publisher.publish(TFMessage())
    with recorder_of(node, tmp_path / 'a.mcap', ['/test/tf_static']) as recorder:
        spin_until(node, lambda: '/test/tf_static' in recorder.listeners)
        spin_until(node, lambda: recorder.listeners['/test/tf_static'].received == 1)
    assert RunBag(tmp_path / 'a.mcap').topics['/test/tf_static'].count == 1


def test_with_two_publishers_the_loss_is_unknown(tmp_path: Path, node: Node):
    publishers = [node.create_publisher(String, '/test/two', 10) for _ in range(2)]
    with recorder_of(node, tmp_path / 'a.mcap', ['/test/two']) as recorder:
        spin_until(node, lambda: '/test/two' in recorder.listeners)
        for _ in range(3):
            for publisher in publishers:
                publisher.publish(String(data='x'))
        spin_until(node, lambda: recorder.listeners['/test/two'].facts().lost is None)


def test_recording_ends_by_count_and_names_what_never_came(tmp_path: Path, node: Node):
    publisher = node.create_publisher(String, '/test/count', 10)
    node.create_timer(0.02, lambda: publisher.publish(String(data='x')))
    recorded = record(
        node,
        tmp_path / 'a.mcap',
        ['/test/count', '/test/never'],
        stop=threading.Event(),
        count=5,
    )
    assert recorded.topics['/test/count'].received == 5
    assert recorded.absent == ['/test/never']


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['camera/image'], 'camera/image: needed full names'),
        (['/a', '--watch', '/b', '--count', '3'], '--watch /b is none of the recorded topics: /a'),
    ],
)
def test_names_that_would_never_be_heard_are_refused(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(['record', str(tmp_path / 'run.mcap'), *words]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    'message_type',
    [Image, CameraInfo, PointCloud2, Odometry, PathMessage, DiagnosticArray, TFMessage],
)
def test_the_bag_bears_the_hash_that_publishers_announce(node: Node, message_type: Any):
    topic = f'/test/{message_type.__name__.lower()}'
    node.create_publisher(message_type, topic, 1)
    spin_until(node, lambda: node.count_publishers(topic) == 1)
    (offer,) = node.get_publishers_info_by_topic(topic)
    assert str(offer.topic_type_hash) == type_hash(offer.topic_type)


LARGEST_SEGMENT = """
import os, rclpy
rclpy.init()
node = rclpy.create_node('test_segment')
mapped = {line.split()[-1] for line in open('/proc/self/maps') if '/dev/shm/fast' in line}
print(max(os.stat(name).st_size for name in mapped))
"""


@pytest.mark.skipif(not Path('/dev/shm').is_dir(), reason='needs /dev/shm')
def test_the_profile_gives_a_process_its_large_segment():
    def largest_segment(environment: dict[str, str]) -> int:
        words = [sys.executable, '-c', LARGEST_SEGMENT]
        return int(subprocess.run(words, env=environment, check=True, stdout=PIPE).stdout)

    plain = {k: v for k, v in os.environ.items() if k != 'FASTRTPS_DEFAULT_PROFILES_FILE'}
    plain['ROS_DOMAIN_ID'] = '100'  # alone: a process maps the segments of its neighbours too
    assert largest_segment(plain) < 4 * 1024 * 1024
    with_profile = {**plain, 'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE)}
    assert 64 * 1024 * 1024 <= largest_segment(with_profile) < 128 * 1024 * 1024


def test_a_late_frame_moves_the_later_ones_and_never_bunches_them():
    schedule = Schedule(period=0.1, by_stamps=True)
    stamps = [round(i * 1e8) for i in range(5)]
    ready = [10.0, 10.0, 10.55, 10.55, 10.55]  # the third frame took too long to decode
    due = [schedule.next_due(s, now) for s, now in zip(stamps, ready, strict=True)]
    np.testing.assert_allclose(due, [10.0, 10.1, 10.55, 10.65, 10.75])
    assert schedule.late == 1


def test_a_sleep_that_ends_late_moves_the_later_frames_too():
    schedule = Schedule(period=0.1, by_stamps=True)
    due = []
    for stamp, sleep_ends in ((0, 10.0), (10**8, 10.19), (2 * 10**8, 10.291), (3 * 10**8, 10.39)):
        due.append(schedule.next_due(stamp, 10.0))
        schedule.begun(sleep_ends)
    np.testing.assert_allclose(due, [10.0, 10.1, 10.29, 10.39])  # a millisecond moves nothing
    assert schedule.late == 1


def test_a_recorded_pause_is_played_and_a_jump_is_not():
    schedule = Schedule(period=0.1, by_stamps=True)
    stamps = [0, 2_000_000_000, 100_000_000_000, 50]  # two seconds; a cut; back to the start
    due = [schedule.next_due(stamp, 10.0) for stamp in stamps]
    np.testing.assert_allclose(due, [10.0, 12.0, 12.1, 12.2])


def test_numbers_that_start_again_are_another_publisher_not_a_loss():
    gaps = SequenceGaps()
    assert [gaps.add(number) for number in (4, 5, 8, 1, 2)] == [0, 0, 2, 0, 0]
    assert (gaps.lost, gaps.missed_before) == (2, 3)


def test_a_middleware_that_tells_no_numbers_tells_no_loss():
    offer = SimpleNamespace(topic_type='std_msgs/msg/String', qos_profile=QoSProfile(depth=1))
    node = SimpleNamespace(create_subscription=lambda *_, **__: None)
    bag = SimpleNamespace(put=lambda message: True)
    for numbers, lost in (((1, 2, 5), 2), ((None, None), None), ((1, None, 5), None)):
        listener = Listener(node, '/text', [offer], bag)
        for number in numbers:
            listener._take(bytes(8), MessageInfo(
                source_timestamp=1, received_timestamp=2, publication_sequence_number=number
            ))  # fmt: skip
        assert (listener.facts().lost, listener.facts().missed_before) == (lost, 0)


def test_a_player_ends_well_when_it_is_stopped_waiting_or_sending():
    for words in (['--wait-for', '1'], ['--wait-for', '0', '--loop']):
        player = subprocess.Popen(
            [sys.executable, '-m', 'endosfm3d_ros.cli', 'play', 'pattern:1920x1080@500', *words],
            stdout=PIPE,
            stderr=PIPE,
            text=True,
        )
        assert player.stdout and 'playing' in player.stdout.readline()
        time.sleep(0.5)
        player.send_signal(signal.SIGINT)
        _, errors = player.communicate(timeout=PATIENCE_S)
        assert player.returncode == 0 and not ours(errors)
