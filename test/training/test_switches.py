# SPDX-License-Identifier: Apache-2.0
"""Every switch of a configuration acts: on the same sample with the same weights."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_data
import numpy as np
import pytest

pytest.importorskip('torch', reason='torch trains: make setup-training')

import torch

from training import ablate
from training.ablate import merged, read_variants
from training.config import Config, config_from
from training.data.dataset import Samples
from training.data.open import open_data
from training.data.sample import Batch, batched
from training.model import PaperDepth
from training.networks.depth_anything import DepthAnything
from training.networks_of import networks_of
from training.steps import Losses, joint_step
from training.validate import zoom_strays

SWITCHES = Path(__file__).parents[2] / 'config' / 'training' / 'ablation' / 'switches.yaml'


@pytest.fixture(scope='module')
def base(tmp_path_factory) -> dict[str, Any]:
    """A made-up clip with a black corner, a highlight and a grey shaft."""
    folder = tmp_path_factory.mktemp('switches')
    root = made_data.hamlyn(folder / 'data', list(range(5)))
    for n in range(5):
        image = made_data.picture(n)
        image[:, :14] = 0
        image[60:66, 70:76] = 250
        image[90:120, 100:150] = (150, 152, 155)
        made_data.write(root / 'rectified01' / 'image01' / f'{n:010d}.jpg', image)
    return {
        'data': {'train': [{'reader': 'hamlyn', 'path': str(root), 'scope': 'one'}],
                 'size': [48, 64], 'masks': [], 'cache': str(folder / 'cache')},
        'networks': {'depth': 'small', 'motion': 'small', 'zooms': True, 'focal': 0.8},
        'augmentation': {'crop': 0.0, 'mirror': 0.0},
    }  # fmt: skip


def built(base: dict[str, Any], changes: dict[str, Any]) -> tuple[Config, Any, Batch]:
    """Configuration, networks and one batch, as `train` makes them."""
    config = config_from(merged(base, changes), 'test.yaml')
    samples, _, scopes = open_data(config, lambda _: None)
    torch.manual_seed(0)
    nets, _ = networks_of(config, samples, scopes, False, lambda _: None)
    if nets.tied is not None and nets.tied.log_zoom is not None:
        nets.tied.log_zoom.data[:] = torch.tensor([0.0, 0.1, 0.0, 0.2, 0.0])
    return config, nets, batched([samples[n] for n in range(3)])


def losses_of(base: dict[str, Any], changes: dict[str, Any]) -> Losses:
    config, nets, batch = built(base, changes)
    return joint_step(nets, batch, config.objective, lambda x: x.mean(1, keepdim=True))


@pytest.mark.parametrize(
    ('term', 'changes'),
    [
        ('consistency', {'objective': {'consistency': 0.1}}),
        ('zoom', {'objective': {'zoom': 1.0}}),
        ('pair', {'objective': {'pair': 0.1}}),
        ('supervised', {'objective': {'supervised': 0.1}}),
        ('distilled', {'objective': {'distilled': 0.1}, 'networks': {'teacher': 'x'}}),
    ],
)
def test_a_term_is_there_with_its_weight_when_it_is_switched_on(base, monkeypatch, term, changes):
    monkeypatch.setattr('training.networks_of._teacher', lambda _: None)
    off, on = losses_of(base, {}), losses_of(base, changes)
    assert term not in off.figures
    weight = changes['objective'][term]
    gained = float((on.total - off.total).detach())
    assert on.figures[term] > 0
    assert gained == pytest.approx(weight * on.figures[term], rel=1e-3)


def test_a_smooth_zoom_pulls_the_zooms_of_neighbours_together(base):
    config, nets, batch = built(base, {'objective': {'zoom': 10.0, 'photometric': 0.0}})
    before = float(nets.tied.roughness().detach())
    optimizer = torch.optim.Adam([nets.tied.log_zoom], lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        joint_step(nets, batch, config.objective).total.backward()
        optimizer.step()
    assert float(nets.tied.roughness().detach()) < 0.2 * before


@pytest.mark.parametrize('way', ['pair', 'tied', 'given'])
def test_K_comes_from_where_it_was_said(base, way):
    zooms = way == 'tied'
    _, nets, batch = built(base, {'networks': {'intrinsics': way, 'zooms': zooms}})
    step = nets.step(batch.images[:, 1], batch.images[:, 0])
    said, _ = nets.cameras(batch, step, 1)
    wanted = {'pair': step.camera_target, 'given': batch.camera[:, 0]}.get(way)
    if wanted is None:
        wanted = nets.tied(batch, 0)
        assert float((wanted[1, 0] / wanted[0, 0]).detach()) == pytest.approx(
            np.exp(-0.1), rel=1e-4
        )
    assert torch.equal(said, wanted)


@pytest.mark.parametrize(
    ('mask', 'place'),
    [('border', (24, 2)), ('highlights', (24, 29)), ('tools', (39, 50))],
)
def test_a_mask_takes_its_pixels_and_no_mask_takes_none(base, mask, place):
    _, _, bare = built(base, {})
    _, _, masked = built(base, {'data': {'masks': [mask]}})
    assert bare.usable.all()
    assert not masked.usable[:, 0, 0, place[0], place[1]].any()
    assert 0.6 < float(masked.usable.mean()) < 1


@pytest.mark.parametrize(('normalised', 'whole'), [(True, True), (False, True), (True, False)])
def test_the_paper_network_is_fed_as_the_file_says(base, monkeypatch, normalised, whole):
    pytest.importorskip('peft', reason='the paper networks need peft: make setup-training')
    from tiny import tiny_config

    def tiny(imagenet: bool, _: None) -> DepthAnything:
        return DepthAnything(imagenet, tiny_config())

    monkeypatch.setattr('training.depth_init.DepthAnything', tiny)
    size = [56, 70] if whole else [60, 75]
    changes = {
        'data': {'size': size},
        'networks': {'depth': 'paper', 'depth_init': 'none', 'normalised': normalised,
                     'whole_patches': whole},
    }  # fmt: skip
    _, nets, batch = built(base, changes)
    assert isinstance(nets.depth, PaperDepth)
    seen = []
    nets.depth.network.backbone.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    assert nets.inverse_depths(batch.images[:, 0])[0].shape[-2:] == tuple(size)
    mean, std = nets.depth.network.mean, nets.depth.network.std
    wanted = (batch.images[:, 0] - mean) / std if normalised else batch.images[:, 0]
    assert torch.allclose(seen[0], wanted)


def test_every_variant_of_the_shipped_ablation_is_valid_and_turns_something(tmp_path):
    variants = read_variants(SWITCHES, tmp_path, 7)
    base = variants.pop('all on')
    assert base.seed == 7
    assert all(config != base for config in variants.values())
    assert variants['distilled'].networks.teacher == f'{tmp_path}/supervised/seed_7/best'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('base: base.yaml\nvariants: {x: {objective: {z: 1}}}', "x: objective: unknown key 'z'"),
        ('base: base.yaml\nvariants: {x: }', 'x: need what it changes, {} for nothing'),
        ('base: base.yaml\nvariants: [x]', 'variants, and what base names, need keys and values'),
        ('base: base.yaml\nvariants: {x: {', 'switches.yaml is no YAML'),
        ('base: 3\nvariants: {x: {}}', '3: no such file'),
    ],
)
def test_a_switch_that_is_none_is_one_line(tmp_path, text, said):
    (tmp_path / 'base.yaml').write_text((SWITCHES.parent / 'base.yaml').read_text())
    path = tmp_path / 'switches.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)) as found:
        read_variants(path, tmp_path, 0)
    assert '\n' not in str(found.value)


def test_figures_of_another_configuration_are_not_printed_as_these(tmp_path, monkeypatch, base):
    config = config_from(base, 'test.yaml')
    trained = []

    def train(config, folder):
        folder.mkdir()
        trained.append(config)

    monkeypatch.setattr(ablate, 'train', train)
    monkeypatch.setattr(ablate, 'scored', lambda config, _: {'abs_rel': config.loop.rate})
    folder = tmp_path / 'run'
    assert ablate.figures_of(config, folder) == ablate.figures_of(config, folder)
    assert len(trained) == 1
    other = config_from(merged(base, {'loop': {'rate': 0.5}}), 'test.yaml')
    with pytest.raises(ValueError, match=r'figures\.json is not known to be of this config'):
        ablate.figures_of(other, folder)
    (folder / 'figures.json').write_text('{"abs_rel": 0.3}')  # as they were kept before
    with pytest.raises(ValueError, match=r'figures\.json is not known to be of this config'):
        ablate.figures_of(config, folder)


def test_zooms_are_told_by_networks_at_rest(base):
    _, nets, _ = built(base, {})
    samples, _, _ = open_data(config_from(base, 'test.yaml'), lambda _: None)
    told = []
    nets.motion.register_forward_pre_hook(lambda module, _: told.append(module.training))
    nets.train()
    zoom_strays(nets, samples, torch.device('cpu'))
    assert told and not any(told)
    assert nets.training


def test_how_far_zooms_stray_is_a_mean_of_the_clips_whose_K_is_known(base):
    _, nets, _ = built(base, {'networks': {'intrinsics': 'pair', 'zooms': False}})
    samples, _, _ = open_data(config_from(base, 'test.yaml'), lambda _: None)
    (clip,), cpu = samples.clips, torch.device('cpu')
    known = zoom_strays(nets, Samples([clip]), cpu)
    assert known > 0
    blind = replace(clip, cameras=np.full_like(clip.cameras, np.nan))
    assert zoom_strays(nets, Samples([clip, blind]), cpu) == pytest.approx(known)
    assert zoom_strays(nets, Samples([blind]), cpu) is None
