# SPDX-License-Identifier: Apache-2.0
"""A camera's temporal noise reduction is heard, and undone; nothing else is taken for it."""

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.picture.echo import ENOUGH, MOST, Echo, Went
from endosfm3d_ros.core.picture.inside import Inside
from endosfm3d_ros.core.prepare import Window
from endosfm3d_ros.core.tracking.followed import Followed

HEIGHT, WIDTH = 240, 320
STEP_S = 0.04
# a hand's motion: it never keeps its speed
PLACES = [np.array([6.0 * k + 11 * np.sin(k / 2.5), 5 * np.cos(k / 3.0)]) for k in range(30)]


def scene() -> np.ndarray:
    rng = np.random.default_rng(0)
    fine = cv2.GaussianBlur(rng.normal(0, 60, (500, 700, 3)), (0, 0), 1.2)
    coarse = cv2.GaussianBlur(rng.normal(0, 900, (500, 700, 3)), (0, 0), 9)
    return np.asarray(np.clip(120 + 2 * fine + coarse, 5, 250), np.float32)


def seen(scale: int = 1) -> Iterator[np.ndarray]:
    """What the sensor saw: float (H, W, 3)."""
    everything = scene()
    for x, y in PLACES:
        M = np.array([[1.0, 0.0, 60 + x], [0.0, 1.0, 80 + y]])
        size = (WIDTH, HEIGHT)
        moved = cv2.warpAffine(everything, M, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        large = (WIDTH * scale, HEIGHT * scale)
        yield moved if scale == 1 else cv2.resize(moved, large, interpolation=cv2.INTER_CUBIC)


def sent(share: float, scale: int = 1) -> list[np.ndarray]:
    """What a camera makes of it that mixes so much of the picture before into each."""
    pictures: list[np.ndarray] = []
    kept = None
    for picture in seen(scale):
        kept = picture if kept is None else (1 - share) * picture + share * kept
        pictures.append(np.clip(np.rint(kept), 0, 255).astype(np.uint8))
    return pictures


def went(k: int, scale: int = 1) -> Went:
    """Where a grid of points went to picture k."""
    u, v = np.meshgrid(np.arange(60.0, WIDTH - 60, 25), np.arange(60.0, HEIGHT - 60, 25))
    there = scale * np.column_stack([u.ravel(), v.ravel()])
    return Went(there + scale * (PLACES[k] - PLACES[k - 1]), there)


def heard(pictures: list[np.ndarray], scale: int = 1, echo: Echo | None = None) -> Echo:
    echo = echo or Echo()
    for k in range(1, len(pictures)):
        echo = echo.stepped(STEP_S)
        if echo.listens:
            echo = echo.heard(pictures[k - 1], pictures[k], went(k, scale))
    return echo


@pytest.mark.parametrize('share', [0.3, 0.5])
def test_the_share_is_heard_and_what_the_sensor_saw_comes_back(share: float):
    pictures = sent(share)
    echo = heard(pictures)
    assert echo.share == pytest.approx(share, abs=0.03)
    said = echo.events(Echo())
    assert len(said) == 1 and f'mixes some {100 * echo.share:.0f} %' in said[0]
    assert not echo.events(echo)
    truth = list(seen())[-1]
    undone = echo.undone(pictures[-1], pictures[-2])
    off, before = (np.abs(one - truth).mean() for one in (undone, pictures[-1]))
    assert off < 0.25 * before


def test_a_larger_picture_is_heard_as_a_softer_one():
    assert heard(sent(0.3, scale=8), scale=8).share == pytest.approx(0.3, abs=0.04)


def sharpened(picture: np.ndarray) -> np.ndarray:
    return np.clip(2.0 * picture - cv2.GaussianBlur(picture, (0, 0), 1.5), 0, 255)


def compressed(picture: np.ndarray) -> np.ndarray:
    data = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def noisy(picture: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(int(picture[0, 0, 0])).normal(0, 5, picture.shape)
    return np.clip(picture + noise, 0, 255)


def shuttered(picture: np.ndarray) -> np.ndarray:
    return cv2.blur(picture, (5, 1))


@pytest.mark.parametrize('camera', [sharpened, compressed, noisy, shuttered, np.asarray])
def test_other_habits_of_cameras_are_no_echo(camera):
    echo = heard([camera(one).astype(np.uint8) for one in sent(0.0)])
    assert echo.count > ENOUGH and echo.share == 0


def test_a_filter_that_is_switched_off_is_undone_no_more():
    undone = echo = heard(sent(0.4))
    assert echo.undoes
    for _ in range(30):
        echo = heard(sent(0.0), echo=echo)
    assert echo.share == 0 and not echo.undoes
    said = echo.events(undone)
    assert len(said) == 1 and 'undone any more: a new map begins' in said[0]


def test_a_share_that_no_camera_has_is_cut():
    echo = heard(sent(0.9))
    assert echo.share in (0, MOST)


def test_nothing_is_heard_where_nothing_moves_far_enough():
    pictures = sent(0.5)
    near = Went(np.full((40, 2), 100.0), np.full((40, 2), 103.0))
    assert Echo().heard(pictures[0], pictures[1], near).count == 0
    assert (
        Echo().heard(pictures[0], pictures[1], Went(np.zeros((0, 2)), np.zeros((0, 2)))).count == 0
    )


def test_where_a_picture_is_missing_nothing_is_undone_nor_heard():
    echo = heard(sent(0.3))
    assert echo.stepped(1.2 * STEP_S).undoes
    missing = echo.stepped(2 * STEP_S)
    assert not missing.undoes and not replace(missing, count=0.0).listens
    assert not Echo(share=0.3).undoes  # the first picture has none before it


def test_a_picture_that_comes_twice_is_known():
    one, other = sent(0.3)[4:6]
    assert Echo.same(one, one.copy()) and not Echo.same(one, other)


def test_tracks_of_both_pictures_are_taken_away_from_the_rim():
    window = Window(10, 20, 200, 200, 100, 100)
    mask = np.zeros((100, 100), bool)
    mask[:, :80] = True
    ids = np.array([3, 5, 8, 9])
    before = Followed(
        None, window, ids, np.array([[40, 40], [68, 50], [50, 50], [1, 1]], np.float32)
    )
    there = np.array([[50, 45], [45, 50], [10, 50]], np.float32)
    now = Followed(None, window, np.array([3, 5, 7]), there)
    found = Went.of(before, now, Inside(mask))
    # 5 came from where its way back, and a third more, is too near to the rim
    assert np.allclose(found.before, window.input_pixels(before.points[:1]))
    assert np.allclose(found.now, window.input_pixels(there[:1]))
    assert not len(Went.of(Followed(), now, Inside(mask)).now)
