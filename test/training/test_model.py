# SPDX-License-Identifier: Apache-2.0
"""The networks under one interface: K follows window and mirror, each phase moves only its own."""

from dataclasses import replace

import cv2
import made_data
import numpy as np
import pytest

pytest.importorskip('torch', reason='torch trains: make setup-training')

import torch

from training.checkpoints import FACTS, TrainingError, load_strictly, load_weights, save
from training.data.augment import Augmentation, augmented
from training.data.dataset import Samples
from training.data.prepared import prepare_clip
from training.data.sample import Batch, batched
from training.data.scared import scared
from training.model import Networks, TiedIntrinsics
from training.networks.flow_motion import REACH, FlowMotion
from training.steps import Weights, flow_step, joint_step


@pytest.fixture
def samples(tmp_path) -> Samples:
    root = made_data.scared(tmp_path / 'data', [1, 2, 3, 4, 5])
    clip = prepare_clip(scared(root)[0], (64, 80), tmp_path / 'cache', ['border'])
    return Samples([clip], augmentation=Augmentation(mirror=0.5, crop=1.0), scopes=[0])


def tied_to_truth() -> TiedIntrinsics:
    tied = TiedIntrinsics(1, [5], made_data.FOCAL / made_data.WIDTH)
    centre = [(81.5 + 0.5) / 160 - 0.5, (61.5 + 0.5) / 128 - 0.5]
    tied.centre.data[:] = torch.tensor(centre)
    return tied


def test_a_tied_K_is_every_samples_own_K_however_it_was_cropped_and_mirrored(samples):
    tied = tied_to_truth()
    for epoch in range(6):
        batch = batched([samples[n, epoch] for n in range(3)])
        for place in range(3):
            assert torch.allclose(tied(batch, place), batch.camera[:, place], atol=1e-5)


def test_a_zoom_belongs_to_its_frame(samples):
    tied = tied_to_truth()
    tied.log_zoom.data[0] = torch.arange(5) * 0.1
    batch = batched([samples[1]])  # frames 2, 1, 3 of the clip
    for place, frame in enumerate(batch.frames[0].tolist()):
        ratio = tied(batch, place)[0, 0] / batch.camera[0, place, 0]
        assert float(ratio.log().detach()) == pytest.approx(0.1 * frame, abs=1e-5)
    assert float(tied.roughness().detach()) == pytest.approx(0, abs=1e-12)


def gradients(nets: Networks, batch: Batch, step, weights: Weights) -> set[str]:
    nets.zero_grad()
    step(nets, batch, weights).total.backward()
    return {
        name
        for name, part in nets.named_children()
        if any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
    }


def test_each_phase_moves_its_own_networks_and_every_term_can_be_switched(samples):
    torch.manual_seed(0)
    nets = Networks('small', 'small', 'tied', True, tied_to_truth())
    batch = batched([samples[n] for n in range(2)])
    for weight in nets.motion.parameters():  # it begins without motion: give it some
        torch.nn.init.normal_(weight, std=0.01) if weight.dim() > 1 else None
    assert gradients(nets, batch, flow_step, Weights()) == {'flow'}
    joint = gradients(nets, batch, joint_step, Weights())
    assert joint == {'depth', 'motion', 'appearance', 'tied'}
    everything = Weights(
        consistency=0.1, zoom=1.0, pair=0.1, supervised=1.0, pyramid=2, smoothness=1e-3
    )
    figures = joint_step(nets, batch, everything).figures
    assert set(figures) == {
        'photometric', 'consistency', 'zoom', 'centre', 'pair', 'smoothness', 'supervised'
    }  # fmt: skip
    assert all(np.isfinite(value) for value in figures.values())
    centre = float(nets.tied.centre.detach().square().mean())
    assert figures['centre'] == pytest.approx(centre, rel=1e-5)


def test_a_teacher_tells_depth(samples):
    nets = Networks('small', 'small', 'given', False)
    batch = batched([samples[n] for n in range(2)])
    with torch.no_grad():
        told = nets.eval().inverse_depths(batch.images[:, 0])[0]
    losses = joint_step(nets, batch, Weights(distilled=1.0), lambda images: 3 * told + 1)
    assert losses.figures['distilled'] == pytest.approx(0, abs=1e-4)


def test_bfloat16_networks_leave_geometry_in_full_precision(samples):
    torch.manual_seed(0)
    nets = Networks('small', 'small', 'given', False, half=True)
    batch = batched([samples[n] for n in range(2)])
    assert nets.inverse_depths(batch.images[:, 0])[0].dtype == torch.float32
    step = nets.step(batch.images[:, 1], batch.images[:, 0])
    assert step.T_source_target.dtype == torch.float32
    assert torch.isfinite(joint_step(nets, batch, Weights()).total)


def test_untrained_the_small_motion_network_already_sees_where_patches_went():
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.random((96, 160, 3), np.float32), (0, 0), 1.5)
    noise = (noise - noise.min()) / np.ptp(noise)
    current, previous = noise[:, 8:136], noise[:, 4:132]  # what is at u was at u + 4
    pair = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None] for x in (previous, current)]
    seen = []
    network = FlowMotion()
    network.read[0].register_forward_pre_hook(lambda _, cells: seen.append(cells[0]))
    network(torch.cat(pair, 1))
    dx, dy, sure = seen[0].view(3, -1).mean(1).tolist()
    assert dx / sure * REACH == pytest.approx(2, abs=0.5)  # at half the size
    assert dy / sure * REACH == pytest.approx(0, abs=0.3)


def test_weights_load_strictly():
    nets = Networks('small', 'small', 'given', False)
    weights = nets.state_dict()
    name = next(iter(weights))
    for changed, said in (
        ({k: v for k, v in weights.items() if k != name}, 'is missing'),
        ({**weights, 'depth.stranger': torch.zeros(1)}, 'depth.stranger is not of these'),
        ({**weights, name: torch.zeros(2, 3)}, r'is \(2, 3\), need'),
    ):
        with pytest.raises(TrainingError, match=said):
            load_strictly(nets, changed, made_data.Path('x'))


def test_an_augmented_sample_knows_its_window(samples):
    one = samples[0, 3]
    again = augmented(replace(one), Augmentation(mirror=0.0, crop=0.0), np.random.default_rng(0))
    assert torch.equal(again.window, one.window)
    assert (one.window[:, 2] < 1).all()


def begun_with(folder, nets: Networks, scopes: list[str], tied: TiedIntrinsics) -> list[str]:
    where = save(folder, 1, nets, {}, {**dict.fromkeys(FACTS), 'scopes': scopes}, 1)
    now = Networks('small', 'small', 'tied', False, tied)
    lacking = load_weights(where, now, ['b', 'new', 'a'])
    assert torch.equal(next(now.depth.parameters()), next(nets.depth.parameters()))
    return lacking


def test_a_start_hands_on_focal_lengths_by_the_names_of_their_scopes(tmp_path):
    before = TiedIntrinsics(2, [5, 5], 1.0)
    before.log_focal.data[:] = torch.tensor([1.4, 0.7]).log()
    before.centre.data[:] = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    before.log_zoom.data[:] = 0.5
    nets = Networks('small', 'small', 'tied', False, before)
    tied = TiedIntrinsics(3, [9], 0.5)  # other clips, another count
    lacking = begun_with(tmp_path, nets, ['a', 'b'], tied)
    assert lacking == ['the focal length of new', 'zooms']
    assert tied.log_focal.exp().tolist() == pytest.approx([0.7, 0.5, 1.4])
    assert tied.centre.flatten().tolist() == pytest.approx([0.3, 0.4, 0.0, 0.0, 0.1, 0.2])
    assert not tied.log_zoom.any()


def test_a_start_without_tied_focal_lengths_hands_on_none(tmp_path):
    nets, tied = Networks('small', 'small', 'pair', False), TiedIntrinsics(3, None, 0.5)
    lacking = begun_with(tmp_path, nets, ['a', 'b'], tied)
    assert lacking == [f'the focal length of {one}' for one in ('b', 'new', 'a')]
    assert tied.log_focal.exp().tolist() == pytest.approx([0.5, 0.5, 0.5])
