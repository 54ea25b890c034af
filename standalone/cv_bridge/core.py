# SPDX-License-Identifier: Apache-2.0
"""Image messages to numpy arrays and back."""

import array
from typing import Any

import cv2
import numpy as np
from cv_bridge.encodings import DEPTHS, CvBridgeError, Encoding, convert, parse
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

__all__ = ['CvBridge', 'CvBridgeError']


class CvBridge:
    """Stateless; upstream's class, so ours is one too."""

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """:return: numpy's name of the pixel's type, and the number of channels."""
        parsed = parse(encoding)
        return parsed.dtype.name, parsed.channels

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype, n_channels: int) -> str:
        """:return: OpenCV's name of the type, such as 8UC3."""
        for name, depth in DEPTHS.items():
            if depth == dtype.newbyteorder('='):
                return f'{name}C{n_channels}'
        raise CvBridgeError(f'{dtype} is no OpenCV type; those are {", ".join(DEPTHS)}')

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = 'passthrough') -> np.ndarray:
        """
        Read a message; without conversion, padding or swapping the array shares its memory.

        :param img_msg: any encoding that :func:`cv_bridge.encodings.parse` knows.
        :param desired_encoding: to convert to, or ``passthrough``.
        :return: (H, W) or (H, W, C), in the machine's byte order.
        :raises CvBridgeError: unknown encoding, size and data that don't fit, no such conversion.
        """
        encoding = parse(img_msg.encoding)
        image = _pixels(img_msg, encoding)
        if desired_encoding == 'passthrough':
            return image
        return convert(image, img_msg.encoding, desired_encoding)

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = 'passthrough'
    ) -> np.ndarray | None:
        """
        Decode a JPEG, PNG, …

        :param desired_encoding: what OpenCV decodes is taken for bgr8 and converted to this.
        :return: (H, W) or (H, W, C); None for data that OpenCV cannot decode, as upstream.
        :raises CvBridgeError: no such conversion.
        """
        data = np.frombuffer(cmprs_img_msg.data, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if image is None or desired_encoding == 'passthrough':
            return image
        return convert(image, 'bgr8', desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: np.ndarray, encoding: str = 'passthrough', header: Header | None = None
    ) -> Image:
        """
        Copy an array into a message.

        :param cvim: (H, W) or (H, W, C).
        :param encoding: what the pixels mean, or ``passthrough`` for the bare type, such as 8UC3.
        :raises CvBridgeError: the encoding asks for another type than the array has.
        """
        _check_array(cvim)
        found = self.dtype_with_channels_to_cvtype2(
            cvim.dtype, 1 if cvim.ndim < 3 else cvim.shape[2]
        )
        if encoding != 'passthrough' and (needed := parse(encoding).cv_type) != found:
            raise CvBridgeError(f'{encoding} needs an array of type {needed}, this one is {found}')
        message = Image(height=cvim.shape[0], width=cvim.shape[1])
        if header is not None:
            message.header = header
        message.encoding = found if encoding == 'passthrough' else encoding
        message.is_bigendian = cvim.dtype.byteorder == '>'
        message.step = cvim.strides[0] if cvim.flags.c_contiguous else cvim[:1].nbytes
        # Filled in place: assigning bytes would check every element.
        message.data.frombytes(np.ascontiguousarray(cvim).view(np.uint8))
        return message

    def cv2_to_compressed_imgmsg(
        self, cvim: np.ndarray, dst_format: str = 'jpg'
    ) -> CompressedImage:
        """
        Encode an array.

        :param cvim: as OpenCV's imencode takes it: BGR, BGRA or one channel.
        :param dst_format: jpg, png, …
        :raises CvBridgeError: the array cannot be encoded in that format.
        """
        _check_array(cvim)
        message = CompressedImage(format=dst_format)
        try:
            message.data = array.array('B', cv2.imencode(f'.{dst_format}', cvim)[1].tobytes())
        except cv2.error as error:
            raise CvBridgeError(str(error)) from error
        return message


def _check_array(image: Any) -> None:
    if not isinstance(image, np.ndarray):
        raise TypeError(f'{type(image).__name__} found, a numpy array needed')


def _pixels(message: Image, encoding: Encoding) -> np.ndarray:
    """:return: the message's pixels as they are, (H, W) or (H, W, C), in the machine's order."""
    row = message.width * encoding.channels * encoding.dtype.itemsize
    found = f'{message.width}x{message.height} {message.encoding}, step {message.step}'
    if message.step < row:
        raise CvBridgeError(f'{found}: a row takes {row} bytes')
    if len(message.data) < message.height * message.step:
        raise CvBridgeError(
            f'{found}: {message.height * message.step} bytes needed, {len(message.data)} found'
        )
    rows = np.ndarray((message.height, message.step), np.uint8, buffer=message.data)[:, :row]
    stored = encoding.dtype.newbyteorder('>' if message.is_bigendian else '<')
    shape = (message.height, message.width, encoding.channels)
    image = np.ascontiguousarray(rows).view(stored).reshape(shape[: 2 + (encoding.channels > 1)])
    return image.astype(encoding.dtype, copy=False)
