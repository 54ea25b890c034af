# SPDX-License-Identifier: Apache-2.0
"""Which lens is it? A straight one is told until a bent one is shown, a go a frame."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from endosfm3d_ros.core.adjustment.bundle_adjustment import _Problem, adjust
from endosfm3d_ros.core.adjustment.scene import DISTORTION, FOCAL, PER_VIEW, SHARED
from endosfm3d_ros.core.lens import magnified
from endosfm3d_ros.core.odometry import Odometry
from endosfm3d_ros.core.window import observations
from endosfm3d_ros.core.window.scope import BARREL, BARREL_SIGMA
from endosfm3d_ros.core.window.scope_told import WORK
from endosfm3d_ros.core.window.words import Words
from test.core.bumpy_wall import (
    WIDTH,
    built,
    solved,
)


@pytest.mark.parametrize('keyframes', [4, 6, 9])
def test_no_frame_adjusts_more_than_it_has_time_for(
    keyframes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bend = (BARREL, BARREL_SIGMA)
    young = built('orbit', 0.8 * WIDTH, 0.6, distortion=-0.3, believed_bend=bend)
    young = replace(young, keyframes=young.keyframes[:keyframes])
    as_it_is, steps = _Problem.linearised, [0]

    def counted(*given: Any) -> Any:
        steps[-1] += 1
        return as_it_is(*given)

    monkeypatch.setattr(_Problem, 'linearised', counted)
    now = Odometry(young, log_focal=5.0, due=True).settled()
    while now.map.asking is not None:
        steps.append(0)
        now = now.settled()
    assert max(steps) <= WORK // keyframes + 1
    assert len(steps) <= 3 and (len(steps) > 1 or keyframes < 9)


def test_a_keyframe_that_comes_before_a_lens_was_asked_out_straightens_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bend = (BARREL, BARREL_SIGMA)
    whole = built('orbit', 0.8 * WIDTH, 0.6, distortion=-0.3, believed_bend=bend)
    told = solved(replace(whole, keyframes=whole.keyframes[:8]))
    assert told.scope.distortion == pytest.approx(-0.3, abs=0.03)
    monkeypatch.setattr('endosfm3d_ros.core.window.scope_told.WORK', 10)  # a step at a time
    asked = told.with_keyframe(whole.keyframes[8]).adjusted()
    assert asked.halfway and asked.asking is not None
    after = asked.with_keyframe(whole.keyframes[9]).adjusted()
    assert after.scope.distortion == pytest.approx(-0.3, abs=0.03)


def test_an_adjustment_that_has_no_answer_leaves_no_question_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = built('orbit', 0.8 * WIDTH, 0.6, believed_bend=(BARREL, BARREL_SIGMA))
    asked = Odometry(whole, log_focal=5.0, due=True).settled()
    assert asked.map.asking is not None

    def nothing(*_: object) -> None:
        raise np.linalg.LinAlgError

    monkeypatch.setattr('endosfm3d_ros.core.window.scope_told.adjust', nothing)
    after = asked.settled()
    assert after.map.asking is None and not after.map.halfway and not after.due


def test_once_a_lens_was_straightened_the_points_are_placed_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observations, 'MOST_POINTS', 120)
    monkeypatch.setattr(observations, 'LEAST_OF_A_VIEW', 80)
    local_map = built('advance', 0.6 * WIDTH, 0.6, believed_bend=(BARREL, BARREL_SIGMA))
    young = replace(local_map, keyframes=local_map.keyframes[:8])
    asked = Odometry(young, log_focal=5.0, due=True).settled().map
    assert asked.asking is not None
    straightened, frames = asked, 0
    while straightened.asking is not None:
        straightened, frames = (
            Odometry(straightened, log_focal=5.0, due=True).settled().map,
            frames + 1,
        )
    assert frames <= 2 and straightened.solution is not None
    others = np.setdiff1d(straightened.keyframes[-1].ids, asked.landmarks.ids[asked._picked()])
    row = straightened.landmarks.of(others)
    assert len(row) and np.isfinite(straightened.landmarks.track_sigma[row]).all()


def test_a_lens_is_asked_of_the_same_points_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    local_map = built('advance', 0.6 * WIDTH, 0.6, believed_bend=(BARREL, BARREL_SIGMA))
    young = solved(replace(local_map, keyframes=local_map.keyframes[:7]))
    young = young.with_keyframe(local_map.keyframes[7])
    waiting = replace(young, left_out=young.keyframes[-1].ids)
    asked = waiting.adjusted()
    assert asked.asking is not None and asked.left_out is not None
    monkeypatch.setattr(
        'endosfm3d_ros.core.window.rigid.strays',
        lambda places, misfit, before: misfit < np.median(misfit),
    )
    told = Odometry(asked, log_focal=5.0, due=True)
    while told.map.asking is not None:
        told = told.settled()
    assert told.map.solution is not None and told.map.landmarks.moving.any()  # judged afterwards


@pytest.mark.parametrize('kind', ['advance', 'orbit'])
@pytest.mark.parametrize('distortion', [-0.3, -0.2, -0.1])
def test_a_lens_that_bends_lines_is_found_with_its_focal_length(
    kind: str, distortion: float
) -> None:
    focal = 0.6 * WIDTH
    known = {'distortion': distortion, 'believed_bend': (BARREL, BARREL_SIGMA)}
    scope = solved(built(kind, focal, 1.3, **known)).scope
    off = scope.distortion - distortion
    assert abs(off) < 0.04 and abs(off) < 3 * scope.distortion_sigma
    assert abs(float(scope.focal[0] - np.log(focal))) < 0.03


def test_a_lens_that_is_known_for_straight_is_never_told_to_bend() -> None:
    """However much the tracks contradict, and however unsure that has made the belief."""
    local_map = built('advance', 0.6 * WIDTH, 1.2, distortion=-0.3)
    unsure = replace(local_map.belief, covariance=1e4 * local_map.belief.covariance)
    local_map = solved(replace(local_map, words=Words(unsure)))
    assert local_map.scope.pinhole and local_map.scope.distortion == 0.0
    assert local_map.scope.focal[0] > np.log(0.6 * WIDTH) + 0.1  # what it takes for a longer lens


@pytest.mark.parametrize(
    ('kind', 'start', 'keyframes'), [('advance', 1.4, 4), ('sideways', 0.8, 6)]
)
def test_a_bent_lens_explains_a_straight_ones_window_as_well(
    kind: str, start: float, keyframes: int
) -> None:
    """At the end of what a lens may be, all else goes on: it got stuck there, 384 and 18 off."""
    local_map = built(kind, 200.0, start, believed_bend=(BARREL, BARREL_SIGMA))
    local_map = replace(local_map, keyframes=local_map.keyframes[:keyframes])
    picked = local_map._picked()
    views, scene, beliefs = (
        local_map._views(picked),
        local_map._scene(picked),
        local_map._beliefs(),
    )
    shared = scene.shared.copy()
    shared[DISTORTION] = -0.1
    straight = adjust(views, replace(beliefs, straight=True), scene, 36)
    bent = adjust(views, replace(beliefs, straight=False), scene._replace(shared=shared), 36)
    assert bent.scene.shared[DISTORTION] == pytest.approx(0.0, abs=2e-4)
    assert bent.cost < straight.cost + 3.0  # another one would be within the tolerance


def test_a_wide_step_of_the_lens_moves_points_in_their_pictures_as_its_slopes_say() -> None:
    """However long: in the picture that first saw them they move along a straight line."""
    local_map = built('orbit', 200.0, 1.0, distortion=-0.2)
    scope = replace(local_map.scope, distortion=-0.2)
    local_map = replace(local_map, scope=scope)
    picked = local_map._picked()
    start = local_map._scene(picked)
    problem = _Problem(local_map._views(picked), local_map._beliefs())
    longer, bent = 0.3, -0.15
    step = np.zeros(PER_VIEW * 10 + SHARED)
    step[FOCAL : PER_VIEW * 10 : PER_VIEW], step[PER_VIEW * 10 + DISTORTION] = longer, bent
    moved = problem.moved(start, step, np.zeros_like(start.points))
    first = problem.measured.first
    sigma = problem.measured.pixel_sigma[first, None]
    before, after = (sigma * problem.residuals(s)[first, :2] for s in (start, moved))
    k = problem.measured.k[first]
    X = np.einsum('nij,nj->ni', start.R[k], start.points) + start.t[k]
    ray = X[:, :2] / X[:, 2:]
    wide, _, by_distortion = magnified((ray * ray).sum(1), -0.2)
    slope = np.exp(start.log_focal[k]) * (longer * wide + bent * by_distortion)
    assert np.abs(slope[:, None] * ray).max() > 20.0
    assert after - before == pytest.approx(slope[:, None] * ray, abs=1e-6)
