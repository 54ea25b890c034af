# SPDX-License-Identifier: Apache-2.0
"""Every input gives the pictures that are in it, evenly or truly stamped, or one clear line."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.nodes import choose_node, own_pictures
from endosfm3d_ros.bags.source import FIRST_STAMP_NS

JAZZY = get_typestore(Stores.ROS2_JAZZY)
RATE = 30.0
START_NS = 1_700_000_000_000_000_000


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Smooth random RGB pictures, all different, that a codec keeps recognisable."""
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (count, 3, 4, 3), np.uint8)
    return [cv2.resize(picture, (width, height)) for picture in small]


def write_video(path: Path, frames: list[np.ndarray], codec: str = 'MJPG') -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), RATE, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def frames_of_cv2(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def image_message(picture: np.ndarray, stamp_ns: int, frame_id: str = 'scope') -> Any:
    types = JAZZY.types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000))
    header = types['std_msgs/msg/Header'](stamp, frame_id)
    height, width = picture.shape[:2]
    return types['sensor_msgs/msg/Image'](
        header, height, width, 'rgb8', 0, width * 3, picture.reshape(-1)
    )


def compressed_message(picture: np.ndarray, stamp_ns: int) -> Any:
    header = image_message(picture, stamp_ns).header
    png = cv2.imencode('.png', picture[..., ::-1])[1]
    return JAZZY.types['sensor_msgs/msg/CompressedImage'](header, 'png', png.reshape(-1))


def write_bag(path: Path, storage: StoragePlugin, topics: dict[str, list[Any]]) -> Path:
    """A rosbag2 folder as others write it; messages 40 ms apart, logged 5 ms after their stamp."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        for topic, messages in topics.items():
            type_name = messages[0].__msgtype__
            connection = writer.add_connection(topic, type_name, typestore=JAZZY)
            for index, message in enumerate(messages):
                time = START_NS + index * 40_000_000 + 5_000_000
                writer.write(connection, time, JAZZY.serialize_cdr(message, type_name))
    return path


def decode(message: Any) -> np.ndarray:
    """What pictures_in does, for the two encodings that these tests write."""
    if hasattr(message, 'format'):
        return cv2.imdecode(message.data, cv2.IMREAD_COLOR)[..., ::-1]
    return np.asarray(message.data).reshape(message.height, message.width, 3)


@pytest.mark.parametrize(('name', 'codec'), [('clip.avi', 'MJPG'), ('clip.mp4', 'mp4v')])
def test_a_video_gives_the_pictures_that_cv2_gives_evenly_stamped(
    tmp_path: Path, name: str, codec: str
):
    path = write_video(tmp_path / name, pictures(9), codec)
    source = open_frames(path)
    assert (source.name, source.rate, source.count) == (name, RATE, 9)
    frames, needed = list(source), frames_of_cv2(path)
    assert len(needed) == 9
    for frame, picture in zip(frames, needed, strict=True):
        np.testing.assert_array_equal(frame.image, picture)
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == [FIRST_STAMP_NS + round(i * 1e9 / RATE) for i in range(9)]
    assert {frame.frame_id for frame in frames} == {'endoscope_optical'}
    assert source.shortfall == ''


def test_a_source_starts_again_at_its_first_frame(tmp_path: Path):
    source = open_frames(write_video(tmp_path / 'clip.avi', pictures(3)))
    first, again = list(source), list(source)
    assert [f.stamp_ns for f in first] == [f.stamp_ns for f in again]
    np.testing.assert_array_equal(first[2].image, again[2].image)


def test_a_given_rate_and_frame_id_override_those_of_a_video(tmp_path: Path):
    path = write_video(tmp_path / 'clip.avi', pictures(2))
    frames = list(open_frames(path, rate=4.0, frame_id='left_optical'))
    assert frames[1].stamp_ns - frames[0].stamp_ns == 250_000_000
    assert frames[0].frame_id == 'left_optical'


def test_a_given_rate_and_frame_id_override_those_of_a_pattern():
    source = open_frames('pattern:64x48@30', rate=5.0, frame_id='scope')
    frames = list(source)
    assert (source.rate, len(frames)) == (5.0, 50)
    assert frames[1].stamp_ns - frames[0].stamp_ns == 200_000_000
    assert frames[0].frame_id == 'scope'
    with pytest.raises(ValueError, match='--topic /x is for bags'):
        open_frames('pattern:64x48@30', topic='/x')


def test_a_truncated_video_gives_what_is_there_and_says_how_much_is_missing(tmp_path: Path):
    path = write_video(tmp_path / 'clip.avi', pictures(40))
    whole = frames_of_cv2(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = open_frames(path)
    frames = list(source)
    assert 5 < len(frames) < 40
    np.testing.assert_array_equal(frames[4].image, whole[4])
    assert source.shortfall == f'{path}: {len(frames)} of the 40 frames it announces could be read'


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path: Path):
    for number, picture in zip((10, 9, 1, 100), pictures(4), strict=True):
        cv2.imwrite(str(tmp_path / f'frame{number}.png'), picture[..., ::-1])
    (tmp_path / 'notes.txt').write_text('not a picture')
    (tmp_path / '.frame2.png').write_text('half a download')
    source = open_frames(tmp_path, rate=10.0)
    assert source.count == 4
    needed = [pictures(4)[i] for i in (2, 1, 0, 3)]
    for index, (frame, picture) in enumerate(zip(source, needed, strict=True)):
        np.testing.assert_array_equal(frame.image, picture)
        assert frame.stamp_ns == FIRST_STAMP_NS + index * 100_000_000


def test_a_broken_picture_is_named(tmp_path: Path):
    cv2.imwrite(str(tmp_path / '1.png'), pictures(1)[0])
    (tmp_path / '2.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match=r'2\.png: this picture cannot be read'):
        list(open_frames(tmp_path, rate=10.0))


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('form', ['folder', 'file', 'folder without metadata'])
def test_a_bag_gives_its_pictures_under_their_own_stamps(
    tmp_path: Path, storage: StoragePlugin, form: str
):
    stamps = [START_NS + i * 40_000_000 for i in range(5)]
    messages = [image_message(p, s) for p, s in zip(pictures(5), stamps, strict=True)]
    path = write_bag(tmp_path / 'bag', storage, {'/scope/image': messages})
    if form == 'file':
        path = next(file for file in path.iterdir() if file.suffix in ('.mcap', '.db3'))
    elif form == 'folder without metadata':
        (path / 'metadata.yaml').unlink()
    source = open_frames(path, decode=decode)
    assert source.count == 5
    assert source.rate == pytest.approx(25.0)
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == stamps
    assert {frame.frame_id for frame in frames} == {'scope'}
    for frame, picture in zip(frames, pictures(5), strict=True):
        np.testing.assert_array_equal(frame.image, picture)


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_the_rate_is_that_of_the_stamps_however_the_messages_came(tmp_path: Path, storage):
    """Three at a time from a busy network; or replayed four times as fast, and recorded anew."""
    for name, received in (('bursts', lambda n: n // 3 * 120 + n % 3), ('fast', lambda n: n * 10)):
        with Writer(tmp_path / name, version=9, storage_plugin=storage) as writer:
            kind = 'sensor_msgs/msg/Image'
            topic = writer.add_connection('/image', kind, typestore=JAZZY)
            for n, picture in enumerate(pictures(12)):
                raw = JAZZY.serialize_cdr(image_message(picture, START_NS + n * 40_000_000), kind)
                writer.write(topic, START_NS + received(n) * 1_000_000, raw)
        assert open_frames(tmp_path / name, decode=decode).rate == pytest.approx(25.0)


def test_a_compressed_topic_is_an_image_topic(tmp_path: Path):
    messages = [compressed_message(p, START_NS) for p in pictures(2)]
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/scope/compressed': messages})
    frames = list(open_frames(bag, decode=decode))
    np.testing.assert_array_equal(frames[1].image, pictures(2)[1])


def test_a_zero_stamp_in_a_bag_becomes_the_time_of_recording(tmp_path: Path):
    messages = [image_message(pictures(1)[0], 0)]
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/scope/image': messages})
    (frame,) = open_frames(bag, decode=decode)
    assert frame.stamp_ns == START_NS + 5_000_000


def test_among_several_image_topics_one_must_be_chosen(tmp_path: Path):
    left, right = ([image_message(p, START_NS)] for p in pictures(2))
    topics = {'/left': left, '/right': right}
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, topics)
    with pytest.raises(
        ValueError, match='several image topics; choose one with --topic: /left, /right'
    ):
        open_frames(bag, decode=decode)
    with pytest.raises(
        ValueError, match='/middle is not in this bag; image topics there: /left, /right'
    ):
        open_frames(bag, topic='/middle', decode=decode)
    (frame,) = open_frames(bag, topic='/right', decode=decode)
    np.testing.assert_array_equal(frame.image, pictures(2)[1])


@pytest.mark.parametrize(
    ('node', 'others'), [('/endosfm3d', ()), ('/scope', ('status', 'input/camera_info'))]
)
def test_what_a_node_made_of_a_picture_is_read_only_where_it_is_asked_for(
    tmp_path: Path, node: str, others: tuple[str, ...]
):
    camera, ours = ([image_message(p, START_NS)] for p in pictures(2))
    text = [JAZZY.types['std_msgs/msg/String']('')]
    made = {f'{node}/rgb/image': ours, **{f'{node}/{one}': text for one in others}}
    alone = write_bag(tmp_path / 'alone', StoragePlugin.MCAP, made)
    with pytest.raises(ValueError, match='record --with-input.*--topic') as refused:
        open_frames(alone, decode=decode)
    assert f'made of one: {node}/rgb/image;' in str(refused.value)
    (frame,) = open_frames(alone, topic=f'{node}/rgb/image', decode=decode)
    np.testing.assert_array_equal(frame.image, pictures(2)[1])
    made |= {f'{node}/depth/image': ours, '/scope_camera/image': camera}
    (frame,) = open_frames(write_bag(tmp_path / 'both', StoragePlugin.MCAP, made), decode=decode)
    np.testing.assert_array_equal(frame.image, pictures(2)[0])


def test_another_camera_may_call_its_topic_rgb_image(tmp_path: Path):
    messages = [image_message(pictures(1)[0], START_NS)]
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/kinect/rgb/image': messages})
    assert open_frames(bag, decode=decode).count == 1


def test_a_bag_without_images_names_its_topics(tmp_path: Path):
    text = JAZZY.types['std_msgs/msg/String']('hello')
    bag = write_bag(tmp_path / 'bag', StoragePlugin.SQLITE3, {'/chatter': [text]})
    with pytest.raises(ValueError, match='no image topic; topics: /chatter'):
        open_frames(bag, decode=decode)
    with pytest.raises(ValueError, match='/chatter is no image topic; image topics there: none'):
        open_frames(bag, topic='/chatter', decode=decode)


def decode_all_but_the_mono_ones(message: Any) -> np.ndarray:
    if message.encoding == 'mono8':
        raise ValueError('encoding mono8 is not read')
    return decode(message)


def test_messages_that_can_not_be_read_are_left_out_and_counted(tmp_path: Path):
    messages = [image_message(p, START_NS + i) for i, p in enumerate(pictures(5))]
    messages[1].encoding = messages[3].encoding = 'mono8'
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/scope/image': messages})
    source = open_frames(bag, decode=decode_all_but_the_mono_ones)
    for _ in range(2):  # a second look counts anew
        assert [frame.stamp_ns - START_NS for frame in source] == [0, 2, 4]
        assert source.shortfall == (
            'bag /scope/image: 2 of 5 messages could not be read and were left out; '
            'the first, message 2: encoding mono8 is not read'
        )


def test_garbage_in_place_of_a_message_is_left_out_and_counted(tmp_path: Path):
    path = tmp_path / 'bag'
    good = image_message(pictures(1)[0], START_NS)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/image', good.__msgtype__, typestore=JAZZY)
        whole = bytes(JAZZY.serialize_cdr(good, good.__msgtype__))
        for time, raw in enumerate((whole, whole[:50], b'\0\1\0\0' + b'\xff' * 60), START_NS):
            writer.write(connection, time, raw)
    source = open_frames(path, decode=decode)
    assert len(list(source)) == 1
    assert '2 of 3 messages could not be read' in source.shortfall
    assert '\n' not in source.shortfall


def test_a_stamp_that_is_no_time_is_left_out_as_the_live_node_does(tmp_path: Path):
    messages = [image_message(p, START_NS + i) for i, p in enumerate(pictures(3))]
    messages[1].header.stamp.nanosec = 1_000_000_000
    messages[2].header.stamp.sec = -1
    source = open_frames(
        write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/image': messages}), decode=decode
    )
    assert len(list(source)) == 1
    assert '2 of 3 messages' in source.shortfall


def test_a_bag_in_which_nothing_can_be_read_says_why(tmp_path: Path):
    messages = [image_message(p, START_NS) for p in pictures(2)]
    for message in messages:
        message.encoding = 'mono8'
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/scope/image': messages})
    said = 'no message could be read; the first, message 1: encoding mono8 is not read'
    with pytest.raises(ValueError, match=said):
        list(open_frames(bag, decode=decode_all_but_the_mono_ones))


@pytest.mark.parametrize('kept', [0.0, 0.5, 0.99])
@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_bag_that_broke_off_is_one_clear_line(
    tmp_path: Path, storage: StoragePlugin, kept: float
):
    messages = [image_message(p, START_NS) for p in pictures(20)]
    bag = write_bag(tmp_path / 'bag', storage, {'/scope/image': messages})
    file = next(file for file in bag.iterdir() if file.suffix in ('.mcap', '.db3'))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    with pytest.raises(ValueError, match='not a readable rosbag2') as error:
        list(open_frames(file, decode=decode))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('make', 'found'),
    [
        (lambda path: path / 'nothing.mp4', 'no such file'),
        (
            lambda path: _file(path / 'text.mp4', b'hello ' * 99),
            'not a video that OpenCV can open',
        ),
        (lambda path: _file(path / 'empty.mp4', b''), 'not a video that OpenCV can open'),
        (lambda path: _file(path / 'one.png', b''), 'one picture is no video'),
        (lambda path: _file(path / 'old.bag', b'#ROSBAG V2.0'), 'a bag of ROS 1; convert it'),
        (lambda path: path, 'neither a bag nor pictures'),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_before_any_work(
    tmp_path: Path, make: Any, found: str
):
    with pytest.raises(ValueError, match=found) as error:
        open_frames(make(tmp_path))
    assert '\n' not in str(error.value)


def test_a_folder_of_pictures_needs_a_rate(tmp_path: Path):
    cv2.imwrite(str(tmp_path / '1.png'), pictures(1)[0])
    with pytest.raises(ValueError, match='no frame rate; add one, for example --rate 25'):
        open_frames(tmp_path)


@pytest.mark.parametrize('rate', [0.0, -25.0, float('nan'), float('inf')])
def test_a_rate_that_is_no_rate_is_refused(tmp_path: Path, rate: float):
    path = write_video(tmp_path / 'clip.avi', pictures(2))
    with pytest.raises(ValueError, match='--rate must lie between'):
        open_frames(path, rate=rate)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_node_without_metres_is_known_by_what_it_still_sends():
    """Under a name of its own, too: its lengths are withheld, its run is a run."""
    told = [f'/theatre/scope/{one}' for one in ('status', 'input/camera_info', 'rgb/image')]
    assert choose_node(Path('run.mcap'), told) == '/theatre/scope'
    assert own_pictures(told) == ['/theatre/scope/rgb/image']
    assert own_pictures(['/camera/rgb/image', '/camera/status']) == []
