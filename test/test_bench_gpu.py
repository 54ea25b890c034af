# SPDX-License-Identifier: Apache-2.0
"""The bench of a GPU, as far as it goes without one."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines import onnxruntime

torch = pytest.importorskip('torch', reason='a GPU is benched with torch: make setup-training')

from bench import gpu  # noqa: E402

ROOT = Path(__file__).parents[1]


def test_the_gpu_s_bench_needs_no_package_that_only_export_needs() -> None:
    code = "import sys; sys.modules['onnxslim'] = sys.modules['openvino'] = None; import bench.gpu"
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr


class Mean(torch.nn.Module):
    """The least that has a depth: the mean of the colours."""

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor]:
        return (picture.float().mean(-1) + 1.0,)


def test_torch_compile_is_measured_at_one_size_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it leaves the sides open from the second size on, which is slower."""
    taken, compile_ = [], torch.compile

    def backend(graph: Any, inputs: list[Any]) -> Any:
        taken.append([tuple(one.shape) for one in inputs if isinstance(one, torch.Tensor)])
        assert not [one for one in inputs if isinstance(one, torch.SymInt)]
        return graph.forward

    def watched(module: Any, mode: str, **options: Any) -> Any:
        return compile_(module, backend=backend, **options)

    monkeypatch.setattr(torch, 'compile', watched)
    sizes = [(28, 42), (28, 56), (42, 56)]
    with torch.no_grad():
        for size in sizes:
            gpu.compiled(gpu.Depth(Mean(), False), torch.zeros(*size, 3, dtype=torch.uint8))()
    assert taken == [[(*size, 3)] for size in sizes]


@pytest.fixture
def no_gpu_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's memory is here, and nothing runs often."""
    monkeypatch.setattr(torch.Tensor, 'cuda', lambda self: self)
    monkeypatch.setattr(torch.nn.Module, 'cuda', lambda self: self)
    monkeypatch.setattr(gpu, 'timed_on_device', lambda run, picture, here: gpu.timed(run))
    monkeypatch.setattr(gpu, 'WARM_UP', 1)
    monkeypatch.setattr(gpu, 'RUNS', 2)


def test_a_way_that_fails_is_a_row_that_says_why(
    no_gpu_needed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError('whatever torch may raise')

    monkeypatch.setattr(gpu, 'captured', fail)
    rows = {row['way']: row for row in gpu.measure(Mean(), (28, 42), False, True, math.inf)}
    eager = rows['torch eager fp32']
    assert (eager['error'], eager['host_runs']) == (0.0, 2)
    graph = rows['torch CUDA graph fp32']
    assert graph['missing'] == 'AssertionError: whatever torch may raise'
    ours = [row['missing'] for way, row in rows.items() if not way.startswith('torch')]
    assert len(ours) == 5
    assert all('no shipped graph of 28x42; there are 224x280' in said for said in ours)
    assert 'not measured: EngineError' in gpu.as_line(rows['TensorRT'])


def test_after_the_time_that_was_given_no_way_begins(no_gpu_needed: None) -> None:
    rows = list(gpu.measure(Mean(), (28, 42), True, True, end=time.monotonic()))
    assert len(rows) == 4 and all('no time was left' in row['missing'] for row in rows)


def test_an_engine_s_row_names_its_runtime_and_no_row_is_called_a_graph_without_one(
    no_gpu_needed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(graph: Graph, capture: bool) -> Any:
        said = {'depth': np.full((224, 280), 2.0, np.float32)}
        runtime = 'CUDA on a GPU (not captured: why not)' if capture else 'CUDA on a GPU'
        return SimpleNamespace(runtime=runtime, run=lambda picture: said)

    monkeypatch.setattr(onnxruntime, 'OnnxRuntimeCudaEngine', engine)
    monkeypatch.setattr(gpu, 'torch_ways', lambda *_: ())
    found = gpu.measure(Mean(), (224, 280), False, True, math.inf)
    rows = {row['way']: row for row in found}
    assert rows['ONNX Runtime CUDA fp16']['runtime'] == 'CUDA on a GPU'
    assert rows['ONNX Runtime CUDA fp16, graph']['missing'].endswith('(not captured: why not)')


def test_what_is_ready_soon_comes_first_and_every_row_is_kept_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, kept = tmp_path / 'gpu.json', []

    def measure(network: Any, size: tuple[int, int], are_compiled: bool, *_: Any) -> Any:
        for i in range(2):
            kept.append(len(json.loads(out.read_text())) if out.is_file() else 0)
            yield {'way': f'{are_compiled} {i}', 'size': f'{size[0]}', 'missing': 'a test'}

    monkeypatch.setattr(gpu, 'measure', measure)
    monkeypatch.setattr(gpu, 'shipped_network', Mean)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'a GPU')
    words = ['--size', '224x280', '--size', '518x518', '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', ['bench.gpu', *words])
    assert gpu.main() == 0
    rows = json.loads(out.read_text())
    order = [(row['way'][:-2], row['size']) for row in rows[::2]]
    assert order == [('False', '224'), ('False', '518'), ('True', '224'), ('True', '518')]
    assert kept == list(range(8))
