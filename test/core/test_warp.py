# SPDX-License-Identifier: Apache-2.0
"""The warp of a picture against maps whose answer is known."""

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.tracking.warp import Warp

SIZE = (280, 224)


def grid(step: int = 12) -> np.ndarray:
    v, u = np.mgrid[10 : SIZE[1] - 10 : step, 10 : SIZE[0] - 10 : step].reshape(2, -1)
    return np.column_stack([u, v]).astype(np.float64)


def turned_wall(points: np.ndarray) -> np.ndarray:
    """A wall seen again after a turn, a zoom and a step: a homography."""
    H = np.array([[1.15, -0.08, 4.0], [0.09, 1.13, -6.0], [3e-4, -2e-4, 1.0]])
    there = np.column_stack([points, np.ones(len(points))]) @ H.T
    return there[:, :2] / there[:, 2:]


def test_a_homography_is_met_to_a_few_hundredths_of_a_pixel_and_found_back() -> None:
    points = grid()
    warp = Warp.fitted(points, turned_wall(points), SIZE)
    between = grid(7)
    assert np.abs(warp(between) - turned_wall(between)).max() < 0.05
    near = between + np.random.default_rng(0).uniform(-2, 2, between.shape)
    assert np.abs(warp.back(near, turned_wall(between)) - between).max() < 0.1


def test_the_map_of_pixels_undoes_the_motion() -> None:
    rng = np.random.default_rng(1)
    first = cv2.GaussianBlur(rng.uniform(0, 255, SIZE[::-1]).astype(np.float32), (0, 0), 3)
    warp = Warp.fitted(grid(), turned_wall(grid()), SIZE)
    u, v = warp.pixels()
    assert np.abs(np.stack([u, v], -1)[50, 60] - warp(np.array([[60.0, 50.0]]))[0]).max() < 1e-3
    H = cv2.getPerspectiveTransform(
        grid()[[0, 10, -1, -11]].astype(np.float32),
        turned_wall(grid())[[0, 10, -1, -11]].astype(np.float32),
    )
    later = cv2.warpPerspective(first, H, SIZE)
    undone = cv2.remap(later, u, v, cv2.INTER_LINEAR)
    inner = (slice(60, 160), slice(60, 220))
    assert np.abs(undone - first)[inner].mean() < 0.1 * np.abs(later - first)[inner].mean()


def test_a_third_of_wild_tracks_does_not_bend_it() -> None:
    points, rng = grid(), np.random.default_rng(2)
    there = turned_wall(points) + rng.normal(0, 0.1, points.shape)
    wild = rng.uniform(size=len(points)) < 0.33
    there[wild] += rng.uniform(5, 20, (wild.sum(), 2))
    assert np.abs(Warp.fitted(points, there, SIZE)(points) - turned_wall(points)).max() < 0.6


@pytest.mark.parametrize('count', [0, 1, 3, 6, 20])
def test_few_points_make_a_shift_or_an_affine_map_and_no_wild_one(count: int) -> None:
    points = grid()[:: len(grid()) // max(count, 1)][:count]
    warp = Warp.fitted(points, points + np.array([3.0, -2.0]), SIZE)
    expected = [3.0, -2.0] if count else [0.0, 0.0]
    assert np.allclose(warp(grid()) - grid(), expected, atol=1e-3)
