# SPDX-License-Identifier: Apache-2.0
"""
Core values to ROS messages: millimetres become metres here and nowhere else; every message bears
the input's stamp.
"""

from array import array
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Pose, PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from sensor_msgs_py.point_cloud2 import dtype_from_fields
from std_msgs.msg import Header

from endosfm3d_ros.core.frame import Intrinsics, Reconstruction
from endosfm3d_ros.core.geometry import inverse, quaternion
from endosfm3d_ros.core.lens import rational_polynomial
from endosfm3d_ros.core.picture.rectify import Calibration

METRES_PER_MM = 1e-3
JUMPED = 9999.0  # variance of pose and twist: odometry was reset, as RTAB-Map's own says it
POINT_FIELDS = [
    PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
    for i, name in enumerate(('x', 'y', 'z', 'rgb'))
]
POINT_DTYPE = dtype_from_fields(POINT_FIELDS)


def header(stamp_ns: int, frame_id: str) -> Header:
    """Stamp [ns] and frame as a header."""
    message = Header(frame_id=frame_id)
    message.stamp.sec, message.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def image_message(picture: np.ndarray, head: Header) -> Image:
    """
    A picture as sensor_msgs/Image.

    :param picture: (H, W, 3) uint8 RGB -> rgb8, or (H, W) float32 -> 32FC1, as it is.
    """
    height, width = picture.shape[:2]
    encoding = 'rgb8' if picture.dtype == np.uint8 else '32FC1'
    data = _bytes(picture.nbytes)
    np.frombuffer(data, picture.dtype).reshape(picture.shape)[...] = picture
    return Image(
        header=head,
        height=height,
        width=width,
        encoding=encoding,
        step=picture.nbytes // height,
        data=data,
    )


def depth_message(depth: np.ndarray, head: Header) -> Image:
    """Depth (h, w) float32 [mm], NaN where unknown -> 32FC1 [m] (REP 118)."""
    return image_message(depth * np.float32(METRES_PER_MM), head)


def camera_info_message(
    camera: Intrinsics,
    head: Header,
    distortion: float = 0.0,
    calibration: Calibration | None = None,
) -> CameraInfo:
    """
    A camera as CameraInfo, R = I, P = [K|0].

    :param distortion: of its picture, see `core/lens.py`: none is plumb_bob with D = 0, else
        rational_polynomial as OpenCV undoes it.
    :param calibration: of its picture, where one was given: its own model and D are told.
    """
    K = camera.matrix
    model, D = 'plumb_bob', [0.0] * 5
    if calibration and any(calibration.distortion):
        model, D = calibration.model, list(calibration.distortion)
    elif distortion:
        model, D = 'rational_polynomial', rational_polynomial(distortion)
    return CameraInfo(
        header=head,
        height=camera.height,
        width=camera.width,
        distortion_model=model,
        d=D,
        k=K.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.column_stack([K, np.zeros(3)]).ravel().tolist(),
    )


def points_message(said: Reconstruction, head: Header) -> PointCloud2:
    """
    The coloured cloud, organised as the depth image is.

    :return: height h, width w, fields x, y, z [m] and rgb (packed 0x00RRGGBB), NaN where depth is
        unknown.
    """
    height, width = said.depth.shape
    data = _bytes(height * width * POINT_DTYPE.itemsize)
    fill_cloud(np.frombuffer(data, np.float32).reshape(height, width, 4), said)
    return PointCloud2(
        header=head,
        height=height,
        width=width,
        fields=POINT_FIELDS,
        is_bigendian=False,
        point_step=POINT_DTYPE.itemsize,
        row_step=width * POINT_DTYPE.itemsize,
        data=data,
        is_dense=False,
    )


def fill_cloud(cloud: np.ndarray, said: Reconstruction) -> None:
    """
    Write a cloud where its message has it.

    :param cloud: (H, W, 4) float32; becomes x, y, z [m] and rgb.
    :param said: gives depth (H, W) [mm], picture and camera.
    """
    camera = said.camera
    z = said.depth * np.float32(METRES_PER_MM)
    u, v = np.arange(camera.width), np.arange(camera.height)
    x = z * ((u - camera.cx) / camera.fx).astype(np.float32)
    y = z * ((v - camera.cy) / camera.fy).astype(np.float32)[:, None]
    rgb = cv2.cvtColor(said.image, cv2.COLOR_RGB2BGRA).view(np.uint32)[..., 0]
    rgb &= np.uint32(0xFFFFFF)  # 0x00RRGGBB, little end first
    cv2.merge((x, y, z, rgb.view(np.float32)), cloud)


def transform_message(said: Reconstruction, odom_frame_id: str, mode: str) -> TransformStamped:
    """
    The camera's place for TF.

    :param mode: 'child' tells odom -> camera, 'inverse' camera -> odom.
    """
    as_child = mode == 'child'
    parent, child = (odom_frame_id, said.frame_id) if as_child else (said.frame_id, odom_frame_id)
    T = said.T_odom_cam if as_child else inverse(said.T_odom_cam)
    message = TransformStamped(header=header(said.stamp_ns, parent), child_frame_id=child)
    position, turn = message.transform.translation, message.transform.rotation
    position.x, position.y, position.z = (T[:3, 3] * METRES_PER_MM).tolist()
    turn.x, turn.y, turn.z, turn.w = quaternion(T[:3, :3])
    return message


def odometry_message(
    said: Reconstruction, odom_frame_id: str, dt: float, jumped: bool = False
) -> Odometry:
    """
    The same motion with covariance; twist is in the camera's own frame.

    :param dt: seconds since the previous frame; 0 leaves the twist unknown (covariance -1 first,
        as REP 145 does).
    :param jumped: odom is another frame than the message before had it: where this place lies to
        that one is not known, and all variances are JUMPED.
    """
    message = Odometry(header=header(said.stamp_ns, odom_frame_id), child_frame_id=said.frame_id)
    message.pose.pose = _pose(said.T_odom_cam)
    message.pose.covariance = _metres(said.odom_covariance).ravel().tolist()
    if jumped:
        message.pose.covariance = message.twist.covariance = (JUMPED * np.eye(6)).ravel().tolist()
    elif dt > 0:
        T = said.motion.T_prev_cam
        linear, angular = message.twist.twist.linear, message.twist.twist.angular
        linear.x, linear.y, linear.z = (T[:3, :3].T @ T[:3, 3] * METRES_PER_MM / dt).tolist()
        angular.x, angular.y, angular.z = (_rotation_vector(T[:3, :3]) / dt).tolist()
        message.twist.covariance = (_metres(said.motion.covariance) / dt**2).ravel().tolist()
    else:
        message.twist.covariance = [-1.0] + [0.0] * 35
    return message


def pose_message(said: Reconstruction, odom_frame_id: str) -> PoseStamped:
    """One pose of the path."""
    return PoseStamped(header=header(said.stamp_ns, odom_frame_id), pose=_pose(said.T_odom_cam))


def diagnostic_message(
    values: Mapping[str, Any], head: Header, name: str, level: bytes, text: str
) -> DiagnosticArray:
    """Keys and values as one DiagnosticStatus; numbers with six significant digits."""
    pairs = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    status = DiagnosticStatus(level=level, name=name, message=text, hardware_id='', values=pairs)
    return DiagnosticArray(header=head, status=[status])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    return f'{value:.6g}' if isinstance(value, float) else str(value)


def _bytes(size: int) -> 'array[int]':
    """A buffer that rclpy takes as it is (bytes would be checked one by one)."""
    return array('B', [0]) * size


def _pose(T: np.ndarray) -> Pose:
    message = Pose()
    message.position.x, message.position.y, message.position.z = (
        T[:3, 3] * METRES_PER_MM
    ).tolist()
    turn = message.orientation
    turn.x, turn.y, turn.z, turn.w = quaternion(T[:3, :3])
    return message


def _metres(covariance: np.ndarray) -> np.ndarray:
    unit = np.array([METRES_PER_MM] * 3 + [1.0] * 3)
    return covariance * unit[:, None] * unit[None, :]


def _rotation_vector(R: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion(R)
    v = np.array([x, y, z])
    length = float(np.linalg.norm(v))
    return v * (2.0 * np.arctan2(length, w) / length) if length > 1e-12 else 2.0 * v
