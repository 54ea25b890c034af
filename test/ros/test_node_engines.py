# SPDX-License-Identifier: Apache-2.0
"""An engine that can't be used is one line, and the node goes on living with another."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rclpy.parameter import Parameter
from robot import RobotWithNode, wall

from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.engines import plans

pytestmark = pytest.mark.ros

Make = Callable[..., RobotWithNode]


def a_plan(cache: Path, text: str, version: str = '11.4.0') -> None:
    """What a disk may hold of a plan: its record is this text."""
    for graph in open_bundle('compact').depth:
        folder = plans.plan_folder(cache, graph, 'half', version, '9.0')
        folder.mkdir(parents=True)
        (folder / plans.RECORD).write_text(text)
        (folder / plans.PLAN).write_bytes(b'no plan')


FOREIGN = (
    '{"format": 1, "plan_sha256": "0", "onnx_sha256": "0", "tensorrt": "10.12", '
    '"capability": "8.6", "gpu": "", "driver": "", "precision": "half", "height": 1, "width": 1, '
    '"tensors": [], "flags": {}, "error": {}, "allowed_error": 0, "median_ms": 0}'
)


@pytest.mark.parametrize(
    ('record', 'said'),
    [
        (None, 'is not compiled for this GPU'),
        ('{"format": 1', 'not the record of a plan'),
        (FOREIGN, 'its SHA-256 is'),
    ],
)
def test_a_plan_that_is_missing_corrupt_or_foreign_is_one_line(
    record: str | None, said: str, with_node: Make, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / 'tensorrt.py').write_text("__version__ = '11.4.0'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)
    if record:
        a_plan(tmp_path / 'cache', record)
    robot = with_node('engine:=tensorrt', f'engine_cache:={tmp_path / "cache"}', start=False)
    assert not robot.go('configure')
    lines = [line for line in robot.log().splitlines() if 'not configured' in line]
    assert len(lines) == 1 and said in lines[0] and 'endosfm3d compile' in lines[0]
    sys.modules.pop('tensorrt', None)


def test_without_tensorrt_the_node_says_so_and_takes_auto_afterwards(
    with_node: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    robot = with_node('engine:=tensorrt', start=False)
    assert not robot.go('configure')
    assert 'not configured: TensorRT can not be imported' in robot.log()
    robot.scope.set_parameters([Parameter('engine', value='auto')])
    assert robot.scope.start()
    robot.ready()
    assert robot.answer_to(robot.message(wall(0)))['valid'] == 'true'
    assert 'engine auto: ' in robot.log()
    assert robot.scope._diagnostics.facts['engine'].startswith('engine auto: ')
