# SPDX-License-Identifier: Apache-2.0
"""int8 depth graphs: made of trained weights, judged by depth's own metrics, used by OpenVINO."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs torch: make setup-training')
if find_spec('nncf') is None:  # not imported here: it would wake OpenVINO's telemetry
    pytest.skip('int8 needs nncf: make setup-training', allow_module_level=True)
from endosfm3d_ros.bundle import MANIFEST, SHIPPED, Bundle, open_bundle, write_manifest
from endosfm3d_ros.engines.choose import DepthGraphs
from training.parity import RENDERED
from training.quantize import ALLOWED_CHANGE, ALLOWED_COST, Cost, Sample, _spread, quantize

COST = Cost(0.5 * ALLOWED_CHANGE, 0.06, 0.06 + 0.5 * ALLOWED_COST, 8, 8)


@pytest.fixture(scope='module')
def before(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped compact bundle, of one size."""
    folder = Path(shutil.copytree(SHIPPED / 'compact', tmp_path_factory.mktemp('b') / 'compact'))
    raw = json.loads((folder / MANIFEST).read_text())
    raw['graphs']['depth'] = raw['graphs']['depth'][:1]
    write_manifest(folder, raw)
    return open_bundle(str(folder))


@pytest.fixture(scope='module')
def costs(before: Bundle) -> dict[str, Cost]:
    """What quantising it in place found; calibrated on the rendered clip and on 'own' frames."""
    rows, costs = quantize(before.folder, videos=[RENDERED], most=40)
    assert {row.output for row in rows} >= {'depth', 'log_sigma'}
    return costs


def test_int8_costs_trained_depth_next_to_nothing_and_the_manifest_says_how_much(
    before: Bundle, costs: dict[str, Cost]
) -> None:
    after = open_bundle(str(before.folder))
    (cost,) = costs.values()
    assert cost.pictures == 20 and 0 < cost.with_truth < 20  # own frames have no truth
    assert 1e-4 < cost.change <= ALLOWED_CHANGE
    assert cost.abs_rel_int8 <= cost.abs_rel_fp32 + ALLOWED_COST
    assert cost.abs_rel_fp32 < 0.15  # the weights are trained ones, or nothing of this would count
    (stated,) = after.card['int8'].values()
    assert Cost(**stated) == cost
    assert len(after.depth[0].variant('int8').data) < 0.7 * len(after.depth[0].data)


def test_half_of_the_pictures_have_a_truth_however_long_the_videos_are() -> None:
    picture, truth = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2))
    known, other = [Sample(picture, truth)] * 50, [Sample(picture)] * 18_000
    for samples, most, wanted in (
        (known + other, 200, 50),
        (known + other, 40, 20),
        (known + other, 4, 2),
        (known + other[:10], 40, 30),
        (known[:5] + other[:5], 40, 5),
    ):
        taken = _spread(samples, most)
        assert len(taken) == min(most, len(samples))
        assert sum(one.truth is not None for one in taken) == wanted
        assert any(one.truth is not None for one in taken[1::2])


def test_openvino_runs_int8_and_onnx_runtime_runs_fp32(
    before: Bundle, costs: dict[str, Cost]
) -> None:
    after = open_bundle(str(before.folder))
    capture = cv2.VideoCapture(str(RENDERED))
    picture = cv2.cvtColor(cv2.resize(capture.read()[1], (280, 224)), cv2.COLOR_BGR2RGB)
    was, now = (DepthGraphs(bundle, 'openvino')(picture).depth for bundle in (before, after))
    reference = DepthGraphs(after, 'onnxruntime')(picture).depth
    assert np.nanmax(np.abs(reference / was - 1)) < 1e-2
    off = np.abs(now / was - 1)
    assert 1e-3 < np.nanmedian(off) < 0.1


@pytest.mark.parametrize(
    'too_far',
    [
        replace(COST, change=2 * ALLOWED_CHANGE),
        replace(COST, abs_rel_int8=0.06 + 2 * ALLOWED_COST),
        replace(COST, change=float('nan')),
    ],
)
def test_int8_that_is_too_far_off_is_refused_with_both_figures(too_far: Cost) -> None:
    COST.check()
    with pytest.raises(ValueError, match=r'int8 changes depth by .* the bundle stays as it was'):
        too_far.check()


def test_a_refusal_leaves_the_bundle_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('training.quantize.ALLOWED_CHANGE', 0.0)
    folder = Path(shutil.copytree(SHIPPED / 'compact', tmp_path / 'compact'))
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match='the bundle stays as it was'):
        quantize(folder, most=8)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == there
    assert [path.name for path in tmp_path.iterdir()] == ['compact']
