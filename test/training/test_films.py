# SPDX-License-Identifier: Apache-2.0
"""Films in a folder are as long as they are asked for, and runs of any length make a table."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('numba', reason='worlds need numba: make setup-training')
from training import judge_films
from training.geometry import films
from training.geometry.runs import Run, Start
from training.geometry.tables import tables


def kept(path: Path, frames: int) -> None:
    """What a folder keeps of a film; the pictures do not matter."""
    nothing = np.zeros((frames, 4, 4))
    np.savez(path, images=nothing, depth=nothing, K=nothing, T_world_cam=nothing,
             stamps=np.arange(frames) / films.RATE, distortion=np.zeros(2))  # fmt: skip


def test_a_film_of_another_length_is_rendered_again_and_one_of_this_is_not(tmp_path, monkeypatch):
    rendered = []

    def render(path, family, move, seed, seconds, bent):
        rendered.append(path.name)
        kept(path, round(seconds * films.RATE))

    monkeypatch.setattr(films, '_render', render)
    for seconds in (3.0, 3.0, 10.0):
        (film,) = films.films(tmp_path, ['advance'], [0], seconds)
        assert len(film.images) == seconds * films.RATE
    assert len(rendered) == 2


def test_a_judged_film_of_another_length_is_rendered_again(tmp_path, monkeypatch):
    def rendered(name, family, stop, seed, seconds):
        return (np.zeros((round(seconds * films.RATE), 4, 4)),) * 4 + (
            np.zeros(round(seconds * films.RATE)),
        )

    monkeypatch.setattr(judge_films, '_rendered', rendered)
    for seconds in (4.0, 6.0):
        film = judge_films.film_of(tmp_path, 'tube', 'none', 0, seconds)
        assert len(film.stamps) == seconds * films.RATE


def run_of(frames: int, end: float) -> Run:
    error = np.linspace(0.4, end, frames).tolist()
    start = Start(1.4, True, 'window')
    sigma, known, bound = [0.1] * frames, [True] * frames, [(12, 0.1)]
    return Run('advance_tube_0', start, False, error, sigma, known, bound, *[0.0, 9.0],
               *[0.0] * 6, [1.0], [1.0])  # fmt: skip


def test_each_run_ends_at_its_own_last_frame():
    runs = [run_of(250, 0.1), run_of(75, 0.3)]
    both = tables(runs)
    row = next(line for line in both.splitlines() if line.startswith('| advance'))
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells[5:7] == ['20.0', '30.0']  # end: median, worst
