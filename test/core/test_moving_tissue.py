# SPDX-License-Identifier: Apache-2.0
"""Tracks that move by themselves, slide or fit ill: what is left of their say."""

from dataclasses import replace

import numpy as np
import pytest

from endosfm3d_ros.core.odometry import Odometry
from endosfm3d_ros.core.window import local_map as window_of
from endosfm3d_ros.core.window.local_map import LocalMap
from endosfm3d_ros.core.window.scope import BARREL, BARREL_SIGMA
from endosfm3d_ros.core.window.words import Words
from test.core.bumpy_wall import (
    NOISE_PX,
    POINTS,
    WIDTH,
    adjusted,
    built,
    solved,
)


def test_tracks_that_move_by_themselves_lose_their_say() -> None:
    """30 % of the points breathe: 2 px to and fro."""
    focal, rng = 0.6 * WIDTH, np.random.default_rng(5)
    local_map = built('orbit', focal, 1.1, seed=5)
    breathing = np.arange(POINTS) < 0.3 * POINTS
    keyframes = []
    for view in local_map.keyframes:
        sway = 3.0 * np.sin(0.35 * view.number + 0.3 * rng.standard_normal())
        shift = np.where(breathing[view.ids], sway, 0.0)
        keyframes.append(replace(view, pixels=view.pixels + shift[:, None] * [0.6, 0.8]))
    after = solved(replace(local_map, keyframes=tuple(keyframes)))
    assert after.solution is not None
    misfit, sways = after.landmarks.misfit, breathing[after.landmarks.ids]
    assert np.nanmedian(misfit[sways]) > 5 * np.nanmedian(misfit[~sways])
    weights, sways = after.solution.weights, breathing[after.landmarks.ids[after._picked()]]
    still, swaying = (np.median(w[w > 0]) for w in (weights[~sways], weights[sways]))
    assert swaying < 0.01 * still
    assert float(after.scope.focal[0]) == pytest.approx(np.log(focal), abs=0.06)


def test_a_track_that_is_off_throughout_has_little_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the tracks scatters five times as much, which is no outlier anywhere."""
    rng = np.random.default_rng(8)
    local_map = built('advance', 0.8 * WIDTH, 1.2)
    poor, keyframes = rng.random(POINTS) < 1 / 3, []
    for view in local_map.keyframes:
        slip = 5 * NOISE_PX * rng.standard_normal((POINTS, 2)) * poor[:, None]
        keyframes.append(replace(view, pixels=view.pixels + slip[view.ids]))
    local_map = replace(local_map, keyframes=tuple(keyframes))
    scattering = poor[local_map.landmarks.ids[local_map._picked()]]

    def say_of_poor() -> float:
        after = local_map
        for _ in range(6):
            after = after.adjusted()
        assert after.solution is not None
        weights = after.solution.weights.sum(axis=1)
        return float(weights[scattering].mean() / weights[~scattering].mean())

    assert say_of_poor() < 0.1
    monkeypatch.setattr('endosfm3d_ros.core.adjustment.bundle_adjustment.ALIKE', 1e9)
    assert say_of_poor() > 0.4  # as outliers here and there


def test_a_poor_track_is_less_sure_of_its_depth() -> None:
    local_map = built('orbit', 0.8 * WIDTH, 1.0)
    view = local_map.keyframes[4]
    poor = view.ids[::10]
    pixels = view.pixels + np.where(np.isin(view.ids, poor), 8 * NOISE_PX, 0.0)[:, None]
    keyframes = list(local_map.keyframes)
    keyframes[4] = replace(view, pixels=pixels)
    sigmas = []
    for views in (local_map.keyframes, tuple(keyframes)):
        known = solved(replace(local_map, keyframes=views)).landmarks
        sigmas.append(known.track_sigma[known.of(poor)])
    assert np.median(sigmas[1] / sigmas[0]) > 1.5


def swaying(local_map: LocalMap, border_px: float) -> tuple[LocalMap, np.ndarray]:
    """The same map, all right of a border swaying by 8 px; and how much of it a point has."""
    weight = np.zeros(POINTS)
    for view in reversed(local_map.keyframes):
        weight[view.ids] = 1 / (1 + np.exp((border_px - view.pixels[:, 0]) / 12))
    keyframes = []
    for view in local_map.keyframes:
        shift = 8.0 * np.sin(0.09 * view.number) * weight[view.ids]
        keyframes.append(replace(view, pixels=view.pixels + shift[:, None] * [0.9, 0.4]))
    return replace(local_map, keyframes=tuple(keyframes)), weight[local_map.landmarks.ids]


@pytest.mark.parametrize(('kind', 'border_px'), [('advance', 195), ('orbit', 225)])
def test_a_third_that_sways_smoothly_is_found_and_left_out(
    kind: str, border_px: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    focal = 0.6 * WIDTH
    start, moves = swaying(built(kind, focal, 1.2, seed=1), border_px)

    def after() -> tuple[LocalMap, float]:
        local_map = start
        for _ in range(9):
            local_map = adjusted(local_map)
        return local_map, abs(float(local_map.scope.focal[0]) - np.log(focal))

    found, off = after()
    newest = np.isin(found.landmarks.ids, found.keyframes[-1].ids)
    assert found.landmarks.moving[newest & (moves > 0.5)].mean() > 0.85
    assert found.landmarks.moving[newest & (moves < 0.01)].mean() < 0.1
    assert not found.landmarks.moving[found._picked()].any()
    monkeypatch.setattr('endosfm3d_ros.core.adjustment.bundle_adjustment.ALIKE', 1e9)
    misled, off_without = after()
    assert misled.landmarks.moving[newest & (moves > 0.5)].mean() < 0.85
    assert off < max(0.5 * off_without, 0.03)  # an advance resists by itself


def test_what_moves_is_marked_though_a_keyframe_came_before_it_was_judged() -> None:
    local_map, moves = swaying(built('orbit', 0.6 * WIDTH, 1.2, seed=1), 225)
    local_map = local_map.adjusted()
    assert local_map.waits and not local_map.landmarks.moving.any()
    newest = local_map.keyframes[-1]
    local_map = local_map.with_keyframe(replace(newest, number=newest.number + 1))
    after = Odometry(local_map, log_focal=5.0, due=True).settled()
    row = after.map.landmarks.of(newest.ids)
    swayed = moves[after.map.landmarks.ids[row]] > 0.5
    assert after.map.landmarks.moving[row][swayed].mean() > 0.8


@pytest.mark.parametrize('kind', ['advance', 'orbit', 'sideways', 'rest'])
def test_nothing_moves_by_itself_in_a_still_scene(kind: str) -> None:
    for seed in range(3):
        local_map = built(kind, 0.6 * WIDTH, 1.2, seed)
        for _ in range(5):
            local_map = adjusted(local_map)
            assert not local_map.landmarks.moving.any()


@pytest.mark.parametrize('distortion', [-0.3, -0.45])
def test_a_lens_that_is_not_known_yet_is_not_taken_for_what_moves(distortion: float) -> None:
    """Keyframe by keyframe: three of them are explained through a straight lens, and fit ill."""
    whole = built(
        'advance', 0.5 * WIDTH, 1.3, distortion=distortion, believed_bend=(BARREL, BARREL_SIGMA)
    )
    window = replace(whole.forgotten(), words=Words(whole.belief), scope=whole.belief)
    for view in whole.keyframes:
        window = adjusted(window.with_keyframe(view))
    assert not window.landmarks.moving.any()
    assert window.scope.distortion == pytest.approx(distortion, abs=0.05)


def test_a_window_in_which_something_moves_tells_less(monkeypatch: pytest.MonkeyPatch) -> None:
    local_map, _ = swaying(built('advance', 0.6 * WIDTH, 1.2, seed=1), 195)
    careful = solved(solved(local_map))
    assert careful.landmarks.moving.any()
    monkeypatch.setattr(window_of, 'UNSURE', 1.0)
    careless = solved(solved(local_map))
    assert careful.scope.log_focal_sigma > 1.5 * careless.scope.log_focal_sigma
