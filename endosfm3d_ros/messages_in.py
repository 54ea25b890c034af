# SPDX-License-Identifier: Apache-2.0
"""
ROS messages to core values: pictures through cv_bridge, calibrations, poses, and stamps and frame
ids that can be relied on.
"""

from array import array
from copy import copy
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from cv_bridge import CvBridge, CvBridgeError

from endosfm3d_ros import pictures_in
from endosfm3d_ros.core.frame import Frame, Intrinsics
from endosfm3d_ros.core.geometry import rigid, rotation_from_quaternion
from endosfm3d_ros.core.picture.rectify import Calibration, rectified_boxes, rectify
from endosfm3d_ros.pictures_in import ENCODINGS, check_layout

OLDER_NAMES = {'uyvy': 'yuv422', 'yuyv': 'yuv422_yuy2'}
MM_PER_METRE = 1e3
FARTHEST_M, SHORTEST_TURN = 1e9, 1e-9  # of a pose; what is beyond no fit can square or divide by


_BRIDGE = CvBridge()


def image_to_rgb(message: Any) -> np.ndarray:
    """
    Read a sensor_msgs/Image or CompressedImage.

    :return: (H, W, 3) uint8 RGB; it may share memory with the message. 16 bits are taken of their
        full range.
    :raises ValueError: one line that says what is wrong with the message and what is needed.
    """
    if hasattr(message, 'format') or message.encoding.lower() == 'rgb8':  # nothing to convert
        return pictures_in.image_to_rgb(message)
    check_layout(message)
    try:
        return np.asarray(_BRIDGE.imgmsg_to_cv2(_known_to_cv_bridge(message), 'rgb8'))
    except (CvBridgeError, cv2.error) as error:
        raise ValueError(
            f'a {message.encoding} picture can not be read: {" ".join(str(error).split())}'
        ) from error


def _known_to_cv_bridge(message: Any) -> Any:
    """
    The message as cv_bridge reads it right: its encoding in small letters and under the older name
    where it knows no other, and without ends of rows that are no whole pixels, which it would
    shear the picture by.
    """
    encoding = message.encoding.lower()
    name, size = OLDER_NAMES.get(encoding, encoding), ENCODINGS[encoding]
    if name == message.encoding and not message.step % size:
        return message
    known = copy(message)
    known.encoding = name
    if message.step % size:
        known.step = message.width * size
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        known.data = array('B', rows[:, : known.step].tobytes())
    return known


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
