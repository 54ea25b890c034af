# SPDX-License-Identifier: Apache-2.0
"""The bench of a GPU, as far as it goes without one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
