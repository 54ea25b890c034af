# SPDX-License-Identifier: Apache-2.0
"""True of the stand-in and of the real cv_bridge alike, unless a test says otherwise."""

from importlib.util import find_spec

import numpy as np
import pytest
from cv_bridge import CvBridge, CvBridgeError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

BRIDGE = CvBridge()
HEIGHT, WIDTH = 12, 18  # not square
# The real one of Jazzy swaps bytes by a method that numpy 2 took away; Jazzy has numpy 1.
CAN_SWAP = hasattr(np.ndarray, 'newbyteorder') or find_spec('cv_bridge.encodings') is not None
BYTE_ORDERS = (False, True) if CAN_SWAP else (False,)

COLOURS = [
    (f'{name}{bits}', np.dtype(f'u{bits // 8}'), channels)
    for bits in (8, 16)
    for name, channels in (('mono', 1), ('rgb', 3), ('bgr', 3), ('rgba', 4), ('bgra', 4))
]
MOSAICS = [
    (f'bayer_{pattern}{bits}', np.dtype(f'u{bits // 8}'), 1)
    for bits in (8, 16)
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')
]
YUV = [(name, np.dtype(np.uint8), 2) for name in ('yuv422', 'yuv422_yuy2')]
BARE = [
    (f'{depth}C{channels}', np.dtype(kind), channels)
    for depth, kind in zip(
        ('8U', '8S', '16U', '16S', '32S', '32F', '64F'),
        ('u1', 'i1', 'u2', 'i2', 'i4', 'f4', 'f8'),
        strict=True,
    )
    for channels in (1, 2, 3, 4)
]
ALL = pytest.mark.parametrize(
    ('encoding', 'dtype', 'channels'), COLOURS + MOSAICS + YUV + BARE, ids=lambda value: str(value)
)


def picture(dtype, channels, height=HEIGHT, width=WIDTH):
    rng = np.random.default_rng(7)
    shape = (height, width, channels) if channels > 1 else (height, width)
    if dtype.kind == 'f':
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def message(image, encoding, padding=0, big_endian=False):
    stored = image.astype(image.dtype.newbyteorder('>' if big_endian else '<'))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(len(image), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    height, width = image.shape[:2]
    result = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    result.is_bigendian = int(big_endian)
    result.data.frombytes(rows.tobytes())
    return result


@ALL
def test_a_picture_goes_into_a_message_and_back_bit_by_bit(encoding, dtype, channels):
    image = picture(dtype, channels)
    sent = BRIDGE.cv2_to_imgmsg(image, encoding, Header(frame_id='endoscope'))
    assert (sent.height, sent.width, sent.encoding) == (HEIGHT, WIDTH, encoding)
    assert sent.step * sent.height == len(sent.data) == image.nbytes
    assert sent.header.frame_id == 'endoscope'
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(sent), image)


@ALL
def test_padded_rows_and_foreign_byte_order_are_read_through(encoding, dtype, channels):
    image = picture(dtype, channels)
    padding = 3 * channels * dtype.itemsize
    for big_endian in BYTE_ORDERS:
        read = BRIDGE.imgmsg_to_cv2(message(image, encoding, padding, big_endian))
        np.testing.assert_array_equal(read, image)
        assert read.dtype.newbyteorder('=') == dtype


def test_without_padding_the_array_is_the_message_s_own_memory():
    sent = message(picture(np.dtype('u1'), 3), 'rgb8')
    BRIDGE.imgmsg_to_cv2(sent)[0, 0] = (1, 2, 3)
    assert bytes(sent.data[:3]) == b'\x01\x02\x03'


def test_a_slice_of_a_picture_is_packed():
    image = picture(np.dtype('u1'), 3)[::2, 3:11]
    sent = BRIDGE.cv2_to_imgmsg(image, 'rgb8')
    assert sent.step == 8 * 3
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(sent), image)


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('alpha', ['', 'a'])
def test_rgb_and_bgr_differ_in_order_only(bits, alpha):
    image = picture(np.dtype(f'u{bits // 8}'), 3 + len(alpha))
    order = [2, 1, 0, 3][: 3 + len(alpha)]
    swapped = BRIDGE.imgmsg_to_cv2(message(image, f'rgb{alpha}{bits}'), f'bgr{alpha}{bits}')
    np.testing.assert_array_equal(swapped, image[..., order])


def test_a_new_alpha_channel_is_opaque_and_a_dropped_one_changes_nothing():
    image = picture(np.dtype('u1'), 3)
    with_alpha = BRIDGE.imgmsg_to_cv2(message(image, 'rgb8'), 'rgba8')
    np.testing.assert_array_equal(with_alpha[..., :3], image)
    assert (with_alpha[..., 3] == 255).all()
    without = BRIDGE.imgmsg_to_cv2(message(with_alpha, 'rgba8'), 'rgb8')
    np.testing.assert_array_equal(without, image)


def test_grey_is_the_weighted_sum_of_bt_601():
    image = picture(np.dtype('u1'), 3)
    grey = BRIDGE.imgmsg_to_cv2(message(image, 'rgb8'), 'mono8')
    assert np.abs(grey - image @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


def test_between_8_and_16_bit_the_factor_is_257():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    eight = BRIDGE.imgmsg_to_cv2(message(every, 'mono16'), 'mono8')
    np.testing.assert_array_equal(eight, (every.astype(np.uint32) + 128) // 257)
    sixteen = BRIDGE.imgmsg_to_cv2(message(eight, 'mono8'), 'mono16')
    np.testing.assert_array_equal(sixteen, eight.astype(np.uint16) * 257)


def test_colour_comes_first_and_depth_second():
    image = picture(np.dtype('u2'), 3)
    grey = BRIDGE.imgmsg_to_cv2(message(image, 'bgr16'), 'mono16')
    both = BRIDGE.imgmsg_to_cv2(message(image, 'bgr16'), 'mono8')
    np.testing.assert_array_equal(both, (grey.astype(np.uint32) + 128) // 257)


def test_other_depths_are_cast_with_saturation():
    image = np.array([[-3.0, 0.4, 0.6], [300.0, 254.6, 7.0]], np.float32)
    read = BRIDGE.imgmsg_to_cv2(message(image, '32FC1'), '8UC1')
    assert read.tolist() == [[0, 0, 1], [255, 255, 7]]


@pytest.mark.parametrize(('encoding', 'luma'), [('yuv422', 1), ('yuv422_yuy2', 0)])
def test_yuv_is_uyvy_and_yuy2_is_yuyv(encoding, luma):
    image = np.full((4, 6, 2), 128, np.uint8)  # 128 is no colour
    image[..., luma] = np.arange(24).reshape(4, 6) * 8 + 16
    sent = message(image, encoding)
    grey = BRIDGE.imgmsg_to_cv2(sent, 'mono8')
    np.testing.assert_array_equal(grey, image[..., luma])
    rgb = BRIDGE.imgmsg_to_cv2(sent, 'rgb8').astype(int)
    assert np.ptp(rgb, axis=2).max() == 0  # grey in, grey out
    assert np.abs(rgb[..., 0] - (image[..., luma] - 16.0) * 255 / 219).max() <= 1


@pytest.mark.parametrize(('old', 'new'), [('yuv422', 'uyvy'), ('yuv422_yuy2', 'yuyv')])
def test_the_newer_yuv_names_mean_the_same(old, new):
    pytest.importorskip('cv_bridge.encodings', reason='the real cv_bridge of Jazzy lacks them')
    image = picture(np.dtype('u1'), 2)
    for target in ('rgb8', 'bgra8', 'mono16'):
        np.testing.assert_array_equal(
            BRIDGE.imgmsg_to_cv2(message(image, old), target),
            BRIDGE.imgmsg_to_cv2(message(image, new), target),
        )


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_the_mosaic_of_one_colour_becomes_that_colour(pattern, bits):
    value = {'r': 200, 'g': 120, 'b': 40}
    tile = np.array([value[letter] for letter in pattern], f'u{bits // 8}').reshape(2, 2)
    sent = message(np.tile(tile, (4, 5)), f'bayer_{pattern}{bits}')
    rgb = BRIDGE.imgmsg_to_cv2(sent, f'rgb{bits}')
    assert (rgb == (200, 120, 40)).all()
    assert (BRIDGE.imgmsg_to_cv2(sent, f'bgr{bits}') == (40, 120, 200)).all()


def test_a_png_comes_back_and_a_jpeg_nearly():
    ramp = np.dstack([np.tile(np.arange(64, dtype=np.uint8) * 3, (32, 1))] * 3)
    png = BRIDGE.cv2_to_compressed_imgmsg(ramp, 'png')
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(png), ramp)
    jpeg = BRIDGE.cv2_to_compressed_imgmsg(ramp, 'jpg')
    assert jpeg.format == 'jpg'
    read = BRIDGE.compressed_imgmsg_to_cv2(jpeg, 'bgr8').astype(int)
    assert np.abs(read - ramp).mean() < 2


def test_a_compressed_picture_is_bgr():
    red = np.full((8, 8, 3), (0, 0, 250), np.uint8)
    sent = BRIDGE.cv2_to_compressed_imgmsg(red, 'png')
    assert (BRIDGE.compressed_imgmsg_to_cv2(sent, 'rgb8') == (250, 0, 0)).all()


def test_what_is_no_picture_decodes_to_none():
    broken = CompressedImage(format='jpeg')
    broken.data.frombytes(b'not a picture')
    assert BRIDGE.compressed_imgmsg_to_cv2(broken) is None


def unknown_encoding():
    return BRIDGE.imgmsg_to_cv2(message(picture(np.dtype('u1'), 3), 'rgb9'))


def bare_type_to_colour():
    return BRIDGE.imgmsg_to_cv2(message(picture(np.dtype('u1'), 3), '8UC3'), 'bgr8')


def other_number_of_channels():
    return BRIDGE.imgmsg_to_cv2(message(picture(np.dtype('u1'), 3), 'bgr8'), '8UC1')


def colour_to_mosaic():
    return BRIDGE.imgmsg_to_cv2(message(picture(np.dtype('u1'), 3), 'bgr8'), 'bayer_rggb8')


def wrong_type_for_the_encoding():
    return BRIDGE.cv2_to_imgmsg(picture(np.dtype('u2'), 3), 'rgb8')


def one_byte_short():
    sent = message(picture(np.dtype('u1'), 3), 'rgb8')
    sent.data.pop()
    return BRIDGE.imgmsg_to_cv2(sent)


def not_an_array():
    return BRIDGE.cv2_to_imgmsg([[1, 2], [3, 4]], 'mono8')


@pytest.mark.parametrize(
    'mistake',
    [
        unknown_encoding,
        bare_type_to_colour,
        other_number_of_channels,
        colour_to_mosaic,
        wrong_type_for_the_encoding,
        one_byte_short,
        not_an_array,
    ],
)
def test_a_mistake_is_a_type_error(mistake):
    with pytest.raises(TypeError):
        mistake()
    assert issubclass(CvBridgeError, TypeError)


def test_opencv_sees_the_types_that_the_encoding_promises():
    assert BRIDGE.encoding_to_dtype_with_channels('bgra16') == ('uint16', 4)
    assert BRIDGE.encoding_to_dtype_with_channels('32FC1') == ('float32', 1)
    assert BRIDGE.dtype_with_channels_to_cvtype2(np.dtype('u1'), 3) == '8UC3'
