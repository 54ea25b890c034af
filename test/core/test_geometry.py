# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from endosfm3d_ros.core.frame import Frame, Intrinsics
from endosfm3d_ros.core.geometry import (
    R_BODY_OPTICAL,
    inverse,
    motion_from_vector,
    nearest_rotation,
    quaternion,
    rigid,
    rotation_from_quaternion,
    rotation_vectors,
    rotations,
    unproject_pixels,
)

CAMERA = Intrinsics(40, 30, 32.0, 31.0, 18.5, 15.25)


def project(points: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """(N, 2) pixels of points (N, 3)."""
    image = points @ camera.matrix.T
    return image[:, :2] / image[:, 2:]


def test_a_pixel_lifted_and_projected_comes_home() -> None:
    rng = np.random.default_rng(0)
    pixels, depth = rng.uniform(0, 30, (50, 2)), rng.uniform(5, 100, 50)
    lifted = unproject_pixels(pixels, depth, CAMERA)
    assert np.allclose(project(lifted, CAMERA), pixels, atol=1e-9)
    assert np.array_equal(lifted[:, 2], depth)  # which is along the axis, x right and y down
    right = unproject_pixels(np.array([[18.5 + 32.0, 15.25]]), np.array([20.0]), CAMERA)
    assert right.tolist() == [[20.0, 0.0, 20.0]]


def test_a_marked_point_keeps_its_ray_under_crop_and_resize() -> None:
    point = np.array([[3.0, -2.0, 50.0]])
    u, v = project(point, CAMERA)[0]
    cropped = project(point, CAMERA.cropped(7, 3, 20, 20))[0]
    assert np.allclose(cropped, [u - 7, v - 3])
    resized = project(point, CAMERA.resized(80, 90))[0]
    assert np.allclose(resized, [(u + 0.5) * 2 - 0.5, (v + 0.5) * 3 - 0.5])


def test_an_area_mean_lies_where_the_resized_camera_says() -> None:
    picture = np.zeros((40, 60), np.float64)
    picture[20:22, 30:33] = 1.0  # its centre of mass is (31, 20.5)
    small = picture.reshape(20, 2, 20, 3).mean((1, 3))
    v, u = (np.indices(small.shape) * small).sum((1, 2)) / small.sum()
    camera = Intrinsics(60, 40, 50.0, 50.0, 31.0, 20.5).resized(20, 20)
    assert (camera.cx, camera.cy) == pytest.approx((u, v))


def test_a_motion_times_its_inverse_is_nothing() -> None:
    T = motion_from_vector(np.array([0.2, -0.4, 0.9]), np.array([4.0, 5.0, -6.0]))
    assert np.allclose(T @ inverse(T), np.eye(4), atol=1e-12)


@pytest.mark.parametrize('angle', [0.0, 1e-9, 0.3, np.pi / 2, np.pi - 1e-6, np.pi])
@pytest.mark.parametrize('axis', [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -2, 0.5)])
def test_quaternions_and_matrices_agree_at_every_angle(
    angle: float, axis: tuple[float, ...]
) -> None:
    R = motion_from_vector(np.array(axis) / np.linalg.norm(axis) * angle, np.zeros(3))[:3, :3]
    q = quaternion(R)
    assert np.linalg.norm(q) == pytest.approx(1.0) and q[3] >= 0
    assert np.allclose(rotation_from_quaternion(*q), R, atol=1e-9)


def test_optical_forward_is_the_body_s_x_and_optical_down_is_minus_z() -> None:
    assert (R_BODY_OPTICAL @ [0, 0, 1]).tolist() == [1, 0, 0]
    assert (R_BODY_OPTICAL @ [0, 1, 0]).tolist() == [0, 0, -1]
    assert (R_BODY_OPTICAL @ [1, 0, 0]).tolist() == [0, -1, 0]
    assert np.linalg.det(R_BODY_OPTICAL) == pytest.approx(1.0)


def test_a_dirty_rotation_is_cleaned_and_a_rigid_motion_holds_both_parts() -> None:
    R = motion_from_vector(np.array([0.1, 0.2, 0.3]), np.zeros(3))[:3, :3]
    cleaned = nearest_rotation(R + 1e-4 * np.arange(9).reshape(3, 3))
    assert np.allclose(cleaned @ cleaned.T, np.eye(3), atol=1e-12)
    assert np.allclose(cleaned, R, atol=2e-3)
    assert rigid(R, np.array([1.0, 2.0, 3.0]))[:3, 3].tolist() == [1.0, 2.0, 3.0]


def test_the_rotation_nearest_to_a_matrix_is_never_a_mirror() -> None:
    """A mean of turns that contradict each other may be one."""
    mirror = motion_from_vector(np.array([0.1, 0.2, 0.3]), np.zeros(3))[:3, :3]
    mirror = mirror @ np.diag([1.0, 0.9, -0.2])
    nearest = nearest_rotation(mirror)
    assert np.linalg.det(nearest) == pytest.approx(1.0)
    others = motion_from_vector(np.array([0.1, 0.2, 0.3]) + 0.01, np.zeros(3))[:3, :3]
    assert np.linalg.norm(nearest - mirror) < np.linalg.norm(others - mirror)


@pytest.mark.parametrize('turn', [0.0, 0.4, 3.0])
def test_a_turn_s_vector_is_read_back_whatever_its_angle(turn: float) -> None:
    vectors = turn * np.array([[1.0, 0.0, 0.0], [0.6, 0.0, -0.8]])
    matrices = rotations(vectors)
    for vector, R in zip(vectors, matrices, strict=True):
        assert np.allclose(R, motion_from_vector(vector, np.zeros(3))[:3, :3], atol=1e-12)
    assert np.allclose(rotation_vectors(matrices), vectors, atol=1e-9)


@pytest.mark.parametrize('values', [(0.0, 1.0), (-5.0, 5.0), (np.nan, 5.0), (np.inf, 5.0)])
def test_focal_lengths_that_are_none_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match='positive and finite'):
        Intrinsics(10, 10, *values, 5.0, 5.0)


def test_a_frame_refuses_what_is_no_rgb_picture_and_a_camera_of_another_size() -> None:
    with pytest.raises(ValueError, match='uint8 RGB'):
        Frame(np.zeros((4, 4), np.uint8), 1, 'cam')
    with pytest.raises(ValueError, match='camera_info is of'):
        Frame(np.zeros((4, 4, 3), np.uint8), 1, 'cam', CAMERA)
