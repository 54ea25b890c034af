# SPDX-License-Identifier: Apache-2.0
"""One way to read frames: a video file, a folder of pictures, or an image topic of a bag."""

from pathlib import Path

from endosfm3d_ros.bags.bag_frames import BagFrames, Decode, is_bag
from endosfm3d_ros.bags.pattern import PREFIX, pattern_frames
from endosfm3d_ros.bags.source import FrameSource
from endosfm3d_ros.bags.videos import PictureFrames, VideoFrames


def open_frames(
    path: str | Path,
    *,
    topic: str | None = None,
    rate: float | None = None,
    frame_id: str | None = None,
    decode: Decode | None = None,
) -> FrameSource:
    """
    Open a video file, a folder of pictures, or a rosbag2 (mcap or sqlite3; folder or file).

    :param path: what to read; `pattern:1920x1080@30` needs no file.
    :param topic: image topic of a bag; may be left out when there is one only.
    :param rate: frame rate [Hz]; needed for pictures, overrides what a video or a pattern
        announces; a bag keeps its stamps.
    :param frame_id: the optical frame; a bag's messages bring their own unless one is given here.
    :param decode: for bags: takes an Image or CompressedImage message, gives (H, W, 3) uint8 RGB.
    :return: the frames, with `name`, `rate` and `count`; iterate as often as wanted.
    :raises ValueError: one line on what was found, what is needed and what to do.
    """
    path = Path(path)
    is_pattern = path.name.startswith(PREFIX) and not path.exists()
    if not is_pattern and not path.exists():
        raise ValueError(f'{path}: no such file or folder')
    if path.suffix.lower() == '.bag':
        raise ValueError(
            f'{path}: a bag of ROS 1; convert it: '
            f'`rosbags-convert --src {path.name} --dst {path.stem}_ros2`'
        )
    if not is_pattern and is_bag(path):
        if decode is None:
            raise ValueError(f'{path}: a bag needs the function that decodes its image messages')
        return BagFrames(path, decode, topic, rate, frame_id)
    if topic is not None:
        raise ValueError(f'{path}: --topic {topic} is for bags, this is none')
    if is_pattern:
        return pattern_frames(str(path), rate, frame_id)
    if path.is_dir():
        return PictureFrames(path, rate, frame_id)
    return VideoFrames(path, rate, frame_id)
