# SPDX-License-Identifier: Apache-2.0
"""What the demo settles before it starts anything."""

import time
from pathlib import Path

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
    ],
)
def test_what_the_node_would_refuse_is_said_at_once_and_no_process_starts(
    setting: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, begun = tmp_path / 'out', time.monotonic()
    assert main(['demo', '--out', str(out), '--set', setting]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1
    assert not out.exists() and time.monotonic() - begun < demo.PATIENCE_S / 2


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
