#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Run the tests that touch ROS on the next distribution's wheels; called by ``make test-kilted``.

Another venv, .venv-kilted, with requirements/ros-kilted.txt in the place of ros.txt. It is made
once, and again when what it was made from changes. Torch and what needs it stay out.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv-kilted'
PYTHON = VENV / 'bin' / 'python'
LISTS = [ROOT / 'requirements' / f'{name}.txt' for name in ('ros-kilted', 'runtime', 'test')]
STAND_INS = ('cv_bridge', 'sensor_msgs_py', 'tf2_ros')
TESTS = ('test/ros', 'test/standalone', 'test/test_messages.py', 'test/test_replay.py')


def main() -> int:
    """:return: exit status of pytest."""
    # what another venv of ROS wheels leaves behind would lead this one astray
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ('_ROS_WHEELS_BOOTSTRAP_COMPLETE', 'LD_LIBRARY_PATH', 'PYTHONPATH')
    }
    made_from = hashlib.sha256(b''.join(path.read_bytes() for path in _sources())).hexdigest()
    stamp = VENV / 'made-from'
    if not stamp.is_file() or stamp.read_text() != made_from:
        _make(environment)
        stamp.write_text(made_from)
    words = sys.argv[1:] or TESTS
    command = [PYTHON, '-m', 'pytest', '-q', '-m', 'not slow and not gpu', *words]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _sources() -> list[Path]:
    standalone = ROOT / 'standalone'
    return [*LISTS, *sorted(path for path in standalone.rglob('*.py') if path.is_file())]


def _make(environment: dict[str, str]) -> None:
    print(f'{VENV.name}: ROS 2 Kilted from wheels', flush=True)
    venv.create(VENV, clear=True, with_pip=True)
    words = [word for path in LISTS for word in ('--requirement', path)]
    pip = [PYTHON, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, *words], env=environment, check=True)
    build = [PYTHON, ROOT / 'standalone' / 'build_tf2_msgs.py']
    subprocess.run(build, env=environment, check=True, stdout=subprocess.DEVNULL)
    look = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    found = subprocess.run(
        [PYTHON, '-c', look], env=environment, check=True, capture_output=True, text=True
    )
    site = Path(found.stdout.strip().splitlines()[-1])
    for package in STAND_INS:
        shutil.copytree(ROOT / 'standalone' / package, site / package)


if __name__ == '__main__':
    sys.exit(main())
