# SPDX-License-Identifier: Apache-2.0
"""colcon builds the package as it builds any other; runs where colcon is on the path."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KEPT_OUT = ('.git', '.venv*', '__pycache__', 'build', 'install', 'log', '*.egg-info', 'demo_out')
LOOK = """
import endosfm3d_ros
from ament_index_python.packages import get_package_share_directory
from endosfm3d_ros.share import shared_file
print(endosfm3d_ros.__file__)
print(get_package_share_directory('endosfm3d_ros'))
print(shared_file('config/endosfm3d.rviz'))
"""

pytestmark = pytest.mark.skipif(
    shutil.which('colcon') is None,
    reason='colcon is not installed: pip install colcon-core colcon-ros colcon-bash '
    'colcon-package-selection colcon-recursive-crawl colcon-test-result',
)


def test_what_colcon_builds_and_bash_sources_is_found_by_python_ament_and_ros2_run(
    tmp_path: Path,
) -> None:
    package = tmp_path / 'src' / 'endosfm3d_ros'
    shutil.copytree(ROOT, package, ignore=shutil.ignore_patterns(*KEPT_OUT))
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'AMENT_PREFIX_PATH')}
    build = ['colcon', 'build', '--packages-select', 'endosfm3d_ros']
    done = subprocess.run(build, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    install = tmp_path / 'install' / 'endosfm3d_ros'
    for name in ('endosfm3d', 'endosfm3d_node'):  # where `ros2 run` looks
        assert os.access(install / 'lib' / 'endosfm3d_ros' / name, os.X_OK)
    share = install / 'share' / 'endosfm3d_ros'
    for file in ('launch/endosfm3d.launch.py', 'config/security/endosfm3d.policy.xml'):
        assert (share / file).is_file()
    command = f'source install/setup.bash && cd / && exec {sys.executable} -c "$LOOK"'
    seen = subprocess.run(
        ['bash', '-c', command],
        cwd=tmp_path,
        env={**clean, 'LOOK': LOOK},
        capture_output=True,
        text=True,
    )
    assert seen.returncode == 0, seen.stderr
    module, found, view = map(Path, seen.stdout.splitlines()[-3:])
    assert module.is_relative_to(install) and found == share
    assert view == share / 'config' / 'endosfm3d.rviz'
