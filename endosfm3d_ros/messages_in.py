# SPDX-License-Identifier: Apache-2.0
"""
ROS messages to core values: pictures through cv_bridge, calibrations, stamps and frame ids that
can be relied on.
"""

from array import array
from copy import copy
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from cv_bridge import CvBridge, CvBridgeError

from endosfm3d_ros.core.frame import Frame, Intrinsics
from endosfm3d_ros.core.geometry import rigid, rotation_from_quaternion
from endosfm3d_ros.core.rectify import Calibration, rectified_boxes, rectify

# bytes a pixel of every encoding that is read
ENCODINGS = {
    'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, 'mono16': 2,
    'yuv422': 2, 'yuv422_yuy2': 2, 'yuyv': 2, 'uyvy': 2,
    'bayer_rggb8': 1, 'bayer_bggr8': 1, 'bayer_gbrg8': 1, 'bayer_grbg8': 1,
    'bayer_rggb16': 2, 'bayer_bggr16': 2, 'bayer_gbrg16': 2, 'bayer_grbg16': 2,
}  # fmt: skip
OLDER_NAMES = {'uyvy': 'yuv422', 'yuyv': 'yuv422_yuy2'}
MM_PER_METRE = 1e3
MAX_SIDE = 16384  # a header that claims more is broken
FARTHEST_M, SHORTEST_TURN = 1e9, 1e-9  # of a pose; what is beyond no fit can square or divide by
JPEG_START, JPEG_END = b'\xff\xd8', b'\xff\xd9'
_BRIDGE = CvBridge()


def image_to_rgb(message: Any) -> np.ndarray:
    """
    Read a sensor_msgs/Image or CompressedImage.

    :param message: the message.
    :return: (H, W, 3) uint8 RGB; it may share memory with the message.
    :raises ValueError: one line that says what is wrong with the message and what is needed.
    """
    if hasattr(message, 'format'):
        return _decode_compressed(message)
    _check_layout(message)
    if message.encoding.lower() == 'rgb8':  # it is what is wanted: nothing to copy
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        return rows[:, : message.width * 3].reshape(message.height, message.width, 3)
    try:
        return np.asarray(_BRIDGE.imgmsg_to_cv2(_known_to_cv_bridge(message), 'rgb8'))
    except (CvBridgeError, cv2.error) as error:
        raise ValueError(
            f'a {message.encoding} picture can not be read: {_one_line(error)}'
        ) from error


def frame_from(message: Any, camera_frame_id: str = '', camera: Intrinsics | None = None) -> Frame:
    """
    Read an image message as the frame it is.

    :param message: sensor_msgs/Image or CompressedImage.
    :param camera_frame_id: used instead of the message's frame id when not empty.
    :param camera: calibration of this picture.
    :raises ValueError: a bad picture, a bad stamp, or no frame id.
    """
    stamp_ns = stamp_of(message.header)
    frame_id = (camera_frame_id or message.header.frame_id).lstrip('/')
    if not frame_id:
        raise ValueError(
            'the image has an empty frame_id; set it in the driver, or set the parameter '
            'camera_frame_id'
        )
    return Frame(image_to_rgb(message), stamp_ns, frame_id, camera)


def robot_motion(position: Any, orientation: Any) -> np.ndarray:
    """
    Read a pose or a transform of the robot.

    :param position: geometry_msgs/Point or Vector3 [m].
    :param orientation: geometry_msgs/Quaternion of any length.
    :return: (4, 4) [mm].
    :raises ValueError: it is not finite, farther away than anything, or the quaternion is zero.
    """
    place = np.array([position.x, position.y, position.z])
    turn = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    is_near = (np.abs(place) <= FARTHEST_M).all()
    if not is_near or not SHORTEST_TURN <= np.abs(turn).max() <= 1 / SHORTEST_TURN:
        raise ValueError(
            f'a pose at {place.tolist()} with quaternion {turn.tolist()}; needed finite numbers '
            f'within {FARTHEST_M:g} m, and a quaternion that is not 0'
        )
    return rigid(rotation_from_quaternion(*turn.tolist()), place * MM_PER_METRE)


def rectified(frame: Frame, calibration: Calibration) -> Frame:
    """The frame after its calibration was applied: no distortion left, and K known."""
    return replace(
        frame,
        image=rectify(frame.image, calibration),
        camera=calibration.camera,
        covered=rectified_boxes(frame.covered, calibration),
    )


def stamp_of(header: Any) -> int:
    """
    Read a header's stamp.

    :return: [ns].
    :raises ValueError: it is zero, negative, or its nanoseconds are not below a second.
    """
    sec, nanosec = header.stamp.sec, header.stamp.nanosec
    if sec < 0 or not 0 <= nanosec < 1_000_000_000 or (sec == 0 and nanosec == 0):
        raise ValueError(
            f'stamp {sec} s {nanosec} ns; needed a positive time with nanosec below 1e9: mend '
            'the driver'
        )
    return int(sec) * 1_000_000_000 + int(nanosec)


def calibration_from(message: Any, is_rectified: bool = False) -> Calibration:
    """
    Read a sensor_msgs/CameraInfo, binning and region of interest undone.

    :param is_rectified: the picture was rectified before it came; K and D still are of the raw
        one, P is of this one.
    :return: calibration of the picture as it is sent, without distortion where that is undone.
    :raises ValueError: it is empty, of a model that is not known, or lacks the P that is needed.
    """
    K = _rectified_matrix(message) if is_rectified else _matrix(message)
    if not K[0, 0] > 0 or not K[1, 1] > 0:
        raise ValueError(
            f'camera_info has no calibration (fx or fy of {"P" if is_rectified else "K"} is not '
            'positive): calibrate, or use intrinsics.source estimated'
        )
    binning_x, binning_y = max(message.binning_x, 1), max(message.binning_y, 1)
    roi = message.roi
    width, height = (
        (roi.width, roi.height) if roi.width and roi.height else (message.width, message.height)
    )
    columns, rows = width // binning_x, height // binning_y  # what is left over is cut off
    camera = Intrinsics.from_matrix(K, message.width, message.height).cropped(
        roi.x_offset, roi.y_offset, columns * binning_x, rows * binning_y
    )
    camera = camera.resized(columns, rows)
    distortion = () if is_rectified else tuple(float(d) for d in message.d)
    return Calibration(camera, message.distortion_model, distortion)


def _matrix(message: Any) -> np.ndarray:
    return np.asarray(message.k, np.float64).reshape(3, 3)


def _rectified_matrix(message: Any) -> np.ndarray:
    """P's left 3x3, or K where P is left out and there was nothing to rectify."""
    P = np.asarray(message.p, np.float64).reshape(3, 4)
    if P.any():
        return P[:, :3]
    if any(message.d):
        raise ValueError(
            'camera_info has only zeros in P and a D that is not zero; needed P, the camera of '
            'the rectified picture, with intrinsics.lens straight: fill P in the driver, or set '
            'intrinsics.lens to auto where the picture is not rectified'
        )
    return _matrix(message)


def _known_to_cv_bridge(message: Any) -> Any:
    """
    The message as cv_bridge reads it right: under the encoding's older name where it knows no
    other, and without ends of rows that are no whole pixels, which it would shear the picture by.
    """
    encoding = message.encoding.lower()
    older, size = OLDER_NAMES.get(encoding), ENCODINGS[encoding]
    if older is None and not message.step % size:
        return message
    known = copy(message)
    known.encoding = older or message.encoding
    if message.step % size:
        known.step = message.width * size
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        known.data = array('B', rows[:, : known.step].tobytes())
    return known


def _check_layout(message: Any) -> None:
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
            bits = 8 * found.itemsize  # jpeg has 8, whatever the camera had
            return image_to_rgb(_BRIDGE.cv2_to_imgmsg(found, f'{mosaic}{bits}'))
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


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
