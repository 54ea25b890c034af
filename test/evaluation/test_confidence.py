# SPDX-License-Identifier: Apache-2.0
"""What a confidence promises is kept on the rendered clip: so many pixels are near the truth."""

import numpy as np
import pytest

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.evaluation.sampling import truth_on_picture
from endosfm3d_ros.evaluation.truth import read_truth_folder
from endosfm3d_ros.share import DEMO_CLIP

NEAR = 0.25  # of the truth, as docs and messages say
BINS = np.linspace(0.0, 1.0, 11)
ENOUGH = 2000  # pixels
EVERY = 20  # frames


def promised_and_kept(model: str) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of every pixel with truth, and whether depth is near it, median-scaled."""
    bundle, truth = open_bundle(model), read_truth_folder(DEMO_CLIP)
    network = DepthGraphs(bundle, 'auto', 0)
    promised, kept = [], []
    for number, frame in enumerate(open_frames(DEMO_CLIP / 'clip.mp4')):
        if number % EVERY:
            continue
        pipeline = Pipeline(network, bundle.sizes, parameters.settings(parameters.DEFAULTS))
        said = pipeline.step(frame)
        target = truth_on_picture(truth.read_depth(number), said.camera, said.input_camera)
        both = np.isfinite(target) & np.isfinite(said.depth)
        ratio = said.depth[both] / target[both]
        promised.append(said.confidence[both])
        kept.append(np.abs(ratio / np.median(ratio) - 1) < NEAR)
        assert not said.confidence[np.isnan(said.depth)].any()
    return np.concatenate(promised), np.concatenate(kept)


@pytest.mark.parametrize('model', [str(parameters.DEFAULTS['model']), 'photometric'])
def test_no_confidence_promises_more_than_it_keeps(model: str) -> None:
    promised, kept = promised_and_kept(model)
    bins = np.digitize(promised, BINS)
    shares = [
        (float(promised[inside].mean()), float(kept[inside].mean()))
        for inside in (bins == number for number in range(1, len(BINS)))
        if inside.sum() >= ENOUGH
    ]
    assert shares
    for p, share in shares:
        print(f'{model}: confidence {p:.2f}: {share:.2f} within {NEAR:.0%}')
        assert share >= p - 0.07, (p, share)  # never bolder than true ...
        assert share <= p + 0.4, (p, share)  # ... nor so shy that it says nothing
    if len(shares) > 2:  # a sigma that differs from pixel to pixel tells good from bad
        assert shares[-1][1] > shares[0][1] + 0.1
