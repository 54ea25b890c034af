# SPDX-License-Identifier: Apache-2.0
"""
The node that people usually write: subscribe, cv_bridge, torch, publish. A baseline, not a joke.

The same network with the same weights, the same topics and sizes, torch in inference mode on two
threads, messages made with cv_bridge and create_cloud only for those who listen. Motion is the
usual RGB-D odometry: corners, Lucas-Kanade, PnP against the depth of the picture before, in the
network's small picture as ours. It does less than ours: no round picture is looked for, no zoom,
no window, no covariance.
"""

import sys
from contextlib import suppress

import cv2
import numpy as np
import rclpy
import torch
from cv_bridge import CvBridge
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from sensor_msgs_py import point_cloud2
from tf2_ros import TransformBroadcaster

from bench.torch_network import shipped_network
from endosfm3d_ros.core.geometry import quaternion

SIZE = (280, 224)  # width, height of the network's picture
UNIT_M = 0.03  # the compact bundle's unit
FIELD_OF_VIEW = np.deg2rad(75.0)
FOCAL = SIZE[0] / 2 / np.tan(FIELD_OF_VIEW / 2)  # px
K = np.array([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]])
CORNERS, FEWEST = 300, 12
THREADS = 2


class RgbdOdometry:
    """
    Frame to frame, in the usual way.

    :ivar T_odom_cam: (4, 4) where the camera is since the first picture [m].
    """

    def __init__(self) -> None:
        self.T_odom_cam = np.eye(4)
        self._past: tuple[np.ndarray, np.ndarray] | None = None

    def take(self, rgb: np.ndarray, metres: np.ndarray) -> None:
        """Go on by the motion between the picture before and this one, where it can be told."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        if self._past is not None:
            T_now_before = _motion(*self._past, grey)
            if T_now_before is not None:
                self.T_odom_cam = self.T_odom_cam @ np.linalg.inv(T_now_before)
        self._past = grey, metres


def _motion(before: np.ndarray, metres: np.ndarray, now: np.ndarray) -> np.ndarray | None:
    """(4, 4), from the camera before into the one now; None where too little can be followed."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 7)
    if corners is None:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None)
    kept = found.ravel() == 1
    if kept.sum() < FEWEST:
        return None
    u, v = corners[kept, 0].T
    z = metres[v.astype(int), u.astype(int)]
    points = np.stack([(u - K[0, 2]) * z / FOCAL, (v - K[1, 2]) * z / FOCAL, z], axis=1)
    good, r, t, _ = cv2.solvePnPRansac(
        points, moved[kept, 0], K, None, iterationsCount=100, reprojectionError=1.0
    )
    if not good:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(r)[0], t.ravel()
    return T


class PlainNode(Node):
    """Depth of every picture, in the usual way."""

    def __init__(self) -> None:
        super().__init__('endosfm3d')
        for name, value in (('model', 'compact'), ('engine', 'auto'), ('engine_threads', 0)):
            self.declare_parameter(name, value)
        torch.set_num_threads(THREADS)
        self.bridge, self.network = CvBridge(), shipped_network()
        self.motion = RgbdOdometry()
        self.broadcaster = TransformBroadcaster(self)
        topics = {
            'rgb/image': Image, 'rgb/camera_info': CameraInfo, 'depth/image': Image,
            'depth/camera_info': CameraInfo, 'depth/confidence': Image, 'points': PointCloud2,
            'odometry': Odometry, 'status': DiagnosticArray, 'input/camera_info': CameraInfo,
        }  # fmt: skip
        self.topics = {n: self.create_publisher(kind, f'~/{n}', 5) for n, kind in topics.items()}
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, 'image', self.on_image, qos)

    def wanted(self, topic: str) -> bool:
        """Whether anybody listens."""
        return self.topics[topic].get_subscription_count() > 0

    def on_image(self, message: Image) -> None:
        """Picture in, everything out."""
        picture = self.bridge.imgmsg_to_cv2(message, desired_encoding='rgb8')
        small = cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA)
        with torch.inference_mode():
            depth, log_sigma, *_ = self.network(torch.from_numpy(small))
            chance = torch.erf(0.2231 / (log_sigma * 2**0.5))
        metres = depth.numpy() * np.float32(UNIT_M)
        self.motion.take(small, metres)
        self.send_images(message.header, small, metres, chance.numpy())
        if self.wanted('points'):
            self.topics['points'].publish(self.cloud(message.header, small, metres))
        self.send_state(message)

    def send_images(
        self, header: object, rgb: np.ndarray, metres: np.ndarray, chance: np.ndarray
    ) -> None:
        """The pictures, through cv_bridge."""
        for topic, picture, encoding in (
            ('rgb/image', rgb, 'rgb8'),
            ('depth/image', metres, '32FC1'),
            ('depth/confidence', chance, '32FC1'),
        ):
            if self.wanted(topic):
                out = self.bridge.cv2_to_imgmsg(picture, encoding=encoding)
                out.header = header
                self.topics[topic].publish(out)

    def cloud(self, header: object, rgb: np.ndarray, metres: np.ndarray) -> PointCloud2:
        """The coloured cloud, through create_cloud."""
        height, width = metres.shape
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        x = (u - K[0, 2]) * metres / FOCAL
        y = (v - K[1, 2]) * metres / FOCAL
        packed = rgb.astype(np.uint32)
        packed = packed[..., 0] << 16 | packed[..., 1] << 8 | packed[..., 2]
        fields = [
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, name in enumerate(('x', 'y', 'z', 'rgb'))
        ]
        points = np.stack([x, y, metres, packed.view(np.float32)], axis=-1).astype(np.float32)
        return point_cloud2.create_cloud(header, fields, points)

    def send_state(self, message: Image) -> None:
        """Small messages of every frame."""
        info = CameraInfo(header=message.header, width=SIZE[0], height=SIZE[1])
        info.k = K.ravel().tolist()
        for topic in ('rgb/camera_info', 'depth/camera_info', 'input/camera_info'):
            self.topics[topic].publish(info)
        odometry = Odometry(header=message.header, child_frame_id=message.header.frame_id)
        odometry.header.frame_id = 'odom'
        place = self.motion.T_odom_cam[:3, 3].tolist()
        at, (x, y, z, w) = odometry.pose.pose, quaternion(self.motion.T_odom_cam[:3, :3])
        at.position.x, at.position.y, at.position.z = place
        at.orientation.x, at.orientation.y, at.orientation.z, at.orientation.w = x, y, z, w
        self.topics['odometry'].publish(odometry)
        transform = TransformStamped(header=odometry.header, child_frame_id='camera')
        to = transform.transform
        to.translation.x, to.translation.y, to.translation.z = place
        to.rotation = at.orientation
        self.broadcaster.sendTransform(transform)
        status = DiagnosticStatus(name='frame', values=[KeyValue(key='valid', value='true')])
        self.topics['status'].publish(DiagnosticArray(header=message.header, status=[status]))


def main() -> int:
    """Run until Ctrl-C."""
    rclpy.init()
    node = PlainNode()
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
