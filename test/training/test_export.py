# SPDX-License-Identifier: Apache-2.0
"""A run becomes a bundle that says the same in every runtime, or no bundle at all."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch: make setup-training')
pytest.importorskip('peft', reason='the paper networks need peft: make setup-training')
from released_weights import spread  # noqa: E402
from safetensors.torch import save, save_file  # noqa: E402
from tiny import tiny_config  # noqa: E402

from endosfm3d_ros.bundle import BundleError, open_bundle  # noqa: E402
from training import __main__ as command_line  # noqa: E402
from training.bundle_writer import new_folder, write_bundle  # noqa: E402
from training.networks.attention_motion import AttentionMotion  # noqa: E402
from training.networks.compact import CompactDepth  # noqa: E402
from training.networks.depth_anything import DepthAnything  # noqa: E402
from training.paper import PaperModel, bundle_facts, bundle_parts, load_run, save_run  # noqa: E402
from training.parity import output_error  # noqa: E402
from training.state_dicts import WeightsError  # noqa: E402

SIZE = 56, 70


def tiny_model(motion: bool = False) -> PaperModel:
    """A run's networks: DoRA that says something, ImageNet's normalisation."""
    random = torch.Generator().manual_seed(2)
    depth = DepthAnything(config=tiny_config()).adapt().eval()
    weights = {n: spread(n, tuple(v.shape), random) for n, v in depth.state_dict().items()}
    depth.load_state_dict(weights)
    network = AttentionMotion().eval() if motion else None
    return PaperModel(depth, network, *SIZE, 30.0, {})


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = tiny_model(motion=True)
    save_run(model, tmp_path)
    again = load_run(tmp_path, tiny_config())
    assert (again.height, again.width, again.unit_mm) == (*SIZE, 30.0)
    assert again.depth.imagenet and again.depth.adapted and again.motion
    for ours, theirs in ((model.depth, again.depth), (model.motion, again.motion)):
        found = theirs.state_dict()
        assert all(torch.equal(v, found[k]) for k, v in ours.state_dict().items())
    (tmp_path / 'depth.safetensors').write_bytes(b'cut short')
    with pytest.raises(WeightsError, match=r'depth\.safetensors: no state dict'):
        load_run(tmp_path, tiny_config())


def test_a_paper_run_becomes_a_bundle_with_whole_patches_and_imagenet_inside(
    tmp_path: Path,
) -> None:
    model = tiny_model()
    rows = write_bundle(
        tmp_path / 'mine', bundle_parts(model), bundle_facts(model), {'what': 'a test'}, '1.2.3'
    )
    bundle = open_bundle(str(tmp_path / 'mine'))
    assert bundle.version == '1.2.3' and bundle.sizes == (SIZE,)
    assert bundle.input['normalisation'] == 'ImageNet mean and std'
    assert bundle.input['patches'] == '4x5 patches of 14 px see 56x70'
    assert sorted(bundle.depth[0].others) == ['fp16']
    assert {row.precision for row in rows} == {'fp32', 'fp16'}
    assert max(r.error for r in rows if r.precision == 'fp16') > 1e-6  # it is another graph
    half = bundle.depth[0].variant('fp16')
    assert len(half.data) < 0.8 * len(bundle.depth[0].data)
    assert bundle.card['parity'] == {row.name: row.error for row in rows}
    half.path.write_bytes(half.data[:-1])
    with pytest.raises(BundleError, match=r'SHA-256 is .* the manifest says'):
        bundle.depth[0].variant('fp16')
    with pytest.raises(BundleError, match='no int8 variant in the manifest, found fp16'):
        bundle.depth[0].variant('int8')


def test_a_compact_run_is_exported_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    run = tmp_path / 'run'
    run.mkdir()
    save_file(CompactDepth().state_dict(), run / 'weights.safetensors')
    monkeypatch.setattr(sys, 'argv', ['training', 'export', str(run), str(tmp_path / 'small')])
    assert command_line.main() == 0
    said = capsys.readouterr().out
    assert said.count('openvino') == said.count('onnxruntime') == 3 * 4  # sizes by outputs
    assert [graph.width for graph in open_bundle(str(tmp_path / 'small')).depth] == [280, 336, 392]


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, 'argv', ['training', 'export', str(tmp_path), str(tmp_path / 'new')])
    assert command_line.main() == 1
    assert 'no run; needed RUN/best of training.train' in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
    ('content', 'said'),
    [(save({'x': torch.zeros(3)}), 'missing key encoder.'), (b'', 'no state dict that torch')],
)
def test_weights_of_something_else_are_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    content: bytes, said: str,
) -> None:  # fmt: skip
    (tmp_path / 'weights.safetensors').write_bytes(content)
    monkeypatch.setattr(sys, 'argv', ['training', 'export', str(tmp_path), str(tmp_path / 'new')])
    assert command_line.main() == 1
    line = capsys.readouterr().err
    assert f'{tmp_path}/weights.safetensors: {said}' in line and line.count('\n') == 1


@pytest.mark.parametrize('text', ['', '[1]'])
def test_a_card_that_is_none_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    card = tmp_path / 'card.json'
    card.write_text(text)
    for name in ('export', 'import-released'):
        words = ['training', name, str(tmp_path / 'none'), str(tmp_path / 'new')]
        monkeypatch.setattr(sys, 'argv', [*words, '--card', str(card)])
        assert command_line.main() == 1
        assert f'{card}: ' in capsys.readouterr().err


def test_a_graph_that_says_something_else_is_not_written(tmp_path: Path) -> None:
    model = tiny_model()
    [part] = bundle_parts(model, half=False)
    with torch.no_grad():
        part.reference.network.head.conv3.bias += 0.01  # the graph is of the network before
    with pytest.raises(ValueError, match=r'depth 56x70 fp32 openvino: depth differs .* allowed'):
        write_bundle(tmp_path / 'mine', [part], bundle_facts(model), {}, '0')
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / 'mine'
    with new_folder(target) as folder:
        (folder / 'model.json').write_text('first')
    with pytest.raises(FileNotFoundError), new_folder(target) as folder:
        (folder / 'half' / 'model.json').write_text('second')
    assert (target / 'model.json').read_text() == 'first'
    with new_folder(target) as folder:
        (folder / 'model.json').write_text('third')
    assert (target / 'model.json').read_text() == 'third'
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_the_error_of_depth_is_that_of_its_reciprocal() -> None:
    near, far = np.array([1.0, 100.0]), np.array([1.0, 50.0])
    assert output_error('depth', far, near) == pytest.approx(0.01 / np.hypot(1, 0.01))
    assert output_error('translation', far, near) == pytest.approx(50 / np.hypot(1, 100))
    assert output_error('depth', near[:1], near) == float('inf')


def test_every_command_is_there_and_an_unknown_one_is_told_the_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, 'argv', ['training', 'conquer'])
    assert command_line.main() == 2
    said = capsys.readouterr()
    assert "no command 'conquer'" in said.err
    for name, (module, _) in command_line.COMMANDS.items():
        assert name in said.out
        assert (
            Path(command_line.__file__).parents[1] / (module.replace('.', '/') + '.py')
        ).exists()
