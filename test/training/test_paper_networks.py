# SPDX-License-Identifier: Apache-2.0
"""The paper's networks: their sizes, their keys, and what each must obey."""

import json
import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch: make setup-training')
pytest.importorskip('peft', reason='the paper networks need peft: make setup-training')
from released_weights import OLD, depth_weights, spread  # noqa: E402
from tiny import tiny_config  # noqa: E402

from training.networks.appearance_flow import (  # noqa: E402
    AppearanceNetwork,
    FlowNetwork,
    refined_target,
    registered,
    visible,
)
from training.networks.attention_motion import (  # noqa: E402
    AttentionMotion,
    PatchAttention,
    normalised_intrinsics,
)
from training.networks.depth_anything import DepthAnything, depth_from_disparity  # noqa: E402
from training.networks.resnet import without_batch_norms  # noqa: E402

LAYOUT = Path(__file__).parents[3] / 'shared' / 'reference' / 'released_state_dicts.json'


def parameters(network: torch.nn.Module, trained: bool = False) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trained)


@pytest.fixture(scope='module')
def adapted() -> DepthAnything:
    """Full size, with DoRA whose every part says something."""
    network = DepthAnything(imagenet=False).adapt().eval()
    weights = depth_weights(network=network)
    back = {name: _old(name) for name in network.state_dict()}
    network.load_state_dict({name: weights[old] for name, old in back.items()})
    return network


@pytest.fixture(scope='module')
def merged(adapted: DepthAnything) -> DepthAnything:
    return deepcopy(adapted).merge()


def _old(name: str) -> str:
    for now, before in OLD.items():
        name = name.replace(now, before)
    return name


def test_the_depth_network_has_its_parameters_and_trains_the_adapters_and_the_head(
    adapted: DepthAnything,
) -> None:
    assert parameters(adapted) == 25_052_353
    assert parameters(adapted, trained=True) == 295_009
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert all('lora_' in name or name.startswith('head.') for name in trained)


def test_the_motion_network_has_its_parameters_without_the_classifier() -> None:
    network = AttentionMotion()
    assert parameters(network.encoder) == 17_471_322 - 513_000
    assert parameters(network.decoder) == 2_052_432


@pytest.mark.skipif(not LAYOUT.is_file(), reason='the reference layout is not on this machine')
def test_every_key_and_shape_is_that_of_the_released_files(adapted: DepthAnything) -> None:
    motion, flow, appearance = AttentionMotion(), FlowNetwork(), AppearanceNetwork()
    ours = {
        'depth_model': adapted,
        'pose_encoder': motion.encoder,
        'pose': motion.decoder,
        'position_encoder': flow.encoder,
        'position': flow.decoder,
        'transform_encoder': appearance.encoder,
        'transform': appearance.decoder,
    }
    for file, keys in json.loads(LAYOUT.read_text()).items():
        found = {_old(name): list(v.shape) for name, v in ours[file].state_dict().items()}
        classifier = {name for name in keys if name.startswith('encoder.fc.')}
        assert found == {k: v for k, v in keys.items() if k not in classifier}, file


def test_merged_adapters_say_the_same_as_adapters_beside_the_weights(
    adapted: DepthAnything, merged: DepthAnything
) -> None:
    picture = torch.rand(1, 3, 56, 70, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        beside, within = adapted(picture), merged(picture)
    assert not merged.adapted and parameters(merged) == 25_052_353 - 24 * (2 * 14 * 384 + 384)
    assert beside.std() > 0.01
    assert (within - beside).abs().max() < 1e-5


@pytest.mark.parametrize(('size', 'moves'), [((256, 320), False), ((224, 280), True)])
def test_only_whole_patches_are_seen(
    merged: DepthAnything, size: tuple[int, int], moves: bool
) -> None:
    height, width = size
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(4))
    changed = picture.clone()
    changed[..., height - 4 :, :] = 0
    changed[..., :, width - 12 :] = 1
    with torch.no_grad():
        before, after = merged(picture), merged(changed)
    assert before.shape == (1, 1, height, width)
    assert torch.equal(before, after) is not moves


def test_scales_are_halves_and_the_finest_is_what_the_network_says() -> None:
    network = DepthAnything(config=tiny_config()).eval()
    picture = torch.rand(2, 3, 56, 84)
    with torch.no_grad():
        said = network.disparities(picture)
        assert torch.equal(said[0], network(picture))
    assert [tuple(x.shape) for x in said] == [(2, 1, 56 >> s, 84 >> s) for s in range(4)]
    assert all(((x > 0) & (x < 1)).all() for x in said)


def test_imagenet_s_normalisation_is_inside_where_it_is_asked_for() -> None:
    torch.manual_seed(0)
    plain = DepthAnything(imagenet=False, config=tiny_config()).eval()
    normalised = DepthAnything(imagenet=True, config=tiny_config()).eval()
    normalised.load_state_dict(plain.state_dict())
    picture = torch.rand(1, 3, 56, 56)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406),
                                                          (0.229, 0.224, 0.225)))  # fmt: skip
    with torch.no_grad():
        assert torch.allclose(normalised(picture), plain((picture - mean) / std), atol=1e-6)
        assert not torch.allclose(normalised(picture), plain(picture), atol=1e-6)


def test_old_positions_lie_a_tenth_of_a_patch_tighter_and_keep_every_key() -> None:
    now = DepthAnything(config=tiny_config())
    old = DepthAnything(config=tiny_config(), old_positions=True)
    old.load_state_dict(now.state_dict())
    ramp = torch.arange(4.0).expand(4, 4).reshape(1, 16, 1).expand(1, 16, 24)
    for network in (now, old):
        with torch.no_grad():
            network.backbone.embeddings.position_embeddings[:, 1:] = ramp
    tokens = torch.zeros(1, 1 + 8 * 9, 24)
    with torch.no_grad():
        at = [n.backbone.embeddings.interpolate_pos_encoding(tokens, 112, 126) for n in (now, old)]
    assert at[0].shape == at[1].shape == (1, 1 + 8 * 9, 24)
    middle = [float(a[0, 1:, 0].reshape(8, 9)[4, 4]) for a in at]  # (4 + 1/2) / factor - 1/2
    assert middle[0] == pytest.approx(4.5 * 4 / 9 - 0.5, abs=1e-5)
    assert middle[1] == pytest.approx(4.5 * 4 / 9.1 - 0.5, abs=8e-3)
    assert middle[0] - middle[1] > 0.015
    square = torch.zeros(1, 1 + 16, 24)
    whole = old.backbone.embeddings.interpolate_pos_encoding(square, 56, 56)
    assert torch.equal(whole, old.backbone.embeddings.position_embeddings)


def test_depth_of_disparity_spans_the_range() -> None:
    depth = depth_from_disparity(torch.tensor([1.0, 0.0, 0.5]))
    assert depth.tolist() == pytest.approx([0.1, 150.0, 1 / (0.5 * 10 + 0.5 / 150)], rel=1e-5)


def test_attention_takes_any_size_and_says_a_weight_for_every_place() -> None:
    attention = PatchAttention(16).eval()
    for size in ((64, 80), (56, 70), (17, 9), (264, 264)):  # the last has 1089 tokens
        with torch.no_grad():
            weight = attention(torch.randn(1, 16, *size))
        assert weight.shape == (1, 1, *size)
        assert ((weight > 0) & (weight < 1)).all()


def test_attention_stretches_its_positions_only_where_they_run_out() -> None:
    attention = PatchAttention(8)
    assert torch.equal(attention._positions(80), attention.pos_embed[:, :80])
    stretched = attention._positions(2048)
    assert stretched.shape == (1, 2048, 8)
    assert torch.allclose(stretched[:, 0], attention.pos_embed[:, 0])
    assert torch.allclose(stretched[:, -1], attention.pos_embed[:, -1])


def test_k_is_what_the_definition_says_and_has_its_centre_in_the_middle_at_rest() -> None:
    K = normalised_intrinsics(torch.tensor([[0.1, -0.6, 0.02, -0.03]]), 256, 320)[0]
    assert float(K[0] * 320) == pytest.approx(math.log1p(math.exp(0.6 * 320)) if 0.6 * 320 < 30
                                              else 0.6 * 320, rel=1e-6)  # fmt: skip
    assert float(K[1] * 256) == pytest.approx(math.log1p(math.exp(-0.1 * 256)), rel=1e-5)
    assert K[2:].tolist() == pytest.approx([0.52, 0.47])


def test_folding_batch_norms_changes_nothing() -> None:
    random = torch.Generator().manual_seed(5)
    network = AttentionMotion().eval()
    weights = {n: spread(n, tuple(v.shape), random) for n, v in network.state_dict().items()}
    network.load_state_dict(weights)
    folded = without_batch_norms(network)
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    pair = torch.rand(1, 6, 64, 80, generator=random)
    with torch.no_grad():
        for ours, theirs in zip(network(pair), folded(pair), strict=True):
            assert (ours - theirs).norm() < 1e-5 * ours.norm()


def test_flow_starts_at_nothing_and_appearance_stays_within_one() -> None:
    pair = torch.rand(1, 6, 64, 72)
    with torch.no_grad():
        flow = FlowNetwork().eval()(pair)
        appearance = AppearanceNetwork().eval()(pair)
    assert [tuple(x.shape) for x in flow] == [(1, 2, 64 >> s, 72 >> s) for s in range(4)]
    assert [tuple(x.shape) for x in appearance] == [(1, 3, 64 >> s, 72 >> s) for s in range(4)]
    assert max(float(x.abs().max()) for x in flow) < 1e-2
    assert all((x.abs() < 1).all() for x in appearance)


def test_a_picture_registered_by_a_known_shift_is_the_shifted_picture() -> None:
    source = torch.rand(1, 3, 20, 30)
    flow = torch.zeros(1, 2, 20, 30)
    flow[:, 0], flow[:, 1] = 2, -3  # the target's (v, u) is at (v + 2, u - 3) in the source
    there = registered(source, flow)
    assert torch.allclose(there[..., :18, 3:], source[..., 2:, :27], atol=1e-5)
    assert torch.allclose(there[..., 18:, 3:], source[..., -1:, :27].expand(-1, -1, 2, -1),
                          atol=1e-5)  # fmt: skip


def test_what_a_shift_moves_in_is_not_visible() -> None:
    flow = torch.zeros(1, 2, 20, 30)
    assert visible(flow).min() == 1
    flow[:, 0], flow[:, 1] = 2, -3
    seen = visible(flow)[0, 0]
    assert seen[2:, :27].min() == 1 and seen[:2].max() == 0 and seen[:, 27:].max() == 0


def test_appearance_brightens_only_where_the_mask_lets_it() -> None:
    target = torch.full((1, 3, 4, 4), 0.8)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    said = refined_target(target, torch.full((1, 3, 4, 4), 0.5), mask)
    assert np.allclose(said[..., :2], 1.0) and np.allclose(said[..., 2:], 0.8)
