# SPDX-License-Identifier: Apache-2.0
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endosfm3d_ros.bundle import (
    K_CENTRED,
    K_OFFSETS,
    K_PLAIN,
    MANIFEST,
    SHIPPED,
    BundleError,
    open_bundle,
    sha256_of,
    shipped_bundles,
)
from endosfm3d_ros.engines.choose import RUNTIMES, DepthGraphs
from endosfm3d_ros.engines.engine import EngineError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / 'photometric', tmp_path / 'photometric'))


def rewrite(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


@pytest.mark.parametrize('name', shipped_bundles())
def test_every_shipped_bundle_opens_and_has_a_card(name: str) -> None:
    bundle = open_bundle(name)
    assert (
        bundle.name == name
        and bundle.depth
        and {'what', 'limits', 'training_data'} <= set(bundle.card)
    )


def test_one_changed_byte_in_a_graph_is_found(folder: Path) -> None:
    graph = folder / 'depth_224x280.onnx'
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(BundleError, match='SHA-256 is .* the manifest says'):
        open_bundle(str(folder))


def test_a_missing_bundle_graph_or_key_is_named_in_one_line(folder: Path) -> None:
    with pytest.raises(BundleError, match='no bundle .* photometric; set the parameter `model`'):
        open_bundle('nonesuch')
    (folder / 'depth_224x336.onnx').unlink()
    with pytest.raises(
        BundleError, match='depth_224x336.onnx: the manifest names it and it is not there'
    ):
        open_bundle(str(folder))


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'format': 99}, 'format 99, this version reads 1'),
        ({'surprise': 1}, "unknown key 'surprise'"),
        ({'unit_mm': -1}, 'must be positive'),
        ({'unit_mm': 'ten'}, 'could not convert'),
        ({'depth_range': [5, 1]}, 'must be positive and ordered'),
        ({'graphs': {'depth': [], 'motion': []}}, 'no depth graph'),
        ({'channels': 'bgr'}, "feeds 'rgb'"),
        ({'intrinsics': 'fx = fy = 7'}, "intrinsics 'fx = fy = 7'; known: none"),
        ({'intrinsics': K_PLAIN}, 'with 0 motion graphs; needed a formula with motion graphs'),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_reason(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    rewrite(folder, **changes)
    with pytest.raises(BundleError, match=said) as refusal:
        open_bundle(str(folder))
    assert '\n' not in str(refusal.value)


def entry_of(folder: Path, file: str) -> dict[str, Any]:
    return {'file': file, 'height': 224, 'width': 280, 'sha256': sha256_of(folder / file)}


def test_motion_graphs_need_a_formula_and_the_depth_graphs_sizes(folder: Path) -> None:
    depth = entry_of(folder, 'depth_224x280.onnx')
    motion = {**depth, 'width': 336}
    rewrite(folder, graphs={'depth': [depth], 'motion': [depth]}, intrinsics='none')
    with pytest.raises(BundleError, match=r"'none' with 1 motion graphs"):
        open_bundle(str(folder))
    rewrite(folder, graphs={'depth': [depth], 'motion': [motion]}, intrinsics=K_CENTRED)
    with pytest.raises(BundleError, match='motion graphs of other sizes than the depth graphs'):
        open_bundle(str(folder))


def test_the_two_formulas_of_k_differ_by_half_a_pixel() -> None:
    assert K_OFFSETS[K_CENTRED] - K_OFFSETS[K_PLAIN] == 0.5
    assert 'cx = W k2 - 1/2' in K_CENTRED and 'cx = W k2,' in K_PLAIN


def test_a_variant_is_checked_when_it_is_asked_for_and_lies_in_the_bundle(folder: Path) -> None:
    entry = entry_of(folder, 'depth_224x280.onnx')
    other = {'file': 'depth_224x336.onnx', 'sha256': '0' * 64}
    graphs = {'depth': [{**entry, 'variants': {'int8': other}}], 'motion': []}
    rewrite(folder, graphs=graphs)
    graph = open_bundle(str(folder)).depth[0]
    with pytest.raises(BundleError, match='SHA-256 is .* the manifest says 000000000000'):
        graph.variant('int8')
    other['sha256'] = sha256_of(folder / other['file'])
    rewrite(folder, graphs=graphs)
    found = open_bundle(str(folder)).depth[0].variant('int8')
    assert found.data == (folder / other['file']).read_bytes() and found.width == 280
    other['file'] = '../outside.onnx'
    rewrite(folder, graphs=graphs)
    with pytest.raises(BundleError, match='lies outside the bundle'):
        open_bundle(str(folder))
    rewrite(folder, graphs={'depth': [{**entry, 'variants': {'int4': other}}], 'motion': []})
    with pytest.raises(BundleError, match="unknown variant 'int4'; known: fp16, int8"):
        open_bundle(str(folder))


def test_a_graph_outside_the_bundle_is_refused(folder: Path) -> None:
    shutil.copy(folder / 'depth_224x280.onnx', folder.parent / 'outside.onnx')
    entry = {
        'file': '../outside.onnx',
        'height': 224,
        'width': 280,
        'sha256': sha256_of(folder.parent / 'outside.onnx'),
    }
    rewrite(folder, graphs={'depth': [entry], 'motion': []})
    with pytest.raises(BundleError, match='lies outside the bundle'):
        open_bundle(str(folder))


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"format": 1,')
    with pytest.raises(BundleError, match='not JSON'):
        open_bundle(str(folder))


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_a_graph_that_no_runtime_takes_is_an_engine_error(folder: Path, runtime: str) -> None:
    graph = folder / 'depth_224x280.onnx'
    graph.write_bytes(b'not a graph')
    entry = {'file': graph.name, 'height': 224, 'width': 280, 'sha256': sha256_of(graph)}
    rewrite(folder, graphs={'depth': [entry], 'motion': []})
    with pytest.raises(EngineError, match='export the bundle again'):
        DepthGraphs(open_bundle(str(folder)), runtime)


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_weights_outside_the_hashed_file_are_refused(folder: Path, runtime: str) -> None:
    onnx = pytest.importorskip('onnx', reason='making graphs needs onnx: make setup-test')
    model = onnx.load(folder / 'depth_224x280.onnx')
    onnx.external_data_helper.convert_model_to_external_data(
        model, location='w.bin', size_threshold=0
    )
    onnx.save(model, folder / 'depth_224x280.onnx')
    manifest = json.loads((folder / MANIFEST).read_text())
    entry = manifest['graphs']['depth'][0]
    entry['sha256'] = sha256_of(folder / entry['file'])
    rewrite(folder, graphs={'depth': [entry], 'motion': []})
    with pytest.raises(EngineError, match='export the bundle again'):
        DepthGraphs(open_bundle(str(folder)), runtime)


@pytest.mark.parametrize('name', ['~no_such_user/x', 'a' * 5000, 'nul\0byte'])
def test_a_name_that_is_no_path_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(BundleError) as refusal:
        open_bundle(name)
    assert '\n' not in str(refusal.value)


def test_an_unknown_engine_is_named_with_the_known_ones() -> None:
    known = 'known engines: auto, tensorrt, onnxruntime, openvino'
    with pytest.raises(EngineError, match=known):
        DepthGraphs(open_bundle('photometric'), 'abacus')


def test_a_graph_of_another_size_than_the_manifest_says_is_found_at_warm_up(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest['graphs']['depth'][0]['width'] = 300
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(EngineError):
        DepthGraphs(open_bundle(str(folder)), 'onnxruntime')


def test_both_runtimes_say_the_same_depth() -> None:
    bundle = open_bundle('photometric')
    rng = np.random.default_rng(0)
    said = {name: DepthGraphs(bundle, name) for name in RUNTIMES}
    for height, width in bundle.sizes:
        picture = np.repeat(
            np.repeat(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8), 8, 0), 8, 1
        )
        first, second = (said[name](picture) for name in RUNTIMES)
        assert np.allclose(first.depth, second.depth, rtol=1e-4, equal_nan=True)
        assert np.allclose(first.log_sigma, second.log_sigma, atol=1e-5)


def test_a_picture_of_a_size_the_bundle_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match='the bundle photometric takes'):
        DepthGraphs(open_bundle('photometric'))(np.zeros((100, 100, 3), np.uint8))
