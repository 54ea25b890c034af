# SPDX-License-Identifier: Apache-2.0
"""Where a frame was taken, among known points."""

import numpy as np
import pytest

from endosfm3d_ros.core.geometry import inverse, motion_from_vector
from endosfm3d_ros.core.window.resection import resect
from test.core.bumpy_wall import CENTRE, NOISE_PX, POINTS, project, scene_points


def test_resection_finds_pose_and_zoom_among_outliers() -> None:
    rng = np.random.default_rng(2)
    focal = 180.0
    points = scene_points(rng, focal)
    T = motion_from_vector(np.array([0.02, -0.05, 0.1]), np.array([2.0, -1.0, 3.0]))
    pixels = project(points, T, 1.02 * focal) + NOISE_PX * rng.standard_normal((POINTS, 2))
    pixels[:60] += rng.uniform(-20, 20, (60, 2))
    found = resect(points, pixels, CENTRE, 0.3, np.eye(4), float(np.log(focal)), 0.02)
    assert found.known and 0.65 < found.agree.mean() < 0.8
    assert found.T_cam_world == pytest.approx(inverse(T), abs=0.1)
    assert found.log_focal == pytest.approx(np.log(1.02 * focal), abs=0.004)


def test_a_resection_told_its_focal_length_is_the_one_that_had_known_it() -> None:
    rng = np.random.default_rng(3)
    points = scene_points(rng, 200.0)
    T = motion_from_vector(np.array([0.02, -0.03, 0.01]), np.array([1.0, -0.5, 3.0]))
    pixels = project(points, T, 206.0) + 0.2 * rng.standard_normal((POINTS, 2))
    where = points, pixels, CENTRE, 0.3, np.eye(4)
    free, held = resect(*where, np.log(206.0), 0.05), resect(*where, np.log(200.0), 1e-6)
    told = free.at_focal(float(np.log(200.0)), 1e-6)
    assert abs(free.log_focal - np.log(206.0)) < 0.01
    assert told.log_focal == pytest.approx(np.log(200.0), abs=1e-5)
    moved = np.linalg.norm((free.T_cam_world - held.T_cam_world)[:3, 3])
    assert moved > 0.3  # it matters, ...
    assert np.linalg.norm((told.T_cam_world - held.T_cam_world)[:3, 3]) < 0.05 * moved
    assert told.covariance[5, 5] < 0.5 * free.covariance[5, 5]  # zoom is told from an advance


def test_resection_of_nothing_is_not_known() -> None:
    nothing = resect(np.zeros((3, 3)), np.zeros((3, 2)), CENTRE, 0.3, np.eye(4), 5.0, 0.02)
    assert not nothing.known and np.array_equal(nothing.T_cam_world, np.eye(4))
