# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from endosfm3d_ros.evaluation.bootstrap import over_frames, over_videos


def test_the_interval_of_independent_values_is_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    found = over_frames(values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.25)


def test_values_that_err_together_are_less_sure():
    rng = np.random.default_rng(1)
    slow = np.repeat(rng.normal(0, 1.0, 40), 10)
    shuffled = rng.permutation(slow)
    width = [one.high - one.low for one in map(over_frames, (slow, shuffled))]
    assert width[0] > 2 * width[1]


def test_a_mean_over_frames_weighs_long_videos_and_one_over_videos_does_not():
    frames, videos = over_videos([[1.0] * 30, [4.0] * 10])
    assert frames.mean == pytest.approx((30 + 40) / 40)
    assert videos.mean == pytest.approx(2.5)
    assert (videos.low, videos.high) == (1.0, 4.0)
    assert videos.count == 2


def test_every_frame_is_drawn_as_often_as_any_other():
    """Around the end, the last as well as those in the middle."""
    for last in (0, 12, 24):
        values = np.zeros(25)
        values[last] = 25.0
        found = over_frames(values)
        assert (found.low, found.high) == (0.0, pytest.approx(3.0, abs=1.0))


def test_a_drawn_mean_over_frames_is_over_the_frames_that_were_drawn():
    frames, _ = over_videos([[1.0] * 30, [4.0] * 10])
    assert (frames.low, frames.high) == (1.0, 4.0)


def test_an_interval_leaves_out_a_fortieth_on_either_side():
    """Of forty coins 13 heads or fewer come in 1.9 % of all throws, 14 in 4."""
    _, videos = over_videos([[0.0], [1.0]] * 20)
    assert (videos.low, videos.high) == (14 / 40, 26 / 40)


def test_one_value_and_one_video_have_no_interval():
    one, two = over_frames([2.0]), over_frames([2.0, 4.0])
    assert (one.low, one.count, two.count) == (None, 1, 2)
    assert (two.low, two.high) == (2.0, 4.0)
    assert [(part.high, part.count) for part in over_videos([[1.0, 3.0]])] == [(None, 1)] * 2


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(2).normal(size=50)
    assert over_frames(values) == over_frames(values)


def test_nothing_has_no_interval():
    with pytest.raises(ValueError, match='found none'):
        over_frames([])
    for videos in ([], [[1.0, 2.0], []]):
        with pytest.raises(ValueError, match='of every video'):
            over_videos(videos)
