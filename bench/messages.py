# SPDX-License-Identifier: Apache-2.0
"""
What turning messages into arrays and back costs, beside cv_bridge's copies and create_cloud.

    python -m bench messages
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from cv_bridge import CvBridge
from sensor_msgs_py.point_cloud2 import create_cloud

from endosfm3d_ros.bench import WARM_UP, Stopwatch
from endosfm3d_ros.core.frame import Intrinsics, Reconstruction
from endosfm3d_ros.messages_in import frame_from
from endosfm3d_ros.messages_out import (
    POINT_FIELDS,
    depth_message,
    header,
    image_message,
    points_message,
)

INPUT = (1920, 1080)
SIZES = {'network size': (280, 224), 'full size': INPUT}


def measure(runs: int = 40) -> list[dict[str, Any]]:
    """Time decode, depth and cloud, in CPU milliseconds, ours and the usual way in turn."""
    rows = []
    picture = np.random.default_rng(0).integers(0, 256, (INPUT[1], INPUT[0], 3), np.uint8)
    message = image_message(picture, header(1, 'camera'))
    for name, (width, height) in SIZES.items():
        said = _reconstruction(cv2.resize(picture, (width, height)))
        ways: dict[str, Callable[[], Any]] = {
            'ours': lambda said=said: _ours(message, said),
            'usual': lambda said=said: _usual(message, said),
        }
        watch = Stopwatch()
        for _ in range(WARM_UP + runs):
            for way, work in ways.items():
                watch.timed(way, work)
        costs = watch.costs()
        ours, usual = costs['ours'], costs['usual']
        rows.append(
            {
                'outputs': name,
                'ours_cpu_ms': ours.cpu,
                'usual_cpu_ms': usual.cpu,
                'ours_p50_ms': ours.p50,
                'usual_p50_ms': usual.p50,
                'ratio': ours.cpu / usual.cpu,
            }
        )
    return rows


def _ours(message: Any, said: Reconstruction) -> None:
    frame_from(message)
    head = header(said.stamp_ns, said.frame_id)
    depth_message(said.depth, head)
    points_message(said, head)


def _usual(message: Any, said: Reconstruction) -> None:
    bridge, camera = CvBridge(), said.camera
    bridge.imgmsg_to_cv2(message, desired_encoding='rgb8').copy()
    z = said.depth * np.float32(1e-3)
    out = bridge.cv2_to_imgmsg(z, encoding='32FC1')
    out.header = message.header
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    x, y = (u - camera.cx) * z / camera.fx, (v - camera.cy) * z / camera.fy
    colour = said.image.astype(np.uint32)
    packed = colour[..., 0] << 16 | colour[..., 1] << 8 | colour[..., 2]
    points = np.stack([x, y, z, packed.view(np.float32)], axis=-1).astype(np.float32)
    create_cloud(message.header, POINT_FIELDS, points)


def _reconstruction(picture: np.ndarray) -> Reconstruction:
    """A picture with a depth that is known everywhere; nothing else of it is looked at."""
    height, width = picture.shape[:2]
    camera = Intrinsics(width, height, width / 2, width / 2, width / 2, height / 2)
    depth = np.linspace(20, 80, width * height, dtype=np.float32).reshape(height, width)
    return Reconstruction(
        stamp_ns=1, frame_id='camera', image=picture, depth=depth, confidence=depth,
        camera=camera, input_camera=camera, T_odom_cam=np.eye(4), odom_covariance=np.eye(6),
        motion=None, valid=True, reason='', k_trust=0.0, zoom=1.0, log_focal_sigma=0.1, epoch=0,
        events=(),
    )  # type: ignore[arg-type]  # fmt: skip


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        '| 1080p in, depth and cloud out at | ours [CPU-ms] | cv_bridge + create_cloud | ratio |',
        '|---' * 4 + '|',
    ]
    for row in rows:
        lines.append(
            f'| {row["outputs"]} | {row["ours_cpu_ms"]:.2f} | {row["usual_cpu_ms"]:.2f} '
            f'| {row["ratio"]:.2f} |'
        )
    return '\n'.join(lines)
