# SPDX-License-Identifier: Apache-2.0
"""
Compiled plans on disk, each with its record: what it was built from, for which GPU, and how far
off it is.

    CACHE/engines/<model>-<onnx sha8>/<precision>-<H>x<W>/trt<version>-sm<capability>/

A plan is executable content: it is used only where its record names its hash.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.share import own_command

RECORD, PLAN = 'plan.json', 'plan.engine'
FORMAT = 1
PRECISIONS = ('half', 'graph')  # the better first: what a robot takes where both are there
_WRITABLE_BY_ALL = 0o002


@dataclass(frozen=True)
class Record:
    """
    What is known of a plan.

    :param plan_sha256: of the plan file, hexadecimal.
    :param onnx_sha256: of the bundle's graph that it was built from.
    :param tensorrt: version that built it; no other may run it.
    :param capability: of the GPU that it was built on, like '9.0'.
    :param gpu: that GPU's name.
    :param driver: newest CUDA of the driver there.
    :param precision: 'half' (convolutions and products in half precision) or 'graph' (as the ONNX
        says).
    :param height: rows of the pictures it takes [px].
    :param width: columns [px].
    :param tensors: name, 'in' or 'out', shape and type of every input and output.
    :param flags: how it was built.
    :param error: largest relative difference from the ONNX graph, by output.
    :param allowed_error: what was allowed then.
    :param median_ms: of one run there, copies included [ms].
    """

    plan_sha256: str
    onnx_sha256: str
    tensorrt: str
    capability: str
    gpu: str
    driver: str
    precision: str
    height: int
    width: int
    tensors: list[list[Any]]
    flags: dict[str, Any]
    error: dict[str, float]
    allowed_error: float
    median_ms: float


def cache_folder(chosen: str = '') -> Path:
    """Where what is compiled on this machine is kept; '' takes the user's cache."""
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(home).expanduser() / 'endosfm3d'


def precision_folder(cache: Path, graph: Graph, precision: str) -> Path:
    """Where the plans of one graph, size and precision lie, for all GPUs and versions."""
    model = f'{graph.path.parent.name}-{graph.sha256[:8]}'
    return cache / 'engines' / model / f'{precision}-{graph.height}x{graph.width}'


def plan_folder(cache: Path, graph: Graph, precision: str, tensorrt: str, capability: str) -> Path:
    """The folder of one plan."""
    place = f'trt{tensorrt}-sm{capability.replace(".", "")}'
    return precision_folder(cache, graph, precision) / place


def find_plan(cache: Path, graph: Graph, tensorrt: str, capability: str) -> Path:
    """
    The folder of the plan that fits best by its name; what is inside is not believed yet.

    :param tensorrt: version that would run it.
    :param capability: of the GPU; '' where there is none, and any will do to be refused.
    :raises EngineError: nothing was compiled for this graph and size.
    """
    for precision in PRECISIONS:
        folder = plan_folder(cache, graph, precision, tensorrt, capability)
        if (folder / RECORD).is_file():
            return folder
    for precision in PRECISIONS:
        others = sorted(precision_folder(cache, graph, precision).glob(f'*/{RECORD}'))
        if others:
            return others[-1].parent
    raise EngineError(
        f'{graph.path.name} {graph.height}x{graph.width} is not compiled for this GPU (looked in '
        f'{precision_folder(cache, graph, PRECISIONS[0]).parent}); run: {how_to_build(graph)}'
    )


def how_to_build(graph: Graph) -> str:
    """The command that makes, or makes again, the plans of a graph."""
    return f'{own_command()} compile {graph.path.parent}'


def read_record(folder: Path, graph: Graph) -> Record:
    """
    Read a plan's record.

    :raises EngineError: it is missing, cut short, or of another version of this package.
    """
    path = folder / RECORD
    try:
        raw = json.loads(path.read_text(encoding='utf-8'))
        if raw.pop('format') != FORMAT:
            raise ValueError(f'its format is not {FORMAT}')
        if set(raw) != {field.name for field in fields(Record)}:
            raise ValueError('its keys are not those of this version')
        return Record(**raw)
    except OSError as error:
        raise EngineError(f'{path}: {error.strerror}; run: {how_to_build(graph)}') from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f'{path}: not the record of a plan ({error}); run: {how_to_build(graph)}'
        ) from error


def read_plan(folder: Path, record: Record, graph: Graph) -> bytes:
    """
    Read a plan that is what its record says, and that nobody else may have written.

    :return: the very bytes that were hashed.
    :raises EngineError: it is missing, changed, or open to everybody.
    """
    path = folder / PLAN
    try:
        if (path.stat().st_mode | folder.stat().st_mode) & _WRITABLE_BY_ALL:
            raise EngineError(
                f'{path}: everybody may write it, and a plan is a program; needed one that only '
                f'its owner writes: chmod o-w {folder} {path}, then {how_to_build(graph)}'
            )
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(f'{path}: {error.strerror}; run: {how_to_build(graph)}') from error
    found = hashlib.sha256(data).hexdigest()
    if found != record.plan_sha256:
        raise EngineError(
            f'{path}: its SHA-256 is {found[:12]}…, its record says {record.plan_sha256[:12]}…: '
            f'the file was changed or cut short; run: {how_to_build(graph)}'
        )
    return data


def check_origin(record: Record, graph: Graph, tensorrt: str) -> None:
    """
    Refuse a plan of another graph, size or TensorRT.

    :raises EngineError: with both values.
    """
    _same('the graph', record.onnx_sha256, graph.sha256, graph)
    size = f'{graph.height}x{graph.width}'
    _same('the size', f'{record.height}x{record.width}', size, graph)
    _same('TensorRT', record.tensorrt, tensorrt, graph)


def check_gpu(record: Record, capability: str, graph: Graph) -> None:
    """
    Refuse a plan that was built on another kind of GPU.

    :raises EngineError: with both values.
    """
    _same("the GPU's compute capability", record.capability, capability, graph)


def check_tensors(record: Record, found: list[list[Any]], graph: Graph) -> None:
    """
    Refuse a plan whose inputs and outputs are not those of its record.

    :raises EngineError: with both.
    """
    _same('inputs and outputs', record.tensors, found, graph)


def check_error(record: Record, graph: Graph) -> None:
    """
    Refuse a plan that failed its gate when it was built, or never passed one.

    :raises EngineError: with the error and what was allowed.
    """
    worst = max(record.error.values(), default=float('inf'))
    if not worst <= record.allowed_error:  # NaN too
        raise EngineError(
            f'the plan for {graph.path.name} {graph.height}x{graph.width} is off by {worst:.1e}, '
            f'allowed {record.allowed_error:.1e}; run: {how_to_build(graph)} --precision graph'
        )


def write_plan(folder: Path, plan: bytes, record: Record) -> None:
    """Write a plan and, once it lies there as a whole, its record."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    for name, data in (
        (PLAN, plan),
        (RECORD, (json.dumps({'format': FORMAT, **asdict(record)}, indent=1) + '\n').encode()),
    ):
        part = folder / f'{name}.part'
        part.write_bytes(data)
        part.chmod(0o644)
        part.replace(folder / name)


def _same(what: str, recorded: Any, found: Any, graph: Graph) -> None:
    if recorded != found:
        raise EngineError(
            f'the plan for {graph.path.name} {graph.height}x{graph.width} was built for another '
            f'{what.removeprefix("the ")}: {_short(recorded)}, here is {_short(found)}; run: '
            f'{how_to_build(graph)}'
        )


def _short(value: Any) -> str:
    text = str(value)
    return f'{text[:12]}…' if len(text) == 64 and text.isalnum() else text
