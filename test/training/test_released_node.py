# SPDX-License-Identifier: Apache-2.0
"""The live node runs a bundle of the paper's networks, motion and K included, over real DDS."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch: make setup-training')
pytest.importorskip('peft', reason='the paper networks need peft: make setup-training')
sys.path.append(str(Path(__file__).parents[1] / 'ros'))
import rclpy  # noqa: E402
from released_weights import motion_weights  # noqa: E402
from robot import RobotWithNode, wall  # noqa: E402
from tiny import tiny_config  # noqa: E402

from training.bundle_writer import write_bundle  # noqa: E402
from training.networks.attention_motion import AttentionMotion  # noqa: E402
from training.networks.depth_anything import DepthAnything  # noqa: E402
from training.paper import PaperModel, bundle_facts, bundle_parts  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small depth network and the motion network in full."""
    motion = AttentionMotion().eval()
    encoder, decoder = motion_weights()
    motion.encoder.load_state_dict({k: v for k, v in encoder.items() if '.fc.' not in k})
    motion.decoder.load_state_dict(decoder)
    model = PaperModel(DepthAnything(False, tiny_config()), motion, 112, 140, 240.0, {})
    folder = tmp_path_factory.mktemp('bundles') / 'paper'
    write_bundle(folder, bundle_parts(model, half=False), bundle_facts(model), {}, '1.0.0')
    return folder


@pytest.fixture
def robot(bundle: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[RobotWithNode]:
    rclpy.init()
    robot = RobotWithNode(f'model:={bundle}')
    try:
        assert robot.scope.start(), robot.log()
        robot.ready()
        yield robot
    finally:
        robot.end()
        rclpy.try_shutdown()


def another(number: int) -> np.ndarray:
    """Every time a new scene: nothing can be tracked from one to the next."""
    coarse = np.random.default_rng(number).integers(40, 200, (60, 80, 3), np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)


def test_the_node_runs_it_and_its_motion_stands_in_where_tracks_fail(robot: RobotWithNode) -> None:
    for number in range(3):
        status = robot.answer_to(robot.message(wall(2.0 * number)))
        assert status['valid'] == 'true'
    first, second = (robot.seen['input/camera_info'][i].k[0] for i in (0, 1))
    assert second != pytest.approx(first, rel=1e-3)  # the network's K was taken in
    before = robot.seen['odometry'][-1].pose.pose.position
    robot.answer_to(robot.message(another(1)))
    after = robot.seen['odometry'][-1].pose.pose.position
    step = np.array([after.x - before.x, after.y - before.y, after.z - before.z])
    assert np.linalg.norm(step) > 1e-3  # held, had nobody known the step
    assert np.isfinite(np.array(robot.seen['odometry'][-1].pose.covariance)).all()
