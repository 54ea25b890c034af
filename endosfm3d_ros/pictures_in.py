# SPDX-License-Identifier: Apache-2.0
"""
Pictures of image messages, by their fields alone, for what reads bags: training has no ROS. The
node's way through cv_bridge (`messages_in.py`) gives the same pixels.
"""

from typing import Any

import cv2
import numpy as np

# bytes a pixel of every encoding that is read
ENCODINGS = {
    'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, 'mono16': 2,
    'yuv422': 2, 'yuv422_yuy2': 2, 'yuyv': 2, 'uyvy': 2,
    'bayer_rggb8': 1, 'bayer_bggr8': 1, 'bayer_gbrg8': 1, 'bayer_grbg8': 1,
    'bayer_rggb16': 2, 'bayer_bggr16': 2, 'bayer_gbrg16': 2, 'bayer_grbg16': 2,
}  # fmt: skip
# ROS names a mosaic by the four pixels from (0, 0), OpenCV by two of those from (1, 1)
TO_RGB = {
    'bgr': cv2.COLOR_BGR2RGB, 'rgba': cv2.COLOR_RGBA2RGB, 'bgra': cv2.COLOR_BGRA2RGB,
    'mono': cv2.COLOR_GRAY2RGB,
    'yuv422': cv2.COLOR_YUV2RGB_UYVY, 'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2, 'yuyv': cv2.COLOR_YUV2RGB_YUY2,
    'bayer_rggb': cv2.COLOR_BayerBG2RGB, 'bayer_bggr': cv2.COLOR_BayerRG2RGB,
    'bayer_gbrg': cv2.COLOR_BayerGR2RGB, 'bayer_grbg': cv2.COLOR_BayerGB2RGB,
}  # fmt: skip
MAX_SIDE = 16384  # a header that claims more is broken
JPEG_START, JPEG_END = b'\xff\xd8', b'\xff\xd9'


def image_to_rgb(message: Any) -> np.ndarray:
    """
    Read a picture.

    :param message: the fields of a sensor_msgs/Image or CompressedImage, under their ROS names.
    :return: (H, W, 3) uint8 RGB; it may share memory with the message. 16 bits are taken of their
        full range.
    :raises ValueError: one line that says what is wrong with the message and what is needed.
    """
    if hasattr(message, 'format'):
        return _decode_compressed(message)
    check_layout(message)
    encoding = message.encoding.lower()
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    rows = rows[:, : message.width * ENCODINGS[encoding]]  # what a row ends with is no pixel
    if encoding.endswith('16'):
        order = '>' if message.is_bigendian else '<'
        deep = np.ascontiguousarray(rows).view(f'{order}u2')
        return _coloured(deep.astype(np.uint16, copy=False), encoding)
    if ENCODINGS[encoding] == 1:
        return _coloured(rows, encoding)
    return _coloured(rows.reshape(message.height, message.width, ENCODINGS[encoding]), encoding)


def _coloured(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """
    Pixels of an encoding as RGB, with the numbers of cv_bridge: colours first, then eight bits.

    :param pixels: (H, W) or (H, W, C), uint8, or uint16 where the encoding ends in 16.
    """
    if encoding == 'rgb8':  # it is what is wanted: nothing to copy
        return pixels
    family = encoding if encoding in TO_RGB else encoding.rstrip('0123456789')
    try:
        rgb = cv2.cvtColor(pixels, TO_RGB[family])
    except cv2.error as error:
        raise ValueError(
            f'a {encoding} picture can not be read: {" ".join(str(error).split())}'
        ) from error
    return cv2.convertScaleAbs(rgb, alpha=255 / 65535) if rgb.dtype == np.uint16 else rgb


def check_layout(message: Any) -> None:
    """:raises ValueError: its encoding is not read, or its bytes do not fit its size."""
    encoding = message.encoding.lower()
    if encoding not in ENCODINGS:
        raise ValueError(
            f'encoding {message.encoding!r} is not read; known: {", ".join(ENCODINGS)}'
        )
    width, height, step, found = message.width, message.height, message.step, len(message.data)
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE:
        raise ValueError(f'a {width}x{height} picture; needed sides of 1 to {MAX_SIDE} px')
    needed_step = width * ENCODINGS[encoding]
    if step < needed_step or found != step * height:
        raise ValueError(
            f'{width}x{height} {encoding} with step {step} and {found} bytes; needed a step of '
            f'at least {needed_step} '
            f'and step x height = {max(step, needed_step) * height} bytes'
        )
    if encoding in ('yuv422', 'yuv422_yuy2', 'yuyv', 'uyvy') and width % 2:
        raise ValueError(f'{encoding} needs an even width, found {width}')


def _decode_compressed(message: Any) -> np.ndarray:
    mosaic = _mosaic_of(message.format)
    if mosaic:
        found = _decoded(message, cv2.IMREAD_UNCHANGED)
        if found.ndim == 2:  # else somebody gave it its colours and kept the name
            return _coloured(found, mosaic)
    return cv2.cvtColor(_decoded(message, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _decoded(message: Any, flag: int) -> np.ndarray:
    """Pixels of a CompressedImage, as OpenCV decodes them with this flag."""
    data = np.frombuffer(message.data, np.uint8)
    try:
        found = cv2.imdecode(data, flag) if _is_whole(data.tobytes()) else None
    except cv2.error:  # a header that claims a giant
        found = None
    if found is None:
        raise ValueError(
            f'a compressed picture ({message.format!r}, {data.size} bytes) can not be decoded; '
            'needed whole jpeg or png data'
        )
    return found


def _mosaic_of(text: str) -> str:
    """
    Name of the Bayer pattern that a compressed picture's pixels still are, without bits.

    :param text: its format, as image_transport writes it: the camera's encoding; the codec; and
        after 'compressed' what was encoded, where that is named and not the camera's own.
    :return: 'bayer_rggb', ...; '' where the pixels are colours or grey.
    """
    encoding, _, codec = text.lower().partition(';')
    _, _, stored = codec.partition('compressed')
    name = stored.strip() or encoding.strip()
    return name.rstrip('0123456789') if codec and name in ENCODINGS and 'bayer' in name else ''


def _is_whole(encoded: bytes) -> bool:
    """
    Whether a jpeg has its end: OpenCV 4.6 fills up with grey what was cut short.

    Within the picture's data the end marker can not occur (ITU-T T.81, B.1.1.5); what some cameras
    pad with comes after it. png is checked by its decoder.
    """
    return JPEG_END in encoded if encoded.startswith(JPEG_START) else bool(encoded)
