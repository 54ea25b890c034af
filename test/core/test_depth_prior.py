# SPDX-License-Identifier: Apache-2.0
"""How much of a window's geometry hangs on the network's depth maps."""

from dataclasses import replace

import numpy as np
import pytest

from endosfm3d_ros.core.window import observations
from endosfm3d_ros.core.window.landmarks import Landmarks
from test.core.bumpy_wall import WIDTH, adjusted, built, solved

FOCAL = 0.7 * WIDTH


def off_by(relief: float) -> float:
    """Mean error of log focal length of four orbits, adjusted keyframe by keyframe."""
    errors = []
    for seed in range(4):
        whole = built('orbit', FOCAL, 1.2, seed, relief=relief)
        window = replace(whole, keyframes=(), landmarks=Landmarks())
        for view in whole.keyframes:
            window = adjusted(window.with_keyframe(view))
        errors.append(float(solved(window).scope.focal[0] - np.log(FOCAL)))
    return abs(float(np.mean(errors)))


@pytest.mark.parametrize('relief', [0.6, 1.4])
def test_maps_too_flat_or_too_deep_have_little_say_once_tracks_have_placed_the_points(
    relief: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = off_by(relief)
    monkeypatch.setattr(observations, 'PLACED_DEPTH_SIGMA', observations.DEPTH_SIGMA)
    assert now < 0.01 and now < 0.6 * off_by(relief)


def test_a_point_that_no_track_has_placed_keeps_to_its_maps() -> None:
    whole = built('orbit', FOCAL, 1.0)
    ids = whole.landmarks.ids[:3]
    track_sigma = np.array([0.02, 0.5, np.inf])
    views = observations.views_of(whole.keyframes, ids, track_sigma, whole.size, 0.15)
    told = views.depth_sigma[np.isfinite(views.pixels[..., 0])]
    placed, others = observations.PLACED_DEPTH_SIGMA, observations.DEPTH_SIGMA
    assert set(np.unique(told)) == {placed, others}
    seen = np.isfinite(views.pixels[0, :, 0])
    assert (views.depth_sigma[0, seen] == placed).all()
