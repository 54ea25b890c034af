# SPDX-License-Identifier: Apache-2.0
"""A zoom that rests is told from one that runs, and what tracks told best is kept."""

from dataclasses import replace

import numpy as np
import pytest

from endosfm3d_ros.core.window.zoom_steps import (
    REST,
    RUNS,
    SLOW,
    STEADY,
    UNLIKELY,
    Weighed,
    ZoomStep,
    _patterns,
    asked,
    rests,
)
from test.core.bumpy_wall import WIDTH, built

FRAMES = np.full(9, 3)


def believed(steps: list[ZoomStep], frames: np.ndarray) -> np.ndarray:
    return np.array([step.believed(gap) for step, gap in zip(steps, frames, strict=True)])


def running(ways: np.ndarray, covariance: np.ndarray, frames: np.ndarray) -> np.ndarray:
    return Weighed.of(ways, covariance, frames).runs > UNLIKELY


def test_a_ramp_between_two_rests_is_found_step_by_step() -> None:
    rng = np.random.default_rng(0)
    true = np.array([0, 0, 0, 0.02, 0.04, 0.04, 0.02, 0, 0])
    for _ in range(20):
        ways = true + 0.001 * rng.standard_normal(9)
        said = running(ways, 0.001**2 * np.eye(9), FRAMES)
        assert said[3:7].all()
        assert not said[:2].any()  # beside the ramp it may be open


def test_a_frame_rests_where_that_is_more_probable_than_that_it_runs() -> None:
    rng = np.random.default_rng(3)
    answers = []
    for _ in range(200):
        sigma, share, frames = rng.uniform(1e-3, 0.05), rng.uniform(0.02, 0.6), rng.integers(1, 6)
        way = 4.0 * sigma * rng.standard_normal()
        chances = [
            weight * np.exp(-0.5 * way**2 / variance) / np.sqrt(variance)
            for weight, variance in (
                (1.0 - share, sigma**2 + (REST * frames) ** 2),
                (share, sigma**2 + (RUNS * frames) ** 2),
            )
        ]
        answers.append(rests(way, sigma**2, int(frames), share))
        assert answers[-1] is bool(chances[0] > chances[1])
    assert 40 < sum(answers) < 160


def test_many_steps_tell_together_what_none_tells_alone() -> None:
    """A slow zoom seen from keyframes that follow each other closely."""
    sigma = 0.012
    one_frame = np.ones(9)
    slow = np.full(9, 0.013)
    assert running(slow, sigma**2 * np.eye(9), one_frame).all()
    assert not running(0.0 * slow, 0.05 * sigma**2 * np.eye(9), one_frame).any()
    assert rests(0.013, sigma**2, 1, 0.05)  # by itself nobody would say so


def test_where_nobody_can_tell_the_newest_may_run_and_what_hides_in_the_rest_is_told() -> None:
    """A rest that is none would hide a zoom."""
    unsure = 0.06**2 * np.eye(9)
    assert not running(np.zeros(9), unsure, FRAMES)[:3].any()  # a zoom seldom runs
    assert running(np.zeros(9), unsure, FRAMES)[-3:].all()
    hidden = Weighed.of(np.zeros(9), unsure, FRAMES).squares.sum()
    assert 0.03 < np.sqrt(hidden) < 27 * max(SLOW)
    assert not running(np.zeros(9), unsure / 300, FRAMES).any()
    assert np.sqrt(Weighed.of(np.zeros(9), unsure / 300, FRAMES).squares.sum()) < 0.01


def test_what_moves_all_steps_alike_is_no_zoom_if_a_wrong_relief_may_do_so() -> None:
    ways, lever = np.full(9, 0.012), np.full(9, 0.012)
    noise = 0.003**2 * np.eye(9)
    assert running(ways, noise, FRAMES).all()
    assert not running(ways, noise + np.outer(lever, lever), FRAMES).any()


def test_a_steady_zoom_is_no_rest_though_all_steps_may_be_off_alike() -> None:
    """
    A slow zoom in an advance: nine steps of 1.2 per cent, each as large as the next to a sixth of
    it, all of them off together by two per cent in the sum.
    """
    together = np.full(9, 0.02 / 9)
    covariance = 0.002**2 * np.eye(9) + np.outer(together, together)
    steady = Weighed.of(np.full(9, 0.012), covariance, FRAMES).runs
    assert steady.min() > UNLIKELY
    assert not running(np.full(9, 0.012 / 30), covariance, FRAMES).any()


def test_steps_of_one_run_share_its_rate_and_those_of_two_do_not() -> None:
    patterns, together = _patterns(4)
    at = [tuple(pattern) for pattern in patterns].index((True, True, False, True))
    wanted = np.zeros((4, 4))
    wanted[:2, :2] = STEADY
    np.fill_diagonal(wanted, [1.0, 1.0, 0.0, 1.0])
    assert together[at] == pytest.approx(wanted)


def test_what_hides_in_a_rest_is_what_tracks_leave_open() -> None:
    total = np.ones(9)
    for sigma, known in ((0.0005, 0.003), (0.003, 0.02)):
        still = Weighed.of(np.zeros(9), sigma**2 * np.eye(9), FRAMES).squares
        assert float(np.sqrt(total @ still @ total)) < known
    shown = Weighed.of(np.full(9, 0.0105), 0.001**2 * np.eye(9), FRAMES).squares
    assert float(np.sqrt(total @ shown @ total)) == pytest.approx(9 * 0.0105, rel=0.05)


def test_a_rest_that_tracks_contradict_makes_the_adjustment_unsure() -> None:
    zoom = np.exp(0.0105 * np.arange(10))
    local_map = built('advance', 0.7 * WIDTH, 1.05, zoom=zoom, rim=False)
    held = [replace(view, zoom_step=ZoomStep()) for view in local_map.keyframes]
    wrong = replace(local_map, keyframes=tuple(held)).adjusted()
    right = wrong
    for _ in range(6):
        right = right.adjusted()
    assert all(view.zoom_step.runs for view in right.keyframes[1:])
    off = abs(float(wrong.scope.focal.sum()) - np.log(0.7 * WIDTH * zoom[-1]))
    assert wrong.scope.log_focal_sigma > 0.4 * off
    assert off > 0.02


@pytest.mark.parametrize('relief', [0.0, 0.02])
@pytest.mark.parametrize('resting', [True, False])
def test_what_was_believed_is_taken_out_of_what_tracks_say(resting: bool, relief: float) -> None:
    """And what a wrong relief would add to it, which the belief had held as well, is told."""
    rng = np.random.default_rng(2)
    root = 0.004 * rng.standard_normal((4, 4)) + 0.01 * np.eye(4)
    tracks = root @ root.T  # covariance of log focal lengths by the tracks alone, and what it says
    said = np.array([5.0, 5.01, 5.06, 5.1])
    steps = [ZoomStep(runs=not resting)] * 3
    frames = np.full(3, 3)
    sigma = REST * 3 if resting else RUNS * 3
    to_steps = np.diff(np.eye(4), axis=0)
    way = to_steps @ said
    for _ in range(200):  # a step far off loosens what was believed, as the adjustment does
        loose = sigma**2 * np.maximum(1.0, np.abs(way) / sigma)
        prior = to_steps.T @ np.diag(1 / loose) @ to_steps
        both = np.linalg.inv(np.linalg.inv(tracks) + prior)
        way = to_steps @ both @ np.linalg.solve(tracks, said)
    both = np.linalg.inv(np.linalg.inv(tracks) + prior)
    ended = both @ np.linalg.solve(tracks, said)
    added = relief * np.array([0.0, 1.0, 1.5, 3.0])  # to what tracks say
    lever = both @ np.linalg.solve(tracks, added)
    whole = both + np.outer(lever, lever)
    out, pulls = asked(steps, believed(steps, frames), frames, ended, whole, lever, error=1.7)
    alone = 1.7**2 * (to_steps @ tracks @ to_steps.T).diagonal()
    want = np.sqrt(alone + (to_steps @ added) ** 2)
    assert pulls.any() == resting  # a step that runs was not held
    assert [step.told for step in out] == pytest.approx(np.diff(said), abs=1e-4)
    assert [step.sigma for step in out] == pytest.approx(want, rel=1e-2)


def test_what_tracks_told_best_is_kept() -> None:
    best = ZoomStep(runs=True, told=0.03, sigma=0.004)
    frames, focal = np.full(2, 3), np.array([5.0, 5.01, 5.02])
    steps, nothing = [best, ZoomStep(True)], np.zeros(3)
    before = believed(steps, frames)
    worse, _ = asked(steps, before, frames, focal, 0.02**2 * np.eye(3), nothing, 1.7)
    assert (worse[0].told, worse[0].sigma) == (best.told, best.sigma)
    assert np.isfinite(worse[1].sigma)
    better, _ = asked(steps, before, frames, focal, 1e-4**2 * np.eye(3), nothing, 1.7)
    assert better[0].sigma < best.sigma
    assert best.believed(3) == (0.03, 0.004)
    assert ZoomStep(True, 0.03, 1.0).believed(3) == (0.0, 3 * RUNS)
    assert ZoomStep(False, 0.03, 0.004).believed(3) == (0.0, 3 * REST)


@pytest.mark.parametrize('relief', [0.8, 1.2])
def test_an_advance_into_a_misjudged_relief_is_not_taken_for_a_zoom(relief: float) -> None:
    local_map = built('advance', 0.7 * WIDTH, 1.15, rim=False, relief=relief)
    for _ in range(12):
        local_map = local_map.adjusted()
    focal = np.array([view.log_focal for view in local_map.keyframes])
    assert not any(view.zoom_step.runs for view in local_map.keyframes)
    assert np.ptp(focal) < 0.01


def test_a_zoom_on_the_way_runs_and_is_told() -> None:
    zoom = np.r_[np.ones(4), 1.05, 1.12, 1.2, 1.28, 1.35, 1.4]
    local_map = built('advance', 0.7 * WIDTH, 1.05, zoom=zoom, rim=False)
    for _ in range(12):
        local_map = local_map.adjusted()
    views = local_map.keyframes
    assert all(view.zoom_step.runs for view in views[4:])
    told = np.exp([view.log_focal - views[0].log_focal for view in views])
    assert told == pytest.approx(zoom, rel=0.03)


def test_a_rim_that_is_lost_on_the_way_spoils_no_step_that_it_measured() -> None:
    """Nothing is believed of steps that a rim measures, so nothing is to be taken out of them."""
    zoom = np.r_[np.ones(6), 1.04, 1.08, 1.12, 1.15]
    local_map = built('advance', 0.7 * WIDTH, 1.05, zoom=zoom)
    lost = [replace(view, log_zoom=np.nan) for view in local_map.keyframes[6:]]
    local_map = replace(local_map, keyframes=(*local_map.keyframes[:6], *lost))
    for _ in range(12):
        local_map = local_map.adjusted()
        views = local_map.keyframes
        measured = [view.zoom_step for view in views[1:5]]  # beside the ramp it may be open
        assert not any(step.runs for step in measured)
        assert max(abs(step.told) for step in measured) < 5e-3
        assert max(step.sigma for step in measured) < 5e-3
    told = np.exp([view.log_focal - views[0].log_focal for view in views])
    assert told == pytest.approx(zoom, rel=0.01)
