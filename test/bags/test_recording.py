# SPDX-License-Identifier: Apache-2.0
"""What is written comes back the same, in every reader; a run that dies leaves no bag behind."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from endosfm3d_ros.bags import recording
from endosfm3d_ros.bags.background import BackgroundWriter, Message
from endosfm3d_ros.bags.definitions import message_definition, type_hash
from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.bags.recording import McapWriter, OfferedQos

ROOT = Path(__file__).resolve().parents[2]
JAZZY = get_typestore(Stores.ROS2_JAZZY)
IMAGE = 'sensor_msgs/msg/Image'
# Every type that a run holds, with the begin of the hash that Jazzy's publishers announce.
RUN_TYPES = {
    IMAGE: 'd31d41a9a4c4bc8e',
    'sensor_msgs/msg/CameraInfo': 'b3dfd68ff46c9d56',
    'sensor_msgs/msg/PointCloud2': '9198cabf7da3796a',
    'nav_msgs/msg/Odometry': '3cc97dc7fb7502f8',
    'nav_msgs/msg/Path': '1957a5bb3cee5da6',
    'diagnostic_msgs/msg/DiagnosticArray': '5a8a36efb05fb250',
    'tf2_msgs/msg/TFMessage': 'e369d0f05a23ae52',
}


def write_run(path: Path, **options: Any) -> dict[str, bytes]:
    """A bag with one message of every type of a run, and its facts."""
    messages = {type_name: some_message(type_name) for type_name in RUN_TYPES}
    with McapWriter(path, **options) as writer:
        writer.add_topic('/tf', 'tf2_msgs/msg/TFMessage', OfferedQos('best_effort', depth=100))
        for number, (type_name, raw) in enumerate(messages.items()):
            writer.write(topic_of(type_name), type_name, raw, 2000 + number, 1000 + number, number)
        writer.add_facts({'clip': 'some.mp4'})
    return messages


def topic_of(type_name: str) -> str:
    return '/tf' if 'TF' in type_name else '/run/' + type_name.split('/')[-1].lower()


def some_message(type_name: str) -> bytes:
    """A message with a value in every field, as CDR."""
    return bytes(JAZZY.serialize_cdr(filled(type_name), type_name))


def filled(type_name: str) -> Any:
    """A message of this type whose numbers, texts and lists are not their defaults."""
    fields = JAZZY.get_msgdef(type_name).fields
    values = {name: _value(kind, detail) for name, (kind, detail) in fields}
    return JAZZY.types[type_name](**values)


def _value(kind: int, detail: Any) -> Any:
    if kind == 1:  # one value of a base type
        return {'string': 'text', 'bool': True, 'float32': 0.5, 'float64': 0.25}.get(detail[0], 3)
    if kind == 2:  # another message
        return filled(detail)
    (inner_kind, inner), length = detail
    if inner_kind == 1 and inner[0] != 'string':
        return np.arange(length or 5).astype(inner[0])
    return [_value(inner_kind, inner) for _ in range(length or 2)]


@pytest.mark.parametrize('compression', ['zstd', 'lz4', 'none'])
def test_every_type_of_a_run_comes_back_with_both_times_and_its_number(
    tmp_path: Path, compression: str
):
    messages = write_run(tmp_path / 'run.mcap', compression=compression)
    bag = RunBag(tmp_path / 'run.mcap')
    assert bag.facts == {'clip': 'some.mp4'}
    assert {name: topic.count for name, topic in bag.topics.items()} == {
        topic_of(type_name): 1 for type_name in messages
    }
    for number, (type_name, raw) in enumerate(messages.items()):
        assert bag.topics[topic_of(type_name)].type_name == type_name
        (stored,) = bag.messages(topic_of(type_name))
        assert (stored.log_time_ns, stored.publish_time_ns) == (2000 + number, 1000 + number)
        assert (stored.sequence, stored.raw) == (number, raw)
        assert repr(stored.message) == repr(filled(type_name)), type_name


def test_the_bag_keeps_what_rosbag2_keeps(tmp_path: Path):
    write_run(tmp_path / 'run.mcap')
    with (tmp_path / 'run.mcap').open('rb') as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == 'ros2'
        summary = reader.get_summary()
        assert summary is not None
        assert {chunk.compression for chunk in summary.chunk_indexes} == {'zstd'}
        assert all(chunk.message_index_length for chunk in summary.chunk_indexes)
        for channel in summary.channels.values():
            schema = summary.schemas[channel.schema_id]
            assert channel.message_encoding == 'cdr'
            assert schema.encoding == 'ros2msg'
            hash_begin = f'RIHS01_{RUN_TYPES[schema.name]}'
            assert channel.metadata['topic_type_hash'].startswith(hash_begin)


def test_rosbags_reads_the_bag_with_the_definitions_in_it(tmp_path: Path):
    messages = write_run(tmp_path / 'run.mcap')
    with AnyReader([tmp_path / 'run.mcap']) as reader:
        found = {c.topic: (c.msgtype, raw) for c, _, raw in reader.messages()}
        assert found == {topic_of(name): (name, raw) for name, raw in messages.items()}
        for type_name, raw in found.values():
            assert repr(reader.deserialize(raw, type_name)) == repr(filled(type_name))


def test_the_quality_of_service_comes_back(tmp_path: Path):
    write_run(tmp_path / 'run.mcap')
    with Reader(tmp_path / 'run.mcap') as reader:
        profiles = {c.topic: c.ext.offered_qos_profiles[0] for c in reader.connections}
    assert profiles['/tf'].reliability == QosReliability.BEST_EFFORT
    assert profiles['/tf'].depth == 100
    assert profiles['/run/image'].reliability == QosReliability.RELIABLE
    assert profiles['/run/image'].durability == QosDurability.VOLATILE


@pytest.mark.parametrize('type_name', RUN_TYPES)
def test_the_hash_of_a_definition_is_the_one_that_publishers_announce(type_name: str):
    assert type_hash(type_name).startswith(f'RIHS01_{RUN_TYPES[type_name]}')


def test_a_definition_holds_every_type_within_once():
    text = message_definition('nav_msgs/msg/Odometry')
    within = [line[5:] for line in text.splitlines() if line.startswith('MSG: ')]
    assert sorted(within) == sorted(set(within))
    assert {'std_msgs/Header', 'builtin_interfaces/Time', 'geometry_msgs/Quaternion'} < set(within)


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match='no definition of the message type acme_msgs/msg/Anvil'):
        message_definition('acme_msgs/msg/Anvil')


def write_then_fail(path: Path) -> None:
    with McapWriter(path) as writer:
        writer.write('/image', IMAGE, some_message(IMAGE), 1, 1)
        _ = 1 // 0


def test_a_run_that_raises_leaves_no_bag_but_a_readable_part(tmp_path: Path):
    path = tmp_path / 'run.mcap'
    with pytest.raises(ZeroDivisionError):
        write_then_fail(path)
    assert not path.exists()
    with pytest.raises(
        ValueError, match=r'no such recording, only run\.mcap\.part of a run that broke'
    ):
        RunBag(path)
    assert RunBag(tmp_path / 'run.mcap.part').topics['/image'].count == 1


def test_a_bag_s_folder_is_told_from_a_bag_that_is_not_there(tmp_path: Path):
    with pytest.raises(ValueError, match='a folder; give the .mcap file in it'):
        RunBag(tmp_path)


@pytest.mark.parametrize('parts', [['metadata.yaml', 'run_0.mcap', 'run_1.mcap'], ['run_0.db3']])
def test_a_run_in_parts_or_in_sqlite3_is_told_how_to_become_one_file(tmp_path: Path, parts):
    run = tmp_path / 'run'
    run.mkdir()
    for part in parts:
        (run / part).write_bytes(b'')
    with pytest.raises(ValueError, match='needed one .mcap.*--src .*run --dst run_one'):
        RunBag(run)
    if parts == ['run_0.db3']:
        with pytest.raises(ValueError, match=r'--src .*run_0\.db3 --dst run_0_one'):
            RunBag(run / 'run_0.db3')


def test_what_is_no_mcap_is_not_said_to_have_broken_off(tmp_path: Path):
    (tmp_path / 'clip.mp4').write_bytes(b'a video' * 99)
    with pytest.raises(ValueError, match=r'clip\.mp4: needed a \.mcap file, this is none$'):
        RunBag(tmp_path / 'clip.mp4')


def test_what_broke_off_is_not_written_over_by_the_next_recording(tmp_path: Path):
    path, part = tmp_path / 'run.mcap', tmp_path / 'run.mcap.part'
    with pytest.raises(ZeroDivisionError):
        write_then_fail(path)
    before = part.read_bytes()
    with pytest.raises(ValueError, match=r'run\.mcap\.part: what is left of a recording'):
        McapWriter(path)
    assert part.read_bytes() == before
    write_run(path, overwrite=True)
    assert RunBag(path).topics and not part.exists()


def test_a_recording_that_broke_off_before_its_first_message_leaves_nothing(tmp_path: Path):
    McapWriter(tmp_path / 'run.mcap').abandon()
    assert not list(tmp_path.iterdir())
    write_run(tmp_path / 'run.mcap')


@pytest.mark.parametrize('compression', ['zstd', 'lz4', 'none'])
def test_changed_bytes_are_told_and_never_taken_for_a_message(tmp_path: Path, compression: str):
    path = tmp_path / 'run.mcap'
    write_run(path, compression=compression)
    whole, told = path.read_bytes(), 0
    for place in range(200, len(whole) - 1500, 311):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            bag = RunBag(path)
            for topic in bag.topics:
                list(bag.messages(topic))
        except ValueError as error:
            told += 'not a whole recording' in str(error)
    assert told > 5


def test_a_run_that_is_killed_leaves_no_bag_and_keeps_the_old_one(tmp_path: Path):
    old, new = tmp_path / 'old.mcap', tmp_path / 'new.mcap'
    write_run(old)
    before = old.read_bytes()
    code = (
        'import os, signal, sys\n'
        'from endosfm3d_ros.bags.recording import McapWriter\n'
        'for path in sys.argv[1:]:\n'
        '    writer = McapWriter(path, overwrite=True)\n'
        '    for i in range(50):\n'
        "        writer.write('/text', 'std_msgs/msg/String', os.urandom(100_000), i, i)\n"
        'os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    died = subprocess.run([sys.executable, '-c', code, str(old), str(new)], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert not new.exists()
    assert old.read_bytes() == before
    assert (tmp_path / 'new.mcap.part').stat().st_size > 0


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        ('run.bag', 'a recording is one .mcap file'),
        ('no/such/folder/run.mcap', 'cannot write there'),
        ('there.mcap', 'this file is there already'),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(tmp_path: Path, name: str, found: str):
    (tmp_path / 'there.mcap').write_bytes(b'somebody needs this')
    with pytest.raises(ValueError, match=found):
        McapWriter(tmp_path / name)
    assert (tmp_path / 'there.mcap').read_bytes() == b'somebody needs this'
    with pytest.raises(ValueError, match='a recording is one .mcap file'):
        McapWriter('.')


def test_one_topic_has_one_type(tmp_path: Path):
    with McapWriter(tmp_path / 'run.mcap') as writer:
        writer.write('/image', IMAGE, some_message(IMAGE), 1, 1)
        with pytest.raises(ValueError, match='topic /image is sensor_msgs/msg/Image in this bag'):
            writer.write('/image', 'std_msgs/msg/String', b'', 1, 1)


def test_a_topic_that_is_not_there_is_named_with_those_that_are(tmp_path: Path):
    write_run(tmp_path / 'run.mcap')
    with pytest.raises(ValueError, match='no topic /nothing; there are /run/camerainfo, '):
        RunBag(tmp_path / 'run.mcap').messages('/nothing')


@pytest.mark.parametrize('kept', [0.0, 0.3, 0.99])
def test_a_bag_that_was_cut_is_one_clear_line(tmp_path: Path, kept: float):
    path = tmp_path / 'run.mcap'
    write_run(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ValueError, match='not a whole recording') as error:
        RunBag(path)
    assert '\n' not in str(error.value)


def test_the_background_writer_writes_all_and_refuses_what_has_no_room(tmp_path: Path):
    raw = some_message(IMAGE)
    with McapWriter(tmp_path / 'run.mcap') as writer:
        writer.add_topic('/image', IMAGE)
        with BackgroundWriter(writer, waiting_bytes=len(raw)) as bag:
            too_large = Message('/image', IMAGE, raw + b'.', 1, 1, 1)
            assert not bag.put(too_large)
            taken = sum(bag.put(Message('/image', IMAGE, raw, i, i, i)) for i in range(200))
    assert 1 <= taken <= 200
    assert RunBag(tmp_path / 'run.mcap').topics['/image'].count == taken


def test_two_threads_may_declare_and_write_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As the recorder does: its executor declares what appears while the bag's thread writes."""
    monkeypatch.setattr(recording, 'Writer', partial(recording.Writer, chunk_size=200))
    many, text = 400, 'std_msgs/msg/String'
    raw = some_message(text)
    path, begin = tmp_path / 'run.mcap', threading.Barrier(2)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def fill(writer: McapWriter, mine: str) -> None:
        begin.wait()
        for number in range(many):
            writer.add_topic(f'/{mine}/{number}', text)
            writer.add_topic(f'/both/{number}', text)
            for topic in (f'/{mine}/0', f'/both/{number}', f'/{mine}/{number}'):
                writer.write(topic, text, raw, number, number)

    try:
        with McapWriter(path) as writer, ThreadPoolExecutor(2) as threads:
            done = [threads.submit(fill, writer, mine) for mine in ('one', 'two')]
            for one in done:
                one.result()
    finally:
        sys.setswitchinterval(switch)
    with path.open('rb') as file:
        reader = make_reader(file, validate_crcs=True)
        found = [(channel.topic, message.data) for _, channel, message in reader.iter_messages()]
        summary = reader.get_summary()
    assert summary and summary.statistics and len(found) == summary.statistics.message_count
    assert len(found) == 6 * many and {data for _, data in found} == {raw}
    assert sorted(channel.topic for channel in summary.channels.values()) == sorted(
        f'/{name}/{number}' for name in ('one', 'two', 'both') for number in range(many)
    )


def fill_the_disk(path: Path, in_background: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
    message = Message('/text', 'std_msgs/msg/String', noise, 1, 1, 1)
    with McapWriter(path) as writer:
        if not in_background:
            writer.write(*message)
            return
        with BackgroundWriter(writer) as bag:
            bag.put(message)


@pytest.mark.parametrize('in_background', [False, True])
@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full, a full disk')
def test_a_full_disk_is_said_in_one_line(tmp_path: Path, in_background: bool):
    (tmp_path / 'run.mcap.part').symlink_to('/dev/full')
    with pytest.raises(ValueError, match=r'writing stopped \(No space left on device') as error:
        fill_the_disk(tmp_path / 'run.mcap', in_background)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'run.mcap').exists()
