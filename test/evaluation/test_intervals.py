# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from endosfm3d_ros.evaluation.intervals import over_frames, over_videos, student


def held(intervals, mean):
    """Share of intervals that hold a mean."""
    return np.mean([one.low <= mean <= one.high for one in intervals])


def remembering(share, count, rng):
    """Values of mean 0 that keep this share of their memory from one to the next."""
    noise = rng.normal(size=count) * np.sqrt(1 - share**2)
    values = [rng.normal()]
    for one in noise[1:]:
        values.append(share * values[-1] + one)
    return np.array(values)


@pytest.mark.parametrize(
    ('memory', 'count', 'least'),
    [(0.0, 30, 0.92), (0.8, 130, 0.91), (0.95, 130, 0.83), (0.95, 600, 0.91), (0.98, 2000, 0.91)],
)
def test_of_a_hundred_videos_whose_frames_err_together_95_intervals_hold_the_mean(
    memory, count, least
):
    """A twentieth of its memory lost a frame: 130 frames are as good as three or four alone."""
    rng = np.random.default_rng(0)
    found = held([over_frames(remembering(memory, count, rng)) for _ in range(500)], 0.0)
    assert least < found < 0.975


@pytest.mark.parametrize('videos', [2, 3, 10])
def test_of_a_hundred_sets_of_videos_95_intervals_hold_the_mean(videos):
    rng = np.random.default_rng(0)
    found = [
        over_videos([[rng.normal(5.0, 1.0)] * rng.integers(100, 600) for _ in range(videos)])
        for _ in range(500)
    ]
    for way in zip(*found, strict=True):
        assert 0.91 < held(way, 5.0) < 0.98


def test_student_s_t_is_that_of_the_tables():
    tables = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 10: 2.228, 30: 2.042}
    assert {freedom: student(freedom) for freedom in tables} == pytest.approx(tables, rel=2e-3)
    assert student(10**6) == pytest.approx(1.96, abs=1e-3)


def test_an_interval_over_frames_is_that_of_four_stretches_by_hand():
    found = over_frames([1.0, 1.0, 2.0, 4.0, 5.0, 5.0, 4.0, 2.0])  # 1, 3, 5, 3
    half = 3.1824 * np.sqrt(8 / 3 / 4)
    assert (found.mean, found.count) == (3.0, 8)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))


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
    assert (videos.low, videos.high) == pytest.approx((2.5 - 12.7062 * 1.5, 2.5 + 12.7062 * 1.5))
    assert videos.count == 2
    # each is off by 30 * 0.75, in videos of 20 frames on the mean
    assert frames.high - frames.mean == pytest.approx(12.7062 * 22.5 / 20)


def test_one_value_and_one_video_have_no_interval():
    one, two = over_frames([2.0]), over_frames([2.0, 4.0])
    assert (one.low, one.count, two.count) == (None, 1, 2)
    assert (two.low, two.high) == pytest.approx((3 - 12.7062, 3 + 12.7062))
    assert [(part.high, part.count) for part in over_videos([[1.0, 3.0]])] == [(None, 1)] * 2


def test_nothing_has_no_interval():
    with pytest.raises(ValueError, match='found none'):
        over_frames([])
    for videos in ([], [[1.0, 2.0], []]):
        with pytest.raises(ValueError, match='of every video'):
            over_videos(videos)
