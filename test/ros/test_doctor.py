# SPDX-License-Identifier: Apache-2.0
"""The doctor listens: real pictures over DDS, and what it makes of what it heard."""

import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from endosfm3d_ros import dds, doctor_topic, watch
from endosfm3d_ros.cli import main
from endosfm3d_ros.dds import profile_line
from endosfm3d_ros.doctor_topic import examine_machine, judge
from endosfm3d_ros.silence import Offer
from endosfm3d_ros.traffic import Percentiles
from endosfm3d_ros.watch import Watched

ROOT = Path(__file__).parents[2]
OFFER = Offer('/driver', 'sensor_msgs/msg/Image', QoSProfile(depth=5))
FINE = Watched(
    '/scope/image',
    (OFFER,),
    received=250,
    seconds=10.0,
    intervals_ms=(40.0, 48.0, 55.0),
    stamp_rate=25.0,
    from_stamp=Percentiles(6.0, 9.0, 11.0, 15.0),
    from_send=Percentiles(5.0, 8.0, 10.0, 14.0),
    pictures={'rgb8 1280x720 in scope': 20},
)


def states(seen: Watched) -> set[str]:
    return {finding.state for finding in judge(seen)}


def test_a_driver_that_does_everything_right_gets_only_ok() -> None:
    assert states(FINE) == {'ok'}


@pytest.mark.parametrize(
    ('wrong', 'state', 'said'),
    [
        ({'lost': 100}, 'bad', '100 of 350 pictures lost'),
        ({'lost': 1}, 'note', '1 of 251 pictures lost'),
        ({'lost': None}, 'note', 'loss can not be told'),
        ({'offers': (OFFER, OFFER)}, 'bad', '2 publishers on /scope/image'),
        ({'zero_stamps': 250, 'from_stamp': None}, 'bad', '250 of 250 pictures have no stamp'),
        ({'backward_stamps': 1}, 'bad', 'each opens an epoch'),
        ({'repeated_stamps': 3}, 'bad', 'they are refused'),
        ({'from_stamp': Percentiles(*(-5e7,) * 4)}, 'note', 'another clock'),
        ({'from_stamp': Percentiles(*(300.0,) * 4)}, 'note', 'latency from stamp to receipt'),
        ({'intervals_ms': (40.0, 400.0, 900.0)}, 'note', 'intervals 40 / 400 / 900 ms'),
        ({'refusals': {'encoding is not read': 20}}, 'bad', '20 of 20 pictures that were read'),
        ({'combed': 15}, 'note', '15 of 20 pictures that were read are combed'),
        ({'received': 0, 'why_silent': 'publishers: none'}, 'bad', 'nothing on /scope/image'),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], state: str, said: str) -> None:
    findings = [one for one in judge(replace(FINE, **wrong)) if said in one.text]
    assert [one.state for one in findings] == [state]


def test_a_picture_or_two_of_our_own_player_s_hundred_are_not_well() -> None:
    few = replace(FINE, received=2)
    for best, state in ((True, 'bad'), (False, 'note')):
        said = doctor_topic._machine_finding('plain', few, sent=90.0, is_best=best)
        assert (said.state, bool(said.cure)) == (state, True)
        assert '0 of 2 lost' in said.text and 'the others of some 90' in said.text
        assert doctor_topic._machine_finding('plain', FINE, 300.0, is_best=best).state == 'ok'


@pytest.mark.ros
def test_our_own_player_may_start_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = tmp_path / 'late'
    late.write_text(f'#!/bin/sh\nsleep 6\nexec {sys.executable} "$@"\n')  # a busy machine
    late.chmod(0o755)
    monkeypatch.setattr(doctor_topic.sys, 'executable', str(late))
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', str(ROOT / dds.FAST_DDS_PROFILE))
    (said,) = examine_machine(1.0)
    assert 'lost' in said.text and 'publishers: none' not in said.text


def test_the_line_for_the_driver_names_the_profile_that_lies_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (loss,) = (one for one in judge(replace(FINE, lost=100)) if 'lost' in one.text)
    assert 'DRIVER' in loss.cure and profile_line() in loss.cure
    variable, path = profile_line().removeprefix('export ').split('=')
    assert variable == 'FASTRTPS_DEFAULT_PROFILES_FILE' and Path(path).is_file()
    monkeypatch.setenv('ROS_DISTRO', 'kilted')  # Fast DDS 3
    assert profile_line().startswith('export FASTDDS_DEFAULT_PROFILES_FILE=')


def test_a_pattern_with_a_number_missing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['play', 'pattern:1920x1080']) == 1
    assert 'needed a pattern such as pattern:1920x1080@30' in capsys.readouterr().err


# over real DDS


@pytest.fixture
def send() -> Iterator[Callable[[Any, Any, str], None]]:
    """Publishes one message again and again, 50 times a second, from a context of its own."""
    with ExitStack() as stack:

        def begin(kind: Any, message: Any, topic: str) -> None:
            context, stop = rclpy.Context(), threading.Event()
            rclpy.init(context=context)
            stack.callback(rclpy.try_shutdown, context=context)
            node = rclpy.create_node('driver', context=context)
            publisher = node.create_publisher(kind, topic, 5)

            def work() -> None:
                while not stop.wait(0.02):
                    publisher.publish(message)

            thread = threading.Thread(target=work)
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop.set)

        yield begin


@pytest.mark.ros
def test_our_own_player_passes_and_what_it_sends_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ['play', 'pattern:320x240@50', '--to', '/doctored', '--loop', '--wait-for', '0']
    player = subprocess.Popen(
        [sys.executable, '-m', 'endosfm3d_ros.cli', *words], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        assert main(['doctor', '--topic', '/doctored', '--seconds', '2']) == 0
    finally:
        player.terminate()
        assert player.wait(120) == 0
    said = capsys.readouterr().out
    assert 'rgb8 320x240 in endoscope_optical' in said and '(0.0%)' in said
    assert 'by stamps' in said and 'latency from stamp to receipt' in said


@pytest.mark.ros
def test_pictures_that_the_node_would_refuse_are_found_with_the_reason(
    send: Callable[[Any, Any, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    send(
        Image, Image(height=2, width=4, encoding='rgb8', step=7, data=array('B', bytes(14))), '/a'
    )
    assert main(['doctor', '--topic', '/a', '--seconds', '1']) == 1
    said = capsys.readouterr().out
    assert 'have no stamp' in said and 'are refused: stamp 0 s 0 ns' in said
    assert 'rgb8 4x2 in (no frame_id)' in said


def test_pictures_that_are_refused_for_the_same_reason_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, 'READ_EVERY_S', 0.0)
    seen = watch.Watch(CompressedImage)
    for size in (1000, 2000, 3000):
        data = array('B', b'\xff\xd8' + bytes(size))  # a jpeg without its end
        message = CompressedImage(format='jpeg', data=data)
        message.header.stamp.sec, message.header.frame_id = size, 'scope'
        info = dict.fromkeys(
            ('received_timestamp', 'source_timestamp', 'publication_sequence_number'), 1
        )
        seen.take(serialize_message(message), info)  # type: ignore[arg-type]
    said = [one.text for one in judge(seen.seen('/a', (OFFER,))) if 'refused' in one.text]
    assert len(said) == 1 and said[0].startswith('3 of 3 pictures') and '1002 bytes' in said[0]


@pytest.mark.ros
def test_what_is_no_picture_is_said_with_the_topics_that_are(
    send: Callable[[Any, Any, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    send(String, String(data='x'), '/words')
    send(CompressedImage, CompressedImage(format='jpeg'), '/there/compressed')
    assert main(['doctor', '--topic', '/words', '--seconds', '1']) == 1
    assert '/driver publishes std_msgs/msg/String' in capsys.readouterr().out
    assert main(['doctor', '--topic', '/nobody', '--seconds', '3']) == 1
    assert '/there/compressed is a sensor_msgs/msg/CompressedImage' in capsys.readouterr().out


@pytest.mark.ros
@pytest.mark.skipif(not Path('/dev/shm').is_dir(), reason='needs /dev/shm')
def test_this_machine_carries_our_player_s_pictures_with_the_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(name, raising=False)
    without, with_profile = examine_machine(1.0)
    assert 'without a profile' in without.text and 'lost' in without.text
    assert 'large-image profile at the sender' in with_profile.text
    assert 'nothing' not in with_profile.text  # how many come is the machine's affair
