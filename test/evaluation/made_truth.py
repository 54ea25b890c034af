# SPDX-License-Identifier: Apache-2.0
"""A run's bag and its truth, folder or bag, of one known camera; errors are put in on purpose."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.recording import McapWriter
from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Intrinsics, Motion, Reconstruction
from endosfm3d_ros.core.geometry import quaternion
from endosfm3d_ros.core.picture.rectify import Calibration
from endosfm3d_ros.core.straighten import straightened
from endosfm3d_ros.evaluation.lens import Lens
from endosfm3d_ros.outputs import Outputs, Traffic

FIRST_NS = 1_700_000_000_000_000_000
FRAME_NS = 40_000_000
INPUT = Intrinsics(320, 256, 200.0, 210.0, 150.0, 120.0)
SIZE = (80, 64)  # of the network picture: all of the input, a quarter of its size


def true_cameras(count: float, step: float = 1.0) -> np.ndarray:
    """(N, 4, 4): a bent way that turns and comes nearer, at every so many frames."""
    frames = np.arange(0, count, step)
    T = np.tile(np.eye(4), (len(frames), 1, 1))
    for n, T_n in zip(frames, T, strict=True):
        T_n[:3, :3] = cv2.Rodrigues(np.array([0.01 * n, 0.02 * np.sin(n / 3), 0.005 * n]))[0]
        T_n[:3, 3] = [3 * np.sin(n / 5), 0.3 * n, 1.0 * n]
    return T


def true_camera(number: int) -> Intrinsics:
    """It zooms."""
    return INPUT.zoomed(1 + 0.2 * np.sin(number / 6))


def true_depth(number: int) -> np.ndarray:
    """(64, 80) float32 [mm], multiples of 1/256: the steps that 16 bits can hold."""
    wall = (
        np.linspace(20, 90, SIZE[0])[None, :] + np.linspace(0, 30, SIZE[1])[:, None] - number / 8
    )
    return (np.round(wall * 256) / 256).astype(np.float32)


@dataclass(frozen=True)
class Mistakes:
    """What a run gets wrong, on purpose."""

    depth: float = 1.0
    focal: float = 1.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    late_ns: int = 0
    frames: tuple[int, ...] = tuple(range(30))
    reset: int | None = None  # the frame that another epoch begins with, at the origin


NO_LENS = Lens()


def _undone(depth: np.ndarray, camera: Intrinsics, lens: Lens) -> tuple[np.ndarray, Intrinsics]:
    """A depth image as the node sends it, the lens of the input undone."""
    if lens.coefficient:
        one = DepthMap(depth, np.full(depth.shape, 0.1, np.float32))
        image = np.zeros((*depth.shape, 3), np.uint8)
        _, one, flat = straightened(image, one, camera, lens.coefficient)
        return one.depth, flat
    K, D, size = camera.matrix, np.array(lens.distortion), depth.shape[::-1]
    is_fisheye = lens.model == 'equidistant'
    undo = cv2.fisheye.initUndistortRectifyMap if is_fisheye else cv2.initUndistortRectifyMap
    maps = undo(K, D, np.eye(3), K, size, cv2.CV_32FC1)
    return cv2.remap(depth, *maps, cv2.INTER_LINEAR, borderValue=float('nan')), camera


def write_run(path: Path, wrong: Mistakes = Mistakes(), lens: Lens = NO_LENS) -> Path:
    """
    Write the node's own messages of a run that knows the truth but for its mistakes.

    :param lens: of the input, by which the truth's pixels are bent.
    """
    source = 'camera_info' if lens.model else 'estimated'
    outputs = Outputs({**parameters.DEFAULTS, 'intrinsics.source': source})
    cameras = true_cameras(max(wrong.frames) + 1)
    with McapWriter(path) as bag:
        for number in wrong.frames:
            T = cameras[number].copy()
            epoch = int(wrong.reset is not None and number >= wrong.reset)
            if epoch:
                T = np.linalg.inv(cameras[wrong.reset]) @ T
            if number % 2:  # every other camera stands aside
                T[:3, 3] += wrong.offset
            input_camera = true_camera(number).zoomed(wrong.focal)
            given = Calibration(input_camera, lens.model, lens.distortion) if lens.model else None
            depth, camera = true_depth(number), input_camera.resized(*SIZE)
            if lens.bends:
                depth, camera = _undone(depth, camera, lens)
            said = Reconstruction(
                stamp_ns=FIRST_NS + number * FRAME_NS + wrong.late_ns,
                frame_id='endoscope_optical',
                image=np.full((SIZE[1], SIZE[0], 3), 90, np.uint8),
                depth=depth * np.float32(wrong.depth),
                confidence=np.full((SIZE[1], SIZE[0]), 0.5, np.float32),
                camera=camera,
                input_camera=input_camera,
                T_odom_cam=T,
                odom_covariance=np.eye(6),
                motion=Motion(np.eye(4), np.eye(6), True, 50),
                valid=True, reason='', k_trust=0.5, zoom=1.0, log_focal_sigma=0.1, epoch=epoch,
                distortion=lens.coefficient,
            )  # fmt: skip
            traffic = Traffic(20.0, number + 1, 0, 0)
            for topic, message in outputs.messages(said, traffic, calibration=given):
                name = topic if topic.startswith('/') else f'/endosfm3d/{topic}'
                _write(bag, name, message, said.stamp_ns)
    return path


def write_folder(folder: Path, count: int = 30, first_s: float = 0.0) -> Path:
    """Write the truth as a folder."""
    (folder / 'depth').mkdir(parents=True)
    np.savez(
        folder / 'truth.npz',
        K=np.stack([true_camera(number).matrix for number in range(count)]),
        T_world_cam=true_cameras(count),
        stamps=first_s + np.arange(count) * FRAME_NS * 1e-9,
    )
    for number in range(count):
        stored = np.round(true_depth(number) * 256).astype(np.uint16)
        cv2.imwrite(str(folder / 'depth' / f'{number:04d}.png'), stored)
    return folder


def write_bag(
    path: Path,
    count: int = 30,
    pose: type = PoseStamped,
    unit: str = '32FC1',
    *,
    pose_step: float = 1.0,
    late_ns: int = 0,
    size: tuple[int, int] = (320, 256),
) -> Path:
    """
    Write the truth as a bag of plain ROS messages, in metres.

    :param pose_step: frames between two poses.
    :param late_ns: by how much depth and camera info come after their frames.
    :param size: of the picture that K belongs to.
    """
    with McapWriter(path) as bag:
        for place, T in enumerate(true_cameras(count, pose_step)):
            stamp_ns = FIRST_NS + round(place * pose_step * FRAME_NS)
            x, y, z, w = quaternion(T[:3, :3])
            message = pose()
            place = message.pose.pose if pose is Odometry else message.pose
            place.position.x, place.position.y, place.position.z = (T[:3, 3] * 1e-3).tolist()
            place.orientation.x, place.orientation.y = x, y
            place.orientation.z, place.orientation.w = z, w
            name = 'odometry' if pose is Odometry else 'pose'
            _write(bag, f'/ground_truth/{name}', _stamped(message, stamp_ns), stamp_ns)
        for number in range(count):
            stamp_ns = FIRST_NS + number * FRAME_NS + late_ns
            K = true_camera(number).resized(*size).matrix
            info = CameraInfo(width=size[0], height=size[1], k=K.ravel().tolist())
            depth = true_depth(number)
            stored = depth * np.float32(1e-3) if unit == '32FC1' else depth.round().astype('<u2')
            image = Image(width=80, height=64, encoding=unit, step=80 * stored.itemsize)
            image.data = stored.tobytes()
            for topic, one in (('camera_info', info), ('depth/image', image)):
                _write(bag, f'/ground_truth/{topic}', _stamped(one, stamp_ns), stamp_ns)
    return path


def _stamped(message: Any, stamp_ns: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return message


def _write(bag: McapWriter, topic: str, message: object, stamp_ns: int) -> None:
    kind = f'{type(message).__module__.split(".")[0]}/msg/{type(message).__name__}'
    bag.write(topic, kind, serialize_message(message), stamp_ns, stamp_ns)
