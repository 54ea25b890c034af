# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from endosfm3d_ros.evaluation.intrinsics import intrinsics_errors

STAMPS = np.arange(200) / 25


def cameras(focal, cx=320.0, cy=240.0):
    K = np.zeros((len(focal), 3, 3))
    K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = focal, focal, cx, cy, 1.0
    return K


def zooming(stamps):
    return 500 * (1.3 - 0.3 * np.cos(2 * np.pi * stamps / 6))


def test_relative_errors_are_those_of_the_hand():
    errors = intrinsics_errors(
        STAMPS, cameras(np.full(200, 550.0), 304.0, 246.0), cameras(np.full(200, 500.0))
    )
    assert errors.fx == pytest.approx(0.1)
    assert errors.cx == pytest.approx(0.05)
    assert errors.cy == pytest.approx(0.025)
    assert errors.focal_bias == pytest.approx(0.1)


def test_one_focal_length_stands_for_two_and_the_worst_may_be_too_short():
    K, K_true = cameras(np.array([500.0, 450.0, 510.0])), cameras(np.full(3, 500.0))
    K[:, 1, 1] *= 1.21
    K_true[:, 1, 1] *= 1.21
    errors = intrinsics_errors(STAMPS[:3], K, K_true)
    assert errors.focal_worst == pytest.approx(0.1)
    assert errors.fy == pytest.approx((0.1 + 0.02) / 3)
    K[:, 1, 1] *= 1.21  # a tenth too long as a whole
    assert intrinsics_errors(STAMPS[:3], K, K_true).focal_bias == pytest.approx(1.1 * 2.92 / 3 - 1)


def test_a_zoom_that_only_grows_steadily_has_no_lag():
    """Shifted by anything it correlates as well: the smallest shift is told."""
    growing = np.exp(0.1 * STAMPS)
    errors = intrinsics_errors(STAMPS, cameras(500 * growing), cameras(500 * growing**0.9))
    assert errors.zoom_lag == pytest.approx(0.0, abs=1e-9)


def test_a_focal_length_off_by_a_factor_still_zooms_right():
    errors = intrinsics_errors(STAMPS, cameras(1.4 * zooming(STAMPS)), cameras(zooming(STAMPS)))
    assert errors.zoom == pytest.approx(0, abs=1e-12)
    assert errors.zoom_correlation == pytest.approx(1.0)
    assert errors.zoom_lag == pytest.approx(0, abs=1e-6)
    assert errors.fx == pytest.approx(0.4)


@pytest.mark.parametrize('late', [0.0, 0.05, 0.2, -0.12, 0.9])
def test_the_lag_of_a_late_zoom_is_found_with_frames_missing(late):
    stamps = np.delete(STAMPS, np.random.default_rng(1).permutation(200)[:120])
    errors = intrinsics_errors(stamps, cameras(zooming(stamps - late)), cameras(zooming(stamps)))
    assert errors.zoom_lag == pytest.approx(late, abs=0.01)


@pytest.mark.parametrize('late', [0.2, -0.2])
def test_the_lag_of_a_zoom_that_soon_rests_is_found(late):
    """Shifted by a second nothing of it is left to compare."""

    def zoomed(stamps):
        return cameras(500 * (1 + 0.3 * np.clip((stamps - 0.3) / 0.4, 0, 1)))

    errors = intrinsics_errors(STAMPS, zoomed(STAMPS - late), zoomed(STAMPS))
    assert errors.zoom_lag == pytest.approx(late, abs=0.02)


def test_a_lag_is_at_most_half_of_a_short_run():
    """Of three frames that overlap any two curves correlate."""
    rng = np.random.default_rng(0)
    stamps = STAMPS[:20]
    for _ in range(20):
        K = cameras(500 * np.exp(0.1 * np.cumsum(rng.normal(size=20))))
        errors = intrinsics_errors(stamps, K, cameras(zooming(stamps)))
        assert abs(errors.zoom_lag) <= 0.4 + 1e-9


def test_a_held_camera_has_neither_correlation_nor_lag():
    errors = intrinsics_errors(STAMPS, cameras(np.full(200, 500.0)), cameras(zooming(STAMPS)))
    assert errors.zoom_correlation is None
    assert errors.zoom_lag is None
    assert errors.zoom > 0.1


def test_one_moment_is_enough():
    errors = intrinsics_errors(STAMPS[:1], cameras(np.array([510.0])), cameras(np.array([500.0])))
    assert errors.fx == pytest.approx(0.02)
    assert errors.zoom_lag is None
