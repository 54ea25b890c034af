# SPDX-License-Identifier: Apache-2.0
"""
The three floors: core knows nothing of ROS, files, clocks and torch; the node nothing of training.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from endosfm3d_ros.core.kernel import SOURCES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'endosfm3d_ros'
ROS = {
    'rclpy', 'cv_bridge', 'sensor_msgs', 'sensor_msgs_py', 'std_msgs', 'std_srvs',
    'geometry_msgs', 'nav_msgs', 'diagnostic_msgs', 'lifecycle_msgs', 'rcl_interfaces',
    'tf2_msgs', 'tf2_ros', 'ament_index_python', 'launch',
}  # fmt: skip
HEAVY = {'torch', 'transformers', 'peft', 'training', 'torchvision'}
WORLD = {
    'os',
    'pathlib',
    'io',
    'time',
    'datetime',
    'socket',
    'subprocess',
    'threading',
    'shutil',
    'tempfile',
    'json',
}


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            names.add(node.module or '')
    return names


def roots(path: Path) -> set[str]:
    return {name.split('.')[0] for name in imports(path)}


def files(folder: str) -> list[Path]:
    found = sorted((PACKAGE / folder).rglob('*.py'))
    assert found, f'{folder} is empty'
    return found


COMPILES = PACKAGE / 'core' / 'kernel.py'  # the one that may read sources


@pytest.mark.parametrize(
    'path', [path for path in files('core') if path != COMPILES], ids=lambda path: path.name
)
def test_core_knows_numpy_and_opencv_only(path: Path) -> None:
    assert roots(path) <= {
        'numpy',
        'cv2',
        'endosfm3d_ros',
        'dataclasses',
        'collections',
        'concurrent',
        'typing',
        'functools',
        'itertools',
        'math',
    }
    ours = {name for name in imports(path) if name.startswith('endosfm3d_ros.')}
    assert all(name.startswith('endosfm3d_ros.core') for name in ours)
    assert not roots(path) & WORLD


def test_what_is_compiled_is_compiled_anew_when_something_that_it_may_call_changes() -> None:
    users = {
        path.relative_to(COMPILES.parent).as_posix()
        for path in files('core')
        if '@kernel\n' in path.read_text()
    }
    assert {'adjustment/reprojection.py', 'adjustment/scene_step.py'} < users
    assert users | {COMPILES.name} <= set(SOURCES)
    core = 'endosfm3d_ros.core.'
    for name in SOURCES:
        ours = {one for one in imports(COMPILES.parent / name) if one.startswith(core)}
        called = {f'{one.removeprefix(core).replace(".", "/")}.py' for one in ours}
        assert called <= set(SOURCES), name


@pytest.mark.parametrize('folder', ['core', 'engines', 'evaluation', 'report', 'bags'])
def test_below_the_node_nothing_imports_rclpy(folder: str) -> None:
    for path in files(folder):
        assert not roots(path) & (ROS - {'ament_index_python'}), path


def test_the_runtime_never_imports_training_or_torch() -> None:
    for path in sorted(PACKAGE.rglob('*.py')):
        assert not roots(path) & HEAVY, path


def test_training_never_imports_the_node_or_ros() -> None:
    for path in sorted((ROOT / 'training').rglob('*.py')):
        assert not roots(path) & ROS, path
        ours = {name for name in imports(path) if name.startswith('endosfm3d_ros.')}
        rooms = {name.split('.')[1] for name in ours}
        assert rooms <= {
            'core',
            'bags',
            'bundle',
            'evaluation',
            'engines',
            'allocator',
            'compiled',
            'outfile',
            'pictures_in',
            'threads',
        }, path


@pytest.mark.parametrize('name', ['allocator', 'compiled', 'outfile', 'pictures_in', 'threads'])
def test_what_training_takes_of_the_runtime_needs_no_ros(name: str) -> None:
    assert not roots(PACKAGE / f'{name}.py') & ROS


def test_init_files_are_empty() -> None:
    for path in sorted(PACKAGE.rglob('__init__.py')):
        assert path.read_text() == '', path


def test_importing_core_loads_no_ros_and_no_runtime() -> None:
    code = (
        'import sys, endosfm3d_ros.core.pipeline;'
        "loaded = {name.split('.')[0] for name in sys.modules};"
        "print(loaded & {'rclpy', 'openvino', 'onnxruntime', 'torch', 'mcap', 'rosbags'})"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == 'set()'


def test_openvino_is_imported_in_one_place_which_silences_its_telemetry() -> None:
    importers = [
        path.relative_to(ROOT)
        for folder in (PACKAGE, ROOT / 'training', ROOT / 'bench')
        for path in sorted(folder.rglob('*.py'))
        if 'openvino' in roots(path)
    ]
    assert importers == [Path('endosfm3d_ros/engines/openvino.py')]
    code = (
        'import sys, endosfm3d_ros.engines.openvino;'
        "print([n for n, m in sys.modules.items() if n.startswith('openvino_telemetry') and m])"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == '[]'
