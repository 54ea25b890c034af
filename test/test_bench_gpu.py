# SPDX-License-Identifier: Apache-2.0
"""The bench of a GPU, as far as it goes without one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='the bench of a GPU needs torch: make setup-training')

ROOT = Path(__file__).parents[1]


def test_the_gpu_s_bench_needs_no_package_that_only_export_needs() -> None:
    code = "import sys; sys.modules['onnxslim'] = sys.modules['openvino'] = None; import bench.gpu"
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
