# SPDX-License-Identifier: Apache-2.0
"""
The launch file: what it names is what is installed; where launch_ros is found, it really runs.
"""

import argparse
import ast
import configparser
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from sensor_msgs.msg import Image

from endosfm3d_ros import player

ROOT = Path(__file__).resolve().parent.parent
LAUNCH_FILE = ROOT / 'launch' / 'endosfm3d.launch.py'
PLAY_FILE = ROOT / 'launch' / 'play.launch.py'
CONFIG = ROOT / 'config' / 'endosfm3d.yaml'
PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
PATIENCE_S = 120.0

# What `ros2 launch` does, and as often as there are groups of arguments, split by '--'.
RUN_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

path, *words = sys.argv[1:]
groups = [[]]
for word in words:
    groups.append([]) if word == '--' else groups[-1].append(word.split(':=', 1))
service = LaunchService()
for group in groups:
    include = IncludeLaunchDescription(AnyLaunchDescriptionSource(path), launch_arguments=group)
    service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


# -- everywhere: the file as a text


def node_action() -> dict[str, ast.expr]:
    """The arguments of the one node that the file starts."""
    tree = ast.parse(LAUNCH_FILE.read_text())
    (call,) = (
        call
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'LifecycleNode'
    )
    return {keyword.arg or '': keyword.value for keyword in call.keywords}


def test_the_launch_file_starts_the_executable_that_setup_py_installs_where_ros_looks() -> None:
    action = {k: ast.literal_eval(node_action()[k]) for k in ('package', 'executable', 'name')}
    assert action['package'] == 'endosfm3d_ros' and action['name'] == 'endosfm3d'
    assert f'{action["executable"]} = {{NAME}}.node:main' in (ROOT / 'setup.py').read_text()
    where = configparser.ConfigParser()
    where.read(ROOT / 'setup.cfg')
    folder = f'$base/lib/{action["package"]}'
    assert where['develop']['script_dir'] == where['install']['install_scripts'] == folder


def test_the_files_that_the_launch_file_points_to_exist() -> None:
    texts = {n.value for n in ast.walk(ast.parse(LAUNCH_FILE.read_text())) if is_text(n)}
    files = [
        text for text in texts if text.endswith(('.yaml', '.xml', '.rviz')) and '/' not in text
    ]
    assert sorted(files) == ['endosfm3d.rviz', 'endosfm3d.yaml', 'fastdds_large_images.xml']
    assert all((ROOT / 'config' / name).is_file() for name in files)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


# -- where launch_ros is: the file at work


@pytest.fixture(scope='module')
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout, installed as colcon does it: the scripts where ros2 run looks."""
    for name in ('launch', 'launch_ros'):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed: it comes with a ROS 2 distribution')
    work = tmp_path_factory.mktemp('install')
    prefix = work / 'prefix'
    steps = {
        'egg_info': {'egg-base': work},
        'build': {'build-base': work / 'build'},
        'install': {
            'root': '/',
            'record': work / 'record.txt',
            'install-data': prefix,
            'install-lib': prefix / 'python',  # Debian's default is another than Python's
            'install-scripts': prefix / 'lib' / 'endosfm3d_ros',
        },
    }
    command = [sys.executable, 'setup.py']
    for step, options in steps.items():
        command += [step, *(f'--{name}={value}' for name, value in options.items())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return prefix


def environment(prefix: Path) -> dict[str, str]:
    """As after `source install/setup.bash`, without a Fast DDS profile."""
    env = {key: value for key, value in os.environ.items() if key != PROFILE_VARIABLE}
    wheels = [sys.prefix] if (Path(sys.prefix) / 'share' / 'ament_index').is_dir() else []
    for key, paths in (
        ('AMENT_PREFIX_PATH', [prefix, env.get('AMENT_PREFIX_PATH'), *wheels]),
        ('PYTHONPATH', [prefix / 'python', env.get('PYTHONPATH')]),
    ):
        env[key] = os.pathsep.join(str(path) for path in paths if path)
    return env | {'ROS_LOG_DIR': str(prefix.parent / 'log')}


class Robot:
    """Launches our file as a person at a terminal does, and looks from outside at what it did."""

    def __init__(self, prefix: Path, log: Path) -> None:
        self.node: Node = rclpy.create_node('robot')
        self._env, self._log = environment(prefix), log
        self._launch: subprocess.Popen[bytes] | None = None

    def launch(self, *words: str, file: Path = LAUNCH_FILE, **env: str) -> None:
        """Start; `words` as behind `ros2 launch`, several launches in one split by '--'."""
        with self._log.open('wb') as log:
            self._launch = subprocess.Popen(
                [sys.executable, '-c', RUN_LAUNCH, file, *words],
                env=self._env | env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self) -> str:
        return self._log.read_text()

    def wait(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            rclpy.spin_once(self.node, timeout_sec=0.05)
            assert time.monotonic() < end, f'{what} did not happen: {self.log()}'

    def processes(self) -> list[psutil.Process]:
        assert self._launch
        below = psutil.Process(self._launch.pid).children(recursive=True)
        return [process for process in below if 'endosfm3d_node' in ' '.join(process.cmdline())]

    def answer(self, topic: str, status_topic: str) -> DiagnosticArray:
        """Send pictures until there is a status; returns the first one."""
        answers: list[DiagnosticArray] = []
        camera = self.node.create_publisher(Image, topic, 1)
        self.node.create_subscription(DiagnosticArray, status_topic, answers.append, 1)
        message = Image(height=48, width=64, encoding='mono8', step=64)
        message.data = array('B', bytes(48 * 64))
        message.header.frame_id = 'scope_optical'

        def answered() -> bool:
            message.header.stamp.sec += 1
            camera.publish(message)
            return bool(answers)

        self.wait(answered, f'a status on {status_topic}')
        return answers[0]

    def parameter(self, node: str, name: str) -> Any:
        client = self.node.create_client(GetParameters, f'{node}/get_parameters')
        self.wait(client.service_is_ready, f'the parameter service of {node}')
        future = client.call_async(GetParameters.Request(names=[name]))
        self.wait(future.done, f'an answer of {node}')
        (value,) = future.result().values
        assert value.type == ParameterType.PARAMETER_STRING
        return value.string_value

    def press_ctrl_c(self) -> int:
        """A terminal signals everything that runs in it; returns the exit code of the launch."""
        assert self._launch
        os.killpg(self._launch.pid, signal.SIGINT)
        return self._launch.wait(PATIENCE_S)

    def end(self) -> None:
        if self._launch:
            with contextlib.suppress(ProcessLookupError):  # a clean end left nobody
                os.killpg(self._launch.pid, signal.SIGKILL)
            self._launch.wait()
        self.node.destroy_node()


@pytest.fixture
def robot(prefix: Path, tmp_path: Path) -> Iterator[Robot]:
    rclpy.init()
    robot = Robot(prefix, tmp_path / 'launch.log')
    yield robot
    robot.end()
    rclpy.try_shutdown()


@pytest.mark.ros
def test_a_launched_node_hears_the_topic_it_was_given_and_ctrl_c_is_a_clean_end(
    robot: Robot,
) -> None:
    robot.launch('image:=/scope/image_raw')
    status = robot.answer('/scope/image_raw', '/endosfm3d/status')
    assert status.header.frame_id == 'scope_optical'
    (process,) = robot.processes()
    assert process.environ()[PROFILE_VARIABLE].endswith('config/fastdds_large_images.xml')
    assert Path(process.environ()[PROFILE_VARIABLE]).is_file()
    assert robot.press_ctrl_c() == 0 and not process.is_running()
    assert 'finished cleanly' in robot.log() and 'Traceback' not in robot.log()


@pytest.mark.ros
def test_two_namespaced_nodes_work_side_by_side_with_a_parameter_file_each(
    robot: Robot, tmp_path: Path
) -> None:
    words: list[str] = []
    for side in ('left', 'right'):
        file = tmp_path / f'{side}.yaml'
        changed = CONFIG.read_text().replace('odom_frame_id: odom', f'odom_frame_id: {side}_odom')
        file.write_text(changed)
        words += [*(['--'] if words else []), f'namespace:={side}', f'params:={file}']
        words += [f'image:=/{side}_scope/image']
    robot.launch(*words)
    for side in ('left', 'right'):
        robot.answer(f'/{side}_scope/image', f'/{side}/endosfm3d/status')
        assert robot.parameter(f'/{side}/endosfm3d', 'odom_frame_id') == f'{side}_odom'
    assert robot.press_ctrl_c() == 0 and 'Traceback' not in robot.log()


@pytest.mark.ros
def test_an_argument_that_names_a_parameter_goes_before_the_file_and_the_rest_stays(
    robot: Robot,
) -> None:
    robot.launch('odom_frame_id:=world', 'model:=photometric', 'image:=/scope/image')
    assert robot.parameter('/endosfm3d', 'odom_frame_id') == 'world'
    assert robot.parameter('/endosfm3d', 'model') == 'photometric'
    assert robot.parameter('/endosfm3d', 'tf.mode') == 'child'
    assert robot.press_ctrl_c() == 0


@pytest.mark.ros
def test_a_view_that_is_not_installed_is_named(robot: Robot) -> None:
    robot.launch('rviz:=true')
    robot.wait(lambda: "package 'rviz2' not found" in robot.log(), 'a word on rviz2')


@pytest.mark.ros
def test_a_profile_that_the_environment_names_already_is_kept(
    robot: Robot, tmp_path: Path
) -> None:
    own = tmp_path / 'own.xml'
    own.write_bytes((CONFIG.parent / 'fastdds_large_images.xml').read_bytes())
    robot.launch(**{PROFILE_VARIABLE: str(own)})
    robot.wait(lambda: bool(robot.processes()), 'the start of the node')
    (process,) = robot.processes()
    assert process.environ()[PROFILE_VARIABLE] == str(own)
    robot.wait(lambda: 'waiting for pictures' in robot.log(), 'activation')
    assert robot.press_ctrl_c() == 0


@pytest.mark.ros
@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('odm_frame_id: world', "unknown parameter 'odm_frame_id'"),
        ('engine_threads: 2.5', 'engine_threads'),
        ('epoch.gap: -1.0', 'epoch.gap'),
    ],
)
def test_what_is_wrong_in_a_parameter_file_gets_one_clear_line(
    robot: Robot, tmp_path: Path, line: str, said: str
) -> None:
    file = tmp_path / 'wrong.yaml'
    file.write_text(f'/**:\n  ros__parameters:\n    {line}\n')
    robot.launch(f'params:={file}')
    robot.wait(lambda: said in robot.log(), f'a line with {said!r}')
    robot.wait(
        lambda: 'waiting for pictures' in robot.log() or 'process has died' in robot.log(),
        'either activation or the end of the node',
    )
    lines = [text for text in robot.log().splitlines() if said in text]
    assert len(lines) == 1 and 'Traceback' not in robot.log()


DEMO = ROOT / 'endosfm3d_ros' / 'demo_clip'


@pytest.mark.ros
@pytest.mark.parametrize(
    ('words', 'frame_id'),
    [
        ([f'input:={DEMO / "clip.mp4"}'], 'endoscope_optical'),
        ([f'input:={DEMO / "depth"}', 'rate:=5', 'frame_id:=scope'], 'scope'),
    ],
    ids=['video', 'pictures'],
)
def test_a_recording_is_played_through_the_live_node(
    robot: Robot, prefix: Path, tmp_path: Path, words: list[str], frame_id: str
) -> None:
    scripts = prefix / 'lib' / 'endosfm3d_ros'
    stand_in = tmp_path / 'bin' / 'ros2'  # of all that ros2 can do only `run PACKAGE` is needed
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\nshift 2\nexec {scripts}/"$@"\n')
    stand_in.chmod(0o755)
    answers: list[DiagnosticArray] = []
    robot.node.create_subscription(DiagnosticArray, '/endosfm3d/status', answers.append, 10)
    path = f'{stand_in.parent}{os.pathsep}{os.environ["PATH"]}'
    robot.launch(*words, 'model:=photometric', file=PLAY_FILE, PATH=path)
    robot.wait(lambda: len(answers) > 2, 'three answers to played pictures')
    assert {answer.header.frame_id for answer in answers} == {frame_id}
    assert robot.parameter('/endosfm3d', 'model') == 'photometric'  # arguments reach the node
    assert robot.press_ctrl_c() == 0 and 'Traceback' not in robot.log()


# -- the other files of launch/ and config/


def test_play_passes_on_what_an_input_may_need() -> None:
    parser = argparse.ArgumentParser()
    player.add_arguments(parser)
    (options,) = (
        ast.literal_eval(n.value)
        for n in ast.walk(ast.parse(PLAY_FILE.read_text()))
        if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == 'OPTIONS'
    )
    assert {'rate', 'topic', 'frame_id'} == set(options) <= set(vars(parser.parse_args(['clip'])))


def test_play_starts_the_player_with_the_profile_beside_the_node() -> None:
    texts = {n.value for n in ast.walk(ast.parse(PLAY_FILE.read_text())) if is_text(n)}
    assert {
        'endosfm3d.launch.py',
        'fastdds_large_images.xml',
        'play',
        '--to',
        '--wait',
        'image',
    } <= texts


def test_every_profile_is_well_formed() -> None:
    files = sorted((ROOT / 'config').glob('*.xml'))
    assert [ElementTree.parse(file).getroot().tag.split('}')[-1] for file in files] == [
        'CycloneDDS',
        'dds',
    ]
