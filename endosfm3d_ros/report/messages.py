# SPDX-License-Identifier: Apache-2.0
"""
ROS messages of a run's bag -> core values: metres become millimetres here and nowhere else in
the report.
"""

from typing import Any

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.evaluation.lens import Lens

MM_PER_M = 1e3


def stamp_ns(message: Any) -> int:
    """Time of a message's header [ns]."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def picture(message: Any) -> np.ndarray:
    """
    Read an Image of encoding rgb8 (h, w, 3) uint8, 32FC1 (h, w) float32 or 16UC1 (h, w) uint16,
    rows possibly padded.
    """
    kinds: dict[str, tuple[type, int]] = {
        'rgb8': (np.uint8, 3), '32FC1': (np.float32, 1), '16UC1': (np.uint16, 1)
    }  # fmt: skip
    if message.encoding not in kinds:
        raise ValueError(f'need a picture of {", ".join(kinds)}, found {message.encoding!r}')
    kind, channels = kinds[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    used = np.ascontiguousarray(rows[:, : message.width * channels * np.dtype(kind).itemsize])
    values = used.view(np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<'))
    shape = (
        (message.height, message.width, 3) if channels == 3 else (message.height, message.width)
    )
    return values.reshape(shape).astype(kind)


def depth_mm(message: Any) -> np.ndarray:
    """Read a depth Image (REP 118), (h, w) float32 [mm]; NaN where unknown."""
    values = picture(message)
    if values.ndim != 2:
        raise ValueError(f'need a depth image (32FC1 or 16UC1), found {message.encoding!r}')
    if values.dtype == np.uint16:  # already millimetres
        return np.where(values > 0, values, np.nan).astype(np.float32)
    return values * np.float32(MM_PER_M)


def camera(message: Any) -> Intrinsics:
    """Read a CameraInfo."""
    return Intrinsics.from_matrix(
        np.asarray(message.k).reshape(3, 3), message.width, message.height
    )


def lens(message: Any) -> Lens:
    """Read the distortion of a CameraInfo."""
    return Lens(0.0, message.distortion_model, tuple(float(d) for d in message.d))


def camera_motion(message: Any) -> np.ndarray:
    """Read an Odometry's T_odom_cam, (4, 4) [mm]."""
    return _motion(message.pose.pose)


def pose(message: Any) -> np.ndarray:
    """Read T_world_cam (4, 4) [mm] of an Odometry or a PoseStamped."""
    return camera_motion(message) if hasattr(message.pose, 'pose') else _motion(message.pose)


def _motion(pose: Any) -> np.ndarray:
    position, turn = pose.position, pose.orientation
    q = np.array([turn.x, turn.y, turn.z, turn.w])
    x, y, z, w = q / (np.linalg.norm(q) or np.nan)  # all zero: unknown
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = np.array([position.x, position.y, position.z]) * MM_PER_M
    return T


def status(message: Any) -> dict[str, str]:
    """Read the keys of the one status in a DiagnosticArray."""
    return {pair.key: pair.value for one in message.status for pair in one.values}


def epoch(message: Any) -> int:
    """Read the epoch of a status; 0 where it does not say."""
    return int(float(status(message).get('epoch', '0')))
