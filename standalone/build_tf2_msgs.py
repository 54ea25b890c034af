# SPDX-License-Identifier: Apache-2.0
"""
Build tf2_msgs for a venv that holds the ROS 2 wheels of PyPI, which lack this one package.

Run by ``tools/setup`` with the venv's own Python. The wheels' rosidl generators turn the one
message that TF needs into C and Python; gcc and g++ compile it in seconds; the result lies where
a wheel would have put it. Building again replaces file by file, so running nodes survive it.
"""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PACKAGE = 'tf2_msgs'
DEFINITION = 'geometry_msgs/TransformStamped[] transforms\n'
# Says that a node of any ROS 2 Jazzy machine takes our messages for its own.
TYPE_HASH = 'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087'
# Packages whose types the definition reaches.
DEPENDENCIES = ('geometry_msgs', 'std_msgs', 'builtin_interfaces')
# Fast DDS, the wheels' middleware, writes messages by the first and describes types by the second.
TYPE_SUPPORTS = ('rosidl_typesupport_fastrtps_c', 'rosidl_typesupport_introspection_c')

PREFIX = Path(sys.prefix)
LIBRARIES = PREFIX / 'lib'
# The platform's C compiler and C++ compiler, and what brings both.
COMPILERS = ('gcc', 'g++')
APT_LINE = 'apt-get install -y g++ python3-dev'


class BuildError(RuntimeError):
    """The machine or the venv lacks something; the text says what, and what to run."""


def check_tools() -> None:
    """:raises BuildError: naming the missing compiler, header or wheel and the line to run."""
    for compiler in COMPILERS:
        if shutil.which(compiler) is None:
            raise BuildError(f'{compiler} not found, needed to build {PACKAGE}: {APT_LINE}')
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.is_file():
        raise BuildError(f'{header} not found, needed to build {PACKAGE}: {APT_LINE}')
    for module in ('numpy', 'em', 'lark', 'catkin_pkg', 'rosidl_generator_py', 'geometry_msgs'):
        if importlib.util.find_spec(module) is None:
            raise BuildError(
                f'{module} is not installed in {PREFIX}: '
                f'{sys.executable} -m pip install -r requirements/ros.txt'
            )


def generate(work: Path) -> None:
    """
    Write the C, C++ and Python sources.

    :param work: folder that receives one folder per generator, which overwrite each other's
        intermediate files when they share one.
    """
    # The generators find their templates through the ament index, which lies in the venv.
    os.environ['AMENT_PREFIX_PATH'] = str(PREFIX)
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    generators = {
        'c': GenerateC('c'),
        'typesupport': GenerateCTypesupport(
            'typesupport', typesupport_implementations=list(TYPE_SUPPORTS)
        ),
        'fastrtps': GenerateFastRTPSCTypesupport('fastrtps'),
        'introspection': GenerateIntrospectionCTypesupport('introspection'),
        'python': GeneratePython('py', typesupport_implementations=['rosidl_typesupport_c']),
    }
    message = work / 'msg' / 'TFMessage.msg'
    message.parent.mkdir()
    message.write_text(DEFINITION)
    os.chdir(work)  # the generators take the message's path relative to here
    logging.disable(logging.WARNING)  # they complain of the wheels' doubled entry points
    for folder, generator in generators.items():
        output = work / folder / PACKAGE
        output.mkdir(parents=True)
        generator.generate(PACKAGE, ['msg/TFMessage.msg'], [str(PREFIX / 'share')], output)


def compile_all(work: Path) -> list[Path]:
    """
    Compile the generated sources into the libraries and the extension module that loads them.

    :param work: the folder that :func:`generate` filled.
    :return: the libraries, then the Python extension.
    """
    import numpy as np

    includes = [work / folder for folder in ('c', 'fastrtps', 'introspection')]
    includes += [PREFIX / 'include', *sorted((PREFIX / 'include').iterdir())]
    includes += [Path(sysconfig.get_path('include')), Path(np.get_include())]

    def link(name: str, sources: list[Path], own: list[str], kind: str, others: list[str]) -> Path:
        """Compile and link one library against our own, our dependencies' and the wheels'."""
        libraries = [f'{PACKAGE}__{library}' for library in own]
        libraries += [f'{package}__{kind}' for package in DEPENDENCIES] + others
        output = work / name
        command = [
            'g++' if sources[0].suffix == '.cpp' else 'gcc',
            *('-shared', '-fPIC', '-O2', '-w', '-o', str(output)),
            *(f'-I{include}' for include in includes),
            *(str(source) for source in sources),
            *(f'-L{folder}' for folder in (work, LIBRARIES)),
            *(f'-l{library}' for library in libraries),
            *(f'-Wl,-rpath,{LIBRARIES}', '-Wl,--allow-shlib-undefined'),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f'{" ".join(command)}\n{done.stderr}\n{name} did not compile')
        return output

    runtime = ['rosidl_runtime_c', 'rcutils']
    fastrtps = ['rosidl_typesupport_fastrtps_c', 'rosidl_typesupport_fastrtps_cpp', 'fastcdr']
    return [
        link(
            f'lib{PACKAGE}__rosidl_generator_c.so',
            sorted((work / 'c').glob('*/msg/detail/*.c')),
            [],
            'rosidl_generator_c',
            runtime,
        ),
        link(
            f'lib{PACKAGE}__rosidl_typesupport_fastrtps_c.so',
            sorted((work / 'fastrtps').glob('*/msg/detail/*.cpp')),
            ['rosidl_generator_c'],
            'rosidl_typesupport_fastrtps_c',
            [*fastrtps, 'rmw', *runtime],
        ),
        link(
            f'lib{PACKAGE}__rosidl_typesupport_introspection_c.so',
            sorted((work / 'introspection').glob('*/msg/detail/*.c')),
            ['rosidl_generator_c'],
            'rosidl_typesupport_introspection_c',
            ['rosidl_typesupport_introspection_c', *runtime],
        ),
        link(
            f'lib{PACKAGE}__rosidl_typesupport_c.so',
            sorted((work / 'typesupport').glob('*/msg/*.cpp')),
            ['rosidl_generator_c'],
            'rosidl_typesupport_c',
            ['rosidl_typesupport_c', *runtime],
        ),
        link(
            f'lib{PACKAGE}__rosidl_generator_py.so',
            sorted((work / 'python').glob('*/msg/*.c')),
            ['rosidl_generator_c', 'rosidl_typesupport_c'],
            'rosidl_generator_py',
            runtime,
        ),
        link(
            f'{PACKAGE}_s__rosidl_typesupport_c{sysconfig.get_config_var("EXT_SUFFIX")}',
            sorted((work / 'python').glob('*/*.c')),
            ['rosidl_generator_py', 'rosidl_typesupport_c', 'rosidl_generator_c'],
            'rosidl_generator_py',
            ['rosidl_typesupport_c', 'rmw', *runtime],
        ),
    ]


def install(work: Path, binaries: list[Path]) -> None:
    """
    Put the package where a wheel would have put it.

    :param work: the folder that :func:`generate` filled.
    :param binaries: what :func:`compile_all` returned.
    """
    *libraries, extension = binaries
    package = Path(sysconfig.get_path('purelib')) / PACKAGE
    share = PREFIX / 'share' / PACKAGE
    index = PREFIX / 'share' / 'ament_index' / 'resource_index' / 'packages' / PACKAGE
    marker = work / 'marker'
    marker.touch()
    files = {LIBRARIES / library.name: library for library in libraries}
    files |= {package / extension.name: extension, package / '__init__.py': marker, index: marker}
    sources = sorted((work / 'python').glob('*/msg/*.py'))
    files |= {package / 'msg' / source.name: source for source in sources}
    descriptions = [work / 'msg' / 'TFMessage.msg', *(work / 'c').rglob('TFMessage.json')]
    files |= {share / 'msg' / source.name: source for source in descriptions}
    for target, source in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        # A running node has the old library mapped: replace the name, never the bytes.
        beside = target.with_name(f'.{target.name}.new')
        shutil.copyfile(source, beside)
        beside.replace(target)


def check_type_hash(work: Path) -> None:
    """:raises BuildError: if the generated type is not Jazzy's tf2_msgs/msg/TFMessage."""
    (description,) = (work / 'c').rglob('TFMessage.json')
    hashes = json.loads(description.read_text())['type_hashes']
    found = {entry['type_name']: entry['hash_string'] for entry in hashes}[
        f'{PACKAGE}/msg/TFMessage'
    ]
    if found != TYPE_HASH:
        raise BuildError(f'the generated TFMessage has type hash {found}, Jazzy has {TYPE_HASH}')


def main() -> int:
    """:return: process exit status."""
    try:
        check_tools()
        with tempfile.TemporaryDirectory(prefix=f'{PACKAGE}-') as folder:
            work = Path(folder)
            generate(work)
            check_type_hash(work)
            install(work, compile_all(work))
            os.chdir(PREFIX)
        # In a process of its own: this one began without the package.
        check = 'from rclpy.serialization import serialize_message as s; '
        check += f'from {PACKAGE}.msg import TFMessage; s(TFMessage())'
        subprocess.run([sys.executable, '-c', check], check=True)
    except (BuildError, subprocess.CalledProcessError) as error:
        print(f'build_tf2_msgs: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
