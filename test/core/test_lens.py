# SPDX-License-Identifier: Apache-2.0
"""A lens that bends straight lines: there and back, its slopes, as OpenCV has it, and undone."""

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.lens import distorted, magnified, rational_polynomial, undistorted
from endosfm3d_ros.core.straighten import as_the_lens_saw, straightened

LENSES = (-0.4, -0.15, 0.0, 0.1)


def rays(count: int = 200) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (count, 2))


@pytest.mark.parametrize('coefficient', LENSES)
def test_what_is_imaged_and_undone_is_the_ray_it_was(coefficient: float) -> None:
    there = distorted(rays(), coefficient)
    assert undistorted(there, coefficient) == pytest.approx(rays(), abs=1e-12)
    away, before = np.linalg.norm(there, axis=1), np.linalg.norm(rays(), axis=1)
    assert np.all(away <= before) if coefficient <= 0 else np.all(away >= before)


@pytest.mark.parametrize('coefficient', [-0.4, -0.15, 0.1])
def test_the_slopes_are_those_of_the_factor(coefficient: float) -> None:
    squared, small = np.linspace(0.0, 1.5, 20), 1e-6
    _, by_squared, by_coefficient = magnified(squared, coefficient)
    ahead, behind = (magnified(squared + sign * small, coefficient)[0] for sign in (1, -1))
    assert by_squared == pytest.approx((ahead - behind) / (2 * small), abs=1e-5)
    more, less = (magnified(squared, coefficient + sign * small)[0] for sign in (1, -1))
    assert by_coefficient == pytest.approx((more - less) / (2 * small), abs=1e-5)


@pytest.mark.parametrize('coefficient', [-0.4, -0.15, 0.1])
def test_opencv_images_a_ray_where_the_lens_does(coefficient: float) -> None:
    points = np.column_stack([rays(), np.ones(len(rays()))])
    K = np.array([[200.0, 0, 160], [0, 210, 128], [0, 0, 1]])
    D = np.array(rational_polynomial(coefficient))
    theirs = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, D)[0][:, 0]
    ours = distorted(rays(), coefficient) * [200, 210] + [160, 128]
    assert theirs == pytest.approx(ours, abs=0.1)


def test_a_lens_beyond_its_model_stays_finite() -> None:
    far = np.array([[0.0, 0.0], [3.0, 4.0], [1e3, -1e3]])
    for coefficient in (-2.0, -0.3, 0.3, 2.0):
        assert np.isfinite(distorted(far, coefficient)).all()
        assert np.isfinite(undistorted(far, coefficient)).all()
        assert (undistorted(far, coefficient) * far >= 0.0).all()  # and on its side of the axis


def test_a_straightened_picture_is_what_a_pinhole_sees() -> None:
    """A slanted plane with a grid on it: its depth and lines, where a pinhole would have them."""
    camera = Intrinsics(280, 224, 170.0, 175.0, 141.0, 109.0)

    def seen(coefficient: float, K: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
        v, u = np.mgrid[:224, :280].astype(float)
        image = np.stack([(u - 141) / K.fx, (v - 109) / K.fy], axis=-1)
        ray = undistorted(image, coefficient)
        z = 40.0 / (1.0 - 0.4 * ray[..., 0] + 0.2 * ray[..., 1])
        lines = np.sin(ray[..., 0] * z * 0.6) * np.sin(ray[..., 1] * z * 0.6)
        grey = np.rint(128 + 90 * lines).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), z.astype(np.float32)

    picture, depth = seen(-0.25, camera)
    depth[:3] = np.nan
    told = DepthMap(depth, np.full_like(depth, 0.1))
    flat, without, K = straightened(picture, told, camera, -0.25)
    pinhole, true = seen(0.0, K)
    known = np.isfinite(without.depth)
    assert known.mean() > 0.9
    assert without.depth[known] == pytest.approx(true[known], rel=2e-3)
    off = np.abs(flat.astype(int) - pinhole)[known]
    assert np.median(off) <= 2 and np.quantile(off, 0.99) < 12
    assert np.abs(picture.astype(int) - pinhole)[known].mean() > 10 * off.mean()
    assert straightened(picture, told, camera, 0.0)[0] is picture
    back, again = as_the_lens_saw(without.depth, K, -0.25)
    assert again.fx == pytest.approx(camera.fx) and again.fy == pytest.approx(camera.fy)
    both = np.isfinite(back) & np.isfinite(depth)
    assert both.mean() > 0.93 and back[both] == pytest.approx(depth[both], rel=3e-3)
