# SPDX-License-Identifier: Apache-2.0
"""Figures that choose the best: looking away gains nothing, what nothing taught is not told."""

from dataclasses import replace

import made_data
import numpy as np
import pytest

pytest.importorskip('torch', reason='torch trains: make setup-training')

import torch

from training.data.dataset import Samples
from training.data.hamlyn import hamlyn
from training.data.prepared import prepare_clip
from training.data.sample import batched
from training.model import Networks, TiedIntrinsics
from training.steps import Weights, joint_step
from training.validate import by_clip, validate

CPU = torch.device('cpu')


@pytest.fixture
def samples(tmp_path) -> Samples:
    root = made_data.hamlyn(tmp_path / 'data', list(range(8)))
    clip = prepare_clip(hamlyn(root)[0], (48, 64), tmp_path / 'cache', ['border'])
    return Samples([clip], scopes=[0])


def networks(intrinsics: str = 'pair') -> Networks:
    torch.manual_seed(0)
    return Networks('small', 'small', intrinsics, False)


def unwarped_error(samples: Samples) -> float:
    still = networks()
    with torch.no_grad():
        still.motion.network.direct.weight.zero_()
        still.motion.network.direct.bias[:6] = 0.0
    return validate(still, samples, CPU, 10)['photometric']


def test_who_throws_the_sources_out_of_view_scores_what_standing_still_does(samples):
    nets = networks()
    with torch.no_grad():
        nets.motion.network.direct.bias[3] = 1e4
    away = validate(nets, samples, CPU, 10)['photometric']
    assert away == pytest.approx(unwarped_error(samples), rel=0.1)
    assert away > 0.05


def test_the_photometric_error_is_a_mean_of_pictures_not_of_batches(samples):
    nets = networks()
    assert len(samples) % 4  # the last batch is smaller
    found = validate(nets, samples, CPU, 10)['photometric']
    nets.eval()
    with torch.no_grad():
        each = [
            joint_step(nets, batched([samples[n]]), Weights()).figures['photometric']
            for n in range(len(samples))
        ]
    assert found == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_samples_are_made_batch_by_batch(samples, monkeypatch):
    """All clips of a data set at once do not fit in memory."""
    made, scored, most = [], [], []
    make, score = Samples.__getitem__, Networks.inverse_depths

    def counted(self, which):
        made.append(which)
        return make(self, which)

    def watched(self, images):
        most.append(len(made) - sum(scored))
        scored.append(len(images))
        return score(self, images)

    monkeypatch.setattr(Samples, '__getitem__', counted)
    monkeypatch.setattr(Networks, 'inverse_depths', watched)
    by_clip(networks(), samples, CPU)
    assert len(made) == len(samples) > 4
    assert max(most) <= 4
    assert sum(scored) == 2 * len(samples) + samples.left_out  # those at the ends warp nothing


def test_a_recording_of_which_nothing_is_known_has_its_photometric_error(samples):
    """A robot's own bag: validation chose the best by it, and the table would be empty."""
    nets, (clip,) = networks(), samples.clips
    known = by_clip(nets, samples, CPU)['rectified01']
    assert known['photometric'] == pytest.approx(validate(nets, samples, CPU, 99)['photometric'])
    bare = replace(clip, depths=None, cameras=np.full_like(clip.cameras, np.nan))
    found = by_clip(nets, Samples([bare], scopes=[0]), CPU)
    assert found == {'rectified01': {'photometric': pytest.approx(known['photometric'])}}


def tied_to(*focals: float) -> Networks:
    torch.manual_seed(0)
    tied = TiedIntrinsics(len(focals), None, 1.0)
    tied.log_focal.data[:] = torch.tensor(focals).log()
    return Networks('small', 'small', 'tied', False, tied)


def test_a_K_that_nothing_taught_is_not_scored_and_warps_nothing(samples):
    samples.scopes = (-1,)
    nets = tied_to(0.3, 0.9)
    assert 'focal' in validate(nets, samples, CPU, 10)
    found = validate(nets, samples, CPU, 10, taught=False)
    assert not {'focal', 'focal_bias'} & set(found)
    assert all('focal' not in one for one in by_clip(nets, samples, CPU, taught=False).values())
    given = validate(networks('given'), samples, CPU, 10)['photometric']
    assert found['photometric'] == pytest.approx(given, rel=1e-5)  # by the data's own K


def test_where_no_K_is_known_the_mean_of_the_known_scopes_warps(samples):
    samples.clips[0].cameras[:] = float('nan')
    samples.scopes = (-1,)
    found = validate(tied_to(0.3, 0.9), samples, CPU, 10, taught=False)['photometric']
    samples.scopes = (0,)
    mean = validate(tied_to((0.3 * 0.9) ** 0.5), samples, CPU, 10, taught=False)['photometric']
    assert found == pytest.approx(mean, rel=1e-5)
    assert 'photometric' not in validate(networks('given'), samples, CPU, 10)
