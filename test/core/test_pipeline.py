# SPDX-License-Identifier: Apache-2.0
"""
The step as a whole, on a wall that slides by; depth is given, so that every other answer is known.
"""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.depth_map import DepthMap, confidence
from endosfm3d_ros.core.frame import Frame, Intrinsics
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.settings import Settings
from endosfm3d_ros.core.tracks import UNKNOWN_MM
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.core.windowed import Windowed
from endosfm3d_ros.engines.engine import EngineError

SIZES = ((224, 280),)
DISTANCE = 50.0
STEP_NS = 40_000_000
FIRST_NS = 10**18
CAMERA = Intrinsics(280, 224, 200.0, 200.0, 139.5, 111.5)
FIXED = Settings(intrinsics_source='fixed', fixed_camera=CAMERA)


def flat_depth(picture: np.ndarray) -> DepthMap:
    size = picture.shape[:2]
    return DepthMap(np.full(size, DISTANCE, np.float32), np.full(size, 0.1, np.float32))


def wall(shift_px: float, seed: int = 0) -> np.ndarray:
    """A textured wall seen `shift_px` further to the right."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 220, (64, 100, 3)).astype(np.uint8)
    large = cv2.resize(coarse, (800, 512), interpolation=cv2.INTER_CUBIC)
    u, v = np.meshgrid(
        np.arange(280, dtype=np.float32) + shift_px + 100, np.arange(224, dtype=np.float32) + 100
    )
    return cv2.remap(large, u.astype(np.float32), v, cv2.INTER_CUBIC)


def frame(number: int, image: np.ndarray | None = None, stamp_ns: int | None = None) -> Frame:
    stamp_ns = FIRST_NS + number * STEP_NS if stamp_ns is None else stamp_ns
    return Frame(wall(2.0 * number) if image is None else image, stamp_ns, 'scope')


def test_sliding_by_two_pixels_a_frame_moves_the_camera_half_a_millimetre() -> None:
    pipeline = Pipeline(flat_depth, SIZES, FIXED)
    for number in range(6):
        said = pipeline.step(frame(number))
    assert said.motion.known and said.valid
    assert said.motion.T_prev_cam[:3, 3] == pytest.approx([2 * DISTANCE / 200, 0, 0], abs=0.02)
    assert said.T_odom_cam[:3, 3] == pytest.approx([0, -5 * 2 * DISTANCE / 200, 0], abs=0.08)


def test_the_first_frame_moves_nothing_and_is_trusted_in_nothing() -> None:
    said = Pipeline(flat_depth, SIZES).step(frame(0))
    assert np.array_equal(said.motion.T_prev_cam, np.eye(4))
    assert said.k_trust == pytest.approx(0.0, abs=1e-6) and said.epoch == 0
    assert np.isnan(said.zoom)  # no rim: the zoom is not seen
    assert not said.odom_covariance.any()


def test_outputs_carry_the_frame_s_own_stamp_frame_and_sizes() -> None:
    said = Pipeline(flat_depth, SIZES).step(frame(3))
    assert (said.stamp_ns, said.frame_id) == (FIRST_NS + 3 * STEP_NS, 'scope')
    assert said.image.shape == (224, 280, 3) and said.depth.shape == said.confidence.shape == (
        224,
        280,
    )
    assert (said.camera.width, said.camera.height) == (280, 224)
    assert (said.input_camera.width, said.input_camera.height) == (280, 224)


def test_a_black_picture_invents_nothing_holds_odometry_and_widens_its_covariance() -> None:
    pipeline = Pipeline(flat_depth, SIZES, FIXED)
    for number in range(3):
        before = pipeline.step(frame(number))
    black = pipeline.step(frame(3, np.zeros((224, 280, 3), np.uint8)))
    assert not black.valid and black.reason == 'black'
    assert np.isnan(black.depth).all() and not black.confidence.any()
    assert np.allclose(black.T_odom_cam, before.T_odom_cam, atol=1e-12) and not black.motion.known
    assert black.odom_covariance[0, 0] > before.odom_covariance[0, 0]
    after = pipeline.step(frame(4))
    assert after.valid and after.epoch == before.epoch


@pytest.mark.parametrize('refinement', ['window', 'none'])
def test_a_step_of_which_nothing_is_known_says_so_by_its_covariance(refinement: str) -> None:
    """Black, the first picture, black again, another place: each step is counted once."""
    pipeline = Pipeline(flat_depth, SIZES, replace(FIXED, refinement=refinement))
    black = np.zeros((224, 280, 3), np.uint8)
    for number, image in enumerate((black, black, None, black, black, wall(0, seed=7))):
        said = pipeline.step(frame(number, image))
        assert said.motion.known == (number == 0)
        per_frame = 0.0 if number == 0 else UNKNOWN_MM**2 * STEP_NS * 1e-9
        assert said.motion.covariance[0, 0] == pytest.approx(per_frame)


def test_a_frozen_picture_becomes_invalid_and_thaws() -> None:
    pipeline = Pipeline(flat_depth, SIZES, FIXED)
    reasons = [pipeline.step(frame(number, wall(0))).reason for number in range(8)]
    assert reasons == ['', '', '', '', '', 'frozen', 'frozen', 'frozen']
    assert pipeline.step(frame(8, wall(2))).valid


@pytest.mark.parametrize('refinement', ['window', 'none'])
def test_pictures_that_come_twice_say_the_same_as_those_that_come_once(refinement: str) -> None:
    """A grabber at 50 Hz behind a camera of 25: nothing is computed twice, nothing stutters."""
    asked: list[int] = []

    def network(picture: np.ndarray) -> DepthMap:
        asked.append(1)
        return flat_depth(picture)

    settings = Settings(refinement=refinement, frozen_after=2)
    once, twice = (Pipeline(depth, SIZES, settings) for depth in (flat_depth, network))
    for number in range(12):
        expected = once.step(frame(number))
        new = twice.step(frame(number))
        again = twice.step(frame(number, stamp_ns=new.stamp_ns + STEP_NS // 2))
        assert (new.repeats, again.repeats, again.valid) == (0, 1, True)
        assert np.array_equal(new.motion.T_prev_cam, expected.motion.T_prev_cam)
        assert np.array_equal(new.motion.covariance, expected.motion.covariance)
        assert np.array_equal(again.motion.T_prev_cam, np.eye(4))
        for said in (new, again):
            assert said.input_camera == expected.input_camera
            assert np.array_equal(said.T_odom_cam, expected.T_odom_cam)
            assert np.array_equal(said.depth, expected.depth, equal_nan=True)
    assert len(asked) == 12


def test_a_picture_that_comes_again_is_asked_anew_where_something_else_is_asked() -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    before = pipeline.step(frame(0))
    pipeline.change(Settings(scale=2.0))
    after = pipeline.step(frame(1, wall(0)))
    assert after.epoch == before.epoch + 1 and after.events
    assert np.nanmedian(after.depth) == pytest.approx(2 * np.nanmedian(before.depth))
    covered = pipeline.step(replace(frame(2, wall(0)), covered=((100, 100, 150, 150),)))
    assert np.isnan(covered.depth).mean() > np.isnan(after.depth).mean()
    late = pipeline.step(frame(3, wall(0), FIRST_NS + 10**10))
    assert 'no picture for' in late.events[0]


@pytest.mark.parametrize(
    ('change', 'why'),
    [
        ({'stamp_ns': FIRST_NS - 10}, 'stamp went back'),
        ({'stamp_ns': FIRST_NS + 10**10}, 'no picture for'),
        ({'image': cv2.resize(wall(0), (640, 512))}, 'picture changed from 280x224 to 640x512'),
    ],
)
def test_what_breaks_the_chain_opens_an_epoch_at_the_origin_and_says_why(
    change: dict[str, object], why: str
) -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    for number in range(3):
        pipeline.step(frame(number))
    changed = replace(frame(3), **change)
    said = pipeline.step(changed)
    assert said.epoch == 1 and why in said.events[0]
    assert np.array_equal(said.T_odom_cam[:3, 3], np.zeros(3))
    assert pipeline.step(replace(changed, stamp_ns=said.stamp_ns + STEP_NS)).epoch == 1


def test_a_stamp_sent_twice_is_refused_and_nothing_is_lost() -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    pipeline.step(frame(0))
    before = pipeline.step(frame(1))
    with pytest.raises(ValueError, match='two pictures with the one stamp'):
        pipeline.step(frame(2, stamp_ns=before.stamp_ns))
    assert pipeline.step(frame(2)).epoch == 0


def disc(radius: float, number: int, centre: tuple[float, float] = (140.0, 112.0)) -> np.ndarray:
    """The wall through a round stop."""
    image = wall(0.5 * number)
    v, u = np.indices(image.shape[:2])
    image[np.hypot(u - centre[0], v - centre[1]) > radius] = 0
    return image


def test_a_camera_switched_on_before_the_scope_ends_with_the_scope_s_focal_length() -> None:
    black = np.zeros((224, 280, 3), np.uint8)
    late, early = Pipeline(flat_depth, SIZES), Pipeline(flat_depth, SIZES)
    for number in range(3):
        late.step(frame(number, black))
    for number in range(3, 6):
        said = late.step(frame(number, disc(90, number)))
        expected = early.step(frame(number, disc(90, number)))
    assert said.input_camera.fx == pytest.approx(expected.input_camera.fx, rel=2e-3)


def test_a_network_that_fails_leaves_the_state_as_it_was() -> None:
    broken = [False]

    def network(picture: np.ndarray) -> DepthMap:
        if broken[0]:
            raise RuntimeError('no memory')
        return flat_depth(picture)

    failing, whole = Pipeline(network, SIZES, FIXED), Pipeline(flat_depth, SIZES, FIXED)
    for number in range(4):
        failing.step(frame(number))
        whole.step(frame(number))
    broken[0] = True
    with pytest.raises(RuntimeError):
        failing.step(frame(9, stamp_ns=FIRST_NS - 5))  # would have opened an epoch
    broken[0] = False
    said, expected = failing.step(frame(4)), whole.step(frame(4))
    assert said.epoch == 0 and said.events == ()
    assert np.array_equal(said.T_odom_cam, expected.T_odom_cam)


def test_one_wild_circle_moves_neither_camera_nor_window_nor_mask() -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    for number in range(10):
        before = pipeline.step(frame(number, disc(90, number)))
    wild = pipeline.step(frame(10, disc(60, 10, (180.0, 100.0))))
    assert wild.input_camera.cx == pytest.approx(before.input_camera.cx, abs=0.1)
    assert wild.camera.fx == pytest.approx(before.camera.fx, rel=5e-3)
    after = pipeline.step(frame(11, disc(90, 11)))
    assert after.zoom == pytest.approx(1.0, abs=0.01)


def test_a_rim_in_doubt_is_forgotten_where_rims_do_not_tell_the_zoom_any_more() -> None:
    """From then on tracks are asked for the zoom, and what is seen is the mask."""
    pipeline = Pipeline(flat_depth, SIZES)
    for number in range(10):
        pipeline.step(frame(number, disc(90, number)))
    pipeline.step(frame(10, disc(60, 10)))
    assert pipeline._state.estimate.doubts
    pipeline.change(Settings(zoom_by_rim=False))
    said = pipeline.step(frame(11, disc(60, 11)))
    assert said.motion.known and pipeline._state.estimate.zoom.by_tracks
    assert said.camera.fx > 1.5 * said.input_camera.fx  # the smaller stop is looked through


def test_another_scope_is_an_event_and_an_unknown_step_not_a_motion() -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    for number in range(10):
        pipeline.step(frame(number, disc(70, number)))
    seen = [pipeline.step(frame(n, disc(100, n, (120.0, 112.0)))) for n in range(10, 18)]
    jumps = [said for said in seen if any('jumped' in event for event in said.events)]
    assert len(jumps) == 1 and not jumps[0].motion.known


def test_what_is_picture_stays_while_the_rim_moves_by_less_than_the_picture_shows() -> None:
    """Its border does not flicker, and what follows from it is not computed again."""
    pipeline, seen = Pipeline(flat_depth, SIZES), []
    for number in range(12):
        radius = (90.0, 90.2, 89.9)[number % 3] if number < 10 else 91.5
        said = pipeline.step(frame(number, disc(radius, number)))
        seen.append((pipeline._state.past.inside, np.isfinite(said.depth)))
    assert all(inside is seen[0][0] for inside, _ in seen[:10])
    assert all(np.array_equal(known, seen[0][1]) for _, known in seen[:10])
    assert seen[11][0] is not seen[0][0]


def test_a_rim_lost_for_half_a_second_puts_no_depth_on_the_border() -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    for number in range(10):
        before = pipeline.step(frame(number, disc(90, number)))
    for number in range(10, 22):
        lifted = np.maximum(disc(90, number), 60)  # glare lifts the border
        said = pipeline.step(frame(number, lifted))
        assert said.camera.width == before.camera.width
        assert np.isfinite(said.depth).mean() == pytest.approx(
            np.isfinite(before.depth).mean(), abs=0.02
        )


@pytest.mark.parametrize('rim_until', [30, 10, 0])
def test_a_calibration_that_follows_the_zoom_is_followed_within_one_epoch(rim_until: int) -> None:
    """
    Zooming is not moving, nor does it bend depth, where K says that it is zoom; no rim that is out
    of the picture contradicts it.
    """
    pipeline = Pipeline(flat_depth, SIZES, Settings(intrinsics_source='camera_info'))
    u, v = np.meshgrid(np.arange(280, dtype=np.float32), np.arange(224, dtype=np.float32))
    for number in range(30):
        zoom = 1 + 0.02 * number
        at = (u - CAMERA.cx) / zoom + CAMERA.cx, (v - CAMERA.cy) / zoom + CAMERA.cy
        image = cv2.remap(wall(0), *at, cv2.INTER_LINEAR)
        if number < rim_until:  # it agrees
            image[np.hypot(u - CAMERA.cx, v - CAMERA.cy) > 60 * zoom] = 0
        said = pipeline.step(replace(frame(number, image), camera=CAMERA.zoomed(zoom)))
        assert said.motion.known and said.k_trust == 1.0
        assert np.nanmedian(said.depth) == pytest.approx(DISTANCE, rel=0.02 if rim_until else 0.05)
    assert said.epoch == 0 and said.input_camera.fx == pytest.approx(200 * 1.58)
    assert np.isnan(said.zoom) == (rim_until == 0)
    assert np.linalg.norm(said.T_odom_cam[:3, 3]) < 0.06 * DISTANCE  # of 0.37 that it looks like


def test_a_rim_that_comes_late_does_not_contradict_a_calibration_that_followed_the_zoom() -> None:
    pipeline = Pipeline(flat_depth, SIZES, Settings(intrinsics_source='camera_info'))
    for number, zoom in enumerate(np.r_[np.linspace(1.0, 1.2, 6), np.full(4, 1.2)]):
        image = wall(2.0 * number) if number < 6 else disc(100, number, (139.5, 111.5))
        said = pipeline.step(replace(frame(number, image), camera=CAMERA.zoomed(float(zoom))))
        assert said.k_trust == 1.0
    assert said.zoom == pytest.approx(1.2, rel=2e-3)


def test_another_frame_id_opens_an_epoch() -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    pipeline.step(frame(0))
    said = pipeline.step(replace(frame(1), frame_id='left'))
    assert said.epoch == 1 and 'from scope to left' in said.events[0]


def test_a_reset_opens_an_epoch() -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    pipeline.step(frame(0))
    pipeline.reset()
    said = pipeline.step(frame(1))
    assert said.epoch == 1 and 'reset was asked for' in said.events[0]


def test_every_epoch_that_was_opened_between_two_pictures_is_told() -> None:
    pipeline = Pipeline(flat_depth, SIZES)
    pipeline.step(frame(0))
    pipeline.change(Settings(scale=2.0))
    pipeline.reset()
    said = pipeline.step(frame(1))
    assert [event.split(':')[0] for event in said.events] == ['epoch 1', 'epoch 2']
    assert said.epoch == 2 and not pipeline.step(frame(2)).events


def test_depth_that_is_not_positive_or_outside_the_circle_is_unknown() -> None:
    def half_bad(picture: np.ndarray) -> DepthMap:
        said = flat_depth(picture)
        said.depth[:, :100] = -1.0
        said.depth[:, 100:120] = np.inf
        return said

    image = wall(0)
    v, u = np.indices(image.shape[:2])
    image[np.hypot(u - 140, v - 112) > 100] = 0
    said = Pipeline(half_bad, SIZES).step(frame(0, image))
    assert np.isnan(said.depth[:, 0]).all() and not said.confidence[np.isnan(said.depth)].any()
    there = said.image.max(axis=2) > 40
    assert (
        np.isfinite(said.depth[there]).mean() > 0.3 and np.isnan(said.depth[~there]).mean() > 0.99
    )


def test_what_was_learnt_of_an_epoch_is_used_in_that_epoch_only() -> None:
    """The picture becomes twice as large: so does the focal length."""
    centre = np.array([139.5, 111.5])
    learnt = [Scope.guessed(float(np.log(f)), 0.01, centre * f / 150, 1.0) for f in (150.0, 300.0)]
    pipeline = Pipeline(flat_depth, SIZES, learnt=learnt)
    large = [cv2.resize(wall(2 * number), (560, 448)) for number in range(3)]
    focals = [pipeline.step(frame(0)).input_camera.fx]
    focals.append(pipeline.step(frame(1, large[1])).input_camera.fx)
    assert focals == pytest.approx([150, 300], rel=1e-3)
    pipeline.reset()  # the zoom may be any now
    prior = Pipeline(flat_depth, SIZES).step(frame(2, large[2])).input_camera.fx
    assert pipeline.step(frame(2, large[2])).input_camera.fx == pytest.approx(prior)


def test_a_sigma_that_is_no_number_makes_its_depth_unknown_and_spoils_nothing_else() -> None:
    def half_unsure(picture: np.ndarray) -> DepthMap:
        said = flat_depth(picture)
        said.log_sigma[:, :140] = np.nan
        return said

    pipeline = Pipeline(half_unsure, SIZES, FIXED)
    for number in range(15):
        said = pipeline.step(frame(number))
    assert np.isnan(said.depth[:, :140]).all() and not said.confidence[:, :140].any()
    assert np.isfinite(said.depth[:, 140:]).all() and said.refinement == 'window'
    assert np.isfinite(said.odom_covariance).all() and said.motion.known


def test_a_motion_without_a_solution_is_not_the_picture_s_fault() -> None:
    pipeline = Pipeline(flat_depth, SIZES, FIXED)
    for number in range(4):
        pipeline.step(frame(number))
    mover = pipeline._state.mover
    assert isinstance(mover, Windowed) and mover.odometry
    mover.odometry.map.landmarks.places[:] = np.nan
    for _ in range(2):
        with pytest.raises(ArithmeticError, match='no solution'):
            pipeline.step(frame(4))
    pipeline.reset()
    said = [pipeline.step(frame(number)) for number in (4, 5)]
    assert said[-1].motion.known and said[-1].epoch == 1


def test_the_window_is_the_same_whether_adjusted_beside_the_caller_or_by_the_next_step() -> None:
    early, late = Pipeline(flat_depth, SIZES), Pipeline(flat_depth, SIZES)
    for number in range(20):
        first, second = early.step(frame(number)), late.step(frame(number))
        early.settle()
        early.settle()  # once more is not one more adjustment
        assert first.log_focal_sigma == second.log_focal_sigma
        assert np.array_equal(first.T_odom_cam, second.T_odom_cam)
    assert first.refinement == 'window'


def test_a_network_that_fails_says_so_at_its_picture_and_the_next_goes_on() -> None:
    def fails_once(picture: np.ndarray) -> DepthMap:
        if not failed:
            failed.append(True)
            raise EngineError('no luck')
        return flat_depth(picture)

    failed: list[bool] = []
    pipeline, whole = Pipeline(fails_once, SIZES, FIXED), Pipeline(flat_depth, SIZES, FIXED)
    with pytest.raises(EngineError, match='no luck'):
        pipeline.step(frame(0))
    for number in range(1, 4):
        said, expected = pipeline.step(frame(number)), whole.step(frame(number))
    assert np.array_equal(said.T_odom_cam, expected.T_odom_cam)


def test_a_constant_scale_multiplies_depth_and_translation_alike() -> None:
    nominal, scaled = (Pipeline(flat_depth, SIZES, replace(FIXED, scale=s)) for s in (None, 3.0))
    for number in range(3):
        first, second = nominal.step(frame(number)), scaled.step(frame(number))
    assert np.allclose(second.depth, 3 * first.depth)
    assert np.allclose(second.T_odom_cam[:3, 3], 3 * first.T_odom_cam[:3, 3], atol=1e-3)


def test_another_scale_multiplies_lengths_by_no_more_and_no_less_than_it_says() -> None:
    """The robot measures the path that was told, and the path is in the map's millimetres."""
    depth = [DISTANCE]

    def swelling(picture: np.ndarray) -> DepthMap:
        return replace(flat_depth(picture), depth=np.full(SIZES[0], depth[0], np.float32))

    pipeline = Pipeline(swelling, SIZES, FIXED)
    for number in range(45):
        depth[0] = DISTANCE * min(1.3, 1.0 + 0.02 * number)  # the map holds its first scale
        before = pipeline.step(frame(number))
    pipeline.change(replace(FIXED, scale=2.0))
    for number in range(45, 48):
        said = pipeline.step(frame(number))
        assert np.nanmedian(said.depth) == pytest.approx(2 * np.nanmedian(before.depth), rel=0.03)
    assert np.nanmedian(before.depth) < 1.15 * DISTANCE and said.epoch == 1


def test_depth_that_is_unknown_at_a_keyframe_and_a_picture_after_it_stops_nothing() -> None:
    blind = [False]

    def network(picture: np.ndarray) -> DepthMap:
        said = flat_depth(picture)
        return replace(said, depth=np.full_like(said.depth, np.nan)) if blind[0] else said

    for settings in (FIXED, Settings()):
        pipeline = Pipeline(network, SIZES, settings)
        for number in range(40):
            blind[0] = number in (20, 21, 22, 23)
            said = pipeline.step(frame(number))
            pipeline.settle()
        assert said.motion.known and np.isfinite(said.depth).any()


def test_a_picture_with_another_rim_is_off_by_what_the_one_before_was_off_by() -> None:
    depth = [DISTANCE]

    def swelling(picture: np.ndarray) -> DepthMap:
        return replace(flat_depth(picture), depth=np.full(picture.shape[:2], depth[0], np.float32))

    pipeline = Pipeline(swelling, SIZES)
    for number in range(30):
        depth[0] = DISTANCE * min(1.3, 1.0 + 0.02 * number)  # the map holds its first scale
        before = pipeline.step(frame(number, disc(70, number)))
    for number in range(30, 36):
        said = pipeline.step(frame(number, disc(100, number)))
        if any('jumped' in event for event in said.events):
            break
    assert not said.motion.known and said.map_number == before.map_number
    assert np.nanmedian(said.depth) == pytest.approx(np.nanmedian(before.depth), rel=0.05)
    assert np.nanmedian(said.depth) < 1.2 * DISTANCE


def test_a_calibration_that_was_asked_for_and_did_not_come_is_an_error_that_changes_nothing() -> (
    None
):
    pipeline = Pipeline(flat_depth, SIZES, Settings(intrinsics_source='camera_info'))
    with pytest.raises(ValueError, match='no calibration came with the picture'):
        pipeline.step(frame(0))
    said = pipeline.step(replace(frame(0), camera=CAMERA))
    assert said.input_camera == CAMERA and said.k_trust == 1.0


def test_a_given_calibration_loses_its_trust_once_the_rim_says_the_scope_zoomed() -> None:
    pipeline = Pipeline(flat_depth, SIZES, FIXED)
    trusts = [pipeline.step(frame(n, disc(80 + 0.5 * n, n))).k_trust for n in range(30)]
    assert trusts[1] == 1.0 and trusts[-1] == 0.0
    alone = [pipeline.step(frame(n, wall(n))) for n in range(30, 35)]  # the rim left the picture
    assert [said.k_trust for said in alone] == [0.0] * 5
    assert all(said.log_focal_sigma > 0.1 for said in alone)


def test_when_the_window_moves_with_the_zoom_the_motion_is_still_known() -> None:
    def scene(number: int) -> np.ndarray:
        zoom = 1 + 0.02 * number
        u, v = np.meshgrid(np.arange(640, dtype=np.float32), np.arange(512, dtype=np.float32))
        u, v = (u - 319.5) / zoom + 319.5, (v - 255.5) / zoom + 255.5
        large = cv2.resize(wall(0), (640, 512), interpolation=cv2.INTER_CUBIC)
        image = cv2.remap(large, u, v, cv2.INTER_LINEAR)
        v, u = np.indices(image.shape[:2])
        image[np.hypot(u - 319.5, v - 255.5) > 150 * zoom] = 0
        return image

    pipeline = Pipeline(flat_depth, SIZES)
    seen = [pipeline.step(frame(number, scene(number))) for number in range(25)]
    assert len({said.camera.fx / said.input_camera.fx for said in seen}) > 1  # the window did move
    assert all(said.motion.known and said.motion.inliers > 50 for said in seen[1:])
    assert seen[-1].zoom == pytest.approx(1.48, rel=0.01)
    # Zooming is not moving; but without parallax a turn before a flat wall looks like a slide.
    assert np.linalg.norm(seen[-1].T_odom_cam[:3, 3]) < 0.05 * DISTANCE


def test_confidence_is_the_chance_to_be_within_a_quarter() -> None:
    sigma = np.array([[0.1, 0.2, 0.35, 1.0]], np.float32)
    draws = np.random.default_rng(0).standard_normal(200_000)[:, None] * sigma[0]
    expected = (np.abs(draws) < np.log(1.25)).mean(0)
    assert confidence(DepthMap(np.ones_like(sigma), sigma))[0] == pytest.approx(expected, abs=4e-3)
