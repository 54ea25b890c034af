# SPDX-License-Identifier: Apache-2.0
"""A recording that holds the node's input can be worked through again, whatever the node told."""

import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from geometry_msgs.msg import PoseStamped
from robot import PATIENCE_S, ROOT, RobotWithProcess, wall
from sensor_msgs.msg import CameraInfo

from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.cli import main

pytestmark = pytest.mark.ros
FRAMES = 4


def command(*words: str | Path) -> subprocess.Popen[str]:
    """Start an `endosfm3d` command in a process of its own."""
    line = [sys.executable, '-u', '-m', 'endosfm3d_ros.cli', *map(str, words)]
    return subprocess.Popen(line, cwd=ROOT, text=True, stdout=PIPE, stderr=PIPE)


def test_a_recording_with_its_input_is_replayed_without_naming_a_topic(
    ros: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, again = tmp_path / 'night.mcap', tmp_path / 'run.mcap'
    log = tmp_path / 'node.log'
    robot = RobotWithProcess(log, 'require_metric:=true', 'scale.source:=kinematics')
    recorder: subprocess.Popen[str] | None = None
    try:
        poses = robot.node.create_publisher(PoseStamped, '/robot_pose', 5)
        robot.ready()
        recorder = command('record', bag, '--with-input', '--count', str(FRAMES))

        def listens() -> bool:
            assert recorder.poll() is None, recorder.communicate()
            beside_the_node = robot.camera.topic_name, poses.topic_name, '/endosfm3d/status'
            return all(robot.node.count_subscribers(topic) == 2 for topic in beside_the_node)

        robot.wait(listens, 'the recorder')
        info = robot.node.create_publisher(CameraInfo, '/scope/camera_info', 5)
        robot.wait(lambda: info.get_subscription_count() == 1, 'the late calibration')
        for number in range(FRAMES):
            message = robot.message(wall(2.0 * number))
            info.publish(CameraInfo(header=message.header))
            poses.publish(PoseStamped(header=message.header))
            robot.answer_to(message, ('status',))
        out, err = recorder.communicate(timeout=PATIENCE_S)
    finally:
        robot.end()
        if recorder:
            recorder.kill()  # no more than a word where it has ended
    assert recorder.returncode == 0, f'{out}\n{err}'
    topics = RunBag(bag).topics
    for topic in ('/scope/image', '/scope/camera_info', '/robot_pose'):
        assert topics[topic].count == FRAMES, topic
    assert '/endosfm3d/rgb/image' in topics and '/tf' in topics
    assert main(['replay', str(bag), str(again)]) == 0, capsys.readouterr().err
    assert RunBag(again).topics['/endosfm3d/status'].count == FRAMES


def test_a_node_that_takes_no_pictures_has_no_input_to_record(tmp_path: Path) -> None:
    recorder = command('record', tmp_path / 'a.mcap', '--with-input', '--node', '/nobody')
    _, err = recorder.communicate(timeout=PATIENCE_S)
    assert recorder.returncode == 1
    assert '--with-input: /nobody takes no pictures' in err
