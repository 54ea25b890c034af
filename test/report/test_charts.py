# SPDX-License-Identifier: Apache-2.0
import re

import numpy as np
import pytest

from endosfm3d_ros.report.charts import (
    Axis,
    Curve,
    Mark,
    histogram,
    line_chart,
    spans_of,
    timeline,
)
from endosfm3d_ros.report.pictures import DepthRange


@pytest.mark.parametrize(
    ('low', 'high'), [(0, 10), (0.98, 1.61), (1024, 1622), (-3, 7), (0, 1e-3), (59.5, 60.5)]
)
def test_ticks_are_round_few_and_within(low, high):
    ticks = Axis(low, high).ticks(5)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_a_curve_goes_where_its_values_are():
    curve = Curve('f', 'a', np.array([0.0, 5.0, 10.0]), np.array([0.0, 10.0, 0.0]))
    html = line_chart('f', [curve], Axis(0, 10, 's'))
    points = [
        tuple(map(float, pair))
        for pair in re.findall(
            r'[ML]([\d.]+) ([\d.]+)', re.search(r'class="line a" d="([^"]+)"', html)[1]
        )
    ]
    assert [u for u, _ in points] == [0, 500, 1000]
    assert points[0][1] == points[2][1] > 900  # low values lie low
    assert points[1][1] < 100


def test_what_is_not_known_breaks_the_line():
    curve = Curve('f', 'a', np.arange(5.0), np.array([1.0, 2.0, np.nan, 3.0, 4.0]))
    html = line_chart('f', [curve], Axis(0, 4))
    assert re.search(r'class="line a" d="([^"]+)"', html)[1].count('M') == 2


def test_a_histogram_counts_every_value():
    html = histogram('latency', np.arange(200.0), 'ms', [Mark(99.5, 'p50')])
    heights = [float(height) for height in re.findall(r'class="bar"[^>]+height="([\d.]+)"', html)]
    assert sum(heights) / max(heights) == pytest.approx(
        200 / (max(heights) / 1000 * _top(html)), rel=0.01
    )


def _top(html):
    """The count at the top of the frame, read from two labels."""
    labels = [
        (float(place), float(text))
        for place, text in re.findall(r'class="y" style="bottom:([\d.]+)%">(\d+)', html)
    ]
    return labels[-1][1] / labels[-1][0] * 100


def test_a_mark_s_label_stands_where_there_is_room_for_it():
    """At the right end of a narrow page it would be cut off."""
    marks = [Mark(50.0, 'p50'), Mark(98.0, 'p99')]
    html = histogram('latency', np.arange(100.0), 'ms', marks)
    assert re.findall(r'class="(m m[^"]+)"', html) == ['m m0', 'm m1 before']


def test_a_histogram_of_few_values_counts_in_whole_numbers():
    html = histogram('latency', np.array([50.0, 70.0, 90.0]), 'ms', [Mark(70.0, 'p50')])
    labels = re.findall(r'class="y"[^>]+>([^<]+)', html)
    assert labels == ['0', '1', '2', '3', '4']


@pytest.mark.parametrize('values', [np.arange(-50.0, -10.0), np.arange(-20.0, 20.0)])
def test_what_is_below_zero_stays_in_the_histogram(values):
    html = histogram('latency', values, 'ms', [Mark(float(values[5]), 'p50')])
    bars = re.findall(r'class="bar" x="([\d.]+)"[^>]+height="([\d.]+)"', html)
    heights = [float(height) for _, height in bars]
    assert min(heights) > 0.5 * max(heights)  # as even as the values, none gathered at an end
    assert '−' in html


def test_a_timeline_has_a_cell_per_stretch():
    html = timeline('validity', ['valid', 'valid', '', 'invalid'], 4.0, [])
    cells = re.findall(r'rect class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', html)
    assert cells == [('valid', '0.00', '500.00'), ('invalid', '750.00', '250.00')]


def test_spans_cover_the_frames_they_flag():
    assert spans_of(np.arange(6.0), np.array([True, False, True, True, False, True])) == [
        (-0.5, 0.5),
        (1.5, 3.5),
        (4.5, 5.5),
    ]


@pytest.mark.parametrize(('near', 'far'), [(20, 250), (3, 9), (48, 52), (0.5, 300)])
def test_a_colour_bar_has_a_few_labels(near, far):
    assert 2 <= len(DepthRange(near, far).ticks()) <= 8


def test_a_line_begins_anew_where_it_is_broken_and_its_band_with_it():
    y = np.array([1.0, 2.0, 3.0, 9.0, 8.0])
    curve = Curve('f', 'a', np.arange(5.0), y, np.full(5, 0.5), breaks=np.array([3]))
    html = line_chart('f', [curve], Axis(0, 4))
    for style in ('line', 'band'):
        pieces = re.search(rf'class="{style} a" d="M([^"]+)"', html)[1].split('M')
        assert len(pieces) == 2
        ends = [[float(u) for u in re.findall(r'([\d.]+) [\d.]+', one)] for one in pieces]
        assert (max(ends[0]), min(ends[1])) == (500, 750)


def test_a_short_gap_in_a_long_curve_stays_as_wide_as_it_is():
    y = np.ones(20_000)
    y[10_001:10_004] = np.nan
    html = line_chart('f', [Curve('f', 'a', np.arange(20_000.0), y, y)], Axis(0, 20_000))
    first, second = re.search(r'class="line a" d="M([^"]+)"', html)[1].split('M')
    assert first.split('L')[-1].startswith('500.0 ') and second.startswith('500.2 ')
    assert html.count('L') < 4000
    assert re.search(r'class="band a" d="([^"]+)"', html)[1].count('M') == 2


@pytest.mark.parametrize('y', [[5.0], [np.nan, 5.0, np.nan]])
def test_a_value_alone_is_a_dot(y):
    html = line_chart('f', [Curve('f', 'a', np.arange(len(y)), np.array(y))], Axis(0, 3))
    assert re.search(r'class="line dot a" d="M[\d.]+ [\d.]+h0"', html)


def test_a_curve_of_nothing_but_zeros_has_an_axis_for_a_person():
    html = line_chart('tracks', [Curve('n', 'a', np.arange(2.0), np.zeros(2))], Axis(0, 1))
    assert re.findall(r'class="y"[^>]+>([^<]+)', html) == ['0.0', '0.5', '1.0']
