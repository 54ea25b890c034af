# SPDX-License-Identifier: Apache-2.0
"""What an image encoding means, and how one becomes another."""

import re
from typing import NamedTuple

import cv2
import numpy as np

DEPTHS: dict[str, np.dtype] = {
    '8U': np.dtype(np.uint8),
    '8S': np.dtype(np.int8),
    '16U': np.dtype(np.uint16),
    '16S': np.dtype(np.int16),
    '32S': np.dtype(np.int32),
    '32F': np.dtype(np.float32),
    '64F': np.dtype(np.float64),
}
CV_DEPTHS = {depth: getattr(cv2, f'CV_{name}') for name, depth in DEPTHS.items()}

COLOUR_CHANNELS = {'GRAY': 1, 'RGB': 3, 'BGR': 3, 'RGBA': 4, 'BGRA': 4}
# ROS names a Bayer pattern by the four pixels from (0, 0), OpenCV by two of those from (1, 1).
BAYER = {'rggb': 'BayerBG', 'bggr': 'BayerRG', 'gbrg': 'BayerGR', 'grbg': 'BayerGB'}
# The first name of each is ROS's older one.
YUV = {'yuv422': 'UYVY', 'uyvy': 'UYVY', 'yuv422_yuy2': 'YUY2', 'yuyv': 'YUY2'}


class CvBridgeError(TypeError):
    """A message or a conversion that makes no sense; a TypeError as upstream's is."""


class Encoding(NamedTuple):
    """What the pixels of an encoding are."""

    family: str  # GRAY RGB BGR RGBA BGRA, BayerXY, UYVY, YUY2; '' for bare types such as 32FC1
    depth: str  # OpenCV's name, a key of DEPTHS
    channels: int

    @property
    def dtype(self) -> np.dtype:
        """The type of one channel, in the machine's byte order."""
        return DEPTHS[self.depth]

    @property
    def cv_type(self) -> str:
        """OpenCV's name of the pixel's type, such as 8UC3."""
        return f'{self.depth}C{self.channels}'


def _named_encodings() -> dict[str, Encoding]:
    named = {yuv: Encoding(family, '8U', 2) for yuv, family in YUV.items()}
    for bits in (8, 16):
        for family, channels in COLOUR_CHANNELS.items():
            name = 'mono' if family == 'GRAY' else family.lower()
            named[f'{name}{bits}'] = Encoding(family, f'{bits}U', channels)
        for pattern, family in BAYER.items():
            named[f'bayer_{pattern}{bits}'] = Encoding(family, f'{bits}U', 1)
    return named


NAMED = _named_encodings()


def parse(encoding: str) -> Encoding:
    """
    Read the name of an encoding.

    :param encoding: a ROS name (``rgb8``) or a bare OpenCV type (``32FC1``).
    :raises CvBridgeError: for any other.
    """
    if encoding in NAMED:
        return NAMED[encoding]
    if bare := re.fullmatch(r'(8U|8S|16U|16S|32S|32F|64F)C([0-9]+)', encoding):
        return Encoding('', bare[1], int(bare[2]))
    raise CvBridgeError(
        f'unrecognized image encoding [{encoding}]; known: {", ".join(NAMED)}, and OpenCV types'
    )


def convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """
    Convert between encodings with upstream's numbers: colour first, then depth.

    :param image: (H, W) or (H, W, C) of the source encoding.
    :return: a new array of the target encoding; between 8 and 16 bit scaled by 257, else cast with
        saturation (up to four channels).
    :raises CvBridgeError: where upstream refuses too.
    """
    if source == target:
        return image.copy()
    old, new = parse(source), parse(target)
    try:
        if old.family and new.family and old.family != new.family:
            image = cv2.cvtColor(image, _colour_code(old, new, f'[{source}] to [{target}]'))
            return image if old.depth == new.depth else _cast(image, old, new)
        if new.family and not old.family:
            raise CvBridgeError(f'[{source}] has no colours, so it cannot become [{target}]')
        if old.channels != new.channels:
            raise CvBridgeError(f'[{source}] and [{target}] differ in their number of channels')
        if old.depth != new.depth and new.family in BAYER.values():
            raise CvBridgeError(f'unsupported conversion from [{source}] to [{target}]')
        return _cast(image, old, new)
    except cv2.error as error:
        raise CvBridgeError(f'[{source}] to [{target}]: {error}') from error


def _colour_code(old: Encoding, new: Encoding, ways: str) -> int:
    from_mosaic = old.family in BAYER.values()
    if new.family not in COLOUR_CHANNELS or (from_mosaic and new.channels == 4):
        raise CvBridgeError(f'unsupported conversion from {ways}')
    if old.family in YUV.values():
        name = f'COLOR_YUV2{new.family}_{old.family}'
    else:
        name = f'COLOR_{old.family}2{new.family}'
    code: int = getattr(cv2, name)
    return code


def _cast(image: np.ndarray, old: Encoding, new: Encoding) -> np.ndarray:
    if old.depth == new.depth and image.dtype == new.dtype:
        return image.copy()
    bits = (8 * old.dtype.itemsize, 8 * new.dtype.itemsize)
    scale = {(8, 16): 65535 / 255, (16, 8): 255 / 65535}.get(bits, 1.0)
    # OpenCV's own rounding and saturation; numpy's astype would wrap around.
    factors = np.full(4, scale)  # one for each channel
    return cv2.multiply(image, factors, dtype=CV_DEPTHS[new.dtype])
