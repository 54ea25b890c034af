# SPDX-License-Identifier: Apache-2.0
"""The state between frames by itself; films are in test_pipeline.py and test_recognition.py."""

from dataclasses import replace

import numpy as np
import pytest

from endosfm3d_ros.core import odometry as room
from endosfm3d_ros.core.geometry import inverse, motion_from_vector
from endosfm3d_ros.core.odometry import FED_SIGMAS, REMEMBERED, Odometry, _faded
from endosfm3d_ros.core.tracking.followed import Followed
from endosfm3d_ros.core.window.local_map import WINDOW
from endosfm3d_ros.core.window.resection import Resection
from endosfm3d_ros.core.window.zoom_steps import RUNS
from test.core.bumpy_wall import HEIGHT, WIDTH, adjusted, built
from test.core.test_patches import sight

NOTHING = sight(np.zeros((HEIGHT, WIDTH), np.uint8))


def begun() -> Odometry:
    """A frame after the tenth keyframe of an orbit, on its way to what is told."""
    local_map = adjusted(built('orbit', 200.0, 1.2))
    newest = local_map.keyframes[-1]
    moved = motion_from_vector(np.array([0.0, 0.01, 0.002]), np.array([0.3, -0.1, 0.2]))
    wrong = motion_from_vector(np.array([0.02, 0.0, 0.01]), np.array([0.5, 0.1, -0.4]))
    return Odometry(
        local_map,
        number=newest.number + 2,
        T_cam_world=moved @ newest.T_cam_world,
        correction=wrong,
        log_focal=newest.log_focal + 0.01,
    )


def found(log_focal: float, sigma: float = 1e-3) -> Resection:
    covariance = np.diag([1e-6, 2e-6, 3e-6, 1e-2, 2e-2, 3e-2, sigma**2])
    return Resection(np.eye(4), log_focal, covariance, np.ones(30, bool), True, 0.3)


def told(one: Odometry) -> np.ndarray:
    """T_world_cam as it is told."""
    return inverse(one.T_cam_world) @ one.correction


def test_an_adjusted_map_takes_the_frames_since_along_and_what_is_told_does_not_jump() -> None:
    before = begun()
    solved = adjusted(adjusted(before.map))
    after = before._moved_to(solved)
    old, new = before.map.keyframes[-1], solved.keyframes[-1]
    assert np.abs(new.T_cam_world - old.T_cam_world).max() > 1e-3
    assert told(after) == pytest.approx(told(before))
    assert after.T_cam_world @ inverse(new.T_cam_world) == pytest.approx(
        before.T_cam_world @ inverse(old.T_cam_world)
    )
    assert after.log_focal - new.log_focal == pytest.approx(before.log_focal - old.log_focal)


def test_a_correction_fades_within_its_time() -> None:
    correction = begun().correction
    after = _faded(correction, room.SETTLE_S)
    assert after[:3, 3] == pytest.approx(correction[:3, 3] / np.e)
    steps = correction
    for _ in range(10):
        steps = _faded(steps, room.SETTLE_S / 10)
    assert steps == pytest.approx(after)
    assert _faded(correction, 100.0) == pytest.approx(np.eye(4), abs=1e-12)


def test_without_a_solution_a_step_is_as_sure_as_its_resection_shift_before_turn() -> None:
    young = Odometry(built('orbit', 200.0, 1.2))
    assert young.map.step_covariance is None
    said = young._step_covariance(found(5.0).covariance, False, np.eye(4))
    assert np.diag(said) == pytest.approx([1e-2, 2e-2, 3e-2, 1e-6, 2e-6, 3e-6])


def test_a_step_by_recognition_has_both_errors_and_a_large_correction_in_it_is_told() -> None:
    odometry, alone = begun(), found(5.0).covariance
    window = odometry.map.step_covariance
    assert window is not None
    both = odometry._step_covariance(alone, True, np.eye(4))
    assert np.diag(both - window) == pytest.approx([1e-2, 2e-2, 3e-2, 1e-6, 2e-6, 3e-6])
    sigma = float(np.sqrt(1.0 / np.linalg.inv(window)[0, 0]))
    for sigmas, added in ((0.8 * FED_SIGMAS, 0.0), (1.2 * FED_SIGMAS, 1.0)):
        way = sigmas * sigma * np.eye(3)[0]
        fed = odometry._step_covariance(alone, False, motion_from_vector(np.zeros(3), way))
        assert (fed - window)[0, 0] == pytest.approx(added * way[0] ** 2)


def test_a_frame_whose_zoom_hardly_moved_has_that_of_its_keyframe_and_one_that_runs_its_own() -> (
    None
):
    odometry = begun()
    last = odometry.map.keyframes[-1].log_focal
    rested, runs = odometry._rested(found(last + 0.002), NOTHING)
    assert rested.log_focal == pytest.approx(last, abs=7e-4) and not runs
    away = last + 4 * RUNS
    running, runs = odometry._rested(found(away), NOTHING)
    assert running.log_focal == away and runs
    doubtful = last + 0.012  # a zoom that ran before goes on
    assert not odometry._rested(found(doubtful), NOTHING)[1]
    assert replace(odometry, zooms=True)._rested(found(doubtful), NOTHING)[1]
    rim = replace(NOTHING, log_zoom=0.1, log_zoom_sigma=1e-3)  # it says so itself
    assert odometry._rested(found(last + 0.002), rim)[0].log_focal == last + 0.002


def test_only_points_of_the_map_that_do_not_move_place_a_frame() -> None:
    odometry = begun()
    known = odometry.map.landmarks
    moving = np.arange(len(known)) % 3 == 0
    ids = np.append(known.ids, known.ids.max() + np.arange(1, 6))
    followed = Followed(ids=ids, points=np.zeros((len(ids), 2), np.float32))
    local_map = replace(odometry.map, landmarks=replace(known, moving=moving))
    rigid = replace(odometry, map=local_map, followed=followed)._rigid
    assert np.array_equal(rigid, np.append(~moving, np.zeros(5, bool)))


def test_a_map_that_was_left_is_kept_while_the_next_one_is_young_and_no_longer() -> None:
    old = begun()
    young = replace(old.map, keyframes=old.map.keyframes[: WINDOW - 1])
    next_one = Odometry(young, number=old.number + 20, left=old)
    assert next_one._young and next_one._worth_keeping is old
    assert not replace(next_one, number=old.number + REMEMBERED)._young
    grown = replace(next_one, map=old.map)
    assert not grown._young and grown._worth_keeping is grown
    assert Odometry(built('orbit', 200.0, 1.2))._worth_keeping is None  # never adjusted
