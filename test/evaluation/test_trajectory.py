# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import cv2
import numpy as np
import pytest

from endosfm3d_ros.evaluation.trajectory import (
    align,
    constant_forward,
    no_motion,
    snippet_errors,
    trajectory_errors,
)


def walk(count=40, seed=2):
    """A smooth random walk of a camera that turns, (N, 4, 4) [mm]."""
    rng = np.random.default_rng(seed)
    cameras = [np.eye(4)]
    for _ in range(count - 1):
        step = np.eye(4)
        step[:3, :3] = cv2.Rodrigues(rng.normal(0, 0.03, 3))[0]
        step[:3, 3] = rng.normal([0, 0, 0.5], 0.4)
        cameras.append(cameras[-1] @ step)
    return np.array(cameras)


def moved(cameras, scale, rotation, translation):
    R = cv2.Rodrigues(np.array(rotation))[0]
    other = cameras.copy()
    other[:, :3, :3] = R @ cameras[:, :3, :3]
    other[:, :3, 3] = scale * cameras[:, :3, 3] @ R.T + translation
    return other


def test_a_path_in_another_world_and_unit_has_no_error():
    truth = walk()
    errors = trajectory_errors(moved(truth, 0.02, [0.3, -1.0, 2.0], [5.0, 6.0, -7.0]), truth)
    assert errors.ate_sim3 == pytest.approx(0, abs=1e-9)
    assert errors.rpe_translation == pytest.approx(0, abs=1e-9)
    assert errors.rpe_rotation == pytest.approx(0, abs=1e-6)
    assert errors.snippet_ate == pytest.approx(0, abs=1e-9)
    assert errors.scale == pytest.approx(50.0)
    assert errors.ate_se3 > 1.0  # the unit was wrong, and this one says so


def test_alignment_finds_the_similarity_it_was_made_with():
    points = np.random.default_rng(0).normal(size=(20, 3))
    R = cv2.Rodrigues(np.array([0.2, 0.5, -0.9]))[0]
    found = align(points, 3.0 * points @ R.T + [1.0, 2.0, 3.0])
    assert found.scale == pytest.approx(3.0)
    np.testing.assert_allclose(found.R, R, atol=1e-12)
    np.testing.assert_allclose(found.t, [1.0, 2.0, 3.0], atol=1e-12)


def test_a_mirrored_path_is_not_explained_by_a_reflection():
    points = np.random.default_rng(0).normal(size=(20, 3))
    found = align(points, points * [1.0, 1.0, -1.0])
    assert np.linalg.det(found.R) == pytest.approx(1.0)
    assert np.abs(found.points(points) - points * [1.0, 1.0, -1.0]).max() > 0.1
    off = np.sum((found.points(points) - points * [1.0, 1.0, -1.0]) ** 2)
    mean = points.mean(0)
    for factor in (0.99, 1.01):  # it is the best scale for its turn
        scale = factor * found.scale
        other = replace(found, scale=scale, t=mean * [1, 1, -1] - scale * found.R @ mean)
        assert np.sum((other.points(points) - points * [1.0, 1.0, -1.0]) ** 2) > off


def test_a_snippet_is_scored_as_the_field_does():
    truth, estimate = no_motion(5), no_motion(5)
    truth[:, 2, 3] = [0.0, 1.0, 2.0, 3.0, 4.0]
    estimate[:, 0, 3] = [0.0, 1.0, 2.0, 3.0, 4.0]  # at right angles: the best scale is 0
    assert snippet_errors(estimate, truth) == pytest.approx(np.sqrt(1 + 4 + 9 + 16))
    errors = trajectory_errors(estimate, truth)
    assert errors.snippet_ate == pytest.approx(np.sqrt(30) / 5)  # as papers print it
    assert errors.snippet_rmse == pytest.approx(np.sqrt(30 / 5))  # a true RMSE
    estimate[:, 2, 3] = truth[:, 2, 3]  # halfway: scale 1/2 leaves half of each
    assert snippet_errors(estimate, truth) == pytest.approx(np.sqrt(30 * 0.5))


def test_a_snippet_starts_at_every_frame_but_the_last_four():
    assert len(snippet_errors(walk(40), walk(40))) == 36
    assert len(snippet_errors(walk(4), walk(4))) == 0


def test_a_path_twice_as_long_is_off_by_its_extent_where_its_own_scale_is_kept():
    truth = walk()
    errors = trajectory_errors(moved(truth, 2.0, [0.3, -1.0, 2.0], [5.0, 6.0, -7.0]), truth)
    assert errors.scale == pytest.approx(0.5)
    assert errors.ate_se3 == pytest.approx(np.sqrt(np.sum(np.var(truth[:, :3, 3], axis=0))))


@pytest.mark.parametrize('place', [0.0, 30.0])
def test_a_camera_that_never_moves_scores_the_extent_of_the_truth(place):
    truth, still = walk(), no_motion(40)
    still[:, :3, 3] = place
    errors = trajectory_errors(still, truth)
    assert errors.ate_se3 == pytest.approx(errors.ate_sim3)
    positions = truth[:, :3, 3]
    assert errors.ate_sim3 == pytest.approx(
        np.sqrt(np.mean(np.sum((positions - positions.mean(0)) ** 2, axis=1)))
    )
    assert errors.scale is None
    steps = np.linalg.inv(truth[:-1]) @ truth[1:]
    length = np.linalg.norm(steps[:, :3, 3], axis=1)
    assert errors.rpe_translation == pytest.approx(np.sqrt(np.mean(length**2)))


def test_going_straight_ahead_is_perfect_on_a_straight_path():
    truth = no_motion(12)
    truth[:, 2, 3] = 0.7 * np.arange(12)
    errors = trajectory_errors(constant_forward(np.arange(12)), truth)
    assert errors.ate_sim3 == pytest.approx(0, abs=1e-9)
    assert errors.scale == pytest.approx(0.7)
    assert errors.snippet_ate == pytest.approx(0, abs=1e-9)


def test_a_dropped_frame_is_no_error_and_no_snippet():
    truth = walk()
    kept = np.array([0, 1, 2, 4, 5, 6, 8, 9, 10])
    errors = trajectory_errors(truth[kept], truth[kept], kept)
    assert errors.rpe_translation == pytest.approx(0, abs=1e-12)
    assert errors.snippet_ate is None
    apart = truth[kept]
    apart[3:, :3, 3] += 100.0  # the frames that are lost took it elsewhere
    errors = trajectory_errors(apart, truth[kept], kept)
    steps = (apart[1:, :3, 3] - apart[:-1, :3, 3])[np.diff(kept) == 1]
    left = abs(errors.scale - 1.0) * np.sqrt(np.mean(np.sum(steps**2, axis=1)))
    assert errors.rpe_translation == pytest.approx(left)
    assert constant_forward(kept)[:, 2, 3].tolist() == kept.tolist()
    assert constant_forward(kept + 7)[:, 2, 3].tolist() == kept.tolist()


@pytest.mark.parametrize('degrees', [1.0, 120.0])
def test_a_wrong_turn_is_told_in_degrees_a_step(degrees):
    truth = no_motion(10)
    truth[:, 2, 3] = np.arange(10)
    turning = truth.copy()
    for number in range(10):
        turning[number, :3, :3] = cv2.Rodrigues(np.radians([0.0, degrees * number, 0.0]))[0]
    assert trajectory_errors(turning, truth).rpe_rotation == pytest.approx(degrees)
