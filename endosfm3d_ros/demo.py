# SPDX-License-Identifier: Apache-2.0
"""
Player, node and recorder as three processes over real DDS, then the page that shows what came out.
"""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.nodes import USUAL
from endosfm3d_ros.bags.recording import facts_beside, part_of
from endosfm3d_ros.bundle import BundleError, open_bundle
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.evaluation.against_truth import against_truth, read_truth
from endosfm3d_ros.outputs import Outputs
from endosfm3d_ros.pictures_in import image_to_rgb
from endosfm3d_ros.replay import add_parameter_argument, parameters_from
from endosfm3d_ros.report.build import build_report
from endosfm3d_ros.report.run import read_run
from endosfm3d_ros.report.summary import summarise
from endosfm3d_ros.share import DEMO_CLIP, shared_file

IMAGE_TOPIC = '/endoscope/image_raw'
DRAIN_S = 1.5  # the last frame's outputs are on their way
PATIENCE_S = 30.0
START_S = 300.0  # a first start on a machine compiles loops: a minute where it is busy
DEMO_DOMAINS = range(59, 39, -1)  # one that is free: not the one a robot lives in
PARTICIPANTS = 120  # of one domain at most: their ports end where the next domain's begin


class DemoError(RuntimeError):
    """A process of the demo failed; the message names its log."""


def demo(clip: Path, out: Path, values: dict[str, Any], pictures: bool = True) -> dict[str, Any]:
    """
    Run the whole product on a clip.

    :param clip: a video file.
    :param out: folder for the bag, summary.json, report.html and the logs.
    :param values: every parameter of the node by name.
    :param pictures: False leaves what could show a patient out of the page, and deletes the bag,
        however the run ends.
    :return: the summary.
    :raises DemoError, ValueError: a process failed, or the clip can not be played.
    :raises ValueError, BundleError, EngineError: parameters, bundle or engine do not fit.
    """
    _check_starts(values)
    parameters.settings(values)  # what the node would refuse is said before anything starts
    Outputs(values)
    facts = _facts_of_the_model(values)
    open_frames(clip, decode=image_to_rgb)  # so is what the player would
    out.mkdir(parents=True, exist_ok=True)
    bag = out / 'run.mcap'
    try:
        return _run_and_report(clip, out, bag, values, facts, pictures)
    finally:
        if not pictures:
            for one in (bag, part_of(bag), facts_beside(bag)):
                one.unlink(missing_ok=True)


def _run_and_report(
    clip: Path,
    out: Path,
    bag: Path,
    values: dict[str, Any],
    facts: dict[str, Any],
    pictures: bool,
) -> dict[str, Any]:
    """Play, record, and make the page and the summary of the bag."""
    load_before = os.getloadavg()[0]
    facts |= _live(clip, out, bag, values)
    facts['machine'] = {
        'cores': os.cpu_count(),
        'cpu_model': _cpu_model(),
        'load_average_1min_before': load_before,
        'load_average_1min_after': os.getloadavg()[0],
    }
    facts_beside(bag).write_text(json.dumps(facts), encoding='utf-8')
    run = read_run(bag, facts)
    known = (clip.parent / 'truth.npz').is_file()
    evaluation = against_truth(run, read_truth(clip.parent)) if known else None
    build_report(run, out / 'report.html', pictures=pictures, evaluation=evaluation)
    summary = summarise(run, evaluation)
    (out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    return summary


def _check_starts(values: dict[str, Any]) -> None:
    """Refuse parameters with which the node would wait for somebody else than the demo."""
    for name, needed in (('autostart', True), ('image_transport', 'raw')):
        if values[name] != needed:
            raise ValueError(f'{name}: {values[name]!r}; needed {needed!r} in the demo')


def _facts_of_the_model(values: dict[str, Any]) -> dict[str, Any]:
    bundle = open_bundle(values['model'])
    network = DepthGraphs(bundle, values['engine'], parameters.engine_options(values))
    return {'runtime': network.runtime, 'bundle': f'{bundle.name} {bundle.version}'}


def _live(clip: Path, out: Path, bag: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Run the three processes to the clip's end; returns what only they know."""
    played_file, recorded_file = out / 'played.json', out / 'recorded.json'
    page, summary = out / 'report.html', out / 'summary.json'
    for stale in (bag, facts_beside(bag), played_file, recorded_file, page, summary):
        stale.unlink(missing_ok=True)
    command = [sys.executable, '-m', 'endosfm3d_ros.cli']
    parameter_file = out / 'parameters.json'  # JSON is YAML
    parameter_file.write_text(json.dumps({USUAL: {'ros__parameters': values}}, indent=2))
    node_command = [
        sys.executable, '-m', 'endosfm3d_ros.node', '--ros-args',
        '-r', f'image:={IMAGE_TOPIC}', '--params-file', str(parameter_file),
    ]  # fmt: skip
    record_command = [*command, 'record', str(bag), '--overwrite', '--facts', str(recorded_file)]
    play_command = [*command, 'play', str(clip), '--to', IMAGE_TOPIC, '--facts', str(played_file)]
    env = _environment()
    with (
        _process('recorder', record_command, out, env) as recorder,
        _process('node', node_command, out, env) as node,
    ):
        _wait_until(lambda: 'active: ' in _log(out, 'node'), node, 'node', out)
        if 'not active: ' in _log(out, 'node'):
            raise DemoError(_failure('node', out))
        with _process('player', play_command, out, env) as player:
            _wait_until(
                lambda: 'playing' in _log(out, 'player') or player.poll() is not None,
                node,
                'node',
                out,
            )
            before = {p.pid: _cpu_s(p) for p in (node, recorder)}
            while player.poll() is None:
                _check(node, 'node', out)
                _check(recorder, 'recorder', out)
                time.sleep(0.2)
        time.sleep(DRAIN_S)
        spent = {p.pid: _cpu_s(p) - before[p.pid] for p in (node, recorder)}
        if player.returncode != 0:
            raise DemoError(_failure('player', out))
        _end(node)
        _end(recorder)
    played = json.loads(played_file.read_text())
    frames = max(played['sent'], 1)
    return {
        'clip': clip.name,
        'mode': 'live',
        'rate_hz': played['nominal_rate'],
        'stamps_ns': played['stamps_ns'],
        'frames': {'sent': played['sent']},
        'cpu_ms_per_frame': {
            'player': played['cpu_ms_per_frame'],
            'node': spent[node.pid] * 1e3 / frames,
            'recorder': spent[recorder.pid] * 1e3 / frames,
        },
        'versions': _versions(),
    }


def _environment() -> dict[str, str]:
    """
    The shell's, but for a domain on this machine alone: a demo is never played onto a robot.

    A Fast DDS profile that the shell names is kept.
    """
    return {
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(shared_file('config/fastdds_large_images.xml')),
        **os.environ,
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_STATIC_PEERS': '',
        'ROS_DOMAIN_ID': str(_free_domain()),
        'PYTHONUNBUFFERED': '1',
    }


def _free_domain() -> int:
    """A domain of `DEMO_DOMAINS` that nobody on this machine is in."""
    for domain in DEMO_DOMAINS:
        # RTPS 9.6.2: where a domain's participants listen; Fast DDS numbers them by process
        ports = (7410 + 250 * domain + 2 * participant for participant in range(PARTICIPANTS))
        if all(map(_is_free, ports)):
            return domain
    first, last = DEMO_DOMAINS[-1], DEMO_DOMAINS[0]
    raise DemoError(f'all ROS domains {first} to {last} are in use on this machine; stop a demo')


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', port))
        except OSError:
            return False
    return True


@contextmanager
def _process(
    name: str, command: Sequence[str], out: Path, environment: dict[str, str]
) -> Iterator['subprocess.Popen[bytes]']:
    """A process with its own log, that never outlives this block."""
    with (out / f'{name}.log').open('wb') as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            yield process
        finally:
            _end(process)


def _end(process: 'subprocess.Popen[bytes]') -> None:
    """Ask as Ctrl-C does, and wait; only then insist."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(ready: Any, process: 'subprocess.Popen[bytes]', name: str, out: Path) -> None:
    end = time.monotonic() + START_S
    while not ready():
        _check(process, name, out)
        if time.monotonic() > end:
            raise DemoError(
                f'the {name} is not ready after {START_S:.0f} s. {_failure(name, out)}'
            )
        time.sleep(0.1)


def _check(process: 'subprocess.Popen[bytes]', name: str, out: Path) -> None:
    if process.poll() is not None:
        raise DemoError(_failure(name, out))


def _failure(name: str, out: Path) -> str:
    lines = [line for line in _log(out, name).splitlines() if line.strip()]
    errors = [line for line in lines if '[ERROR]' in line or '[FATAL]' in line]
    said = '; '.join(errors[:2] or lines[-1:]) or 'it said nothing'
    return f'the {name} failed: {said} (log: {out / f"{name}.log"})'


def _log(out: Path, name: str) -> str:
    return (out / f'{name}.log').read_text(encoding='utf-8', errors='replace')


def _cpu_s(process: 'subprocess.Popen[bytes]') -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def _cpu_model() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    return next(
        (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')),
        platform.machine(),
    )


def _versions() -> dict[str, str]:
    found = {'python': platform.python_version()}
    for name in (
        'endosfm3d_ros',
        'numpy',
        'opencv-python-headless',
        'openvino',
        'onnxruntime',
        'ros-rclpy',
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d demo`."""
    parser.add_argument(
        'clip',
        type=Path,
        nargs='?',
        help='a video file; without one the rendered clip with truth is played',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('demo_out'),
        help='folder for what is made (default: %(default)s)',
    )
    parser.add_argument(
        '--no-pictures',
        action='store_true',
        help='nothing that could show a patient: only curves and figures',
    )
    add_parameter_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d demo`."""
    clip = arguments.clip or DEMO_CLIP / 'clip.mp4'
    try:
        if clip.is_dir():
            raise ValueError(f'{clip}: a folder; needed a video file')
        values = parameters_from(arguments.parameters)
        summary = demo(clip, arguments.out, values, pictures=not arguments.no_pictures)
    except (ValueError, OSError, BundleError, EngineError, DemoError) as error:
        print(f'endosfm3d demo: {error}', file=sys.stderr)
        return 1
    frames, latency = summary['frames'], summary['latency_ms']
    if frames['out']:
        lost, replaced = map(_count, (frames['lost_on_wire'], frames['dropped_by_mailbox']))
        print(
            f'{frames["out"]} of {frames["sent"]} frames came out ({lost} lost before the node, '
            f'{replaced} replaced by a newer one in it); '
            f'latency p50 {latency["p50"]:.0f} ms, p95 {latency["p95"]:.0f} ms'
        )
    else:
        print(f'nothing came out of {frames["sent"]} frames; see {arguments.out / "node.log"}')
    print(f'look at {arguments.out / "report.html"}')
    return 0 if frames['out'] else 1


def _count(number: int | None) -> str:
    return 'an unknown number' if number is None else str(number)
