# SPDX-License-Identifier: Apache-2.0
"""The rendered clip with its truth, held by a robot: the whole way from pictures to metres."""

from array import array
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from tf2_msgs.msg import TFMessage

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.bags.recording import McapWriter
from endosfm3d_ros.bags.source import FIRST_STAMP_NS
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.cli import main
from endosfm3d_ros.core.frame import Frame, Reconstruction
from endosfm3d_ros.core.geometry import inverse, motion_from_vector, quaternion
from endosfm3d_ros.core.kinematics.scale_anchor import ScaleAnchor
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.scale import ANOTHER_MAP
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.evaluation.truth import Truth, read_truth_folder
from endosfm3d_ros.metric import Metric
from endosfm3d_ros.outputs import Outputs, Traffic
from endosfm3d_ros.share import DEMO_CLIP

DELAY_S, NOISE_MM, ROBOT_S = 0.08, 1.0, 0.02
ENOUGH = 72  # frames: 32 mm of path


@pytest.fixture(scope='module')
def truth() -> Truth:
    return read_truth_folder(DEMO_CLIP)


@pytest.fixture(scope='module')
def odometry() -> list[Reconstruction]:
    """What the node says of the clip as it is shipped, nominal."""
    bundle = open_bundle(str(parameters.DEFAULTS['model']))
    settings = parameters.settings(parameters.DEFAULTS)
    pipeline = Pipeline(DepthGraphs(bundle), bundle.sizes, settings)
    said = []
    for frame in open_frames(DEMO_CLIP / 'clip.mp4'):
        said.append(pipeline.step(frame))
        pipeline.settle()
    return said


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
        assert np.exp(anchor.fit.log_scale) == pytest.approx(best, rel=0.05)
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
        metric.before(said[-1])
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
    sure = outputs.scale.log_sigma
    metric.before(replace(first, map_number=1))  # tracks were lost: not measured by that robot yet
    assert sure < 0.1 and outputs.scale.log_sigma > ANOTHER_MAP
    metric.before(first)
    assert outputs.scale.log_sigma == sure
    metric.change({**values, 'path.rate': 1.0})  # a live change keeps the anchor
    assert outputs.scale == metric.anchor.scale if metric.anchor else False


# replay: the robot in the bag


def stamped(message: Any, stamp_ns: int, frame_id: str) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = frame_id
    return message


def link(parent: str, child: str, T_parent_child: np.ndarray, stamp_ns: int) -> TransformStamped:
    """A transform as a robot sends it [m]."""
    one = stamped(TransformStamped(child_frame_id=child), stamp_ns, parent)
    place, turn = one.transform.translation, one.transform.rotation
    place.x, place.y, place.z = (T_parent_child[:3, 3] * 1e-3).tolist()
    turn.x, turn.y, turn.z, turn.w = quaternion(T_parent_child[:3, :3])
    return one


@pytest.fixture(scope='module')
def held_bag(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first pictures of the clip, and the robot as a pose topic and as two links of TF."""
    path = tmp_path_factory.mktemp('held') / 'held.mcap'
    T_wrist_tip = motion_from_vector(np.array([0.0, 0.5, 0.0]), np.array([0.0, 0.0, 100.0]))
    items: list[tuple[int, str, Any]] = []
    for frame in islice(open_frames(DEMO_CLIP / 'clip.mp4'), ENOUGH + 12):
        jpeg = cv2.imencode('.jpg', frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        data = array('B', jpeg.tobytes())
        picture = stamped(CompressedImage(format='jpeg', data=data), late(frame.stamp_ns), 'scope')
        items.append((late(frame.stamp_ns), '/scope/image/compressed', picture))
    end_ns = items[-1][0]
    start_ns = FIRST_STAMP_NS - 10**9
    fixed = TFMessage(transforms=[link('wrist', 'tip', T_wrist_tip, start_ns)])
    items.append((start_ns, '/tf_static', fixed))
    for stamp_ns, T in robot_poses(truth, 1):
        if stamp_ns < end_ns:
            wrist = link('base', 'wrist', T @ inverse(T_wrist_tip), stamp_ns)
            items.append((stamp_ns, '/tf', TFMessage(transforms=[wrist])))
            tip = link('base', 'tip', T, stamp_ns)
            pose = stamped(PoseStamped(), stamp_ns, 'base')
            at, place = pose.pose, tip.transform.translation
            at.position.x, at.position.y, at.position.z = place.x, place.y, place.z
            at.orientation = tip.transform.rotation
            items.append((stamp_ns, '/ECM/measured_cp', pose))
    with McapWriter(path) as bag:
        for number, (stamp_ns, topic, message) in enumerate(sorted(items, key=lambda one: one[0])):
            package = type(message).__module__.split('.')[0]
            kind = f'{package}/msg/{type(message).__name__}'
            bag.write(topic, kind, serialize_message(message), stamp_ns, stamp_ns, number)
    return path


def replayed(bag: Path, out: Path, *words: str) -> list[dict[str, str]]:
    """The status of every frame."""
    kinematics = ['scale.source=kinematics', 'scale.anchor_sigma=0.1', *words]
    settings = [text for one in kinematics if '=' in one for text in ('--set', one)]
    assert main(['replay', str(bag), str(out), *settings]) == 0
    status = RunBag(out).messages('/endosfm3d/status')
    return [{v.key: v.value for v in one.message.status[0].values} for one in status]


TF = ('scale.base_frame_id=/base', 'scale.tip_frame_id=/tip')  # tf2 knows no slash


def test_a_picture_that_comes_again_tells_nothing_of_the_robot_s_way(
    odometry: list[Reconstruction], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The robot went on meanwhile, and the picture could not show it."""
    values = {**parameters.DEFAULTS, 'scale.source': 'kinematics'}
    bundle = open_bundle('photometric')
    pipeline = Pipeline(DepthGraphs(bundle), bundle.sizes, parameters.settings(values))
    metric = Metric(values, pipeline, Outputs(values))
    taken: list[int] = []
    monkeypatch.setattr(ScaleAnchor, 'camera', lambda self, *told: taken.append(told[0]))
    new, again = odometry[0], replace(odometry[0], stamp_ns=odometry[0].stamp_ns + 1, repeats=1)
    for said in (new, again):
        metric.after(said)
    assert taken == [new.stamp_ns]


def test_replay_makes_a_bag_metric_by_the_robot_in_it_and_says_so_twice_the_same(
    held_bag: Path,
    odometry: list[Reconstruction],
    truth: Truth,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    by_topic = replayed(held_bag, tmp_path / 'topic.mcap')
    assert 'scale: kinematics: 1 nominal mm is' in capsys.readouterr().out
    assert by_topic[0]['scale_state'] == 'nominal'
    assert by_topic[-1]['scale_state'] == 'kinematic' and int(by_topic[-1]['epoch']) >= 1
    best = best_constant_scale(truth, odometry[:ENOUGH])
    assert float(by_topic[-1]['scale']) == pytest.approx(best, rel=0.1)
    by_tf = replayed(held_bag, tmp_path / 'tf.mcap', *TF)
    assert float(by_tf[-1]['scale']) == pytest.approx(float(by_topic[-1]['scale']), rel=0.01)
    replayed(held_bag, tmp_path / 'again.mcap')
    first, again = (
        [one.raw for topic in RunBag(bag).topics for one in RunBag(bag).messages(topic)]
        for bag in (tmp_path / 'topic.mcap', tmp_path / 'again.mcap')
    )
    assert first == again


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--robot-pose', '/PSM1/measured_cp'], 'those: /ECM/measured_cp'),
        (
            ['--set', 'scale.base_frame_id=base', '--set', 'scale.tip_frame_id=nose'],
            'base to nose: ',
        ),
        (['--set', 'scale.base_frame_id=base'], "scale.tip_frame_id is ''; needed both"),
    ],
)
def test_a_robot_that_is_not_in_the_bag_is_named_with_what_is(
    held_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    out = str(tmp_path / 'run.mcap')
    asked = ['replay', str(held_bag), out, '--set', 'scale.source=kinematics', *words]
    assert main(asked) == 1
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1


def test_poses_are_asked_of_bags_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, out = str(DEMO_CLIP / 'clip.mp4'), str(tmp_path / 'run.mcap')
    assert main(['replay', video, out, '--set', 'scale.source=kinematics']) == 1
    assert 'needs a bag with the robot in it' in capsys.readouterr().err
    assert main(['replay', video, out, '--robot-pose', '/x']) == 1
    assert 'is for --set scale.source=kinematics' in capsys.readouterr().err
