# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.intrinsics import CameraEstimate, prior_focal
from endosfm3d_ros.core.picture.field_of_view import FieldOfView
from endosfm3d_ros.core.zoom_filter import FOCAL, RADIUS_FLOOR, ZOOM, ZoomFilter

RATE = 25.0
RIM_SIGMA = 1e-3  # of log r


def run(zoom: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Filter noisy rims of a true zoom curve; returns zoom, its sigma and the filtered error of log
    zoom.
    """
    rng = np.random.default_rng(seed)
    state, said, sigma = ZoomFilter.start(500.0, 0.35), [], []
    for truth in np.log(zoom):
        state = state.predict(1 / RATE).measure_zoom(
            truth + RIM_SIGMA * rng.standard_normal(), RIM_SIGMA
        )
        said.append(state.zoom)
        sigma.append(state.zoom_sigma)
    return np.array(said), np.array(sigma), np.log(np.array(said)) - np.log(zoom)


def test_at_rest_zoom_is_known_to_a_tenth_of_a_percent_and_says_so() -> None:
    said, sigma, error = run(np.ones(200))
    assert np.std(error[50:]) < 1e-3 and sigma[-1] < 1e-3
    assert said[-1] == pytest.approx(1.0, abs=3e-3)


def test_an_error_that_all_measurements_share_stays_however_many_come() -> None:
    state = ZoomFilter.start(500.0, 0.3)
    known = np.array([[0.02**2, -0.9 * 0.02 * 0.03], [-0.9 * 0.02 * 0.03, 0.03**2]])
    for _ in range(100):
        state = state.predict(1 / RATE).informed(np.log(500.0), known).follow_zoom(0.2, 0.004)
    assert state.measured_sigma < 0.005
    assert state.zoom_sigma == pytest.approx(np.hypot(state.measured_sigma, 0.03))
    both = np.sqrt(known.sum() + state.measured_sigma**2)
    assert state.log_focal_sigma == pytest.approx(both)
    assert (
        state.log_focal_sigma < state.zoom_sigma
    )  # what f0 has too much, the zoom has too little


def test_a_better_word_on_the_focal_length_replaces_all_that_was_known_of_it() -> None:
    known = np.array([[0.02**2, -0.01 * 0.02], [-0.01 * 0.02, 0.03**2]])
    state = ZoomFilter.start(500.0, 0.3).predict(0.04)
    zoomed = state.measure_focal(600.0, 0.01).covariance[ZOOM, ZOOM]
    whole = state.measure_focal(600.0, 0.01).informed(np.log(450.0), known).whole_covariance
    assert whole[FOCAL, :2] == pytest.approx(known[0])
    assert whole[ZOOM, ZOOM] == pytest.approx(zoomed + known[1, 1])


def test_an_absolute_measurement_shows_the_error_that_relative_ones_share() -> None:
    known = np.array([[0.04, -0.039], [-0.039, 0.04]])
    state = ZoomFilter.start(500.0, 0.3).informed(np.log(500.0), known)
    state = state.follow_zoom(0.2, 0.004).measure_focal(600.0, 0.001)
    assert state.log_focal_sigma == pytest.approx(0.001, rel=0.01)
    assert state.focal_px == pytest.approx(600.0, rel=1e-3)
    half = 0.5 * np.log(600.0 / 500.0)  # f0 and the zoom may both have been off, by as much
    assert np.log(state.zoom) == pytest.approx(half, abs=1e-3)


def test_a_zoom_of_half_a_second_is_followed_within_a_fifth_of_a_second() -> None:
    time = np.arange(75) / RATE
    truth = 1 + 0.5 * np.clip(time - 1.0, 0, 1)
    said, _, _ = run(truth)
    during = (time > 1.3) & (time < 1.9)
    lag = (truth[during] - said[during]) / 0.5
    assert np.abs(lag).max() < 0.2
    assert np.abs(said / truth - 1)[during].max() < 0.03


def test_the_filter_s_sigma_is_its_error() -> None:
    normalised = [run(np.exp(0.1 * np.sin(np.arange(150) / 20)), seed) for seed in range(20)]
    nees = np.mean([(error[20:] / sigma[20:]) ** 2 for _, sigma, error in normalised])
    assert 0.5 < nees < 2.0


def at_rest() -> ZoomFilter:
    state = ZoomFilter.start(500.0, 0.35)
    for _ in range(50):
        state = state.predict(0.04).measure_zoom(0.0, RIM_SIGMA)
    return state


def test_one_wild_rim_is_not_believed_and_a_lasting_step_is() -> None:
    state = at_rest()
    assert state.predict(0.04).measure_zoom(0.4, RIM_SIGMA).zoom == pytest.approx(1.0, abs=1e-3)
    for _ in range(15):
        state = state.predict(0.04).measure_zoom(0.4, RIM_SIGMA)
    assert np.log(state.zoom) == pytest.approx(0.4, abs=0.01)


def test_wild_rims_that_contradict_each_other_are_never_believed() -> None:
    state = at_rest()
    for wild in (0.4, -0.3, 0.2, -0.5, 0.35, -0.2, 0.5, -0.4):
        state = state.predict(0.04).measure_zoom(wild, RIM_SIGMA)
    assert state.zoom == pytest.approx(1.0, abs=0.02)


def seen(rims: np.ndarray, rate: float = RATE) -> list[ZoomFilter]:
    """The filter after each of these rims (log zoom), which come after a rest of two seconds."""
    state, states = ZoomFilter.start(500.0, 0.35), []
    for rim in np.concatenate([np.zeros(round(2 * rate)), rims]):
        state = state.predict(1 / rate).measure_zoom(float(rim), RIM_SIGMA)
        states.append(state)
    return states[-len(rims) :]


@pytest.mark.parametrize('off', [0.03, 0.05, -0.05, 0.08, 0.2])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_up_to_three_false_rims_in_a_row_change_nothing(off: float, count: int) -> None:
    states = seen(np.r_[np.full(count, off), np.zeros(10)])
    assert max(abs(np.log(state.zoom)) for state in states) < 2e-3
    assert not any(state.jumped for state in states)


@pytest.mark.parametrize(
    ('rate', 'off'), [(25.0, 0.015), (25.0, 0.018), (5.0, 0.08), (5.0, 0.125)]
)
@pytest.mark.parametrize('count', [1, 2, 3])
def test_false_rims_that_a_zoom_might_have_made_leave_no_rate_behind(
    rate: float, off: float, count: int
) -> None:
    states = seen(np.r_[np.full(count, off), np.zeros(10)], rate)
    zooms = np.log([state.zoom for state in states])
    assert np.abs(zooms[:count]).max() < 1.05 * off
    assert np.abs(zooms[count:]).max() < 3e-3
    assert not any(state.jumped or state.doubts for state in states)


def test_a_rim_that_may_be_false_is_told_with_the_doubt_until_others_went_on_with_it() -> None:
    odd, *later = seen(np.r_[0.018, np.zeros(5)])
    assert np.log(odd.zoom) == pytest.approx(0.018, abs=1e-3)
    assert odd.zoom_sigma == pytest.approx(0.009, rel=0.1)
    assert odd.measured_sigma == odd.zoom_sigma  # which the window believes it by
    assert later[-1].zoom_sigma < 1.1e-3
    lasting = seen(np.full(6, 0.018))[-1]
    assert np.log(lasting.zoom) == pytest.approx(0.018, abs=1e-3) and lasting.zoom_sigma < 1.1e-3


def test_an_odd_rim_before_the_rim_is_lost_is_dropped() -> None:
    state = seen(np.array([0.018]))[-1]
    for _ in range(20):
        state = state.predict(1 / RATE).without_rim()
    assert np.log(state.zoom) == pytest.approx(0.0, abs=2e-3)


def test_tracks_tell_whether_an_odd_rim_was_false() -> None:
    odd = seen(np.array([0.018]))[-1].predict(1 / RATE)
    for truth in (0.0, 0.036):
        told = odd.follow_zoom(truth, 0.002)
        assert np.log(told.zoom) == pytest.approx(truth, abs=3e-3)
        assert np.log(told.predict(1 / RATE).zoom) == pytest.approx(1.5 * truth, abs=3e-3)


@pytest.mark.parametrize('rate', [5.0, 10.0, 25.0])
def test_a_zoom_of_twice_a_second_costs_one_rim(rate: float) -> None:
    truth = np.log(1 + np.arange(1, round(rate) + 1) / rate)
    states = seen(truth, rate)
    wrong = [
        abs(np.log(state.zoom) - true) > 0.02 for state, true in zip(states, truth, strict=True)
    ]
    assert sum(wrong) <= 1 and not any(state.jumped for state in states)


@pytest.mark.parametrize('speed', [-0.75, 0.75, 1.0])
def test_a_zoom_that_starts_and_stops_at_once_costs_a_rim_each(speed: float) -> None:
    truth = speed * np.clip(np.arange(1, 51) / RATE, 0, 1)  # of log zoom
    states = seen(truth)
    error = np.abs(truth - np.log([state.zoom for state in states]))
    assert (error > 0.02).sum() <= 2 and error.max() < 1.1 * abs(speed) / RATE
    assert not any(state.jumped for state in states)


def test_a_rim_that_comes_back_is_believed_against_tracks_as_unsure_as_they_are() -> None:
    """Each of their measurements is good, but what they have in common is off by 3 %."""
    for off, known in ((0.03, True), (0.3, False)):
        state = seen(np.zeros(1))[-1]
        for _ in range(50):
            state = state.predict(1 / RATE).informed(np.log(500.0), np.diag([0.1, 0.03]) ** 2)
            state = state.follow_zoom(off, 0.004)
        back = state.predict(1 / RATE).measure_zoom(0.0, RIM_SIGMA)
        assert bool(back.doubts) != known
        if known:
            assert np.log(back.zoom) == pytest.approx(0.0, abs=2e-3)
            assert back.predict(1 / RATE).measure_zoom(0.05, RIM_SIGMA).doubts  # rims among rims


@pytest.mark.parametrize('rate', [5.0, 25.0, 60.0])
@pytest.mark.parametrize('step', [-0.7, 0.3, 0.7])
def test_a_step_of_the_zoom_is_told_with_the_fourth_rim(rate: float, step: float) -> None:
    states = seen(np.full(6, step), rate)
    assert [state.jumped for state in states] == [False, False, False, True, False, False]
    assert np.log(states[3].zoom) == pytest.approx(step, abs=2e-3)


def test_without_a_rim_the_zoom_holds_its_doubt_grows_and_stays_within_what_scopes_do() -> None:
    state = ZoomFilter.start(500.0, 0.35).measure_zoom(0.0, RIM_SIGMA)
    short, long = state.predict(0.2), state
    for _ in range(10_000):
        long = long.predict(0.04)
    assert short.zoom == pytest.approx(1.0, abs=0.05)
    assert state.zoom_sigma < short.zoom_sigma < long.zoom_sigma <= 0.36


def test_a_prior_has_no_trust_and_an_absolute_measurement_brings_it() -> None:
    state = ZoomFilter.start(500.0, 0.35)
    assert state.trust == pytest.approx(0.0, abs=1e-6)
    for _ in range(5):
        state = state.predict(0.04).measure_zoom(0.0, RIM_SIGMA).measure_focal(600.0, 0.05)
    assert state.trust > 0.8
    assert state.focal_px == pytest.approx(600.0, rel=0.02)


def test_the_scope_s_data_sheet_gives_the_focal_length() -> None:
    assert prior_focal(100.0, 90.0) == pytest.approx(100.0)
    assert prior_focal(100.0, 60.0) == pytest.approx(100.0 * np.sqrt(3))


def field(u: float, v: float, r: float) -> FieldOfView:
    return FieldOfView(640, 480, (0, 0, 640, 480), (u, v, r), (0.1, 0.1, 0.1))


def test_the_focal_length_follows_the_rim_and_the_centre_its_centre() -> None:
    estimate = CameraEstimate.start(field(330, 240, 200), None, 75.0, 0.35).see(
        field(330, 240, 200)
    )
    before = estimate.camera(640, 480)
    assert (before.cx, before.cy) == (330, 240)
    for i in range(25):
        estimate = estimate.predict(0.04).see(field(330 + i, 240 - i, 200 + 2 * i))
    for _ in range(25):
        estimate = estimate.predict(0.04).see(field(354, 216, 248))
    after = estimate.camera(640, 480)
    assert after.fx / before.fx == pytest.approx(248 / 200, rel=2e-3)
    assert (after.cx, after.cy) == pytest.approx((354, 216), abs=0.2)


def test_a_wild_rim_moves_neither_the_focal_length_nor_the_centre() -> None:
    estimate = CameraEstimate.start(field(330, 240, 200), None, 75.0, 0.35)
    for _ in range(20):
        estimate = estimate.predict(0.04).see(field(330, 240, 200))
    wild = estimate.predict(0.04).see(field(480, 300, 260))
    assert wild.doubts
    before, after = estimate.camera(640, 480), wild.camera(640, 480)
    assert (after.cx, after.cy) == (before.cx, before.cy)
    assert after.fx == pytest.approx(before.fx, rel=1e-3)


def test_a_rim_that_stays_elsewhere_is_believed_at_once_and_says_that_it_jumped() -> None:
    estimate = CameraEstimate.start(field(330, 240, 200), None, 75.0, 0.35)
    for _ in range(20):
        estimate = estimate.predict(0.04).see(field(330, 240, 200))
    jumps = []
    for _ in range(8):
        estimate = estimate.predict(0.04).see(field(400, 260, 300))
        jumps.append(estimate.jumped)
    assert sum(jumps) == 1
    assert estimate.camera(640, 480).cx == pytest.approx(400, abs=0.5)
    assert estimate.zoom.zoom == pytest.approx(1.5, rel=0.01)


def test_a_rim_that_was_elsewhere_for_three_pictures_and_is_back_did_not_jump() -> None:
    estimate = CameraEstimate.start(field(330, 240, 200), None, 75.0, 0.35)
    for _ in range(20):
        estimate = estimate.predict(0.04).see(field(330, 240, 200))
    for away in (True, True, True, False, False):
        rim = field(340, 250, 260) if away else field(330, 240, 200)
        estimate = estimate.predict(0.04).see(rim)
        assert not estimate.jumped
    assert estimate.zoom.zoom == pytest.approx(1.0, abs=1e-3)


def test_without_a_rim_the_field_of_view_is_that_of_the_picture_s_diagonal() -> None:
    nothing = FieldOfView(640, 480, (0, 0, 640, 480))
    camera = CameraEstimate.start(nothing, None, 90.0, 0.35).see(nothing).camera(640, 480)
    assert camera.fx == camera.fy == pytest.approx(400.0)  # 800 px across the diagonal
    assert (camera.cx, camera.cy) == (319.5, 239.5)


def test_black_bars_are_no_part_of_the_field_of_view_and_its_centre_is_what_they_leave() -> None:
    barred = FieldOfView(1920, 1080, (200, 60, 200 + 640, 60 + 480))
    camera = CameraEstimate.start(barred, None, 90.0, 0.35).see(barred).camera(1920, 1080)
    assert camera.fx == camera.fy == pytest.approx(400.0)
    assert (camera.cx, camera.cy) == (319.5 + 200, 239.5 + 60)


def test_a_camera_whose_rim_does_not_tell_the_zoom_looks_through_its_stop_s_centre() -> None:
    """As `field_of_view: mask` has it: no rim is taken in, not even the first one."""
    camera = CameraEstimate.start(field(130, 240, 100), None, 90.0, 0.35).camera(640, 480)
    assert (camera.fx, camera.cx, camera.cy) == (pytest.approx(100.0), 130.0, 240.0)


def test_a_rim_says_nothing_of_a_given_focal_length() -> None:
    given, nothing = (
        Intrinsics(640, 480, 777.0, 777.0, 320.0, 240.0),
        FieldOfView(640, 480, (0, 0, 640, 480)),
    )
    estimate = CameraEstimate.start(nothing, given, 75.0, 0.35).see(field(330, 240, 200))
    assert estimate.camera(640, 480).fx == pytest.approx(777.0)


def test_a_first_rim_tells_the_focal_length_that_it_is_seen_with() -> None:
    """Tracks told a zoom of a fifth before it came."""
    nothing = FieldOfView(640, 480, (0, 0, 640, 480))
    estimate = CameraEstimate.start(nothing, None, 75.0, 0.35)
    for _ in range(25):
        zoom = estimate.zoom.predict(0.04).follow_zoom(np.log(1.2), 1e-3)
        estimate = replace(estimate, zoom=zoom)
    seen = estimate.see(field(330, 240, 200))
    assert seen.zoom.zoom == pytest.approx(1.2, rel=1e-3)
    assert seen.camera(640, 480).fx == pytest.approx(prior_focal(200.0, 75.0))
    for _ in range(10):
        seen = seen.predict(0.04).see(field(330, 240, 200))
    assert seen.zoom.zoom == pytest.approx(1.2, rel=1e-3)


def test_a_first_rim_that_comes_when_the_focal_length_is_known_does_not_begin_it_again() -> None:
    nothing = FieldOfView(640, 480, (0, 0, 640, 480))
    estimate = CameraEstimate.start(nothing, None, 75.0, 0.35)
    estimate = replace(estimate, zoom=estimate.zoom.measure_focal(600.0, 0.02))
    before, after = (
        one.camera(640, 480) for one in (estimate, estimate.see(field(330, 240, 200)))
    )
    assert after.fx == pytest.approx(before.fx) and before.fx == pytest.approx(600.0, rel=0.01)


def test_a_rim_says_as_much_of_the_zoom_as_its_radius_is_sure() -> None:
    estimate = CameraEstimate.start(field(330, 240, 200), None, 75.0, 0.35)
    for _ in range(10):
        estimate = estimate.predict(0.04).see(field(330, 240, 200))
    unsure = replace(field(330, 240, 202), circle_sigma=(0.1, 0.1, 20.0))
    before = estimate.predict(0.04)
    after = before.see(unsure)
    assert after.zoom.zoom == pytest.approx(before.zoom.zoom, rel=1e-3)
    assert after.zoom.zoom_sigma > 0.9 * before.zoom.zoom_sigma


def test_a_rim_that_claims_to_be_exact_is_known_to_a_pixel_s_share() -> None:
    state = ZoomFilter.start(500.0, 0.35).predict(0.04)
    for measured in (state.measure_zoom(0.0, 0.0), state.follow_zoom(0.0, 0.0)):
        assert 0.5 * RADIUS_FLOOR < measured.zoom_sigma <= RADIUS_FLOOR


def test_a_rim_that_comes_late_sets_the_focal_length_as_an_early_one_would() -> None:
    nothing = FieldOfView(640, 480, (0, 0, 640, 480))
    late = CameraEstimate.start(nothing, None, 75.0, 0.35).see(nothing).see(field(330, 240, 200))
    early = CameraEstimate.start(field(330, 240, 200), None, 75.0, 0.35).see(field(330, 240, 200))
    assert late.camera(640, 480).fx == pytest.approx(early.camera(640, 480).fx, rel=1e-3)


def test_what_the_zoom_did_before_the_first_rim_stays_unknown() -> None:
    nothing = FieldOfView(640, 480, (0, 0, 640, 480))
    estimate = CameraEstimate.start(nothing, None, 75.0, 0.3)
    for _ in range(50):
        estimate = estimate.predict(0.04).see(nothing)
    before = estimate.zoom.zoom_sigma
    assert before > 0.2
    for _ in range(50):
        estimate = estimate.predict(0.04).see(field(330, 240, 200))
        assert estimate.zoom.zoom_sigma == pytest.approx(before, rel=0.2)
        assert estimate.zoom.log_focal_sigma == pytest.approx(0.3, rel=1e-3)  # of the rim itself
    assert estimate.predict(0.04).see(field(330, 240, 210)).doubts


def test_a_lost_rim_holds_the_camera_and_its_doubt_grows() -> None:
    seen = CameraEstimate.start(field(330, 240, 200), None, 75.0, 0.35).see(field(330, 240, 200))
    lost = seen
    for _ in range(10):
        lost = lost.predict(0.04).see(FieldOfView(640, 480, (0, 0, 640, 480)))
    assert lost.camera(640, 480).fx == pytest.approx(seen.camera(640, 480).fx, rel=0.05)
    assert lost.zoom.log_focal_sigma > seen.zoom.log_focal_sigma
