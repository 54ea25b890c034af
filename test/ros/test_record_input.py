# SPDX-License-Identifier: Apache-2.0
"""What `endosfm3d record` keeps of a running node can be reprocessed, or is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot import PATIENCE_S, PROFILE, ROOT, RobotWithProcess, wall
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.cli import main

pytestmark = pytest.mark.ros
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def recorder(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-u', '-m', 'endosfm3d_ros.cli', 'record', *map(str, words)],
        cwd=ROOT,
        env={**os.environ, 'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def record_pictures(robot: RobotWithProcess, path: Path, *words: str) -> None:
    """Send pictures until a recorder has seen four of them through."""
    process = recorder(path, '--count', '4', *words)
    shift = 0
    while process.poll() is None:
        robot.answer_to(robot.message(wall(float(shift))))
        shift += 2
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, f'{out}\n{err}'


def test_a_record_with_its_input_is_replayed_and_one_without_is_refused(
    with_process: RobotWithProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robot, run = with_process, str(tmp_path / 'run.mcap')
    robot.ready()
    robot.answer_to(robot.message(wall(0.0)))  # its loops are compiled
    info = robot.node.create_publisher(CameraInfo, '/scope/camera_info', LATCHED)
    info.publish(CameraInfo(width=320, height=240))
    static = robot.node.create_publisher(TFMessage, '/tf_static', LATCHED)
    base = TransformStamped(child_frame_id='ECM_base')
    base.header.frame_id, base.transform.rotation.w = 'table', 1.0
    static.publish(TFMessage(transforms=[base]))

    whole, own = tmp_path / 'whole.mcap', tmp_path / 'own.mcap'
    record_pictures(robot, whole, '--with-input')
    topics = RunBag(whole).topics
    for topic in ('/scope/image', '/scope/camera_info', '/tf_static', '/endosfm3d/rgb/image'):
        assert topics[topic].count, topic
    assert main(['replay', str(whole), run]) == 0  # the camera's picture, without being told
    assert RunBag(Path(run)).facts['source'] == 'whole.mcap /scope/image'

    record_pictures(robot, own)
    assert '/scope/image' not in RunBag(own).topics
    capsys.readouterr()
    assert main(['replay', str(own), run, '--overwrite']) == 1
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and 'record with --with-input' in said and '--topic' in said
    words = ['--overwrite', '--topic', '/endosfm3d/rgb/image']
    assert main(['replay', str(own), run, *words]) == 0


def test_the_input_of_a_node_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    process = recorder(tmp_path / 'a.mcap', '--with-input', '--node', '/ward/endosfm3d')
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1 and 'ros2 lifecycle get /ward/endosfm3d' in err
    assert not list(tmp_path.iterdir())
