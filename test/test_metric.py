# SPDX-License-Identifier: Apache-2.0
"""The rendered clip with its truth, held by a robot: the whole way from pictures to metres."""

from collections.abc import Iterator

import numpy as np
import pytest

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.source import FIRST_STAMP_NS
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.core.frame import Frame, Reconstruction
from endosfm3d_ros.core.geometry import inverse, motion_from_vector
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.scale_anchor import ScaleAnchor
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.evaluation.truth import Truth, read_truth
from endosfm3d_ros.metric import Metric
from endosfm3d_ros.outputs import Outputs, Traffic
from endosfm3d_ros.share import DEMO_CLIP

DELAY_S, NOISE_MM, ROBOT_S = 0.08, 1.0, 0.02
ENOUGH = 72  # frames: 32 mm of path


@pytest.fixture(scope='module')
def truth() -> Truth:
    return read_truth(DEMO_CLIP)


@pytest.fixture(scope='module')
def odometry() -> list[Reconstruction]:
    """What the shipped bundle says of the clip, nominal."""
    bundle = open_bundle('photometric')
    settings = parameters.settings(parameters.DEFAULTS)
    pipeline = Pipeline(DepthGraphs(bundle), bundle.sizes, settings)
    return [pipeline.step(frame) for frame in open_frames(DEMO_CLIP / 'clip.mp4')]


def T_world_cam(truth: Truth, time: float) -> np.ndarray:
    """The true place between two frames; still before the first and after the last."""
    number = int(np.clip(np.searchsorted(truth.stamps, time), 1, len(truth.stamps) - 1))
    before, after = truth.T_world_cam[number - 1], truth.T_world_cam[number]
    share = (time - truth.stamps[number - 1]) / (truth.stamps[number] - truth.stamps[number - 1])
    mix = (1 - np.clip(share, 0, 1)) * before + np.clip(share, 0, 1) * after
    U, _, Vt = np.linalg.svd(mix[:3, :3])
    mix[:3, :3] = U @ Vt
    return mix


def robot_poses(truth: Truth, seed: int, still: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """Poses at 50 Hz of a tip 20 mm and 5 degrees off the camera, with 1 mm of noise."""
    rng = np.random.default_rng(seed)
    axis, lever = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    T_cam_tip = inverse(motion_from_vector(np.radians(5.0) * axis, 20.0 * lever))
    for time in np.arange(-1.0, truth.stamps[-1] + 1.0, ROBOT_S):
        T = T_world_cam(truth, 0.0 if still else float(time)) @ T_cam_tip
        T[:3, 3] += rng.normal(size=3) * NOISE_MM
        yield FIRST_STAMP_NS + round(time * 1e9), T


def late(frame_stamp_ns: int) -> int:
    """The stamp of a picture that took its time."""
    return frame_stamp_ns + round(DELAY_S * 1e9)


def best_constant_scale(truth: Truth, said: list[Reconstruction]) -> float:
    """The factor of the similarity that lays the path on the true one (Umeyama 1991)."""
    true = truth.T_world_cam[: len(said), :3, 3]
    ours = np.array([one.T_odom_cam[:3, 3] for one in said])
    true, ours = true - true.mean(axis=0), ours - ours.mean(axis=0)
    U, D, Vt = np.linalg.svd(true.T @ ours)
    D[2] *= np.sign(np.linalg.det(U @ Vt))
    return float(D.sum() / np.sum(ours**2))


def anchored_by(
    poses: Iterator[tuple[int, np.ndarray]], said: list[Reconstruction]
) -> ScaleAnchor:
    anchor = ScaleAnchor(30.0, 0.1)
    stamp_ns, T_base_tip = next(poses)
    for one in said:
        while stamp_ns < late(one.stamp_ns):
            anchor.robot(stamp_ns, T_base_tip)
            stamp_ns, T_base_tip = next(poses)
        nominal = one.T_odom_cam.copy()
        nominal[:3, 3] *= anchor.scale.factor
        anchor.camera(
            late(one.stamp_ns), nominal, one.epoch, one.motion.known, one.log_focal_sigma
        )
    return anchor


def test_after_thirty_millimetres_the_scale_is_within_five_per_cent_of_the_best_constant_one(
    truth: Truth, odometry: list[Reconstruction]
) -> None:
    said = odometry[: ENOUGH + 5]
    best, off = best_constant_scale(truth, said), []
    for seed in range(9):
        anchor = anchored_by(robot_poses(truth, seed), said)
        assert anchor.fit is not None and anchor.scale.anchored
        off.append(anchor.fit.log_scale - np.log(best))
        assert abs(off[-1]) < 3 * max(anchor.fit.log_sigma, 0.03)
    assert float(np.median(np.abs(off))) < 0.05


def test_over_the_whole_clip_every_robot_tells_the_scale(
    truth: Truth, odometry: list[Reconstruction]
) -> None:
    best = best_constant_scale(truth, odometry)
    for seed in range(3):
        anchor = anchored_by(robot_poses(truth, seed), odometry)
        assert anchor.fit is not None and anchor.fit.delay_s == pytest.approx(DELAY_S, abs=0.04)
        assert np.exp(anchor.fit.log_scale) == pytest.approx(best, rel=0.08)
        assert abs(np.log(anchor.scale.factor / best)) < 2 * anchor.scale.log_sigma


def test_a_still_robot_leaves_the_clip_nominal(
    truth: Truth, odometry: list[Reconstruction]
) -> None:
    anchor = anchored_by(robot_poses(truth, 0, still=True), odometry)
    assert not anchor.scale.anchored and anchor.why.startswith('the robot moved within')


def test_when_the_scale_anchors_an_epoch_begins_and_its_lengths_are_metric(truth: Truth) -> None:
    values = {
        **parameters.DEFAULTS,
        'scale.source': 'kinematics',
        'scale.anchor_sigma': 0.1,
        'require_metric': True,
    }
    bundle = open_bundle('photometric')
    pipeline = Pipeline(DepthGraphs(bundle), bundle.sizes, parameters.settings(values))
    outputs = Outputs(values)
    metric = Metric(values, pipeline, outputs)
    poses, said, topics = robot_poses(truth, 1), [], []
    stamp_ns, T_base_tip = next(poses)
    for frame in open_frames(DEMO_CLIP / 'clip.mp4'):
        while stamp_ns < late(frame.stamp_ns):
            metric.robot(stamp_ns, T_base_tip)
            stamp_ns, T_base_tip = next(poses)
        said.append(pipeline.step(Frame(frame.image, late(frame.stamp_ns), frame.frame_id)))
        scale = outputs.scale
        made = {topic for topic, _ in outputs.messages(said[-1], Traffic())}
        topics.append({'depth/image', 'points', '/tf'} <= made)
        assert topics[-1] == scale.anchored  # never a metre without an anchor
        metric.after(said[-1])
        if len(said) > 2 and topics[-1] and not topics[-2]:
            break
    before, first = said[-2], said[-1]
    assert first.epoch == before.epoch + 1 and 'the scale changed from 1 to' in first.events[0]
    ratio = np.nanmedian(first.depth) / np.nanmedian(before.depth)
    assert ratio == pytest.approx(outputs.scale.factor, rel=0.05)
    assert np.allclose(first.T_odom_cam[:3, 3], 0.0)
    assert 'mm from the tip' in metric.progress
    metric.change({**values, 'path.rate': 1.0})  # a live change keeps the anchor
    assert outputs.scale == metric.anchor.scale if metric.anchor else False
