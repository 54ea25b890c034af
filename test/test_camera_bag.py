# SPDX-License-Identifier: Apache-2.0
"""The calibration beside a bag's pictures is what a replay goes by, or it says why not."""

from array import array
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image

from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.bags.recording import McapWriter
from endosfm3d_ros.camera_bag import BagCalibrations, beside
from endosfm3d_ros.cli import main
from endosfm3d_ros.core.picture.rectify import rectify
from endosfm3d_ros.messages_in import calibration_from
from endosfm3d_ros.share import DEMO_CLIP

WIDTH, HEIGHT, PICTURES = 320, 256, 6
FIRST_NS, STEP_NS = 10**18, 40_000_000
NO_LENS, LENS = [0.0] * 5, [-0.2, 0.05, 0.0, 0.0, 0.0]
BELIEVED = ('--set', 'intrinsics.source=camera_info')


def stamped(message: Any, stamp_ns: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = 'scope'
    return message


def info(focal: float, d: list[float]) -> CameraInfo:
    k = [focal, 0.0, 155.0, 0.0, focal + 5.0, 120.0, 0.0, 0.0, 1.0]
    return CameraInfo(width=WIDTH, height=HEIGHT, distortion_model='plumb_bob', d=d, k=k)


def picture(number: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(40, 220, (40, 60, 3)).astype(np.uint8)
    large = cv2.resize(coarse, (600, 400), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(large[40 : 40 + HEIGHT, 2 * number : 2 * number + WIDTH])


def image(pixels: np.ndarray) -> Image:
    data = array('B', pixels.tobytes())
    return Image(width=WIDTH, height=HEIGHT, step=WIDTH * 3, encoding='rgb8', data=data)


def at(number: float) -> int:
    """Stamp of a picture [ns]."""
    return FIRST_NS + round(number * STEP_NS)


def write(path: Path, messages: list[tuple[int, str, Any]]) -> Path:
    with McapWriter(path) as bag:
        for stamp_ns, topic, message in sorted(messages, key=lambda one: one[0]):
            kind = f'sensor_msgs/msg/{type(message).__name__}'
            raw = serialize_message(message)
            bag.write(topic, kind, raw, stamp_ns, stamp_ns)
    return path


def film(infos: list[tuple[float, CameraInfo]], undone: CameraInfo | None = None) -> Any:
    """Pictures, those of `undone` rectified beforehand, and calibrations between them."""
    messages = []
    for number in range(PICTURES):
        pixels = picture(number)
        if undone:
            pixels = rectify(pixels, calibration_from(undone))
        messages.append((at(number), '/scope/image', stamped(image(pixels), at(number))))
    for number, one in infos:
        messages.append((at(number), '/scope/camera_info', stamped(one, at(number))))
    return messages


def words(bag: Path, out: Path, *more: str) -> list[str]:
    return ['replay', str(bag), str(out), '--overwrite', *BELIEVED, *more]


def test_each_picture_goes_by_the_newest_calibration_before_it_and_the_first_ones_by_the_first(
    tmp_path: Path,
) -> None:
    bag = write(tmp_path / 'in.mcap', film([(1.5, info(300.0, LENS)), (4, info(400.0, LENS))]))
    for more in ([], ['--refine', 'full']):
        assert main(words(bag, tmp_path / 'out.mcap', *more)) == 0
        run = RunBag(tmp_path / 'out.mcap')
        cameras = [one.message for one in run.messages('/endosfm3d/input/camera_info')]
        assert [camera.k[0] for camera in cameras] == [300.0] * 4 + [400.0] * 2


def test_a_replay_undoes_the_lens_as_if_the_pictures_had_been_rectified_before(
    tmp_path: Path,
) -> None:
    bent, straight = info(300.0, LENS), info(300.0, NO_LENS)
    write(tmp_path / 'bent.mcap', film([(0, bent)]))
    write(tmp_path / 'straight.mcap', film([(0, straight)], undone=bent))
    said = []
    for name in ('bent', 'straight'):
        assert main(words(tmp_path / f'{name}.mcap', tmp_path / 'out.mcap')) == 0
        run = RunBag(tmp_path / 'out.mcap')
        topics = run.topics.keys() - {'/endosfm3d/input/camera_info'}  # of two input pictures
        said.append([one.raw for topic in sorted(topics) for one in run.messages(topic)])
    assert said[0] == said[1]


def test_a_topic_that_was_rectified_is_not_rectified_again(tmp_path: Path) -> None:
    """Its camera_info tells the raw picture's K and D, and by P the one that is there."""
    raw, own = info(300.0, LENS), info(310.0, NO_LENS)
    k = own.k
    raw.p = [k[0], 0.0, k[2], 0.0, 0.0, k[4], k[5], 0.0, 0.0, 0.0, 1.0, 0.0]
    said = []
    for number, one in enumerate((raw, own)):
        bag = write(tmp_path / f'{number}.mcap', film([(0, one)]))
        straight = ('--set', 'intrinsics.lens=straight')
        assert main(words(bag, tmp_path / 'out.mcap', *straight)) == 0
        run = RunBag(tmp_path / 'out.mcap')
        said.append([one.raw for topic in sorted(run.topics) for one in run.messages(topic)])
    assert said[0] == said[1]


def test_a_calibration_without_a_stamp_counts_from_when_it_was_recorded(tmp_path: Path) -> None:
    messages = [(at(n), '/camera_info', info(300.0 + n, NO_LENS)) for n in (1, 3)]
    told = BagCalibrations(write(tmp_path / 'in.mcap', messages), '/camera_info')
    assert [told.at(at(n)).camera.fx for n in (0, 2.9, 3)] == [301.0, 301.0, 303.0]


def test_an_unusable_calibration_is_told_and_the_others_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / 'in.mcap', film([(0, info(300.0, LENS)), (2, info(0.0, LENS))]))
    assert main(words(bag, tmp_path / 'out.mcap')) == 0
    assert '1 camera_info were refused: camera_info has no calibra' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('infos', 'more', 'said'),
    [
        ([], (), 'no CameraInfo topic /scope/camera_info; those there: none; choose'),
        ([(0, info(300.0, LENS))], ('--camera-info', '/x'), 'those there: /scope/camera_info;'),
        ([(0, info(0.0, LENS))], (), 'nothing of /scope/camera_info can be used: camera_info has'),
        (
            [(0, info(300.0, LENS))],
            ('--camera-info', '/scope/camera_info', '--set', 'intrinsics.source=estimated'),
            '--camera-info is for --set intrinsics.source=camera_info',
        ),
    ],
)
def test_a_bag_without_the_calibration_that_was_asked_for_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    infos: list[tuple[float, CameraInfo]],
    more: tuple[str, ...],
    said: str,
) -> None:
    bag = write(tmp_path / 'in.mcap', film(infos))
    assert main(words(bag, tmp_path / 'out.mcap', *more)) == 1
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1


def test_a_video_has_no_calibration_and_what_works_instead_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(DEMO_CLIP / 'clip.mp4', tmp_path / 'out.mcap')) == 1
    error = capsys.readouterr().err
    assert 'set intrinsics.source to fixed' in error and error.count('\n') == 1


def test_a_compressed_topic_s_calibration_lies_beside_its_raw_one() -> None:
    assert beside('/stereo/left/image_raw/compressed') == '/stereo/left/camera_info'
    assert beside('/image') == '/camera_info'
