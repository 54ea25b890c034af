# SPDX-License-Identifier: Apache-2.0
"""What is missing on this machine, and what to run."""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from endosfm3d_ros import dds
from endosfm3d_ros.bundle import BundleError, open_bundle, shipped_bundles
from endosfm3d_ros.finding import Finding
from endosfm3d_ros.share import DEMO_CLIP, own_command

MODULES = {
    'rclpy': 'make setup, or source /opt/ros/jazzy/setup.bash',
    'sensor_msgs': 'make setup, or apt-get install ros-jazzy-sensor-msgs',
    'nav_msgs': 'make setup, or apt-get install ros-jazzy-nav-msgs',
    'diagnostic_msgs': 'make setup, or apt-get install ros-jazzy-diagnostic-msgs',
    'tf2_msgs': 'make setup, or apt-get install ros-jazzy-tf2-msgs',
    'tf2_ros': 'make setup, or apt-get install ros-jazzy-tf2-ros-py',
    'cv_bridge': 'make setup, or apt-get install ros-jazzy-cv-bridge',
    'sensor_msgs_py': 'make setup, or apt-get install ros-jazzy-sensor-msgs-py',
    'cv2': 'make setup, or apt-get install python3-opencv',
    'numba': 'make setup, or pip install numba',
    'mcap': 'make setup, or pip install mcap zstandard',
    'rosbags': 'make setup, or pip install rosbags',
}
RUNTIMES = {'openvino': 'pip install openvino', 'onnxruntime': 'pip install onnxruntime'}
MODEL = 'compact'  # the node's default; parameters.py would need more than may be here
OLDEST_PYTHON = (3, 11)
SEGMENT = 64 << 20  # of shared memory, as config/fastdds_large_images.xml asks for [bytes]
ROOMY_SHM = 4 * SEGMENT  # driver, node and a few that look on; each one owns a segment


def examine() -> Iterator[Finding]:
    """Look at everything that the node, the demo and the bags need."""
    yield from _modules()
    yield from _runtimes()
    yield from _bundles()
    yield from _transport()
    yield from _shared_memory()
    yield from _machine()
    yield from _gpu()


def _modules() -> Iterator[Finding]:
    version = tuple(sys.version_info[:2])
    found, needed = ('.'.join(map(str, one)) for one in (version, OLDEST_PYTHON))
    if version < OLDEST_PYTHON:
        cure = 'use Debian 12, Ubuntu 24.04 or newer'
        yield Finding('bad', f'Python {found}; needed {needed} or newer', cure)
    else:
        distribution = os.environ.get('ROS_DISTRO', 'from wheels (no distribution is sourced)')
        yield Finding('ok', f'Python {found}, ROS 2 {distribution}')
    missing = {name: cure for name, cure in MODULES.items() if find_spec(name) is None}
    for name, cure in missing.items():
        yield Finding('bad', f'the Python module {name} is missing', cure)
    if not missing:
        yield Finding('ok', f'{len(MODULES)} Python modules of ROS, OpenCV and bags')


def _runtimes() -> Iterator[Finding]:
    there = [name for name in RUNTIMES if find_spec(name)]
    if not there:
        yield Finding('bad', 'no runtime for the networks', RUNTIMES['openvino'])
    elif 'openvino' not in there:
        yield Finding(
            'note',
            f'runtime {", ".join(there)}; OpenVINO is faster on a CPU',
            RUNTIMES['openvino'],
        )
    else:
        yield Finding('ok', f'runtime {", ".join(there)}')


def _bundles() -> Iterator[Finding]:
    for name in shipped_bundles():
        try:
            bundle = open_bundle(name)
            yield Finding('ok', f'model {name} {bundle.version}, every hash right')
        except BundleError as error:
            yield Finding(
                'bad',
                str(error),
                'git checkout endosfm3d_ros/models, or install the package again',
            )
    if not shipped_bundles():
        yield Finding('bad', 'no model bundle came with the package', 'install the package again')
    if not (DEMO_CLIP / 'clip.mp4').is_file():
        yield Finding('note', 'the demo clip is not here', 'endosfm3d demo your_clip.mp4')


def _transport() -> Iterator[Finding]:
    chosen, line = dds.implementation(), dds.profile_line()
    if not line:
        yield Finding(
            'note',
            f'RMW_IMPLEMENTATION is {chosen}: we have no profile for it, and measured nothing',
            f'unset RMW_IMPLEMENTATION, for the camera driver too: {dds.FAST_DDS} is measured',
        )
    elif not dds.has_profile():
        text = (
            'no Fast DDS profile for large images in this shell: with the defaults many 1080p '
            'pictures are lost on the wire'
            if chosen == dds.FAST_DDS
            else 'no Cyclone DDS profile for large images in this shell; nothing was measured '
            'with Cyclone DDS'
        )
        yield Finding('note', text, f'for the camera driver too: {line}')
    elif chosen == dds.CYCLONE_DDS and dds.lacks_room():
        text = f'net.core.rmem_max is below {dds.SOCKET >> 21} MiB: with our Cyclone DDS profile'
        yield Finding('note', f'{text} no process starts', dds.MAKE_ROOM)
    else:
        yield Finding('ok', f'a profile for {chosen} is set')


def _shared_memory(shm: Path = Path('/dev/shm')) -> Iterator[Finding]:
    cure = 'Docker: --shm-size=512m; else remove what fills it'
    if not shm.is_dir():
        text = f'no {shm}: pictures go through UDP and are lost'
        yield Finding('bad', text, 'mount it; Docker: --shm-size=512m')
        return
    room = shutil.disk_usage(shm).free
    text = f'{shm} has {room >> 20} MiB free'
    if room < SEGMENT:
        text += f', the large-image profile needs {SEGMENT >> 20} for each sender of pictures'
        yield Finding('bad', text, cure)
    elif room < ROOMY_SHM:
        text += f'; {ROOMY_SHM >> 20} let driver, node and viewers each have their {SEGMENT >> 20}'
        yield Finding('note', text, cure)
    else:
        yield Finding('ok', text)


def _machine() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    text = f'{cores} cores, load {load:.1f}'
    if load > cores / 2:
        yield Finding('note', f'{text}: latency suffers while other programs run')
    else:
        yield Finding('ok', text)


def _gpu() -> Iterator[Finding]:
    """Where there is a GPU: what `engine: auto` takes there, and what is missing for TensorRT."""
    if find_spec('numpy') is None:
        return
    from endosfm3d_ros.engines import cuda, loading  # late: they need numpy, the doctor does not
    from endosfm3d_ros.engines.engine import EngineError

    try:
        gpu = cuda.prove_gpu()
    except EngineError:
        return
    try:
        why = loading.load(open_bundle(MODEL).depth, 'auto').why
    except (BundleError, EngineError) as error:
        yield Finding('bad', f'{gpu.name}: {error}')
        return
    cures = re.findall(r'; run: ([^;]*)', why)
    cure = cures[0] if cures else ''  # TensorRT's: it is tried first
    if cure.startswith('pip install'):
        cure += f' onnx, then once: {own_command()} compile {MODEL}'
    said = re.sub(r'; run: [^;]*', '', why)
    yield Finding('note' if cure else 'ok', f'{gpu.name}, model {MODEL}, {said}', cure)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d doctor`."""
    parser.add_argument(
        '--topic',
        help='listen to this image topic and say what is lost, how late it comes and what the '
        'node would refuse; without it our own player shows what this machine can carry',
    )
    parser.add_argument(
        '--seconds', type=float, metavar='S',
        help='how long to listen [s] (default: 10 to a topic, 3 to each run of our player)',
    )  # fmt: skip
    parser.add_argument('--no-traffic', action='store_true', help='send and listen to nothing')


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d doctor`: print the findings; 1 where something does not work."""
    seconds = arguments.seconds
    if seconds is not None and not 0.5 <= seconds <= 3600.0:
        print(f'endosfm3d doctor: --seconds {seconds:g}; needed 0.5 to 3600', file=sys.stderr)
        return 1
    if arguments.topic is not None and arguments.no_traffic:
        print('endosfm3d doctor: --topic listens; leave out --no-traffic', file=sys.stderr)
        return 1
    bad = 0
    for finding in _asked_for(arguments):
        bad += finding.state == 'bad'
        print(finding, flush=True)
    print('nothing is missing' if not bad else f'{bad} thing{"s" if bad > 1 else ""} to mend')
    return 1 if bad else 0


def _asked_for(arguments: argparse.Namespace) -> Iterator[Finding]:
    """The machine's findings first; traffic only where ROS is there."""
    has_ros = find_spec('rclpy') is not None
    if arguments.topic is None or not has_ros:
        yield from examine()
    if arguments.no_traffic or not has_ros:
        return
    from endosfm3d_ros import doctor_topic  # late: the doctor runs where ROS is missing

    if arguments.topic is not None:
        yield from _shared_memory()
        yield from doctor_topic.examine_topic(arguments.topic, arguments.seconds or 10.0)
    else:
        yield from doctor_topic.examine_machine(arguments.seconds or 3.0)
