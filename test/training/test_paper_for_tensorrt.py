# SPDX-License-Identifier: Apache-2.0
"""The paper's graphs as TensorRT gets them: documented operators only, and the same function."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch: make setup-training')
pytest.importorskip('peft', reason='the paper networks need peft: make setup-training')
import onnx  # noqa: E402
from tiny import tiny_config  # noqa: E402

from endosfm3d_ros.bundle import open_bundle  # noqa: E402
from endosfm3d_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from endosfm3d_ros.engines.prepared import has_half_products, lint, prepared  # noqa: E402
from endosfm3d_ros.engines.tensorrt_build import (  # noqa: E402
    ALLOWED_ERROR,
    difference,
    gate_pictures,
)
from training.bundle_writer import write_bundle  # noqa: E402
from training.networks.attention_motion import AttentionMotion  # noqa: E402
from training.networks.depth_anything import DepthAnything  # noqa: E402
from training.paper import PaperModel, bundle_facts, bundle_parts  # noqa: E402


def test_depth_and_motion_lint_clean_and_say_the_same_in_single_and_half(tmp_path: Path) -> None:
    torch.manual_seed(0)
    depth = DepthAnything(config=tiny_config()).adapt().eval()
    model = PaperModel(depth, AttentionMotion().eval(), 56, 70, 30.0, {})
    card = {'what': 'a test'}
    write_bundle(tmp_path / 'mine', bundle_parts(model), bundle_facts(model), card, '1.0.0')
    bundle = open_bundle(str(tmp_path / 'mine'))
    for graph in (*bundle.depth, *bundle.motion):
        as_exported = graph.variant('fp16')
        for source, precision in ((graph, 'graph'), (graph, 'half'), (as_exported, 'half')):
            data = prepared(source, precision)
            ready = onnx.load_model_from_string(data)
            assert lint(ready) == []
            assert has_half_products(ready) == (precision == 'half')
            shown = gate_pictures(56, 70)[-len(ready.graph.input) :]
            said = OnnxRuntimeEngine(replace(graph, data=data)).run(*shown)
            for name, value in OnnxRuntimeEngine(graph).run(*shown).items():
                assert said[name].dtype == np.float32, name
                assert difference(name, said[name], value) <= ALLOWED_ERROR[precision], name
