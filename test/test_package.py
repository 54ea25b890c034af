# SPDX-License-Identifier: Apache-2.0
"""What the package says of itself is what it is."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'endosfm3d_ros'
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()

# Modules whose package goes by another name, in package.xml (rosdep) or in requirements/ (pip).
ROSDEP = {
    'cv2': 'python3-opencv',
    'numpy': 'python3-numpy',
    'onnxruntime': 'python3-onnxruntime-pip',
    'psutil': 'python3-psutil',
    'rosbags': 'python3-rosbags-pip',
    'tf2_ros': 'tf2_ros_py',
    'yaml': 'python3-yaml',
}
PIP = {'cv2': 'opencv-python-headless', 'yaml': 'PyYAML'}
# Not in package.xml: rosdep knows no key for them, or (numba) one of a distribution's old version.
# requirements/robot.txt brings them.
PIP_ONLY = {'lz4', 'mcap', 'numba', 'openvino', 'zstandard'}
# Only for a GPU, imported late with a line that says what to install; never needed to run.
FOR_A_GPU = {'cuda', 'google', 'onnx', 'tensorrt'}
NEEDS_A_DISTRIBUTION = {'launch', 'launch_ros'}


def imports(*folders):
    """Top-level names of everything imported in a folder that is not Python's nor ours."""
    found = set()
    for path in (path for folder in folders for path in folder.rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split('.')[0])
    return found - set(sys.stdlib_module_names) - {'__future__', 'endosfm3d_ros'}


OTHERWISE = PIP_ONLY | FOR_A_GPU


def declared(*tags):
    return {element.text for tag in tags for element in MANIFEST.iter(tag)}


def test_the_dockerfile_brings_what_package_xml_and_the_requirements_name():
    words = (ROOT / 'docker' / 'Dockerfile').read_text()
    brought = set(re.findall(r'ros-jazzy-([a-z0-9-]+)', words)) | set(
        re.findall(r'python3-[a-z]+', words)
    )
    # what ros-base has by itself
    base = {'ament-index-python', 'geometry-msgs', 'launch', 'launch-ros', 'nav-msgs', 'rclpy'}
    base |= {'rcl-interfaces', 'sensor-msgs', 'std-msgs', 'std-srvs'}
    needed = {name.replace('_', '-') for name in declared('exec_depend')}
    assert '-r requirements/robot.txt' in words
    wheels = {pin.split('==')[0] for pin in pins('robot')}
    by_pip = {f'python3-{name}-pip' for name in wheels}
    assert sorted(needed - brought - base - by_pip) == []
    assert wheels - PIP_ONLY == {'onnxruntime', 'rosbags'}
    (onnx,) = re.findall(r'onnx==[\d.]+', words)
    assert onnx in pins('test')


@pytest.mark.parametrize('page', ['README.md', 'docs/install.md'])
def test_a_robot_s_pip_leaves_numpy_alone_and_rosdep_leaves_pip_s_packages_to_it(page):
    words = (ROOT / page).read_text()
    pip = r'pip install --break-system-packages -c numpy\.txt -r \S*requirements/robot\.txt'
    assert re.search(pip, words)
    skipped = re.search(r"--skip-keys '([^']+)'", words)[1].split()
    assert sorted(skipped) == sorted(name for name in declared('exec_depend') if '-pip' in name)


def pins(name):
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def test_every_import_is_declared_in_package_xml():
    needed = {ROSDEP.get(name, name) for name in imports(PACKAGE, ROOT / 'launch') - OTHERWISE}
    assert sorted(needed - declared('exec_depend', 'depend')) == []


def test_package_xml_declares_nothing_that_is_not_imported():
    used = {ROSDEP.get(name, name) for name in imports(PACKAGE, ROOT / 'launch')}
    assert sorted(declared('exec_depend', 'depend') - used) == []


def test_every_import_is_installed_on_a_machine_without_a_distribution():
    wheels = {
        re.sub(r'^ros-|\[.*', '', pin.split('==')[0]).replace('-', '_') for pin in pins('ros')
    }
    pip = {pin.split('==')[0] for pin in pins('runtime')}
    stand_ins = {path.name for path in (ROOT / 'standalone').iterdir() if path.is_dir()}
    here = wheels | stand_ins | {'tf2_msgs'} | NEEDS_A_DISTRIBUTION | FOR_A_GPU
    missing = {name for name in imports(PACKAGE) if PIP.get(name, name) not in pip} - here
    assert sorted(missing) == []


@pytest.mark.parametrize('name', ['ros', 'ros-kilted', 'runtime', 'robot', 'test', 'training'])
def test_every_requirement_is_pinned_exactly(name):
    assert pins(name)
    assert [
        pin for pin in pins(name) if not re.fullmatch(r'[\w.-]+(\[\w+\])?==[\w.+]+', pin)
    ] == []


def test_lists_that_share_a_package_agree_on_its_version():
    versions = {}
    lists = ('ros', 'runtime', 'robot', 'test', 'training')
    for pin in (pin for name in lists for pin in pins(name)):
        package, version = pin.split('==')
        assert versions.setdefault(package, version) == version, package


@pytest.fixture(scope='module')
def built():
    """What setup.py hands to setuptools."""
    import setuptools

    handed = {}
    original, setuptools.setup = setuptools.setup, lambda **arguments: handed.update(arguments)
    try:
        spec = importlib.util.spec_from_file_location('setup_script', ROOT / 'setup.py')
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    finally:
        setuptools.setup = original
    return handed


def test_every_folder_with_code_is_installed(built):
    folders = {path.parent.relative_to(ROOT) for path in PACKAGE.rglob('*.py')}
    assert sorted('.'.join(folder.parts) for folder in folders) == sorted(built['packages'])


def test_every_launch_config_and_bundle_file_is_installed(built, tmp_path):
    data = {name for _, names in built['data_files'] for name in names}
    wanted = [
        p
        for f in ('launch', 'config', 'config/security')
        for p in (ROOT / f).iterdir()
        if p.is_file()
    ]
    assert (
        sorted(
            str(path.relative_to(ROOT))
            for path in wanted
            if str(path.relative_to(ROOT)) not in data
        )
        == []
    )
    assert all((ROOT / name).is_file() for name in data)
    packaged = {
        path for glob in built['package_data']['endosfm3d_ros'] for path in PACKAGE.glob(glob)
    }
    others = {
        p
        for p in PACKAGE.rglob('*')
        if p.is_file() and p.suffix != '.py' and '__pycache__' not in p.parts
    }
    assert sorted(str(path.relative_to(ROOT)) for path in others - packaged) == []


def test_ros_finds_the_package_in_its_index(built):
    assert ('share/ament_index/resource_index/packages', ['resource/endosfm3d_ros']) in built[
        'data_files'
    ]
    assert (ROOT / 'resource' / 'endosfm3d_ros').is_file()
    assert MANIFEST.findtext('export/build_type') == 'ament_python'


def test_every_command_exists(built):
    for line in built['entry_points']['console_scripts']:
        module, function = line.split('=')[1].strip().split(':')
        path = ROOT / Path(*module.split('.')).with_suffix('.py')
        names = {
            n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)
        }
        assert function in names, line


def test_every_source_file_says_its_license():
    files = [*ROOT.glob('*/**/*.py'), ROOT / 'setup.py', ROOT / 'tools' / 'setup']
    ours = [
        p
        for p in files
        if p.stat().st_size and not {'.venv', '.venv-kilted', 'build', 'install'} & set(p.parts)
    ]
    assert [
        str(p) for p in ours if 'SPDX-License-Identifier: Apache-2.0' not in p.read_text()[:80]
    ] == []
