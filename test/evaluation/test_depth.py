# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from endosfm3d_ros.evaluation.depth import constant_depth_errors, depth_errors, mean_depth_errors


def test_errors_of_three_pixels_are_those_of_the_hand():
    truth = np.array([[10.0, 20.0, 40.0]])
    errors = depth_errors(np.array([[1.0, 2.0, 3.0]]), truth)  # medians 20 / 2: scaled 10, 20, 30
    assert errors.scale == 10.0
    assert errors.abs_rel == pytest.approx((10 / 40) / 3)
    assert errors.sq_rel == pytest.approx((100 / 40) / 3)
    assert errors.rmse == pytest.approx(np.sqrt(100 / 3))
    assert errors.rmse_log == pytest.approx(np.log(4 / 3) / np.sqrt(3))
    assert (errors.delta1, errors.delta2, errors.delta3) == (pytest.approx(2 / 3), 1.0, 1.0)


@pytest.mark.parametrize('factor', [1e-3, 0.5, 240.0])
def test_no_error_but_the_ratio_depends_on_the_unit_of_the_estimate(factor):
    rng = np.random.default_rng(1)
    truth, estimate = rng.uniform(20, 90, (2, 12, 15))
    one, other = depth_errors(estimate, truth), depth_errors(estimate * factor, truth)
    assert other.abs_rel == pytest.approx(one.abs_rel)
    assert other.rmse_log == pytest.approx(one.rmse_log)
    assert other.scale * factor == pytest.approx(one.scale)


def test_the_scale_is_that_of_medians_and_not_of_means():
    errors = depth_errors(np.array([[1.0, 2.0, 9.0]]), np.array([[10.0, 30.0, 140.0]]))
    assert errors.scale == 15.0
    assert errors.abs_rel == pytest.approx((5 / 10 + 5 / 140) / 3)


def test_unless_told_otherwise_truth_counts_from_a_micrometre_to_fifteen_centimetres():
    truth = np.array([[0.001, 0.00101, 149.9, 150.0, np.inf]])
    assert depth_errors(np.array([[1.0, 2.0, 3.0, np.nan, np.nan]]), truth).coverage == 1.0
    assert depth_errors(np.array([[1.0, np.nan, 3.0, 1.0, 1.0]]), truth).coverage == 0.5


def test_unknown_pixels_are_not_scored_but_counted():
    truth = np.full((2, 4), 50.0)
    truth[0, 0] = np.nan  # nobody asks
    truth[0, 1] = 200.0  # beyond the cap
    estimate = np.full((2, 4), 1.0)
    estimate[1, :3] = np.nan  # nothing said
    errors = depth_errors(estimate, truth)
    assert errors.abs_rel == 0.0
    assert errors.coverage == pytest.approx(3 / 6)


def test_a_depth_that_is_none_is_unknown():
    truth = np.array([[40.0, 40.0, 40.0, 80.0]])
    estimate = np.array([[0.0, -3.0, 1.0, 2.0]])
    for errors in (depth_errors(estimate, truth), constant_depth_errors(estimate, truth)):
        assert errors.coverage == 0.5
    assert depth_errors(estimate, truth).abs_rel == 0.0


def test_truth_at_a_cap_is_not_scored_and_what_is_found_beyond_is_taken_for_the_cap():
    truth = np.array([[1.0, 150.0, 0.5, 20.0, 30.0, 100.0]])
    estimate = np.array([[9.0, 9.0, 9.0, 0.1, 30.0, 900.0]])
    errors = depth_errors(estimate, truth, 1.0, 150.0, median_scaling=False)
    assert errors.coverage == 1.0
    assert errors.abs_rel == pytest.approx((19 / 20 + 0 + 50 / 100) / 3)


def test_shares_of_pixels_are_those_within_powers_of_a_quarter_more():
    truth = np.full((1, 5), 10.0)
    estimate = np.array([[10.0, 12.4, 15.5, 17.0, 20.0]])
    errors = depth_errors(estimate, truth, median_scaling=False)
    assert (errors.delta1, errors.delta2, errors.delta3) == (0.4, 0.6, 0.8)


def test_an_estimate_that_says_nothing_has_no_errors():
    assert depth_errors(np.full((3, 3), np.nan), np.full((3, 3), 40.0)) is None
    assert mean_depth_errors([]) is None


def test_a_flat_wall_is_scored_where_the_estimate_speaks():
    truth = np.array([[10.0, 20.0, 20.0, 80.0]])
    wall = constant_depth_errors(np.array([[3.0, 7.0, 5.0, np.nan]]), truth)
    assert wall.scale == 20.0
    assert wall.abs_rel == pytest.approx(1.0 / 3)  # 20 where 10 is true, else right
    assert wall.coverage == 0.75


def test_images_of_two_scales_spread():
    truth = np.full((2, 2), 30.0)
    mean = mean_depth_errors([depth_errors(truth / ratio, truth) for ratio in (2.0, 8.0)])
    assert mean.scale == pytest.approx(4.0)
    assert mean.scale_spread == pytest.approx(np.log(2))
    assert mean.frames == 2


def test_two_sizes_are_refused():
    with pytest.raises(ValueError, match='one size'):
        depth_errors(np.ones((2, 3)), np.ones((3, 2)))
