# SPDX-License-Identifier: Apache-2.0
"""The video of real theatres: interlaced, with overlays and bars, zoomed, at any rate."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.cli import main
from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Frame, Intrinsics, Reconstruction
from endosfm3d_ros.core.picture.deinterlace import is_interlaced, one_field
from endosfm3d_ros.core.picture.overlays import boxes_from, uncovered
from endosfm3d_ros.core.picture.rectify import Calibration, rectified_boxes, rectify
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.settings import Settings
from endosfm3d_ros.inputs import Inputs
from endosfm3d_ros.messages_in import rectified
from endosfm3d_ros.share import DEMO_CLIP

SHARED = Path(__file__).resolve().parents[1].parent / 'shared' / 'data'
HEIGHT, WIDTH = 224, 280
SIZES = ((HEIGHT, WIDTH),)
DISTANCE, FOCAL = 50.0, 200.0
CAMERA = Intrinsics(WIDTH, HEIGHT, FOCAL, FOCAL, 139.5, 111.5)
FIXED = Settings(intrinsics_source='fixed', fixed_camera=CAMERA)
FIRST_NS = 10**18


def flat_depth(picture: np.ndarray) -> DepthMap:
    size = picture.shape[:2]
    return DepthMap(np.full(size, DISTANCE, np.float32), np.full(size, 0.1, np.float32))


def wall(shift: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A textured wall seen `shift` pixels further to the right."""
    coarse = np.random.default_rng(0).integers(40, 220, (64, 100, 3)).astype(np.uint8)
    large = cv2.resize(coarse, (800, 512), interpolation=cv2.INTER_CUBIC)
    u, v = np.meshgrid(np.linspace(0, WIDTH - 1, width), np.linspace(0, HEIGHT - 1, height))
    u, v = (u + shift + 100).astype(np.float32), (v + 100).astype(np.float32)
    return cv2.remap(large, u, v, cv2.INTER_CUBIC)


def woven(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """What an interlaced camera sends: one moment in the even lines, another in the odd ones."""
    image = top.copy()
    image[1::2] = bottom[1::2]
    return image


def run(
    image_at: Callable[[int], np.ndarray],
    count: int,
    settings: Settings = FIXED,
    values: dict[str, object] | None = None,
    rate: float = 25.0,
) -> list[Reconstruction]:
    inputs = Inputs({**parameters.DEFAULTS, **(values or {})})
    pipeline = Pipeline(flat_depth, SIZES, settings)
    said = []
    for number in range(count):
        stamp_ns = FIRST_NS + round(number * 1e9 / rate)
        frame, _ = inputs.take(Frame(image_at(number), stamp_ns, 'scope'))
        said.append(pipeline.step(frame))
    return said


# interlaced


@pytest.mark.parametrize('height', [64, 65])
@pytest.mark.parametrize(('field', 'first'), [('top', 0), ('bottom', 1)])
def test_one_field_is_one_moment_and_stays_where_it_was(
    field: str, first: int, height: int
) -> None:
    now, other = wall(0)[:height], wall(25)[:height]
    image = woven(now, other) if first == 0 else woven(other, now)
    alone = one_field(image, field)
    assert alone.shape == image.shape
    assert np.array_equal(alone[first::2], now[first::2])
    inner = slice(2, -2)
    away = np.abs(alone[inner].astype(int) - now[inner])
    assert away.mean() < 1.0  # the interpolated lines are at their own place, not a line beside
    assert np.abs(image[inner].astype(int) - now[inner]).mean() > 5


def test_a_moving_woven_picture_is_told_from_all_others() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    assert is_interlaced(woven(wall(0), wall(3)))
    for image in (wall(0), noise, woven(wall(0), wall(0)), np.zeros_like(noise), noise[:4]):
        assert not is_interlaced(image)


def test_no_picture_of_a_progressive_clip_looks_interlaced() -> None:
    clips = [DEMO_CLIP / 'clip.mp4', *sorted(SHARED.glob('*/clip.mp4'))]
    for clip in clips:
        for number, frame in enumerate(islice(open_frames(clip), 0, 120, 10)):
            assert not is_interlaced(frame.image), (clip, number)


def test_a_rendered_clip_woven_of_its_own_frames_does() -> None:
    frames = [frame.image for frame in islice(open_frames(DEMO_CLIP / 'clip.mp4'), 130)]
    seen = [is_interlaced(woven(a, b)) for a, b in zip(frames[5:120:5], frames[6:], strict=False)]
    assert np.mean(seen) > 0.8


def test_interlaced_video_moves_the_camera_as_far_as_one_of_its_fields() -> None:
    def interlaced(number: int) -> np.ndarray:
        return woven(wall(2.0 * number), wall(2.0 * number + 1.0))

    said = run(interlaced, 8, values={'deinterlace': 'top'})
    step = 2.0 * DISTANCE / FOCAL
    assert said[-1].motion.T_prev_cam[:3, 3] == pytest.approx([step, 0, 0], abs=0.03)
    assert said[-1].T_odom_cam[1, 3] == pytest.approx(-7 * step, abs=0.1)


def test_who_did_not_ask_is_told_that_the_video_is_interlaced() -> None:
    said = []
    for field in ('none', 'top'):
        inputs = Inputs({**parameters.DEFAULTS, 'deinterlace': field})
        frame = Frame(woven(wall(0), wall(3)), FIRST_NS, 'scope')
        said.append([warning for _ in range(5) if (warning := inputs.take(frame)[1])])
    assert len(said[0]) == 1 and 'set deinterlace to top' in said[0][0] and not said[1]


# overlays and bars


def test_nothing_is_said_where_an_overlay_covers_the_scene() -> None:
    said = run(lambda n: wall(2.0 * n), 3, values={'overlays': '0 0 140 30; 200, 180, 280, 224'})
    covered = np.zeros((HEIGHT, WIDTH), bool)
    covered[:30, :140] = covered[180:, 200:] = True
    for one in said:
        assert np.array_equal(np.isnan(one.depth), covered)
        assert not one.confidence[covered].any() and one.confidence[~covered].all()


def test_a_still_overlay_over_a_third_of_the_picture_does_not_hold_the_camera() -> None:
    def with_menu(number: int) -> np.ndarray:
        image = wall(2.0 * number)
        image[:, :100] = wall(300.0)[:, :100]  # a still inset as rich in corners as tissue
        return image

    step = 2.0 * DISTANCE / FOCAL
    said = run(with_menu, 8, values={'overlays': '0 0 100 224'})
    assert said[-1].T_odom_cam[1, 3] == pytest.approx(-7 * step, abs=0.15)


def test_a_covered_pixel_taints_every_network_pixel_that_it_is_averaged_into() -> None:
    free = uncovered(((10, 4, 11, 5),), (0, 0, 40, 20), 20, 10)
    assert not free[2, 5] and free.sum() == 199
    assert uncovered(((0, 0, 9, 9),), (10, 10, 40, 20), 20, 10).all()  # outside the window
    assert not uncovered(((0, 0, 99, 99),), (10, 10, 40, 20), 20, 10).any()


@pytest.mark.parametrize(
    'text', ['1 2 3', '1 2 3 x', '5 0 5 9', '0 9 5 3', '-1 0 5 5', '1.5 0 5 5', '1 2 3 4 5']
)
def test_overlays_that_are_no_rectangles_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match='overlays: .*needed'):
        parameters.checked({'overlays': text})
    assert boxes_from('') == () and boxes_from(' 1 2 3 4 ;') == ((1, 2, 3, 4),)


def test_an_overlay_moves_with_the_picture_when_that_is_rectified() -> None:
    calibration = Calibration(CAMERA, 'plumb_bob', (-0.3, 0.1, 0.0, 0.0, 0.0))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[20:50, 30:90] = 255
    ((left, top, right, bottom),) = rectified_boxes(((30, 20, 90, 50),), calibration)
    there = rectify(image, calibration).any(axis=2)
    inside = np.zeros_like(there)
    inside[max(top, 0) : bottom, max(left, 0) : right] = True
    assert there.any() and not (there & ~inside).any()
    assert inside.sum() < 2.0 * there.sum()
    frame = Frame(image, FIRST_NS, 'scope', covered=((30, 20, 90, 50),))
    assert rectified(frame, calibration).covered == ((left, top, right, bottom),)


@pytest.mark.parametrize(
    ('model', 'distortion', 'focal'),
    [
        ('equidistant', (-0.05, 0.01, 0.0, 0.0), 0.4),
        ('plumb_bob', (-0.5, 0.3, 0.0, 0.0, -0.1), 0.5),
    ],
)
def test_an_overlay_in_a_corner_that_rectifying_pushes_out_covers_nothing(
    model: str, distortion: tuple[float, ...], focal: float
) -> None:
    camera = Intrinsics(640, 480, focal * 640, focal * 640, 319.5, 239.5)
    calibration = Calibration(camera, model, distortion)
    corner = np.zeros((480, 640, 3), np.uint8)
    corner[:60, :100] = 255
    assert not rectify(corner, calibration).any()
    assert rectified_boxes(((0, 0, 100, 60),), calibration) == ()


def test_black_bars_are_no_tissue_and_the_camera_looks_through_what_they_leave_open() -> None:
    def pillars(number: int) -> np.ndarray:
        image = np.zeros((HEIGHT, 400, 3), np.uint8)
        image[:, 60:340] = wall(2.0 * number)
        return image

    said = run(pillars, 4, Settings())[-1]
    assert said.valid and said.motion.known
    assert np.isfinite(said.depth).mean() > 0.95
    # the bars are cut off, not squeezed in with the picture
    assert said.camera.fx == pytest.approx(said.input_camera.fx, rel=0.02)
    assert said.input_camera.cx == pytest.approx(199.5, abs=2)


# digital zoom; without the window of keyframes, for depth is made up here and would mislead it

BY_RIM = Settings(refinement='none')


def round_picture(number: int, magnified: float = 1.0, radius: float = 95.0) -> np.ndarray:
    """The wall through a round stop; `magnified` about the middle, inside the stop."""
    image = wall(0.2 * number)
    turn = cv2.getRotationMatrix2D((139.5, 111.5), 0.0, magnified)
    image = cv2.warpAffine(image, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    v, u = np.indices((HEIGHT, WIDTH))
    image[np.hypot(u - 139.5, v - 111.5) > radius] = 2
    return image


def test_digital_zoom_that_magnifies_the_stop_too_is_followed() -> None:
    def zooming(number: int) -> np.ndarray:
        return round_picture(number, *((1.0, 70.0) if number < 10 else (1.3, 91.0)))

    said = run(zooming, 40, BY_RIM)
    before, after = said[9], said[-1]
    assert before.zoom == pytest.approx(1.0, abs=0.01)
    assert after.zoom == pytest.approx(1.3, abs=0.02)
    assert after.input_camera.fx / before.input_camera.fx == pytest.approx(1.3, abs=0.03)


def test_inside_a_fixed_stop_mask_keeps_the_round_picture_and_claims_no_zoom() -> None:
    def zooming(number: int) -> np.ndarray:
        return round_picture(number, 1.0 + 0.02 * number)

    by_rim = run(zooming, 20, BY_RIM)
    masked = run(zooming, 20, replace(BY_RIM, zoom_by_rim=False))
    assert by_rim[-1].zoom == pytest.approx(1.0, abs=0.02)  # the stop stands still: it can't know
    assert all(np.isnan(one.zoom) for one in masked)
    assert masked[-1].log_focal_sigma > by_rim[-1].log_focal_sigma + 0.02  # and growing
    assert np.isnan(masked[-1].depth[0, 0]) and np.isfinite(masked[-1].depth[112, 140])
    # the scope's angle is across the round picture here too
    first = masked[0].input_camera.fx, by_rim[0].input_camera.fx
    assert first[0] == pytest.approx(first[1], rel=0.01)
    assert parameters.settings({**parameters.DEFAULTS, 'field_of_view': 'mask'}) == replace(
        Settings(), zoom_by_rim=False
    )


# 50 and 60 Hz


@pytest.mark.parametrize('rate', [25.0, 50.0, 59.94])
def test_the_same_sweep_at_any_rate_is_the_same_path(rate: float) -> None:
    speed = 50.0  # px a second
    said = run(lambda n: wall(speed * n / rate), round(0.4 * rate) + 1, rate=rate)
    seconds = (len(said) - 1) / rate
    assert said[-1].T_odom_cam[1, 3] == pytest.approx(
        -speed * seconds * DISTANCE / FOCAL, rel=0.04
    )
    assert all(one.valid and one.epoch == 0 for one in said)


def test_pictures_doubled_to_fifty_hertz_are_neither_frozen_nor_moved_twice() -> None:
    said = run(lambda n: wall(2.0 * (n // 2)), 16, rate=50.0)
    assert all(one.valid for one in said)
    assert said[-1].T_odom_cam[1, 3] == pytest.approx(-7 * 2.0 * DISTANCE / FOCAL, abs=0.1)


def test_replay_takes_the_words_of_the_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    for number in range(4):
        image = woven(wall(4.0 * number), wall(4.0 * number + 2.0))
        cv2.imwrite(str(pictures / f'{number}.png'), image[..., ::-1])
    words = ['replay', str(pictures), str(tmp_path / 'run.mcap'), '--rate', '25', '--overwrite']
    assert main(words) == 0
    assert 'the video is interlaced' in capsys.readouterr().err
    assert main([*words, '--set', 'deinterlace=top', '--set', 'overlays=0 0 50 50']) == 0
    assert 'interlaced' not in capsys.readouterr().err
    assert main([*words, '--set', 'overlays=0 0 50']) == 1
    assert 'needed left top right bottom' in capsys.readouterr().err
