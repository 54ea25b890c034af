# SPDX-License-Identifier: Apache-2.0
"""A small run's bag, made of the node's own messages without a network: what goes in is known."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from rclpy.serialization import serialize_message

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.recording import McapWriter
from endosfm3d_ros.core.frame import Intrinsics, Motion, Reconstruction
from endosfm3d_ros.core.geometry import R_BODY_OPTICAL, rigid
from endosfm3d_ros.core.scale import KINEMATIC, Scale
from endosfm3d_ros.outputs import Outputs, Traffic

START_NS = 1_700_000_000_000_000_000
FRAME_NS = 40_000_000
INPUT = Intrinsics(640, 480, 500.0, 500.0, 319.5, 239.5)


def depth_of(number: int) -> np.ndarray:
    """(48, 60) float32 [mm]; a corner is not known."""
    depth = np.linspace(30, 60, 48)[:, None] + np.linspace(0, 25, 60)[None, :] - number / 10
    depth[:8, :8] = np.nan
    return depth.astype(np.float32)


def reconstruction(number: int, valid: bool = True) -> Reconstruction:
    """One frame of a camera that goes 1 mm ahead a frame, turns and zooms."""
    rng = np.random.default_rng(number)
    turn = cv2.Rodrigues(np.array([0.0, 0.0, 0.02 * number]))[0]
    input_camera = INPUT.zoomed(1 + number / 100)
    depth = depth_of(number)
    if not valid:
        depth[:] = np.nan
    return Reconstruction(
        stamp_ns=START_NS + number * FRAME_NS,
        frame_id='endoscope_optical',
        image=rng.integers(0, 255, (48, 60, 3), dtype=np.uint8),
        depth=depth,
        confidence=np.where(np.isfinite(depth), 0.7, 0).astype(np.float32),
        camera=input_camera.cropped(20, 0, 600, 480).resized(60, 48),
        input_camera=input_camera,
        T_odom_cam=rigid(turn @ R_BODY_OPTICAL, np.array([float(number), 0.0, 0.0])),
        odom_covariance=np.eye(6),
        motion=Motion(np.eye(4), np.eye(6), valid, 80 if valid else 0),
        valid=valid,
        reason='' if valid else 'fogged',
        k_trust=min(number / 20, 1.0),
        zoom=1 + number / 100,
        zoom_sigma=0.01,
        log_focal_sigma=0.3,
        epoch=0,
    )


def write_run(
    path: Path,
    frames: list[Reconstruction],
    latency_ms: float = 30.0,
    live: bool = True,
    withheld: int = 0,
    anchored: tuple[int, float] | None = None,
    left_out: tuple[str, ...] = (),
    counters: list[Traffic] | None = None,
    breaks_off: bool = False,
) -> Path:
    """
    Write a bag as the recorder would; each frame takes 1 ms longer than the one before.

    :param withheld: frames before the scale is anchored, of which nothing that needs it is sent.
    :param anchored: from this frame on the robot's motion says this factor: a new epoch, where
        depth and path are that many times as large.
    :param counters: what the node counted until each frame.
    :param breaks_off: the facts, which are written at the end, are missing.
    :param left_out: private topics that were not recorded.
    """
    outputs = Outputs({**parameters.DEFAULTS, 'require_metric': withheld > 0})
    with McapWriter(path) as bag:
        bag.add_topic('/endosfm3d/status', 'diagnostic_msgs/msg/DiagnosticArray')
        if live:
            bag.add_topic('/endosfm3d/depth/image', 'sensor_msgs/msg/Image')
        for number, said in enumerate(frames):
            if withheld and number == withheld:
                outputs.scale = Scale(1.0, 0.05, KINEMATIC)
            if anchored and number >= anchored[0]:
                outputs.scale = Scale(anchored[1], 0.05, KINEMATIC)
                T_odom_cam = said.T_odom_cam.copy()
                T_odom_cam[:3, 3] *= anchored[1]
                depth = said.depth * np.float32(anchored[1])
                said = replace(said, epoch=1, depth=depth, T_odom_cam=T_odom_cam)
            log_ns = said.stamp_ns + int((latency_ms + number) * 1e6) * live
            traffic = counters[number] if counters else Traffic(20.0, number + 2, 1, 1)
            for topic, message in outputs.messages(said, traffic):
                if topic in left_out:
                    continue
                name = topic if topic.startswith('/') else f'/endosfm3d/{topic}'
                kind = f'{type(message).__module__.split(".")[0]}/msg/{type(message).__name__}'
                bag.write(name, kind, serialize_message(message), log_ns, log_ns)
        if breaks_off:
            return path
        bag.add_facts(
            {
                'source': '/home/somebody/clip.mp4',
                'model': 'photometric',
                **({'recorder': '{}'} if live else {'runtime': 'numpy'}),
            }
        )
    return path


def write_truth(folder: Path, count: int) -> Path:
    """
    The truth of the same camera: 7 times as large, depth of every 5th frame at half the input's
    size.
    """
    (folder / 'depth').mkdir(parents=True)
    said = [reconstruction(number) for number in range(count)]
    T_world_cam = np.stack([one.T_odom_cam for one in said])
    T_world_cam[:, :3, 3] *= 7
    K = np.stack([one.input_camera.matrix for one in said])
    np.savez(
        folder / 'truth.npz',
        K=K,
        T_world_cam=T_world_cam,
        stamps=np.arange(count) * FRAME_NS * 1e-9,
    )
    for number in range(0, count, 5):
        stored = np.full((240, 320), 50 * 256, np.uint16)
        cv2.imwrite(str(folder / 'depth' / f'{number:04d}.png'), stored)
    return folder
