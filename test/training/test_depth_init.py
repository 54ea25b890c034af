# SPDX-License-Identifier: Apache-2.0
"""Where a depth network's training starts, from each of the sources, in miniature."""

from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='training needs torch: make setup-training')
pytest.importorskip('peft', reason='the paper networks need peft: make setup-training')
from safetensors.torch import load_file, save_file  # noqa: E402
from tiny import tiny_config  # noqa: E402
from transformers import DepthAnythingForDepthEstimation  # noqa: E402

from training import depth_init  # noqa: E402
from training.depth_init import HUB, depth_network, original_names  # noqa: E402
from training.networks.depth_anything import DepthAnything  # noqa: E402
from training.state_dicts import WeightsError  # noqa: E402


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder that transformers itself saved."""
    torch.manual_seed(1)
    folder = tmp_path / 'published'
    DepthAnythingForDepthEstimation(tiny_config()).save_pretrained(folder)
    return folder


def start(source: object) -> DepthAnything:
    return depth_network(str(source), tiny_config())


def test_a_folder_that_transformers_saved_gives_the_same_fused_maps(published: Path) -> None:
    theirs = DepthAnythingForDepthEstimation.from_pretrained(published).eval()
    ours = start(published).eval()
    picture = torch.rand(1, 3, 56, 70)
    normalised = (picture - ours.mean) / ours.std
    with torch.no_grad():
        maps = theirs.neck(list(theirs.backbone(normalised).feature_maps), 4, 5)
        wanted = ours.head(maps[-1], (56, 70))
        assert torch.allclose(ours(picture), wanted, atol=1e-6)
    assert ours.imagenet
    assert torch.equal(ours.head.conv1.weight, theirs.head.conv1.weight)
    assert not torch.equal(ours.head.conv3.weight, theirs.head.conv3.weight)  # begins anew


def test_names_of_transformers_4_are_read_too(published: Path, tmp_path: Path) -> None:
    old = {}
    for name, value in load_file(published / 'model.safetensors').items():
        for now, before in (
            ('.attention.q_proj.', '.attention.attention.query.'),
            ('.attention.k_proj.', '.attention.attention.key.'),
            ('.attention.v_proj.', '.attention.attention.value.'),
            ('.attention.o_proj.', '.attention.output.dense.'),
        ):
            name = name.replace(now, before)
        old[name] = value
    folder = tmp_path / 'old'
    folder.mkdir()
    save_file(old, folder / 'model.safetensors')
    first, second = start(published).state_dict(), start(folder).state_dict()
    assert all(torch.equal(v, second[k]) for k, v in first.items() if 'conv3' not in k)


def test_the_original_file_s_names_give_the_same_network(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = start(published)
    original: dict[str, list[torch.Tensor]] = {}
    for ours, theirs, _ in original_names(network):  # query, key and value come in this order
        original.setdefault(theirs, []).append(network.state_dict()[ours])
    path = tmp_path / 'depth_anything_v2_vits.pth'
    torch.save({name: torch.cat(parts) for name, parts in original.items()}, path)
    assert 'pretrained.blocks.0.attn.qkv.weight' in original
    assert 'depth_head.scratch.refinenet4.resConfUnit1.conv1.weight' in original
    first, second = network.state_dict(), start(path).state_dict()
    assert all(torch.equal(v, second[k]) for k, v in first.items() if 'conv3' not in k)
    assert 'the published depth_anything_v2_vits.pth has 99218434' in capsys.readouterr().err


def test_an_original_file_cut_short_says_what_the_published_one_is(tmp_path: Path) -> None:
    path = tmp_path / 'depth_anything_v2_vits.pth'
    path.write_bytes(b'PK\x03\x04 cut short')
    with pytest.raises(WeightsError, match=r'has 14 bytes, the published .* has 99218434') as said:
        start(path)
    assert '\n' not in str(said.value)


def test_a_file_of_the_right_size_is_told_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'depth_anything_v2_vits.pth'
    path.write_bytes(b'not weights')
    monkeypatch.setattr(depth_init, 'PUBLISHED_BYTES', 11)
    with pytest.raises(WeightsError, match=r'SHA-256 is \w{8}…\w{4}, .* is 715fade1…1378'):
        start(path)


def test_the_hub_s_weights_are_taken_from_its_cache(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(WeightsError, match=f'{HUB} can not be fetched .* local folder'):
        start('hub')
    repository = tmp_path / 'cache' / f'models--{HUB.replace("/", "--")}'
    commit = '0' * 40
    (repository / 'refs').mkdir(parents=True)
    (repository / 'refs' / 'main').write_text(commit)
    (repository / 'snapshots').mkdir()
    published.rename(repository / 'snapshots' / commit)
    first = start(repository / 'snapshots' / commit).state_dict()
    second = start('hub').state_dict()
    assert all(torch.equal(v, second[k]) for k, v in first.items() if 'conv3' not in k)


def test_a_key_that_does_not_fit_is_named(published: Path) -> None:
    weights = load_file(published / 'model.safetensors')
    weights.pop('neck.convs.2.weight')
    save_file(weights, published / 'model.safetensors')
    with pytest.raises(WeightsError, match=r'missing key neck\.convs\.2\.weight'):
        start(published)


def test_none_is_random_and_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert start('none').imagenet
    with pytest.raises(WeightsError, match='no such file or folder'):
        start(tmp_path / 'nowhere')
    with pytest.raises(WeightsError, match=r'needed model\.safetensors'):
        start(tmp_path)
