# SPDX-License-Identifier: Apache-2.0
"""Unlabelled sequences: videos, folders of pictures, and image topics of rosbag2, as one."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from endosfm3d_ros.bags.bag_frames import is_bag
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.source import DEFAULT_FRAME_ID, FrameSource
from endosfm3d_ros.pictures_in import image_to_rgb
from training.data.raw import RawClip, RawFrame, files_in

USUAL_RATE = 25.0  # of pictures and videos, of which only the order counts here [Hz]
GAP = 1.5  # a step longer than so many usual ones means that frames are missing between


def stream(path: Path, topic: str | None = None) -> list[RawClip]:
    """
    Open a video, a folder of pictures or a bag: the camera that recorded it is not known.

    :param topic: a bag's image topic, where it has several.
    """
    source = _open(path, topic)
    facts = f'{path} {topic} {files_in(path)} {source.count}'
    return [RawClip(source.name, facts, partial(_frames, path, topic))]


def _open(path: Path, topic: str | None) -> FrameSource:
    """Whatever a player would ask for, rate and frame, is not needed here; a topic may be."""
    rate = None if is_bag(path) else USUAL_RATE
    try:
        return open_frames(
            path, topic=topic, rate=rate, frame_id=DEFAULT_FRAME_ID, decode=image_to_rgb
        )
    except ValueError as error:
        raise ValueError(str(error).replace('--topic', 'the key topic')) from error


def _frames(path: Path, topic: str | None) -> Iterator[RawFrame]:
    """
    Number the frames by their stamps, so that a dropped one leaves a gap and one that came twice
    is one; say which could not be read.
    """
    source = _open(path, topic)
    step_ns = 1e9 / source.rate
    number, before, again = 0, None, 0
    for frame in source:
        if frame.stamp_ns == before:
            again += 1
            continue
        if before is not None:
            steps = (frame.stamp_ns - before) / step_ns
            number += 1 if 0 < steps < GAP else max(round(steps), 2)
        before = frame.stamp_ns
        yield RawFrame(number, frame.image, frame.camera)
    if again:
        print(f'{source.name}: {again} pictures bore the stamp before, left out', file=sys.stderr)
    if source.shortfall:
        print(source.shortfall, file=sys.stderr)
