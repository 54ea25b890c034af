# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own Python packages, each in a folder of its own, for tests of what we call of them."""

import fcntl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # for recording.py, as in test/ros

# name of the folder -> what pip puts there; real wheels of the PyPI, a few megabytes each
WHEELS = {
    'tensorrt10': ['tensorrt-cu13-bindings==10.16.1.11'],
    'tensorrt11': ['tensorrt-cu13-bindings==11.4.0.106'],
    'cuda': ['cuda-bindings==13.5.0', 'cuda-pathfinder==1.9.0'],
    'lean': [
        'tensorrt-lean-cu13-bindings==11.4.0.106',
        'tensorrt-lean-cu13-libs==11.4.0.106',
    ],
}


@pytest.fixture(scope='session')
def wheels() -> Callable[[str], Path]:
    """Folder of a set of wheels, fetched once and kept in the environment."""

    def fetched(name: str) -> Path:
        root = Path(sys.prefix, 'contract')
        folder = root / '-'.join([name, *(pin.split('==')[1] for pin in WHEELS[name][:1])])
        root.mkdir(exist_ok=True)
        with (root / f'{name}.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / 'complete').is_file():
                subprocess.run(
                    [
                        sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps',
                        '--disable-pip-version-check', '--upgrade', '--target', folder,
                        *WHEELS[name],
                    ],
                    check=True,
                )  # fmt: skip
                (folder / 'complete').touch()
        return folder

    return fetched


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Runs Python code in a process of its own; what it printed. Fails where it fails."""

    def run(code: str, *paths: Path, **environment: str) -> str:
        setup = ''.join(f'sys.path.insert(0, {str(path)!r})\n' for path in reversed(paths))
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, '-c', f'import sys\n{setup}{code}'],
            capture_output=True, text=True, cwd=root, check=False,
            env={'PATH': '/usr/bin:/bin', 'HOME': '/nonexistent', **environment},
        )  # fmt: skip
        assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
        return done.stdout

    return run
