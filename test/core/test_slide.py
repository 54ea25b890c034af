# SPDX-License-Identifier: Apache-2.0
"""A slide before a wall: a flat scene and a long lens explain it nearly as well as the truth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from endosfm3d_ros.core.adjustment.bundle_adjustment import _Problem
from endosfm3d_ros.core.geometry import motion_from_vector
from endosfm3d_ros.core.odometry import Odometry
from endosfm3d_ros.core.window.scope_told import FREED_WORK, WORK
from test.core import bumpy_wall
from test.core.bumpy_wall import WIDTH, built, solved

FOCAL = 0.6 * WIDTH


def swaying(kind: str, count: int, distance: float = 40.0) -> list[np.ndarray]:
    """T_world_cam of a slide whose camera nods by a sixth of a degree: that tells its lens."""
    return [
        motion_from_vector(
            np.array([0.003 * np.sin(5 * k), 0.0, 0.0]), np.array([0.35 * distance * k, 0.0, 0.0])
        )
        for k in np.linspace(0.0, 1.0, count)
    ]


def off(start: float) -> tuple[float, float]:
    """Log focal length that a window of it tells, less the truth, and its sigma."""
    scope = solved(built('sideways', FOCAL, start)).scope
    return float(scope.focal[0] - np.log(FOCAL)), scope.log_focal_sigma


@pytest.mark.parametrize('start', [1.6, 2.2])
def test_a_slide_comes_home_from_a_lens_twice_as_long(
    start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damping alone stays where it began, and is sure of it."""
    monkeypatch.setattr(bumpy_wall, 'flight', swaying)
    error, sigma = off(start)
    assert abs(error) < 0.1 and abs(error) < 2 * sigma
    monkeypatch.setattr('endosfm3d_ros.core.window.scope_told.UNSURE_FOCAL', 1e9)
    stayed, sigma = off(start)
    assert stayed > 0.3 and stayed > 2.5 * sigma


def test_an_unsure_window_is_freed_in_a_frame_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bumpy_wall, 'flight', swaying)
    steps, as_it_is = [0], _Problem.linearised

    def counted(*given: Any) -> Any:
        steps[-1] += 1
        return as_it_is(*given)

    monkeypatch.setattr(_Problem, 'linearised', counted)
    built_map = built('sideways', FOCAL, 1.6)
    now = Odometry(built_map, log_focal=float(np.log(1.6 * FOCAL)), due=True).settled()
    first = now.map
    assert first.unsure and not first.waits and now.due
    steps.append(0)
    freed = now.settled().map
    assert not freed.unsure and freed.waits
    keyframes = len(built_map.keyframes)
    assert steps[0] <= WORK // keyframes + 1
    assert WORK // keyframes + 1 < steps[1] <= 2 * (FREED_WORK // keyframes) + 1
    assert freed.scope.focal[0] < first.scope.focal[0] - 0.1
    assert not first.with_keyframe(first.keyframes[-1]).unsure  # it will be asked of that one


def test_noise_alone_moves_no_focal_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed, a camera at rest follows it; so it must be shown to be better."""
    errors = {}
    for shown in (4.0, 0.0):
        monkeypatch.setattr('endosfm3d_ros.core.window.scope_told.SHOWN_BY', shown)
        moved = [
            float(solved(built('rest', FOCAL, 1.4, seed)).scope.focal[0] - np.log(1.4 * FOCAL))
            for seed in range(4)
        ]
        errors[shown] = np.abs(moved).max()
    assert errors[4.0] < 0.05 < 0.1 < errors[0.0]


@pytest.mark.parametrize('seed', [0, 2])
def test_an_adjustment_that_is_on_its_way_is_not_taken_for_one_that_damping_holds(
    seed: int,
) -> None:
    """Stirred, a camera at rest gains a lot by going on; its focal length has no part in it."""
    rng = np.random.default_rng(seed)
    resting = built('rest', FOCAL, 1.4, seed)
    stirred = tuple(
        replace(
            view,
            t=view.t + 0.5 * rng.standard_normal(3),
            pixels=view.pixels + 0.15 * rng.standard_t(4, view.pixels.shape),
        )
        for view in resting.keyframes
    )
    scope = solved(replace(resting, keyframes=stirred)).scope
    assert abs(float(scope.focal[0]) - np.log(1.4 * FOCAL)) < 0.02
