# SPDX-License-Identifier: Apache-2.0
"""Messages in and out: every encoding, every refusal, the cloud against the depth it came from."""

import struct
import zlib
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cv_bridge import CvBridge
from geometry_msgs.msg import Pose
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sensor_msgs_py.point_cloud2 import read_points

from endosfm3d_ros import messages_out as out
from endosfm3d_ros import parameters
from endosfm3d_ros.bags.recording import McapWriter
from endosfm3d_ros.core.frame import Intrinsics, Motion, Reconstruction
from endosfm3d_ros.core.geometry import (
    motion_from_vector,
    rotation_from_quaternion,
    unproject_pixels,
)
from endosfm3d_ros.core.lens import distorted
from endosfm3d_ros.core.picture.rectify import rectified_boxes
from endosfm3d_ros.messages_in import (
    calibration_from,
    frame_from,
    image_to_rgb,
    rectified,
    robot_motion,
    stamp_of,
)
from endosfm3d_ros.outputs import Outputs, Traffic
from endosfm3d_ros.pictures_in import ENCODINGS
from training.data.streams import stream

H, W = 6, 8
RNG = np.random.default_rng(0)


def image(encoding: str, height: int = H, width: int = W, pad: int = 0) -> Image:
    step = width * ENCODINGS[encoding] + pad
    data = array('B', RNG.integers(0, 256, step * height, np.uint8).tobytes())
    message = Image(height=height, width=width, encoding=encoding, step=step, data=data)
    message.header.stamp.sec, message.header.frame_id = 5, 'scope'
    return message


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
@pytest.mark.parametrize('pad', [0, 24])  # the real one needs rows of whole pixels
def test_every_encoding_is_read_as_cv_bridge_reads_it(encoding: str, pad: int) -> None:
    message = image(encoding, pad=pad)
    rgb = image_to_rgb(message)
    assert rgb.shape == (H, W, 3) and rgb.dtype == np.uint8
    # the real cv_bridge of Jazzy knows these two by their older names only
    message.encoding = {'uyvy': 'yuv422', 'yuyv': 'yuv422_yuy2'}.get(encoding, encoding)
    assert np.array_equal(rgb, CvBridge().imgmsg_to_cv2(message, 'rgb8'))


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_rows_that_end_amid_a_pixel_are_read_as_rows_without_an_end(encoding: str) -> None:
    padded = image(encoding, pad=5 if ENCODINGS[encoding] % 2 else 4)
    rows = np.frombuffer(padded.data, np.uint8).reshape(H, padded.step)
    bare = image(encoding)
    bare.data = array('B', rows[:, : bare.step].tobytes())
    assert np.array_equal(image_to_rgb(padded), image_to_rgb(bare))


def test_rgb_stays_and_bgr_is_turned_and_mono_is_spread() -> None:
    pixels = RNG.integers(0, 256, (H, W, 3), np.uint8)
    rgb = Image(height=H, width=W, encoding='rgb8', step=3 * W, data=array('B', pixels.tobytes()))
    assert np.array_equal(image_to_rgb(rgb), pixels)
    rgb.encoding = 'bgr8'
    assert np.array_equal(image_to_rgb(rgb), pixels[..., ::-1])
    mono = Image(
        height=H, width=W, encoding='mono8', step=W, data=array('B', pixels[..., 0].tobytes())
    )
    assert np.array_equal(image_to_rgb(mono), np.repeat(pixels[..., :1], 3, 2))


@pytest.mark.parametrize('kind', ['.png', '.jpg'])
def test_compressed_pictures_are_read(kind: str) -> None:
    smooth = cv2.resize(RNG.integers(0, 256, (4, 5, 3), np.uint8), (80, 60))
    data = array('B', cv2.imencode(kind, smooth[..., ::-1])[1].tobytes())
    read = image_to_rgb(CompressedImage(format=kind[1:], data=data))
    assert np.abs(read.astype(int) - smooth).max() <= (0 if kind == '.png' else 24)


MOSAICS = [
    ('bayer_rggb8; png compressed ', '.png', np.uint8),
    ('bayer_gbrg16; png compressed ', '.png', np.uint16),
    ('bayer_grbg8; jpeg compressed bayer_grbg8', '.jpg', np.uint8),
    ('bayer_bggr16; jpeg compressed ', '.jpg', np.uint8),
]


@pytest.mark.parametrize(('text', 'kind', 'depth'), MOSAICS)
def test_a_compressed_mosaic_of_a_camera_gets_its_colours_back(
    text: str, kind: str, depth: Any
) -> None:
    colours = {'r': 200, 'g': 100, 'b': 40}
    pattern = text.removeprefix('bayer_')[:4]
    mosaic = np.tile(np.reshape([colours[c] for c in pattern], (2, 2)), (20, 30)).astype(depth)
    if depth == np.uint16:
        mosaic *= 257
    data = array('B', cv2.imencode(kind, mosaic, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes())
    read = image_to_rgb(CompressedImage(format=text, data=data))
    assert np.abs(read[4:-4, 4:-4].astype(int) - [200, 100, 40]).max() <= 2


@pytest.mark.parametrize('text', ['bayer_rggb8; jpeg compressed mono8', 'bayer_rggb8', 'png'])
def test_a_compressed_picture_that_is_no_mosaic_any_more_is_left_as_it_is(text: str) -> None:
    grey = RNG.integers(0, 256, (60, 80), np.uint8)
    data = array('B', cv2.imencode('.png', grey)[1].tobytes())
    read = image_to_rgb(CompressedImage(format=text, data=data))
    assert np.array_equal(read, np.repeat(grey[..., None], 3, 2))


def test_colours_under_the_name_of_a_mosaic_are_read_as_colours() -> None:
    pixels = RNG.integers(0, 256, (60, 80, 3), np.uint8)
    data = array('B', cv2.imencode('.png', pixels[..., ::-1])[1].tobytes())
    named = CompressedImage(format='bayer_rggb8; png compressed ', data=data)
    assert np.array_equal(image_to_rgb(named), pixels)


def claiming(width: int, height: int) -> CompressedImage:
    """A png whose header claims a size, sound in itself."""
    whole = cv2.imencode('.png', np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    head = b'IHDR' + struct.pack('>II', width, height) + whole[24:29]
    data = whole[:12] + head + struct.pack('>I', zlib.crc32(head)) + whole[33:]
    return CompressedImage(format='png', data=array('B', data))


@pytest.mark.parametrize('encoding', ['BGR8', 'MONO16', 'Bayer_RGGB8', 'YUV422'])
def test_an_encoding_is_known_however_its_letters_are_written(encoding: str) -> None:
    message = image(encoding.lower())
    wanted = image_to_rgb(message)
    message.encoding = encoding
    assert np.array_equal(image_to_rgb(message), wanted)


GREY = cv2.resize(RNG.integers(0, 256, (8, 10), np.uint8), (80, 60))
COMPRESSED = {
    'bgr8; jpeg compressed bgr8': np.dstack([GREY, 255 - GREY, GREY // 2]),
    'mono16; png compressed ': GREY * np.uint16(256) + 100,
    **{text: GREY.astype(depth) << 8 * (depth == np.uint16) for text, _, depth in MOSAICS},
}


@pytest.mark.parametrize('what', [*sorted(ENCODINGS), *COMPRESSED])
@pytest.mark.parametrize('big', [0, 1])
def test_training_sees_the_pixels_that_the_node_sees(what: str, big: int, tmp_path: Path) -> None:
    if what in COMPRESSED:
        codec = f'.{what.partition("; ")[2].split()[0]}'
        data = cv2.imencode(codec, COMPRESSED[what])[1].tobytes()
        message: Any = CompressedImage(format=what, data=array('B', data))
        message.header = image('rgb8').header
    else:
        message = image(what, pad=5)
        message.is_bigendian = big
    kind, raw = f'sensor_msgs/msg/{type(message).__name__}', serialize_message(message)
    with McapWriter(tmp_path / 'bag.mcap') as bag:
        bag.write('/image', kind, raw, 10**18, 10**18)
    (clip,) = stream(tmp_path / 'bag.mcap')
    (trained,) = clip.frames()
    assert np.array_equal(trained.image, frame_from(message).image)


def changed(**changes: Any) -> Image:
    message = image('rgb8')
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ('message', 'said'),
    [
        (changed(encoding='hsv12'), "encoding 'hsv12' is not read; known: rgb8"),
        (changed(step=5), 'step 5 and 144 bytes; needed a step of at least 24'),
        (changed(step=23, data=array('B', bytes(23 * H))), 'needed a step of at least 24'),
        (changed(data=array('B', [1, 2, 3])), '3 bytes; needed'),
        (changed(data=array('B')), '0 bytes; needed'),
        (changed(width=0), '0x6 picture; needed sides'),
        (changed(height=0, data=array('B')), '8x0 picture; needed sides'),
        (changed(width=100_000), 'needed sides of 1 to'),
        (CompressedImage(format='jpeg', data=array('B', [1, 2, 3])), 'can not be decoded'),
        (CompressedImage(format='jpeg'), 'can not be decoded'),
        (image('uyvy', width=3), 'uyvy needs an even width, found 3'),
        (claiming(200_000, 200_000), 'can not be decoded'),
    ],
)
def test_a_bad_picture_is_refused_in_one_line(message: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        image_to_rgb(message)
    assert '\n' not in str(refusal.value)


def test_the_smallest_and_an_8k_picture_are_read() -> None:
    assert image_to_rgb(image('rgb8', 1, 1)).shape == (1, 1, 3)
    assert image_to_rgb(image('mono8', 4320, 7680)).shape == (4320, 7680, 3)


def test_a_jpeg_that_was_cut_short_is_refused_by_every_opencv(monkeypatch: pytest.MonkeyPatch):
    picture = np.full((48, 64, 3), 90, np.uint8)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: picture)  # OpenCV 4.6 fills up with grey
    data = cv2.imencode('.jpg', picture)[1].tobytes()
    for whole in (data, data + bytes(40)):
        message = CompressedImage(format='jpeg', data=array('B', whole))
        assert np.array_equal(image_to_rgb(message), picture)
    for cut in (data[:-1], data[: len(data) // 2]):
        with pytest.raises(ValueError, match='can not be decoded; needed whole jpeg'):
            image_to_rgb(CompressedImage(format='jpeg', data=array('B', cut)))


@pytest.mark.parametrize(('sec', 'nanosec'), [(0, 0), (-1, 5), (1, 1_000_000_000)])
def test_a_stamp_that_is_no_time_is_refused(sec: int, nanosec: int) -> None:
    head = image('rgb8').header
    head.stamp.sec, head.stamp.nanosec = sec, nanosec
    with pytest.raises(ValueError, match='needed a positive time'):
        stamp_of(head)


def test_a_leading_slash_goes_an_empty_frame_id_is_refused_and_a_parameter_mends_it() -> None:
    message = image('rgb8')
    message.header.frame_id = '/scope'
    assert frame_from(message).frame_id == 'scope'
    message.header.frame_id = ''
    with pytest.raises(ValueError, match='set the parameter camera_frame_id'):
        frame_from(message)
    assert frame_from(message, 'mine').frame_id == 'mine'


def camera_info(**changes: Any) -> CameraInfo:
    values: dict[str, Any] = {
        'width': 640, 'height': 480,
        'distortion_model': 'plumb_bob', 'd': [-0.3, 0.1, 0.0, 0.0, 0.0],
        'k': [500.0, 0.0, 320.0, 0.0, 505.0, 240.0, 0.0, 0.0, 1.0],
    }  # fmt: skip
    return CameraInfo(**{**values, **changes})


def test_binning_and_a_region_of_interest_are_undone() -> None:
    message = camera_info(binning_x=2, binning_y=3)
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = (
        100,
        50,
        400,
        300,
    )
    camera = calibration_from(message).camera
    assert (camera.width, camera.height) == (200, 100)
    assert (camera.fx, camera.cx) == (250.0, (320 - 100 + 0.5) / 2 - 0.5)
    assert (camera.fy, camera.cy) == pytest.approx((505 / 3, (240 - 50 + 0.5) / 3 - 0.5))


def test_binning_that_leaves_columns_over_cuts_them_off() -> None:
    message = camera_info(width=647, height=481, binning_x=4, binning_y=2)
    camera = calibration_from(message).camera
    assert (camera.width, camera.height) == (161, 240)
    assert (camera.fx, camera.fy) == (500 / 4, 505 / 2)
    assert (camera.cx, camera.cy) == ((320 + 0.5) / 4 - 0.5, (240 + 0.5) / 2 - 0.5)


def test_an_uncalibrated_or_unknown_camera_info_is_refused() -> None:
    with pytest.raises(ValueError, match='no calibration'):
        calibration_from(camera_info(k=[0.0] * 9))
    with pytest.raises(
        ValueError, match="model 'thin_prism' with 5 coefficients; known: plumb_bob"
    ):
        calibration_from(camera_info(distortion_model='thin_prism'))


P = [450.0, 0.0, 310.0, 0.0, 0.0, 460.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_a_rectified_picture_is_left_alone_and_has_the_camera_of_p() -> None:
    message = camera_info(p=P, binning_x=2, binning_y=2)
    message.roi.x_offset, message.roi.width, message.roi.height = 100, 400, 300
    calibration = calibration_from(message, is_rectified=True)
    assert calibration.camera.fx == 225.0
    assert calibration.camera.cx == (310 - 100 + 0.5) / 2 - 0.5
    frame = frame_from(image('rgb8', 150, 200))
    after = rectified(frame, calibration)
    assert after.image is frame.image and after.camera == calibration.camera
    assert calibration_from(camera_info(p=P)).camera.fx == 500.0  # as it came from the lens


def test_what_covers_a_picture_covers_the_same_of_the_rectified_one() -> None:
    calibration = calibration_from(camera_info(d=[-0.4, 0.0, 0.0, 0.0, 0.0]))
    frame = replace(frame_from(image('rgb8', 480, 640)), covered=((0, 0, 100, 80),))
    covered = rectified(frame, calibration).covered
    assert covered == rectified_boxes(frame.covered, calibration) != frame.covered


def pose(*values: float) -> Pose:
    message = Pose()
    place, turn = message.position, message.orientation
    place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w = values
    return message


def test_a_robot_s_pose_is_read_in_millimetres_whatever_its_quaternion_s_length() -> None:
    message = pose(0.1, -0.2, 0.05, 0.0, 0.0, 3.0, 3.0)  # a quarter turn about z
    T = robot_motion(message.position, message.orientation)
    assert T[:3, 3] == pytest.approx([100.0, -200.0, 50.0])
    assert T[:3, :3] == pytest.approx(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), abs=1e-12)


@pytest.mark.parametrize(
    'values',
    [
        (0.0,) * 7,
        (np.nan, 0, 0, 0, 0, 0, 1),
        (0, 0, 0, 0, 0, np.inf, 1),
        (0, 0, 0, 0, 0, np.nan, 1),
        (0, -4e28, 0, 0, 0, 0, 1),  # a tracker's word for nothing
        (0, 0, 0, 0, 0, 0, 1e-200),
    ],
)
def test_a_robot_s_pose_that_is_none_is_refused(values: tuple[float, ...]) -> None:
    message = pose(*map(float, values))
    with pytest.raises(ValueError, match='needed finite numbers'):
        robot_motion(message.position, message.orientation)


def test_a_rectified_picture_whose_info_leaves_p_out_needs_a_lens_without_distortion() -> None:
    with pytest.raises(
        ValueError, match='only zeros in P and a D that is not zero; needed P'
    ) as error:
        calibration_from(camera_info(), is_rectified=True)
    assert '\n' not in str(error.value)
    assert calibration_from(camera_info(d=[0.0] * 5), is_rectified=True).camera.fx == 500.0
    with pytest.raises(ValueError, match='fx or fy of P is not positive'):
        calibration_from(camera_info(p=[0.0, *P[1:]]), is_rectified=True)


@pytest.mark.parametrize(
    ('k', 'said'),
    [
        ([0.5, 0, 320, 0, 0.5, 240, 0, 0, 1], 'fx 0.5, fy 0.5 of a 640 px wide picture'),
        ([50_000, 0, 320, 0, 50_000, 240, 0, 0, 1], 'needed fx of 26 to 6400 px'),
        ([500, 0, 320, 0, 90, 240, 0, 0, 1], 'fy 90'),
        ([500, 0, 2000, 0, 500, 240, 0, 0, 1], 'the centre 2000, 240'),
        ([float('nan'), 0, 320, 0, 500, 240, 0, 0, 1], 'no calibration'),
        ([500, 0, float('nan'), 0, 500, 240, 0, 0, 1], 'finite'),
    ],
)
def test_an_absurd_calibration_is_refused_with_what_a_camera_has(
    k: list[float], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        calibration_from(camera_info(k=[float(one) for one in k]))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('model', 'd'),
    [
        ('plumb_bob', [-0.3, 0.1, 0.001, -0.002, 0.01]),
        ('rational_polynomial', [-0.3, 0.1, 0.001, 0.0, 0.01, 0.02, 0.01, 0.0]),
        ('equidistant', [0.05, -0.01, 0.002, 0.0]),
    ],
)
def test_rectifying_puts_a_point_where_the_pinhole_has_it(model: str, d: list[float]) -> None:
    calibration = calibration_from(camera_info(distortion_model=model, d=d))
    K = calibration.camera.matrix
    point = np.array([[[0.3, 0.2]]])
    if model == 'equidistant':
        u, v = cv2.fisheye.distortPoints(point, K, np.array(d))[0, 0]
    else:
        u, v = cv2.projectPoints(
            np.array([[[0.3, 0.2, 1.0]]]), np.zeros(3), np.zeros(3), K, np.array(d)
        )[0][0, 0]
    picture = np.zeros((480, 640, 3), np.float32)
    picture[...] = np.exp(
        -((np.indices((480, 640)) - np.array([v, u])[:, None, None]) ** 2).sum(0) / 18
    )[..., None]
    message = out.image_message((picture * 255).astype(np.uint8), out.header(10**9, 'scope'))
    found = rectified(frame_from(message), calibration).image[..., 0].astype(float)
    centre = (np.indices(found.shape) * found).sum((1, 2)) / found.sum()
    assert centre == pytest.approx([505 * 0.2 + 240, 500 * 0.3 + 320], abs=0.3)


def reconstruction() -> Reconstruction:
    depth = RNG.uniform(20, 90, (H, W)).astype(np.float32)
    depth[0, :3] = np.nan
    T = motion_from_vector(np.array([0.1, -0.2, 0.3]), np.array([10.0, 20.0, 30.0]))
    motion = Motion(
        motion_from_vector(np.array([0.0, 0.01, 0.0]), np.array([0.0, 0.0, 2.0])),
        np.eye(6),
        True,
        99,
    )
    return Reconstruction(
        stamp_ns=1_700_000_000_123_456_789,
        frame_id='scope',
        image=RNG.integers(0, 256, (H, W, 3), np.uint8),
        depth=depth,
        confidence=np.where(np.isnan(depth), 0, 0.5).astype(np.float32),
        camera=Intrinsics(W, H, 7.0, 7.5, 3.4, 2.6),
        input_camera=Intrinsics(80, 60, 70.0, 75.0, 38.5, 30.5),
        T_odom_cam=T,
        odom_covariance=np.diag([4.0, 4.0, 4.0, 0.01, 0.01, 0.01]),
        motion=motion,
        valid=True,
        reason='',
        k_trust=0.5,
        zoom=1.2,
        log_focal_sigma=0.1,
        epoch=0,
    )


def test_the_stamp_goes_through_to_the_nanosecond() -> None:
    head = out.header(1_700_000_000_123_456_789, 'scope')
    assert (head.stamp.sec, head.stamp.nanosec, head.frame_id) == (
        1_700_000_000,
        123_456_789,
        'scope',
    )
    assert stamp_of(head) == 1_700_000_000_123_456_789


def test_depth_is_metres_with_nan_and_the_picture_comes_back_bit_for_bit() -> None:
    said, bridge = reconstruction(), CvBridge()
    depth = out.depth_message(said.depth, out.header(said.stamp_ns, 'scope'))
    assert depth.encoding == '32FC1' and depth.step == 4 * W
    assert np.allclose(bridge.imgmsg_to_cv2(depth), said.depth / 1000, equal_nan=True)
    picture = out.image_message(said.image, out.header(said.stamp_ns, 'scope'))
    assert np.array_equal(bridge.imgmsg_to_cv2(picture, 'rgb8'), said.image)


def test_a_cloud_that_is_not_square_is_the_unprojected_depth_with_its_colours() -> None:
    said = reconstruction()
    cloud = out.points_message(said, out.header(said.stamp_ns, 'scope'))
    assert (cloud.height, cloud.width, cloud.is_dense) == (H, W, False)
    assert cloud.row_step == W * cloud.point_step and len(cloud.data) == H * cloud.row_step
    points = read_points(cloud).reshape(H, W)
    v, u = np.indices((H, W)).reshape(2, -1)
    lifted = unproject_pixels(np.column_stack([u, v]), said.depth.ravel(), said.camera)
    expected = lifted.reshape(H, W, 3) / 1000
    for i, name in enumerate('xyz'):
        assert np.allclose(points[name], expected[..., i], equal_nan=True)
    packed = points['rgb'].copy().view(np.uint32)
    assert np.array_equal(
        np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1), said.image
    )
    assert not (packed >> 24).any()
    assert np.isnan(points['x'][0, :3]).all()


def test_camera_info_is_a_pinhole_of_its_picture() -> None:
    said = reconstruction()
    info = out.camera_info_message(said.camera, out.header(said.stamp_ns, 'scope'))
    assert (info.width, info.height, info.distortion_model, list(info.d)) == (
        W,
        H,
        'plumb_bob',
        [0.0] * 5,
    )
    assert info.k.tolist() == [7.0, 0.0, 3.4, 0.0, 7.5, 2.6, 0.0, 0.0, 1.0]
    assert info.p.tolist() == [7.0, 0.0, 3.4, 0.0, 0.0, 7.5, 2.6, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_camera_info_tells_a_lens_that_bends_lines_as_opencv_undoes_it() -> None:
    camera = Intrinsics(640, 480, 400.0, 400.0, 320.0, 240.0)
    info = out.camera_info_message(camera, out.header(1, 'scope'), -0.2)
    assert info.distortion_model == 'rational_polynomial' and len(info.d) == 8
    ray = np.array([[0.5, -0.3], [0.0, 0.0], [-0.7, 0.5]])
    pixel = distorted(ray, -0.2) * 400 + [320, 240]
    back = cv2.undistortPoints(pixel[:, None], camera.matrix, np.array(info.d))[:, 0]
    assert back == pytest.approx(ray, abs=2e-3)


def test_tf_child_and_inverse_tell_the_same_motion() -> None:
    said = reconstruction()
    child = out.transform_message(said, 'odom', 'child')
    assert (child.header.frame_id, child.child_frame_id) == ('odom', 'scope')
    turned = out.transform_message(said, 'odom', 'inverse')
    assert (turned.header.frame_id, turned.child_frame_id) == ('scope', 'odom')

    def matrix(message: Any) -> np.ndarray:
        q, t = message.transform.rotation, message.transform.translation
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = rotation_from_quaternion(q.x, q.y, q.z, q.w), (t.x, t.y, t.z)
        return T

    assert np.allclose(matrix(child) @ matrix(turned), np.eye(4), atol=1e-9)
    assert np.allclose(matrix(child)[:3, 3], said.T_odom_cam[:3, 3] / 1000)


def test_odometry_is_metres_its_twist_the_camera_s_own_and_its_covariance_in_both_units() -> None:
    said = reconstruction()
    message = out.odometry_message(said, 'odom', 0.04)
    assert (message.header.frame_id, message.child_frame_id) == ('odom', 'scope')
    covariance = np.array(message.pose.covariance).reshape(6, 6)
    assert np.diag(covariance) == pytest.approx([4e-6] * 3 + [0.01] * 3)
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    assert linear.z == pytest.approx(0.002 / 0.04, rel=1e-3) and angular.y == pytest.approx(
        0.01 / 0.04
    )
    assert np.array(message.twist.covariance).reshape(6, 6)[0, 0] == pytest.approx(1e-6 / 0.04**2)


def test_odometry_is_the_place_that_tf_tells_and_its_velocity_is_seen_from_the_camera() -> None:
    said = reconstruction()
    quarter = motion_from_vector(np.array([0.0, np.pi / 2, 0.0]), np.array([0.0, 0.0, 2.0]))
    said = replace(said, motion=replace(said.motion, T_prev_cam=quarter))
    message = out.odometry_message(said, 'odom', 0.1)
    place, tf = message.pose.pose, out.transform_message(said, 'odom', 'child').transform
    for axis in 'xyz':
        assert getattr(place.position, axis) == getattr(tf.translation, axis)
    for axis in 'xyzw':
        assert getattr(place.orientation, axis) == getattr(tf.rotation, axis)
    # it went ahead, and looks to the right now: that was to its left
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    assert (linear.x, linear.y, linear.z) == pytest.approx((-0.02, 0.0, 0.0), abs=1e-9)
    assert (angular.x, angular.y, angular.z) == pytest.approx((0.0, 5 * np.pi, 0.0))


def test_a_camera_at_rest_has_no_velocity() -> None:
    said = reconstruction()
    said = replace(said, motion=replace(said.motion, T_prev_cam=np.eye(4)))
    twist = out.odometry_message(said, 'odom', 0.04).twist.twist
    for part in (twist.linear, twist.angular):
        assert (part.x, part.y, part.z) == (0.0, 0.0, 0.0)


def test_numbers_of_a_status_have_six_digits_and_truths_are_words() -> None:
    values = {'scale': 0.123456789, 'epoch': 3, 'valid': True, 'why': 'black'}
    told = out.diagnostic_message(values, out.header(1, 'scope'), 'name', b'\x00', '')
    said = {one.key: one.value for one in told.status[0].values}
    assert said == {'scale': '0.123457', 'epoch': '3', 'valid': 'true', 'why': 'black'}


def test_an_unknown_step_leaves_the_twist_unknown() -> None:
    message = out.odometry_message(reconstruction(), 'odom', 0.0)
    assert message.twist.covariance[0] == -1.0


def test_the_first_place_of_a_new_epoch_is_told_as_a_jump() -> None:
    """It is the origin again: who fuses it must not take it for a place known to the hair."""
    outputs, said = Outputs(parameters.DEFAULTS), reconstruction()
    told = []
    for number, epoch in enumerate((0, 0, 1, 1, 2)):
        frame = replace(said, epoch=epoch, stamp_ns=said.stamp_ns + number * 40_000_000)
        message = dict(outputs.messages(frame, Traffic()))['odometry']
        both = message.pose.covariance, message.twist.covariance
        told.append([np.diag(np.array(one).reshape(6, 6)).min() == out.JUMPED for one in both])
    assert told == [[jump, jump] for jump in (False, False, True, False, True)]


def test_a_camera_found_again_after_black_pictures_did_not_fly_there_in_one_frame() -> None:
    """The place was held meanwhile; its displacement is of all that time."""
    outputs, twists = Outputs(parameters.DEFAULTS), []
    first = reconstruction()
    for number, known in enumerate((True, True, False, True, True)):
        motion = replace(first.motion, known=known)
        stamp_ns = first.stamp_ns + number * 40_000_000
        messages = outputs.messages(replace(first, stamp_ns=stamp_ns, motion=motion), Traffic())
        twists.append(dict(messages)['odometry'].twist.covariance[0] >= 0)
    assert twists == [False, True, False, False, True]


def test_pictures_that_come_twice_make_no_step_last_half_as_long() -> None:
    outputs, twists = Outputs(parameters.DEFAULTS), []
    for number in range(6):
        stamp_ns = 10**18 + number * 20_000_000
        said = replace(reconstruction(), stamp_ns=stamp_ns, repeats=number % 2)
        twists.append(dict(outputs.messages(said, Traffic()))['odometry'].twist)
    assert [i for i in range(6) if twists[i].covariance[0] >= 0] == [2, 4]
    assert twists[2].twist.linear.z == pytest.approx(0.002 / 0.04, rel=1e-3)


def test_the_zoom_is_told_with_its_sigma() -> None:
    said = replace(reconstruction(), zoom=1.3, zoom_sigma=0.02)
    told = dict(Outputs({**parameters.DEFAULTS}).messages(said, Traffic(1.0, 1, 0, 0)))
    status = {one.key: one.value for one in told['status'].status[0].values}
    assert (float(status['zoom']), float(status['zoom_sigma'])) == (1.3, 0.02)


def test_a_lens_is_told_of_the_input_and_undone_everywhere_else() -> None:
    said = replace(reconstruction(), distortion=-0.2, distortion_sigma=0.01)
    values = {**parameters.DEFAULTS}
    told = dict(Outputs(values).messages(said, Traffic(1.0, 1, 0, 0)))
    assert told['input/camera_info'].d[5] == pytest.approx(6 * 0.2)
    assert not any(told['rgb/camera_info'].d) and not any(told['depth/camera_info'].d)
    status = {one.key: one.value for one in told['status'].status[0].values}
    assert (status['camera_model'], float(status['distortion'])) == ('straightened', -0.2)
    assert float(status['distortion_sigma']) == 0.01
    plain = dict(Outputs(values).messages(reconstruction(), Traffic(1.0, 1, 0, 0)))
    status = {one.key: one.value for one in plain['status'].status[0].values}
    assert status['camera_model'] == 'pinhole_approximation'
    assert not any(plain['input/camera_info'].d)


@pytest.mark.parametrize(
    ('model', 'd'),
    [('plumb_bob', [-0.3, 0.1, 0.0, 0.0]), ('equidistant', [0.05, -0.01, 0.002, 0.0])],
)
def test_a_calibration_comes_out_as_it_came_in(model: str, d: list[float]) -> None:
    """D counts in focal lengths, so that binning changes K and leaves it."""
    message = camera_info(distortion_model=model, d=d, binning_x=2, binning_y=2)
    calibration = calibration_from(message)
    said = replace(reconstruction(), input_camera=calibration.camera)
    values = {**parameters.DEFAULTS, 'intrinsics.source': 'camera_info'}
    told = dict(Outputs(values).messages(said, Traffic(), calibration=calibration))
    info = told['input/camera_info']
    assert (info.width, info.height, info.distortion_model) == (320, 240, model)
    assert list(info.d) == d and info.k[0] == info.p[0] == 250.0
    assert not any(told['rgb/camera_info'].d) and not any(told['depth/camera_info'].d)
    again = calibration_from(info)  # what is told is what was given
    assert (again.camera, again.distortion) == (calibration.camera, tuple(d))


def test_a_calibration_of_a_rectified_picture_comes_out_without_distortion() -> None:
    calibration = calibration_from(camera_info(p=P), is_rectified=True)
    said = replace(reconstruction(), input_camera=calibration.camera)
    told = dict(Outputs(parameters.DEFAULTS).messages(said, Traffic(), calibration=calibration))
    info = told['input/camera_info']
    assert (info.distortion_model, list(info.d)) == ('plumb_bob', [0.0] * 5)
    assert info.p.tolist() == P
