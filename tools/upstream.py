#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Run launch files, TF, clouds and pictures against the real packages; called by ``make upstream``.

The ROS wheels lack launch, launch_ros, tf2_ros, sensor_msgs_py and cv_bridge; standalone/ stands
in for the last three. Here the real ones are taken, from a folder of source checkouts
(ros2/launch, ros2/launch_ros, ros2/geometry2, ros2/common_interfaces,
ros-perception/vision_opencv) or from a sourced distribution, and the tests that touch them run
again. Nothing is written into the folder.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
MODULES = ('launch', 'launch_ros', 'tf2_ros', 'sensor_msgs_py', 'cv_bridge')
# package -> the module that it brings; of these the folder is copied, or pip keeps entry points
COPIED = {'sensor_msgs_py': 'sensor_msgs_py', 'tf2_ros_py': 'tf2_ros'}
INSTALLED = {'launch': 'launch', 'launch_ros': 'launch_ros'}
PYCOMMON = 'osrf-pycommon==2.0.2'  # launch imports it; the one thing that comes from PyPI
TESTS = (
    'test/standalone', 'test/test_messages.py', 'test/test_launch.py', 'test/test_package.py',
    'test/ros/test_node.py', 'test/ros/test_node_inputs.py', 'test/ros/test_node_neighbours.py',
    'test/ros/test_node_kinematics.py',
)  # fmt: skip
# Interfaces that the wheels lack, and that upstream imports for what we do not use: components,
# the service and the action of a buffer that answers others. Said aloud where they are used.
PLACEHOLDER = """
class {name}:
    class Request:
        pass

    class Response:
        pass
"""
PLACEHOLDERS = {
    'composition_interfaces/srv.py': ('LoadNode', 'launch_ros'),
    'tf2_msgs/srv.py': ('FrameGraph', 'tf2_ros'),
    'tf2_msgs/action.py': ('LookupTransform', 'tf2_ros'),
}


def main() -> int:
    """:return: exit status of the tests; 0 with a word where there is nothing to test against."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('src', nargs='?', default='', help='folder of source checkouts')
    parser.add_argument('tests', nargs='*', help='pytest arguments instead of the usual tests')
    asked = parser.parse_args()
    distribution = os.environ.get('ROS_DISTRO', '')
    if not asked.src and distribution and find_spec('launch_ros'):
        print(f'against ROS 2 {distribution}, as it is sourced')
        return _run_tests(dict(os.environ), asked.tests)
    if not asked.src:
        print(
            'skipped: no folder was given and no ROS distribution is sourced; run\n'
            '  make upstream SRC=FOLDER   (checkouts of ros2/launch, ros2/launch_ros, '
            'ros2/geometry2, ros2/common_interfaces, ros-perception/vision_opencv)'
        )
        return 0
    source = Path(asked.src)
    if not source.is_dir():
        print(f'make upstream: SRC={source}: no such folder', file=sys.stderr)
        return 2
    packages = dict(_packages(source))
    with tempfile.TemporaryDirectory(prefix='upstream-') as folder:
        prefix = Path(folder)
        _gather(packages, prefix)
        environment = dict(os.environ)
        for name in ('PYTHONPATH', 'AMENT_PREFIX_PATH'):
            words = filter(None, [str(prefix), environment.get(name, '')])
            environment[name] = os.pathsep.join(words)
        return _run_tests(environment, asked.tests)


def _packages(source: Path) -> list[tuple[str, Path]]:
    """Name and folder of every package below; of two of one name the first counts."""
    found = []
    for manifest in sorted(source.rglob('package.xml'), reverse=True):
        root = ElementTree.parse(manifest).getroot()
        name, version = root.findtext('name') or '', root.findtext('version') or '?'
        found.append((name, manifest.parent))
        if name in (*COPIED, *INSTALLED, 'tf2_py', 'cv_bridge'):
            print(f'  found {name} {version}: {manifest.parent}')
    return found


def _gather(packages: dict[str, Path], prefix: Path) -> None:
    """Bring what is there into one folder that Python looks into first."""
    for name, module in COPIED.items():
        if name in packages:
            shutil.copytree(packages[name] / module, prefix / module)
    if set(INSTALLED) <= packages.keys():
        copies = [prefix / 'build' / name for name in INSTALLED]
        for name, copy in zip(INSTALLED, copies, strict=True):
            shutil.copytree(packages[name], copy)
        _pip(prefix, '--no-deps', '--no-build-isolation', '--no-index', *copies)
        _pip(prefix, PYCOMMON)
    if 'tf2' in packages and 'tf2_py' in packages:
        _build_tf2(packages, prefix)
    elif (prefix / 'tf2_ros').is_dir():
        shutil.rmtree(prefix / 'tf2_ros')
        print('  tf2_ros is left out: tf2 and tf2_py are not in the folder')
    _fill_gaps(prefix)
    if 'cv_bridge' in packages:
        _build_cv_bridge(packages['cv_bridge'], prefix)


def _fill_gaps(prefix: Path) -> None:
    """Empty classes for interfaces that are imported and not used; a found package is kept."""
    for file, (name, user) in PLACEHOLDERS.items():
        package, module = file.removesuffix('.py').split('/')
        spec = find_spec(package)
        if not (prefix / user).is_dir() or (spec and find_spec(f'{package}.{module}')):
            continue
        place = prefix / package
        if not place.is_dir() and spec and spec.submodule_search_locations:
            shutil.copytree(spec.submodule_search_locations[0], place)  # what is there stays real
        place.mkdir(exist_ok=True)
        (place / '__init__.py').touch()
        (place / f'{module}.py').write_text(PLACEHOLDER.format(name=name))
        print(f'  {package}.{module}.{name}: an empty placeholder; {user} only imports it')


def _build_tf2(packages: dict[str, Path], prefix: Path) -> None:
    """The C++ buffer behind tf2_ros, against the wheels' headers and libraries."""
    shutil.copytree(packages['tf2_py'] / 'tf2_py', prefix / 'tf2_py')
    core = sorted((packages['tf2'] / 'src').glob('*.cpp'))
    sources = [*core, packages['tf2_py'] / 'src' / 'tf2_py.cpp']
    _compile(prefix / 'tf2_py' / '_tf2_py', sources, [packages['tf2'] / 'include'], ['rcutils'])


def _build_cv_bridge(package: Path, prefix: Path) -> None:
    """cv_bridge's Python module; needs Debian's OpenCV and Boost.Python, else it is left out."""
    boost = f'boost_python{sys.version_info.major}{sys.version_info.minor}'
    opencv = Path('/usr/include/opencv4')
    if not opencv.is_dir() or not Path('/usr/include/boost/python.hpp').is_file():
        print(
            '  cv_bridge is left out, its stand-in runs: apt-get install libopencv-dev '
            'libboost-python-dev'
        )
        return
    import numpy

    shutil.copytree(package / 'python' / 'cv_bridge', prefix / 'cv_bridge')
    boost_folder = prefix / 'cv_bridge' / 'boost'
    boost_folder.mkdir(exist_ok=True)
    (boost_folder / '__init__.py').write_text('')
    export = prefix / 'build' / 'cv_bridge_export' / 'cv_bridge'
    export.mkdir(parents=True)
    guard = '#define CV_BRIDGE_EXPORT\n#define CV_BRIDGE_NO_EXPORT\n'
    (export / 'cv_bridge_export.h').write_text(guard)  # CMake would write it
    names = ('cv_bridge', 'rgb_colors', 'module', 'module_opencv4')
    _compile(
        boost_folder / 'cv_bridge_boost',
        [package / 'src' / f'{name}.cpp' for name in names],
        [package / 'include', package / 'src', export.parent, opencv, Path(numpy.get_include())],
        ['opencv_core', 'opencv_imgproc', 'opencv_imgcodecs', boost, 'rcpputils'],
        ['-DPYTHON3', '-DOPENCV_VERSION_4'],
    )


def _compile(
    module: Path,
    sources: list[Path],
    includes: list[Path],
    libraries: list[str],
    options: list[str] | None = None,
) -> None:
    """One extension module; a compiler's error ends everything, with its words."""
    venv = Path(sys.prefix)
    lib = venv / 'lib'
    there = [venv / 'include', *sorted(p for p in (venv / 'include').iterdir() if p.is_dir())]
    print(f'  building {module.name} ...', flush=True)
    subprocess.run(
        [
            'g++', '-std=c++17', '-O1', '-shared', '-fPIC', '-w', *(options or []),
            *(f'-I{path}' for path in (*includes, *there, sysconfig.get_path('include'))),
            *map(str, sources),
            '-o', f'{module}{sysconfig.get_config_var("EXT_SUFFIX")}',
            f'-L{lib}', f'-Wl,-rpath,{lib}', *(f'-l{name}' for name in libraries),
        ],
        check=True,
    )  # fmt: skip


def _pip(prefix: Path, *arguments: str | Path) -> None:
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, '--target', str(prefix), *map(str, arguments)], check=True)


def _run_tests(environment: dict[str, str], words: list[str]) -> int:
    """Say where every module comes from, and run the tests."""
    look = (
        'import importlib\n'
        f'for name in {MODULES}:\n'
        '    try:\n'
        '        print(f"  {name:16}", importlib.import_module(name).__file__)\n'
        '    except ImportError as error:\n'
        '        print(f"  {name:16}", "not there:", error)\n'
    )
    print('what is imported:', flush=True)
    subprocess.run([sys.executable, '-c', look], env=environment, cwd=ROOT, check=True)
    command = [sys.executable, '-m', 'pytest', '-q', '-rs', *(words or TESTS)]
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
