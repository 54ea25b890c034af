# SPDX-License-Identifier: Apache-2.0
"""Films with troubles are what they say, and outcomes are the figures computed by hand."""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Intrinsics
from training.geometry import troubles
from training.geometry.films import RATE, Filmed
from training.geometry.runs import Remembered
from training.geometry.troubles import TROUBLES, Outcome, Troubled, outcome, table

FRAMES, HEIGHT, WIDTH = 130, 96, 120
FOCAL, DISTANCE = 110.0, 50.0
CAMERA = Intrinsics(WIDTH, HEIGHT, FOCAL, FOCAL, 59.5, 47.5)


def filmed(step_mm: float = 0.1) -> Filmed:
    """A wall that a camera slides along, to its right."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (HEIGHT // 6 + 20, WIDTH // 6 + 40, 3)).astype(np.uint8)
    wall = cv2.resize(coarse, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    images, T = [], np.repeat(np.eye(4)[None], FRAMES, axis=0)
    for n in range(FRAMES):
        T[n, 0, 3] = n * step_mm
        shift = np.array([[1, 0, -FOCAL * n * step_mm / DISTANCE], [0, 1, 0]])
        images.append(cv2.warpAffine(wall, shift, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR))
    K = np.array([[FOCAL, 0, CAMERA.cx], [0, FOCAL, CAMERA.cy], [0, 0, 1]])
    return Filmed(
        'sideways_wall_0',
        np.stack(images),
        np.full((FRAMES, HEIGHT, WIDTH), DISTANCE, np.float16),
        np.repeat(K[None], FRAMES, axis=0),
        T,
        np.arange(FRAMES) / RATE,
    )


def true_answers(film: Filmed) -> list[Any]:
    """What a pipeline that knows everything would say; only what an outcome asks."""
    return [
        SimpleNamespace(
            camera=CAMERA,
            input_camera=CAMERA,
            depth=depth.astype(np.float32),
            T_odom_cam=T,
            valid=True,
            rigid_share=1.0,
            motion=SimpleNamespace(known=True),
            distortion=0.0,
        )
        for depth, T in zip(film.depth, film.T_world_cam, strict=True)
    ]


@pytest.mark.parametrize('name', TROUBLES)
def test_a_trouble_leaves_the_film_it_was_made_of_and_every_frame_its_truth(name: str) -> None:
    film, before = filmed(), filmed()
    made = TROUBLES[name](film, np.random.default_rng(0))
    for field in ('images', 'depth', 'K', 'T_world_cam', 'stamps'):
        assert np.array_equal(getattr(film, field), getattr(before, field)), field
        assert len(getattr(made.film, field)) == len(made.film.images)
    begin, end = made.frames
    assert 0 <= begin <= end <= len(made.film.images)
    assert np.allclose(np.diff(made.film.stamps), 1 / RATE)
    assert name == 'a cut of 0.8 s' or begin == end or np.any(made.film.images[begin] != 0)


@pytest.mark.parametrize('name', TROUBLES)
def test_the_truth_comes_through_every_trouble_without_error(name: str) -> None:
    made = TROUBLES[name](filmed(), np.random.default_rng(0))
    found = outcome(made, true_answers(made.film))
    assert vars(found) == pytest.approx(vars(Outcome(0, 0, 0, 0, 0, 0)), abs=1e-3)


def test_answers_are_remembered_within_a_film_only(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Remembered(lambda picture: DepthMap(picture[..., 0], picture[..., 0]))
    kept: list[int] = []
    other = filmed()
    other.images[:] //= 2

    def played(film: Filmed, *_: object) -> tuple[list[Any], list[float], list[float]]:
        network(film.images[0])
        kept.append(len(network.answers))
        return true_answers(film), [], []

    monkeypatch.setattr(troubles, 'played', played)
    list(troubles.come_through([filmed(), other], network, ()))
    assert kept[: len(TROUBLES)] == kept[len(TROUBLES) :]


def test_errors_are_the_figures_computed_by_hand() -> None:
    film = filmed()
    made = Troubled(film, (60, 64))
    said = true_answers(film)
    longer = Intrinsics(WIDTH, HEIGHT, 1.05 * FOCAL, 1.05 * FOCAL, CAMERA.cx, CAMERA.cy)
    for one in said[64:]:
        one.depth = 1.1 * one.depth
    for one in said[100:]:
        one.input_camera = one.camera = longer
    said[61].valid, said[62].rigid_share = False, troubles.RIGID - 0.01
    said[70].motion.known = said[71].motion.known = False
    found = outcome(made, said)
    assert found.focal_before == 0
    assert found.focal == pytest.approx(np.log(1.05))
    assert found.scale == pytest.approx(np.log(1.1), abs=1e-3)
    assert (found.warned, found.unknown) == (0.5, 2)
    assert 'blur | 1 | 0.0 / 4.9 | 4.9 |' in table([('film', name, found) for name in TROUBLES])


def test_what_lasts_is_judged_from_a_second_on() -> None:
    film = filmed()
    said = true_answers(film)
    said[0].depth = 3.0 * said[0].depth  # the first guess of scale is not what a trouble did
    assert outcome(Troubled(film, (0, FRAMES)), said).scale == pytest.approx(0, abs=1e-3)


def test_nearly_a_third_breathes_by_a_twenty_fifth_of_its_distance() -> None:
    film = filmed(step_mm=0.0)
    made = TROUBLES['30 % breathes'](film, np.random.default_rng(0)).film
    quarter = round(RATE * troubles.BREATH_S / 4)
    grey = [cv2.cvtColor(made.images[n], cv2.COLOR_RGB2GRAY) for n in (0, quarter)]
    assert (
        np.abs(grey[0].astype(int) - cv2.cvtColor(film.images[0], cv2.COLOR_RGB2GRAY)).max() <= 1
    )
    flow = cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 5, 5, 1.1, 0)
    way = np.linalg.norm(flow, axis=-1)
    most = troubles.BREATH * FOCAL  # px, at the end of a breath
    assert np.percentile(way, 95) == pytest.approx(most, rel=0.2)
    assert (way > troubles.STIRS * most).mean() == pytest.approx(troubles.BREATHES, abs=0.1)
    assert np.percentile(way, 40) < 0.1 * most
    assert np.nanmax(np.abs(made.depth[quarter].astype(float) - DISTANCE)) < 0.05 * DISTANCE


def test_black_is_black_and_a_shaft_hides_the_truth_behind_it() -> None:
    black = TROUBLES['2 s of black'](filmed(), np.random.default_rng(0))
    begin, end = black.frames
    assert end - begin == 50
    assert black.film.images[begin:end].max() < 5 < black.film.images[end].max()
    assert np.ptp(black.film.T_world_cam[begin : end + 1], axis=0).max() == 0
    crossed = TROUBLES['a tool crosses'](filmed(), np.random.default_rng(0))
    hidden = np.isnan(crossed.film.depth.astype(float)).mean(axis=(1, 2))
    begin, end = crossed.frames
    assert hidden[:begin].max() == hidden[end:].max() == 0
    assert hidden[begin:end].max() == pytest.approx(troubles.SHAFT, abs=0.03)
