# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from endosfm3d_ros.core.frame import Motion
from endosfm3d_ros.core.geometry import motion_from_vector
from endosfm3d_ros.core.tracks import unknown_motion
from endosfm3d_ros.core.trajectory import MOST_RAD, Trajectory, step_covariance


def step(
    rotation: list[float], translation: list[float], covariance: np.ndarray | None = None
) -> Motion:
    T = motion_from_vector(np.array(rotation), np.array(translation))
    return Motion(T, np.zeros((6, 6)) if covariance is None else covariance, known=True)


def test_three_frames_forward_put_the_camera_three_mm_along_odom_s_x() -> None:
    trajectory = Trajectory()
    for _ in range(3):
        trajectory = trajectory.advance(step([0, 0, 0], [0, 0, 1]))
    assert np.allclose(trajectory.T_odom_cam[:3, 3], [3.0, 0.0, 0.0])


def test_moving_right_in_the_picture_is_minus_y_and_down_is_minus_z() -> None:
    assert np.allclose(
        Trajectory().advance(step([0, 0, 0], [1, 0, 0])).T_odom_cam[:3, 3], [0, -1, 0]
    )
    assert np.allclose(
        Trajectory().advance(step([0, 0, 0], [0, 1, 0])).T_odom_cam[:3, 3], [0, 0, -1]
    )


def test_going_round_a_square_comes_home() -> None:
    trajectory = Trajectory()
    for _ in range(4):
        trajectory = trajectory.advance(step([0, np.pi / 2, 0], [0, 0, 10]))
    assert np.allclose(trajectory.T_odom_cam, Trajectory().T_odom_cam, atol=1e-9)


def test_a_long_chain_stays_a_rotation() -> None:
    trajectory = Trajectory()
    for _ in range(5000):
        trajectory = trajectory.advance(step([1e-3, -2e-3, 3e-3], [0.1, 0.0, 0.2]))
    R = trajectory.T_odom_cam[:3, :3]
    assert np.allclose(R @ R.T, np.eye(3), atol=1e-12)


def test_the_covariance_of_a_chain_is_that_of_drawn_chains() -> None:
    rng = np.random.default_rng(1)
    sigma = np.diag([0.1, 0.2, 0.15, 0.004, 0.006, 0.005])
    clean = step([0.02, 0.05, -0.01], [0.5, 0.1, 1.0], sigma**2)
    said = Trajectory()
    for _ in range(20):
        said = said.advance(clean)
    ends = []
    for _ in range(600):
        trajectory = Trajectory()
        for _ in range(20):
            noise = sigma @ rng.standard_normal(6)
            T = clean.T_prev_cam @ motion_from_vector(noise[3:], noise[:3])
            trajectory = trajectory.advance(Motion(T, np.zeros((6, 6)), known=True))
        ends.append(trajectory.T_odom_cam[:3, 3] - said.T_odom_cam[:3, 3])
    drawn = np.cov(np.array(ends).T)
    assert np.allclose(np.sqrt(np.diag(drawn)), np.sqrt(np.diag(said.covariance)[:3]), rtol=0.12)


def test_an_unknown_step_holds_the_camera_and_widens_its_covariance() -> None:
    before = Trajectory().advance(step([0, 0, 0], [0, 0, 1]))
    after = before.advance(unknown_motion(0.04))
    assert np.array_equal(after.T_odom_cam, before.T_odom_cam)
    assert (np.diag(after.covariance) > np.diag(before.covariance)).all()


def test_a_restart_opens_the_next_epoch_at_the_origin() -> None:
    moved = Trajectory().advance(step([0, 0, 0.3], [1, 2, 3]))
    again = moved.restart()
    assert again.epoch == moved.epoch + 1
    assert np.array_equal(again.T_odom_cam, Trajectory().T_odom_cam)
    assert not again.covariance.any()


def test_a_common_error_of_depth_s_scale_stretches_the_path_and_the_covariance_says_so() -> None:
    trajectory = Trajectory()
    for _ in range(100):
        trajectory = trajectory.advance(step([0, 0, 0], [0, 0, 1]))
    sigma = np.sqrt(np.diag(trajectory.total_covariance(0.5, 0.0)))
    assert sigma[0] == pytest.approx(50.0)  # not 5, as a hundred independent errors would give
    assert sigma[1] == pytest.approx(0.0, abs=1e-6)


def test_the_focal_lever_is_what_a_wrong_focal_length_does_to_a_walk() -> None:
    def walk(factor: float) -> Trajectory:
        trajectory = Trajectory()
        for n in range(30):
            turn = np.array([0.004, 0.006 * np.cos(n / 9), 0.005])
            move = np.array([0.3, -0.2 * np.sin(n / 7), 0.5])
            # pans and sideways moves shrink by the factor that the focal length is too long by
            seen = motion_from_vector(turn / [factor, factor, 1], move / [factor, factor, 1])
            trajectory = trajectory.advance(Motion(seen, np.zeros((6, 6)), known=True))
        return trajectory

    small = 1e-3
    true, wrong = walk(1.0), walk(np.exp(small))
    moved = (wrong.T_odom_cam[:3, 3] - true.T_odom_cam[:3, 3]) / small
    assert moved == pytest.approx(true.focal_lever[:3], rel=0.05, abs=0.05)


def test_a_step_knows_what_scale_and_focal_length_do_to_it() -> None:
    motion = step([0, 0.1, 0], [2, 0, 5])
    sideways = (motion.T_prev_cam[:3, :3].T @ motion.T_prev_cam[:3, 3])[0]
    said = step_covariance(motion, 0.3, 0.2)
    assert said[0, 0] == pytest.approx((0.3**2 + 0.2**2) * sideways**2)
    assert said[4, 4] == pytest.approx((0.2 * 0.1) ** 2)


def test_ten_minutes_of_darkness_leave_a_camera_that_may_look_anywhere_and_no_farther() -> None:
    trajectory = Trajectory()
    for _ in range(15_000):
        trajectory = trajectory.advance(unknown_motion(0.04))
    assert np.sqrt(np.diag(trajectory.covariance)).max() <= 1000.0
    assert np.sqrt(np.diag(trajectory.covariance))[3:].max() <= MOST_RAD + 1e-9
