# SPDX-License-Identifier: Apache-2.0
"""The field of view is measured where it can be seen, and nothing is invented where it cannot."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.picture import field_of_view
from endosfm3d_ros.core.picture.field_of_view import FieldOfView, find_field_of_view

SHARED = Path(__file__).resolve().parents[2].parent / 'shared' / 'data'
WIDTH, HEIGHT = 640, 360
ROUND = (317.3, 182.6, 141.2)
PLACES = {
    'whole': ROUND,
    'cut by one edge': (300.2, 120.4, 150.7),
    'cut by two edges': (322.8, 177.1, 222.3),
    'cut by three edges': (190.6, 181.9, 240.4),
    'cut by four edges': (321.4, 178.2, 330.9),
    'corners only': (318.7, 181.3, 345.2),
    'wider than the picture': (316.0, 60.5, 400.3),
    'small': (310.5, 170.1, 96.9),
}


def tissue(seed: int, low: float = 60.0, high: float = 190.0) -> np.ndarray:
    """A reddish cloudy surface, (HEIGHT, WIDTH, 3) float, grey levels."""
    rng = np.random.default_rng(seed)
    cloud = np.zeros((HEIGHT, WIDTH), np.float32)
    for cells, weight in ((8, 1.0), (24, 0.6), (80, 0.3)):
        grid = rng.standard_normal((cells * HEIGHT // WIDTH, cells)).astype(np.float32)
        cloud += weight * cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    level = low + (high - low) * (cloud - cloud.min()) / (cloud.max() - cloud.min())
    return level[..., None] * np.array([1.0, 0.55, 0.5])


def away_from(u: float, v: float) -> np.ndarray:
    """Distance of every pixel from a place, (HEIGHT, WIDTH) [px]."""
    return np.hypot(np.arange(WIDTH) - u, (np.arange(HEIGHT) - v)[:, None])


def stop(circle: tuple[float, float, float], blur: float = 0.0) -> np.ndarray:
    """How much light a stop lets through, (HEIGHT, WIDTH) 0..1; blur is a Gaussian sigma [px]."""
    depth = circle[2] - away_from(*circle[:2])
    if blur < 0.3:
        return np.clip(depth + 0.5, 0, 1)
    x = depth / blur
    return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def picture(
    scene: np.ndarray, light: np.ndarray, border: float = 4.0, noise: float = 2.0, seed: int = 0
) -> np.ndarray:
    """What the camera sends, (HEIGHT, WIDTH, 3) uint8."""
    image = border + (np.maximum(scene, border) - border) * light[..., None]
    image = image + noise * np.random.default_rng(seed).standard_normal(image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def off(found: FieldOfView, truth: tuple[float, float, float]) -> np.ndarray:
    """Error of u, v, r [px]; fails where no circle was found."""
    assert found.circle is not None
    return np.array(found.circle) - truth


def clip_frames(name: str) -> Iterator[np.ndarray]:
    """The frames of a development clip, RGB; skips the test where the clips are not there."""
    path = SHARED / name / 'clip.mp4'
    if not path.is_file():
        pytest.skip('the development clips are not on this machine')
    video = cv2.VideoCapture(str(path))
    while True:
        there, frame = video.read()
        if not there:
            return
        yield np.ascontiguousarray(frame[..., ::-1])


@pytest.mark.parametrize('place', PLACES)
def test_a_circle_is_found_to_a_third_of_a_pixel_wherever_it_is_cut(place):
    for seed in range(3):
        found = find_field_of_view(
            picture(tissue(seed), stop(PLACES[place], 0.8), seed=seed), None
        )
        error = np.abs(off(found, PLACES[place]))
        assert (error < np.maximum(0.3, 3 * np.array(found.circle_sigma))).all()
        assert place in ('corners only', 'wider than the picture') or error.max() < 0.3
        assert found.rms_px < 0.5
        assert found.rim_points >= 40
        assert found.opening == (0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize('blur', [0.0, 0.7, 1.5, 3.0, 4.5])
def test_blur_does_not_move_the_radius(blur):
    errors = [
        off(find_field_of_view(picture(tissue(seed), stop(ROUND, blur))), ROUND)[2]
        for seed in range(4)
    ]
    assert abs(np.mean(errors)) < 0.3


@pytest.mark.parametrize(('border', 'noise'), [(0.0, 0.0), (10.0, 4.0), (25.0, 8.0)])
def test_a_noisy_grey_border_is_a_border(border, noise):
    found = find_field_of_view(picture(tissue(5), stop(ROUND, 1.0), border, noise))
    assert np.abs(off(found, ROUND)).max() < 0.3


def test_the_radius_follows_a_zoom_of_a_tenth_of_a_percent():
    u, v, r = ROUND
    zooms = 1 + 0.001 * np.arange(12)
    found, radii = None, []
    for step, zoom in enumerate(zooms):
        image = picture(tissue(3), stop((u, v, r * zoom), 1.0), noise=3.0, seed=step)
        found = find_field_of_view(image, found)
        radii.append(found.circle[2])
    slope, start = np.polyfit(zooms, radii, 1)
    assert slope == pytest.approx(r, rel=0.05)
    assert np.std(radii - (start + slope * zooms)) / r < 0.0005
    assert abs(np.mean(radii - r * zooms)) < 0.2


def test_dark_tissue_on_half_of_the_rim_does_not_pull_the_circle():
    for level in (8.0, 16.0, 30.0):
        dark = 1 / (1 + np.exp(-(np.arange(WIDTH) - ROUND[0]) / 8))[None, :, None]
        scene = tissue(1) * (1 - dark) + level * dark
        error = off(find_field_of_view(picture(scene, stop(ROUND, 1.0))), ROUND)
        assert np.abs(error).max() < 0.5


@pytest.mark.parametrize('grey', [3, 110, 240])
def test_tools_across_the_rim_are_ignored(grey):
    scene = np.ascontiguousarray(tissue(2))
    for end in ((600, 60), (10, 200), (420, 359)):
        cv2.line(scene, (300, 190), end, (grey, grey, grey), 44)
    error = off(find_field_of_view(picture(scene, stop(ROUND, 1.0))), ROUND)
    assert np.abs(error).max() < 0.3


def burn_in(image: np.ndarray) -> np.ndarray:
    """Text, a time and a logo on top of a picture."""
    white = (255, 255, 255)
    cv2.putText(image, 'PATIENT 0815', (4, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1)
    cv2.putText(image, '12:33:07', (540, 340), cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1)
    cv2.rectangle(image, (560, 100), (620, 150), (200, 200, 200), -1)
    return image


def test_text_and_logos_in_the_border_are_ignored():
    found = find_field_of_view(burn_in(picture(tissue(4), stop(ROUND, 1.0))))
    assert np.abs(off(found, ROUND)).max() < 0.3
    assert found.opening == (0, 0, WIDTH, HEIGHT)


def test_black_bars_over_a_circle_are_told_from_its_rim():
    circle = (320.4, 181.7, 205.6)
    open_ = np.zeros((HEIGHT, WIDTH))
    open_[50:310, 130:520] = 1
    found = find_field_of_view(picture(tissue(6), stop(circle, 1.0) * open_))
    assert np.abs(off(found, circle)).max() < 0.5
    assert np.abs(np.subtract(found.opening, (130, 50, 520, 310))).max() <= 1
    assert (found.left, found.top, found.right, found.bottom) == found.opening
    assert not (found.mask() & (open_ == 0)).any()


@pytest.mark.parametrize('bars', [(80, 0, 560, 360), (0, 30, 640, 330), (141, 0, 499, 360)])
def test_black_bars_alone_are_measured_to_a_pixel(bars):
    left, top, right, bottom = bars
    open_ = np.zeros((HEIGHT, WIDTH))
    open_[top:bottom, left:right] = 1
    found = find_field_of_view(burn_in(picture(tissue(7), open_)))
    assert found.circle is None
    assert np.abs(np.subtract(found.opening, bars)).max() <= 1


def shapes() -> dict[str, np.ndarray]:
    """Pictures without a round stop, (HEIGHT, WIDTH, 3) uint8."""
    rng = np.random.default_rng(0)
    ones = np.ones((HEIGHT, WIDTH))
    away = away_from(320, 180)
    turn = np.pi / 8 + np.arange(8) * np.pi / 4
    polygon = np.column_stack([320 + 185 * np.cos(turn), 180 + 185 * np.sin(turn)])
    oval = stop((320.0, 180.0, 160.0))[:, np.r_[0:320:2, 160:480, 320:640:2]]
    octagon = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(octagon, [polygon.astype(np.int32)], 1)
    corner = np.ascontiguousarray(tissue(1))
    cv2.circle(corner, (0, 0), 130, (4.0, 4.0, 4.0), -1)
    return {
        'black': np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        'black and noisy': picture(np.zeros((HEIGHT, WIDTH, 3)), ones, 6.0, 8.0),
        'white': np.full((HEIGHT, WIDTH, 3), 255, np.uint8),
        'dark grey': np.full((HEIGHT, WIDTH, 3), 20, np.uint8),
        'noise': rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        'dark noise': rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        'dark lumen': picture(tissue(1), np.clip(away / 200, 0.02, 1)),
        'vignette': picture(tissue(1), np.exp(-0.5 * np.square(away / 110)), 0.0),
        'linear vignette': picture(tissue(1), np.clip(2 - away / 150, 0, 1), 0.0),
        'octagon': picture(tissue(1), octagon),
        'ellipse': picture(tissue(1), oval),
        'dark corner': picture(corner, ones),
        'one pixel': np.zeros((1, 1, 3), np.uint8),
        'three by five': np.full((3, 5, 3), 90, np.uint8),
    }


@pytest.mark.parametrize('name', shapes())
def test_no_circle_is_invented(name):
    image = shapes()[name]
    found = find_field_of_view(image)
    assert found.circle is None
    assert found.circle_sigma is None
    if name not in ('octagon', 'ellipse'):  # their flat sides may count as bars
        assert found.mask().all()
    assert (found.width, found.height) == (image.shape[1], image.shape[0])


def test_sigma_tells_how_wrong_the_circle_is():
    rng = np.random.default_rng(8)
    scores = []
    for seed in range(40):
        truth = (320 + rng.uniform(-30, 30), 180 + rng.uniform(-20, 20), rng.uniform(110, 300))
        blur, border, noise = rng.uniform(0, (3, 25, 8))
        image = picture(tissue(seed), stop(truth, blur), border, noise, seed)
        found = find_field_of_view(image)
        scores.append(np.square(off(found, truth) / found.circle_sigma))
    assert 0.2 < np.mean(scores) < 3.0


def test_refining_gives_what_the_search_gives_and_falls_back_to_it():
    image = picture(tissue(9), stop(ROUND, 1.0))
    first = find_field_of_view(image)
    moved = (ROUND[0] + 7, ROUND[1] - 5, ROUND[2] * 1.02)
    near = picture(tissue(10), stop(moved, 1.0))
    far = picture(tissue(11), stop(PLACES['cut by two edges'], 1.0))
    refined = find_field_of_view(near, first)
    assert np.abs(off(refined, find_field_of_view(near).circle)).max() < 0.1
    assert np.abs(off(refined, moved)).max() < 0.3
    assert np.abs(off(find_field_of_view(far, first), PLACES['cut by two edges'])).max() < 0.3
    assert find_field_of_view(shapes()['black'], first).circle is None
    smaller = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    half = find_field_of_view(smaller, first)
    assert (half.width, half.height) == (WIDTH // 2, HEIGHT // 2)
    assert half.circle[2] == pytest.approx(ROUND[2] / 2, abs=0.3)


def test_a_picture_between_bars_is_searched_for_a_rim_now_and_then(monkeypatch):
    searched = []
    coarse = field_of_view._coarse_circle
    monkeypatch.setattr(
        field_of_view, '_coarse_circle', lambda *a: searched.append(1) or coarse(*a)
    )
    bars = np.zeros((HEIGHT, WIDTH))
    bars[:, 80:-80] = 1
    found = None
    for seed in range(10):
        found = find_field_of_view(picture(tissue(seed), bars), found)
        assert found.box == (80, 0, WIDTH - 80, HEIGHT)
    assert len(searched) == 2
    pictures = [picture(tissue(seed), stop(ROUND, 1.0)) for seed in range(5)]
    for image in pictures:
        found = find_field_of_view(image, found)
    assert found.circle is not None
    black = find_field_of_view(shapes()['black'], None)
    assert find_field_of_view(pictures[0], black).circle is not None  # at once


def test_bars_that_come_over_a_circle_are_seen_within_five_pictures():
    u, v, r = circle = 320.4, 181.7, 205.6
    open_ = np.zeros((HEIGHT, WIDTH))
    open_[50:310, 130:520] = 1
    bare = picture(tissue(6), stop(circle, 1.0))
    found = find_field_of_view(bare, find_field_of_view(bare))
    for seed in range(5):
        moved = u, v, r + 0.3 * seed
        found = find_field_of_view(picture(tissue(6), stop(moved, 1.0) * open_, seed=seed), found)
        assert np.abs(off(found, moved)).max() < 0.5  # followed in each of them
    assert np.abs(np.subtract(found.opening, (130, 50, 520, 310))).max() <= 1
    for _ in range(5):
        found = find_field_of_view(bare, found)
    assert found.opening[1] == 0
    assert found.opening[3] == HEIGHT


def test_equal_pictures_give_equal_answers():
    image = picture(tissue(12), stop(ROUND, 1.0))
    assert find_field_of_view(image) == find_field_of_view(image.copy())


def test_the_mask_keeps_off_the_border_and_its_blur():
    for blur in (0.0, 1.0, 3.0):
        light = stop(ROUND, blur)
        mask = find_field_of_view(picture(tissue(13), light)).mask()
        assert light[mask].min() > 0.95
        assert mask.sum() > 0.85 * (light > 0.5).sum()


def test_a_resized_window_is_picture_only_where_all_its_pixels_are():
    field = FieldOfView(WIDTH, HEIGHT, (0, 0, WIDTH, HEIGHT), ROUND, (0.1, 0.1, 0.1), 1.0)
    left, top, width, height = 150, 20, 320, 300
    small = field.mask_in((left, top, width, height), 80, 100)  # 4 x 3 pixels in one
    full = away_from(*ROUND[:2])[top : top + height, left : left + width] < ROUND[2]
    blocks = full.reshape(100, 3, 80, 4)
    assert not (small & ~blocks.all(axis=(1, 3))).any()
    assert small.sum() > 0.93 * blocks.all(axis=(1, 3)).sum()


@pytest.mark.parametrize('circle', [(30.4, 20.6, 12.3), (30.0, 20.0, 12.0), (3.0, 38.5, 15.2)])
def test_the_box_is_that_of_all_pixels_within_the_circle(circle):
    field = FieldOfView(60, 40, (0, 0, 60, 40), circle, (0.1, 0.1, 0.1))
    v, u = np.nonzero(away_from(*circle[:2])[:40, :60] <= circle[2])
    assert field.box == (u.min(), v.min(), u.max() + 1, v.max() + 1)


def test_a_large_pixel_is_picture_only_where_its_corners_are():
    field = FieldOfView(WIDTH, HEIGHT, (0, 0, WIDTH, HEIGHT), ROUND, (0.1, 0.1, 0.1))
    small = field.mask_in((0, 0, WIDTH, HEIGHT), WIDTH // 20, HEIGHT // 20)
    full = away_from(*ROUND[:2]) < ROUND[2]
    blocks = full.reshape(HEIGHT // 20, 20, WIDTH // 20, 20).all(axis=(1, 3))
    assert not (small & ~blocks).any() and small.sum() > 0.8 * blocks.sum() > 50


def test_the_blurred_end_of_a_bar_is_no_picture_and_the_picture_s_own_edge_is():
    mask = FieldOfView(WIDTH, HEIGHT, (80, 0, 560, 300)).mask()
    v, u = np.nonzero(mask)
    assert (u.min(), v.min(), u.max(), v.max()) == (82, 0, 557, 297)
    assert mask[:298, 82:558].all()


def test_a_picture_of_another_size_is_searched_at_once():
    resting = FieldOfView(WIDTH // 2, HEIGHT // 2, (40, 0, 280, 180), rests=3)
    found = find_field_of_view(picture(tissue(5), stop(ROUND, 1.0)), resting)
    assert np.abs(off(found, ROUND)).max() < 0.3


def test_light_that_falls_off_towards_a_soft_rim_does_not_move_it():
    falloff = 1 - 0.6 * (away_from(*ROUND[:2]) / ROUND[2])[..., None] ** 2
    for blur in (1.0, 4.0):
        image = picture(180 * falloff * np.ones((HEIGHT, WIDTH, 3)), stop(ROUND, blur))
        assert np.abs(off(find_field_of_view(image), ROUND)).max() < 0.3


def test_a_window_that_reaches_beyond_the_picture_is_not_picture_there():
    field = FieldOfView(WIDTH, HEIGHT, (0, 0, WIDTH, HEIGHT))
    mask = field.mask_in((-10, -20, WIDTH + 20, HEIGHT + 40), WIDTH + 20, HEIGHT + 40)
    assert mask[20:-20, 10:-10].all()
    assert mask.sum() == WIDTH * HEIGHT
    with pytest.raises(ValueError, match='a window needs a size'):
        field.mask_in((0, 0, 0, 5), 8, 8)


def test_the_marked_circles_of_the_laparoscopy_are_met():
    path = SHARED / 'marks' / 'dev.json'
    if not path.is_file():
        pytest.skip('the marks are not on this machine')
    marks = {
        mark['frame']: mark['field_of_view']
        for mark in json.loads(path.read_text())['laparoscopy']
        if mark.get('field_of_view')
    }
    for number, frame in enumerate(clip_frames('laparoscopy')):
        if number in marks:
            found = find_field_of_view(frame)
            truth = (*marks[number]['center'], marks[number]['radius'])
            assert np.abs(off(found, truth)).max() < 1.5
            assert found.rms_px < 1.0


def test_the_radius_of_a_real_clip_without_zoom_stays_within_a_thousandth():
    found, radii = None, []
    for frame in clip_frames('laparoscopy'):
        found = find_field_of_view(frame, found)
        assert found.circle is not None
        radii.append(found.circle[2])
    assert len(radii) == 250
    assert np.std(np.diff(radii)) / np.sqrt(2) / np.mean(radii) < 0.0005
    assert np.ptp(radii) / np.mean(radii) < 0.002


@pytest.mark.parametrize('name', ['bowel', 'colon_phantom'])
def test_a_real_clip_that_fills_the_frame_is_all_visible(name):
    for frame in clip_frames(name):
        assert find_field_of_view(frame).mask().all()
