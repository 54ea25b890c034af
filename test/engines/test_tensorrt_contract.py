# SPDX-License-Identifier: Apache-2.0
"""
All that we call of TensorRT and CUDA, held against NVIDIA's own Python packages.

TensorRT's libraries are not to be had without NVIDIA's own network, its bindings are: they load
over three libraries that export the names they look for and do nothing. What is never done on
those is make a Runtime or a Builder.
"""

import ast
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from endosfm3d_ros.engines.tensorrt import OLDEST

ENGINES = Path(__file__).parents[2] / 'endosfm3d_ros' / 'engines'
# library -> what the bindings look for in it
STUBS = {
    'nvinfer': (
        'createInferBuilder_INTERNAL', 'createInferRefitter_INTERNAL',
        'createInferRuntime_INTERNAL', 'getBuilderPluginRegistry', 'getPluginRegistry',
    ),
    'nvonnxparser': (
        'createNvOnnxParserRefitter_INTERNAL', 'createNvOnnxParser_INTERNAL',
        'getNvOnnxParserVersion',
    ),
    'nvinfer_plugin': ('initLibNvInferPlugins',),
}  # fmt: skip
# our variable -> TensorRT's class; the code keeps to these names
CLASSES = {
    'builder': 'Builder', 'network': 'INetworkDefinition', 'config': 'IBuilderConfig',
    'parser': 'OnnxParser', 'problem': 'ParserError', 'cache': 'ITimingCache',
    'runtime': 'Runtime', 'engine': 'ICudaEngine', 'context': 'IExecutionContext',
}  # fmt: skip


def calls_of_tensorrt() -> Iterator[tuple[str, int | None]]:
    """(dotted name, arguments of a call or None) of everything we use of TensorRT."""
    for file in ('tensorrt.py', 'tensorrt_build.py'):
        tree = ast.parse((ENGINES / file).read_text())
        called = {id(n.func): len(n.args) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        keywords = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and n.keywords]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for base in (dotted(base) for base in node.bases):
                    if base.startswith('trt.'):
                        yield from ((f'{base[4:]}.{f.name}', None) for f in functions(node))
            if not isinstance(node, ast.Attribute):
                continue
            first, _, rest = dotted(node).partition('.')
            if first == 'trt' and rest:
                yield rest, None
            elif first in CLASSES and rest:
                yield f'{CLASSES[first]}.{rest}', called.get(id(node))
        ours = [dotted(call.func) for call in keywords]
        assert not [name for name in ours if name.split('.')[0] in {'trt', *CLASSES}], (
            'TensorRT is called by position, so that its names for arguments do not matter'
        )


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f'{dotted(node.value)}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else ''


def functions(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [one for one in node.body if isinstance(one, ast.FunctionDef)]


LOOK = """
import importlib, json, sys
trt = importlib.import_module(sys.argv[1] if len(sys.argv) > 1 else 'tensorrt_bindings')
found = {}
for name in json.loads(NAMES):
    thing = trt
    for part in name.split('.'):
        thing = getattr(thing, part, None)
    found[name] = None if thing is None else thing.__doc__ or ''
print(json.dumps([trt.__version__, found]))
"""


@pytest.fixture(scope='module', params=['tensorrt10', 'tensorrt11'])
def bindings(
    request: pytest.FixtureRequest, wheels: Callable[[str], Path], tmp_path_factory
) -> tuple[Path, Path]:
    """Folders of the bindings and of the libraries that they load."""
    version = request.param[-2:]
    libraries = tmp_path_factory.mktemp(request.param)
    for library, names in STUBS.items():
        source = libraries / f'{library}.c'
        source.write_text('\n'.join(f'void *{name}(void) {{ return 0; }}' for name in names))
        file = f'lib{library}.so.{version}'
        subprocess.run(
            ['gcc', '-shared', '-fPIC', f'-Wl,-soname,{file}', '-o', libraries / file, source],
            check=True,
        )
    return wheels(request.param), libraries


def test_every_name_and_call_of_ours_is_in_the_real_bindings(
    bindings: tuple[Path, Path], run_python: Callable[..., str]
) -> None:
    folder, libraries = bindings
    uses = sorted(set(calls_of_tensorrt()), key=str)
    names = sorted({name for name, _ in uses})
    assert len(names) > 35, 'the code no longer keeps to the names that this test looks for'
    assert 'IExecutionContext.execute_async_v3' in names
    assert 'IProgressMonitor.step_complete' in names
    code = f'NAMES = {json.dumps(json.dumps(names))}\n{LOOK}'
    said = run_python(code, folder, LD_LIBRARY_PATH=str(libraries))
    version, found = json.loads(said)
    assert tuple(int(part) for part in version.split('.')[:2]) >= OLDEST
    assert [name for name, doc in found.items() if doc is None] == []
    for name, count in uses:
        if count is not None:
            assert any(low <= count <= high for low, high in arities(found[name])), (
                f'{name} is called with {count} arguments: {found[name]}'
            )


def test_a_name_that_tensorrt_dropped_would_be_found(
    bindings: tuple[Path, Path], run_python: Callable[..., str]
) -> None:
    """The test above can fail: what 11 lost, and what never was."""
    folder, libraries = bindings
    gone = ['BuilderFlag.FP16', 'IBuilderConfig.int8_calibrator', 'Builder.build_everything']
    code = f'NAMES = {json.dumps(json.dumps(gone))}\n{LOOK}'
    version, found = json.loads(run_python(code, folder, LD_LIBRARY_PATH=str(libraries)))
    there = [name for name, doc in found.items() if doc is not None]
    assert there == (gone[:2] if version.startswith('10') else [])


def arities(doc: str) -> list[tuple[int, int]]:
    """Least and most arguments, without self, of every overload in a docstring of pybind11."""
    found = []
    for line in re.findall(r'^(?:\d+\. )?\w+\((self:.*)\) ->', doc, re.MULTILINE):
        arguments = re.split(r', (?=\w+: )', line)[1:]
        most = len(arguments)
        found.append((sum(' = ' not in one for one in arguments), most))
    return found


def test_types_and_loggers_of_the_real_bindings_are_as_our_code_takes_them(
    bindings: tuple[Path, Path], run_python: Callable[..., str]
) -> None:
    folder, libraries = bindings
    code = """
import sys, numpy as np, tensorrt_bindings as trt
sys.modules['tensorrt'] = trt
from endosfm3d_ros.engines import tensorrt, tensorrt_build
assert tensorrt.import_tensorrt() is trt
said, lines = tensorrt.Said(), []
logger = tensorrt.make_logger(trt, said)
logger.log(trt.ILogger.Severity.WARNING, 'careful')
assert (said.worst, said.warning) == ('', 'careful'), said
logger.log(trt.ILogger.Severity.ERROR, 'broken\\nfor good')
assert said.line() == 'broken for good', said
monitor = tensorrt_build.make_monitor(trt, lines.append)
monitor.phase_start('Building', None, 3)
assert monitor.step_complete('Building', 0) is True
monitor.phase_finish('Building')
assert lines == ['Building: 1 of 3'], lines
assert np.dtype(trt.nptype(trt.DataType.UINT8)) == np.uint8
assert np.dtype(trt.nptype(trt.DataType.FLOAT)) == np.float32
assert 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
print('well')
"""
    assert run_python(code, folder, LD_LIBRARY_PATH=str(libraries)).strip() == 'well'


def test_a_cuda_that_does_not_start_is_one_line_of_the_real_bindings(
    bindings: tuple[Path, Path], run_python: Callable[..., str]
) -> None:
    """The libraries give no object, as TensorRT's own do with a driver that is too old."""
    folder, libraries = bindings
    code = """
import tensorrt_bindings as trt
from endosfm3d_ros.engines import tensorrt, tensorrt_build
from endosfm3d_ros.engines.engine import EngineError
from pathlib import Path
for work in (
    lambda: tensorrt.TensorRtPlan(trt, b'a plan'),
    lambda: tensorrt_build.build(trt, b'', tensorrt_build.Options(), Path('none'), print),
):
    try:
        work()
    except EngineError as error:
        print(error)
"""
    lines = run_python(code, folder, LD_LIBRARY_PATH=str(libraries)).splitlines()
    assert len(lines) == 2
    assert all(line.startswith('TensorRT can not start: ') for line in lines), lines


def test_bindings_without_their_libraries_are_one_line(
    wheels: Callable[[str], Path], run_python: Callable[..., str]
) -> None:
    code = """
import importlib.abc, importlib.machinery, sys
class Alias(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == 'tensorrt':
            import tensorrt_bindings
Alias and sys.meta_path.insert(0, Alias())
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.tensorrt import import_tensorrt
try:
    import_tensorrt()
except EngineError as error:
    print(error)
"""
    said = run_python(code, wheels('tensorrt11'))
    assert 'libnvonnxparser.so.11' in said or 'libnvinfer' in said
    assert 'run: pip install' in said and said.count('\n') == 1


def test_every_call_of_cuda_is_one_that_cuda_python_takes(
    wheels: Callable[[str], Path], run_python: Callable[..., str]
) -> None:
    """The real library, told that there is no GPU, refuses each call by its own code."""
    code = """
import numpy as np
from endosfm3d_ros.engines.cuda import Cuda
from endosfm3d_ros.engines.engine import EngineError
from cuda.bindings import runtime
assert int(runtime.cudaStream_t(5)) == 5 and int(runtime.cudaError_t.cudaSuccess) == 0
cuda = Cuda()
calls = [
    (cuda.stream,), (cuda.event,), (cuda.device_memory, 64),
    (cuda.pinned, (2, 3), np.dtype(np.float32)), (cuda.copy_in, 1, 2, 3, 4),
    (cuda.copy_out, 1, 2, 3, 4), (cuda.record, 1, 2), (cuda.wait, 1, 2),
    (cuda.begin_capture, 1), (cuda.end_capture, 1), (cuda.launch, 1, 2), (cuda.synchronize, 1),
]
assert {call[0].__name__ for call in calls} == {
    name for name in vars(Cuda) if not name.startswith('_')} - {'discard_capture', 'close'}
for call, *arguments in calls:
    try:
        call(*arguments)
    except EngineError as error:
        print(str(error).split(':')[0])
cuda.discard_capture(1)
cuda.close()
assert cuda._cudart.cudaError_t.cudaErrorInsufficientDriver == 35
for name in ('cudaDriverGetVersion', 'cudaRuntimeGetVersion', 'cudaStreamDestroy',
             'cudaEventDestroy', 'cudaFree', 'cudaFreeHost', 'cudaGraphInstantiate',
             'cudaGraphDestroy', 'cudaGraphExecDestroy'):
    assert callable(getattr(runtime, name)), name
"""
    lines = run_python(code, wheels('cuda'), CUDA_VISIBLE_DEVICES='').splitlines()
    assert len(lines) == 12
    assert all(re.match(r'cuda\w+ says cudaError\w+', line) for line in lines), lines


def test_without_a_gpu_the_real_runtime_is_refused_before_it_kills_the_process(
    wheels: Callable[[str], Path], run_python: Callable[..., str], tmp_path: Path
) -> None:
    """NVIDIA's lean runtime, a plan with a record that fits, and no GPU: one line, alive."""
    code = f"""
import sys, importlib, hashlib
from pathlib import Path
trt = importlib.import_module('tensorrt_lean_bindings')
sys.modules['tensorrt'] = trt
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.engines import plans
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.tensorrt import TensorRtEngine
graph = open_bundle('compact').depth[0]
cache, plan = Path({str(tmp_path)!r}), b'a plan'
record = plans.Record(
    hashlib.sha256(plan).hexdigest(), graph.sha256, trt.__version__, '9.0', 'NVIDIA H200', '13.0',
    'half', graph.height, graph.width, [], {{}}, {{'depth': 0.0}}, 0.02, 1.0)
plans.write_plan(plans.plan_folder(cache, graph, 'half', trt.__version__, '9.0'), plan, record)
try:
    TensorRtEngine(graph, cache)
except EngineError as error:
    print(error)
"""
    said = run_python(code, wheels('lean'), CUDA_VISIBLE_DEVICES='')
    assert re.match('no CUDA driver|no GPU that works|the CUDA driver sees no GPU', said), said
    assert said.count('\n') == 1
