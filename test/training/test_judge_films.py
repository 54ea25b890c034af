# SPDX-License-Identifier: Apache-2.0
"""What films are judged by: laws of the figures, and the stop that stands still."""

import numpy as np
import pytest

pytest.importorskip('numba', reason='worlds need numba: make setup-training')
from training.judge_films import Figures, repeated_step_errors, rest_jitter, table
from training.synthetic.camera import Scope


def test_the_oracle_is_right_where_the_step_never_changes() -> None:
    turn = 0.02
    step = np.eye(4)
    step[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    step[:3, 3] = [0.3, -0.1, 0.5]
    path = np.stack([np.linalg.matrix_power(step, k) for k in range(12)])
    errors = repeated_step_errors(path)
    assert len(errors) == 7 and np.abs(errors).max() < 1e-9
    path[6:, 1, 3] += 0.4  # a jerk that no step before it told
    assert repeated_step_errors(path).max() > 0.05


def test_jitter_is_of_rests_only_and_from_a_fifth_of_a_second_on() -> None:
    true = np.concatenate(
        [np.full(40, 500.0), 500 * np.exp(0.02 * np.arange(20)), np.full(9, 731)]
    )
    said = true.copy()
    assert rest_jitter(said, true) == pytest.approx(0.0, abs=1e-12)
    said[41:55] *= 1.1  # while it zooms
    said[:5] *= 1.1  # and while a rest begins
    assert rest_jitter(said, true) == pytest.approx(0.0, abs=1e-12)
    noise = 0.003 * np.random.default_rng(0).standard_normal(len(true))
    assert rest_jitter(true * np.exp(noise), true) == pytest.approx(0.003, rel=0.3)
    assert np.isnan(rest_jitter(said[40:60], true[40:60]))


@pytest.mark.parametrize(('electronic', 'ratio'), [(False, 1.5), (True, 1.0)])
def test_an_electronic_stop_stands_still_while_the_focal_length_zooms(
    electronic: bool, ratio: float
) -> None:
    scope = Scope(stop_offset=(0.01, -0.02), electronic=electronic)
    wide, narrow = (scope.camera(np.eye(4), zoom, 320, 256) for zoom in (1.0, 1.5))
    assert narrow.K[0, 0] / wide.K[0, 0] == pytest.approx(1.5)
    assert narrow.circle[2] / wide.circle[2] == pytest.approx(ratio)
    centre = wide.K[:2, 2]
    assert narrow.circle[:2] - centre == pytest.approx(ratio * (wide.circle[:2] - centre))


def test_films_whose_told_zoom_stands_still_are_not_left_out_without_a_word() -> None:
    rest = [0.0] * 11
    runs = [
        Figures('tube_none_0', 'window', 0.01, 0.99, 0.02, *rest),
        Figures('bed_none_0', 'window', 0.3, None, None, *rest),
    ]
    assert '| 0.990 (1 of 2 films) | 0.020, 0.020 (1 of 2 films) |' in table(runs)
    assert '| 0.990 | 0.020, 0.020 |' in table(runs[:1])
