# SPDX-License-Identifier: Apache-2.0
"""Which runtime runs a bundle's graphs on this machine, and why it is that one."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines.cuda import prove_gpu
from endosfm3d_ros.engines.engine import Engine, EngineError
from endosfm3d_ros.engines.plans import cache_folder

# a user's word -> what is tried for it, in this order
KINDS = {
    'auto': ('tensorrt', 'onnxruntime-cuda', 'openvino', 'onnxruntime-cpu'),
    'tensorrt': ('tensorrt',),
    'onnxruntime': ('onnxruntime-cuda', 'onnxruntime-cpu'),
    'openvino': ('openvino',),
}
# what a kind runs in place of fp32 where the bundle has it; int8 is in a bundle only when its
# accuracy was measured and found within bounds
PREFERRED = {'openvino': 'int8'}
PACKAGES = {
    'openvino': 'openvino',
    'onnxruntime-cpu': 'onnxruntime',
    'onnxruntime-cuda': 'onnxruntime-gpu',
}
ON_GPU = ('tensorrt', 'onnxruntime-cuda')


@dataclass(frozen=True)
class Options:
    """
    How engines are made.

    :param threads: CPU threads; 0 lets the runtime choose.
    :param cache: folder for what is compiled here, of OpenVINO too; '' looks for TensorRT's plans
        in the user's cache and keeps nothing of OpenVINO.
    :param auto_compile: compile for TensorRT when the engine is made and no plan fits: minutes.
    """

    threads: int = 0
    cache: str = ''
    auto_compile: bool = False


@dataclass(frozen=True)
class Loaded:
    """
    Engines that are ready.

    :param engines: one for each graph, in their order, all of one kind.
    :param why: one line: what runs, and why nothing faster does.
    """

    engines: tuple[Engine, ...]
    why: str


def load(graphs: Sequence[Graph], wanted: str, options: Options | None = None) -> Loaded:
    """
    Make the engines of some graphs.

    A GPU's runtime that is not there, or whose plan is refused, is passed over and named in `why`;
    asked for by its own name, it is an error.

    :param graphs: checked graphs, at least one.
    :param wanted: 'auto', 'tensorrt', 'onnxruntime' or 'openvino'.
    :raises EngineError: nothing of what is wanted runs here, or a graph can not be loaded.
    """
    options, passed = options or Options(), []
    kinds = installed(wanted)
    if kinds[-1] not in ON_GPU:
        try:
            prove_gpu()
        except EngineError as error:  # one reason for all of them, and nothing to install
            kinds = tuple(kind for kind in kinds if kind not in ON_GPU)
            passed.append(str(error).split(';')[0])
    for kind in kinds:
        try:
            engines = tuple(make(preferred(graph, kind), kind, options) for graph in graphs)
        except EngineError as error:
            if kind not in ON_GPU or kind == kinds[-1]:
                raise
            passed.append(f'not {kind}: {error}')
            continue
        runs = f'engine {wanted}: {engines[0].runtime}'
        return Loaded(engines, '; '.join([runs, *passed]))
    raise EngineError(f'engine {wanted!r}: {"; ".join(passed)}')


def installed(wanted: str) -> tuple[str, ...]:
    """
    What to try for a user's word.

    :return: kinds whose Python package is here; those of a GPU stay, to say why they don't run.
    :raises EngineError: the word is unknown, or nothing is there.
    """
    if wanted not in KINDS:
        raise EngineError(f'unknown engine {wanted!r}; known engines: {", ".join(KINDS)}')
    kinds = tuple(
        kind for kind in KINDS[wanted] if kind == 'tensorrt' or find_spec(kind.split('-')[0])
    )
    if not [kind for kind in kinds if kind not in ON_GPU] and wanted != 'tensorrt':
        name = 'openvino' if wanted == 'auto' else wanted
        raise EngineError(f'engine {wanted!r}: not installed; run: pip install {name}')
    return kinds


def preferred(graph: Graph, kind: str) -> Graph:
    """The graph in the precision that a kind of runtime is best at, if the bundle has it."""
    precision = PREFERRED.get(kind, '')
    return graph.variant(precision) if precision in graph.others else graph


def make(graph: Graph, kind: str, options: Options) -> Engine:
    """
    Make one graph's engine; runtimes are imported here, nobody pays for one that is not used.

    :param kind: one of those in KINDS.
    :raises EngineError: it does not run here.
    """
    folder = cache_folder(options.cache)
    if kind == 'tensorrt':
        return _tensorrt(graph, folder, options)
    try:
        if kind == 'openvino':
            from endosfm3d_ros.engines.openvino import OpenVinoEngine
        else:
            from endosfm3d_ros.engines import onnxruntime
    except (ImportError, AttributeError) as error:  # the second: half of a package
        raise EngineError(
            f'{kind} can not be imported ({" ".join(str(error).split())[:200]}); '
            f'run: pip install --force-reinstall {PACKAGES[kind]}'
        ) from error
    if kind == 'openvino':
        return OpenVinoEngine(
            graph, options.threads, folder / 'openvino' if options.cache else None
        )
    if kind == 'onnxruntime-cuda':
        return onnxruntime.OnnxRuntimeCudaEngine(graph)
    return onnxruntime.OnnxRuntimeEngine(graph, options.threads)


def _tensorrt(graph: Graph, folder: Path, options: Options) -> Engine:
    from endosfm3d_ros.engines.tensorrt import TensorRtEngine

    try:
        return TensorRtEngine(graph, folder)
    except EngineError:
        if not options.auto_compile:
            raise
    from endosfm3d_ros.engines import tensorrt_build

    tensorrt_build.compile_graph(graph, folder, tensorrt_build.Options())
    return TensorRtEngine(graph, folder)
