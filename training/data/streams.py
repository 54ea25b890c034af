# SPDX-License-Identifier: Apache-2.0
"""Unlabelled sequences: videos, folders of pictures, and image topics of rosbag2, as one."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from endosfm3d_ros.bags.bag_frames import is_bag
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.source import DEFAULT_FRAME_ID, FrameSource
from training.data.raw import RawClip, RawFrame, files_in

USUAL_RATE = 25.0  # of pictures and videos, of which only the order counts here [Hz]
GAP = 1.5  # a step longer than so many usual ones means that frames are missing between
RAW = {'rgb8': None, 'bgr8': cv2.COLOR_BGR2RGB, 'rgba8': cv2.COLOR_RGBA2RGB,
       'bgra8': cv2.COLOR_BGRA2RGB, 'mono8': cv2.COLOR_GRAY2RGB,
       'bayer_rggb8': cv2.COLOR_BayerBG2RGB, 'bayer_bggr8': cv2.COLOR_BayerRG2RGB,
       'bayer_gbrg8': cv2.COLOR_BayerGR2RGB, 'bayer_grbg8': cv2.COLOR_BayerGB2RGB,
       'yuv422': cv2.COLOR_YUV2RGB_UYVY, 'uyvy': cv2.COLOR_YUV2RGB_UYVY,
       'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2, 'yuyv': cv2.COLOR_YUV2RGB_YUY2}  # fmt: skip
CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'yuv422': 2, 'uyvy': 2,
            'yuv422_yuy2': 2, 'yuyv': 2}  # fmt: skip
SIXTEEN_BITS = {name.replace('8', '16'): name for name in RAW if name[:4] in ('mono', 'baye')}


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
        return open_frames(path, topic=topic, rate=rate, frame_id=DEFAULT_FRAME_ID, decode=decoded)
    except ValueError as error:
        raise ValueError(str(error).replace('--topic', 'the key topic')) from error


def _frames(path: Path, topic: str | None) -> Iterator[RawFrame]:
    """
    Number the frames by their stamps, so that a dropped one leaves a gap; say which could not be
    read.
    """
    source = _open(path, topic)
    step_ns = 1e9 / source.rate
    number, before = 0, None
    for frame in source:
        if before is not None:
            steps = (frame.stamp_ns - before) / step_ns
            number += 1 if 0 < steps < GAP else max(round(steps), 2)
        before = frame.stamp_ns
        yield RawFrame(number, frame.image, frame.camera)
    if source.shortfall:
        print(source.shortfall, file=sys.stderr)


def decoded(message: Any) -> np.ndarray:
    """
    Decode the fields of an Image or CompressedImage, without ROS.

    :return: (H, W, 3) uint8 RGB.
    """
    if hasattr(message, 'format'):
        bgr = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f'compressed picture ({message.format}) cannot be decoded')
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    named = message.encoding.lower()
    encoding = SIXTEEN_BITS.get(named, named)
    if encoding not in RAW:
        known = ', '.join(sorted({*RAW, *SIXTEEN_BITS}))
        raise ValueError(f'encoding {message.encoding!r} is not known; {known}')
    deep = named in SIXTEEN_BITS
    channels = CHANNELS.get(encoding, 1)
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    pixels = np.ascontiguousarray(rows[:, : message.width * channels * (2 if deep else 1)])
    if deep:  # as cv_bridge takes them: of the full range
        values = pixels.view('>u2' if message.is_bigendian else '<u2')
        pixels = np.round(values / 257.0).astype(np.uint8)
    if channels > 1:
        pixels = pixels.reshape(message.height, message.width, channels)
    conversion = RAW[encoding]
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)
