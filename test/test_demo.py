# SPDX-License-Identifier: Apache-2.0
"""What the demo settles before it starts anything."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import rclpy

from endosfm3d_ros import demo
from endosfm3d_ros.cli import main


@pytest.mark.parametrize(
    ('setting', 'said'),
    [
        ('model=nonesuch', "no bundle 'nonesuch'"),
        ('intrinsics.source=fixed', 'intrinsics.fixed (width'),
        ("odom_frame_id=''", 'names no frame'),
        ('autostart=false', 'needed True in the demo'),
        ('image_transport=compressed', "needed 'raw' in the demo"),
    ],
)
def test_what_the_node_would_refuse_is_said_at_once_and_no_process_starts(
    setting: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    assert main(['demo', '--out', str(out), '--set', setting]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1
    assert not out.exists() and not psutil.Process().children()


@pytest.mark.parametrize(
    ('clip', 'said'),
    [('nowhere.mp4', 'no such file'), ('text.mp4', 'not a video'), ('.', 'a folder; needed')],
)
def test_a_clip_that_can_not_be_played_is_said_at_once_and_no_process_starts(
    clip: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'text.mp4').write_text('no video')
    out = tmp_path / 'out'
    assert main(['demo', str(tmp_path / clip), '--out', str(out)]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1
    assert not out.exists() and not psutil.Process().children()


def test_without_pictures_no_bag_stays_however_the_demo_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_off(clip: Path, out: Path, bag: Path, values: object) -> None:
        for one in (bag, bag.with_name('run.mcap.part')):
            one.write_bytes(b'pictures of a patient')
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, '_live', broken_off)
    for words, stays in (([], True), (['--no-pictures'], False)):
        assert main(['demo', '--out', str(tmp_path), *words]) == 130
        assert bool(list(tmp_path.glob('run.mcap*'))) == stays


def test_a_demo_keeps_to_this_machine_and_out_of_the_shell_s_domain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('ROS_DOMAIN_ID', '7')
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', 'own.xml')
    environment = demo._environment()
    assert int(environment['ROS_DOMAIN_ID']) in demo.DEMO_DOMAINS
    assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert environment['FASTRTPS_DEFAULT_PROFILES_FILE'] == 'own.xml'


@pytest.mark.ros
def test_a_domain_that_somebody_is_in_is_not_taken() -> None:
    domain, context = demo._free_domain(), rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    somebody = rclpy.create_node('somebody', context=context)
    try:
        assert demo._free_domain() != domain
    finally:
        somebody.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.ros
def test_a_demo_that_is_ended_takes_its_processes_with_it(tmp_path: Path) -> None:
    words = [sys.executable, '-m', 'endosfm3d_ros.cli', 'demo', '--out', str(tmp_path / 'out')]
    running = psutil.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    children: list[psutil.Process] = []
    while len(children) < 2 and time.monotonic() < end:
        children = running.children(recursive=True)
        time.sleep(0.1)
    assert len(children) >= 2
    running.terminate()  # as `docker stop` and systemd do; Ctrl-C reaches all of them by itself
    assert running.wait(180) == 130
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
