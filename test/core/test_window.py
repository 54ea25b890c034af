# SPDX-License-Identifier: Apache-2.0
"""The window: what does it find out?"""

from dataclasses import replace

import numpy as np
import pytest

from endosfm3d_ros.core.adjustment import bundle_adjustment
from endosfm3d_ros.core.adjustment.bundle_adjustment import _Problem, place_points
from endosfm3d_ros.core.adjustment.priors import TIED
from endosfm3d_ros.core.adjustment.scene import CENTRE as SHARED_CENTRE
from endosfm3d_ros.core.adjustment.scene import (
    DISTORTION,
    FOCAL,
    PER_VIEW,
    REFERENCE,
    SHARED,
    Scene,
    Views,
)
from endosfm3d_ros.core.geometry import inverse
from endosfm3d_ros.core.odometry import LONGEST_LENS, Odometry
from endosfm3d_ros.core.window import local_map as window_of
from endosfm3d_ros.core.window import observations, zoom_told
from endosfm3d_ros.core.window.carried import Lens, with_others_carried
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.local_map import LocalMap
from endosfm3d_ros.core.window.observations import MOST_POINTS
from endosfm3d_ros.core.window.parallax import zoom_doubt
from endosfm3d_ros.core.window.scope import BARREL, BARREL_SIGMA, Scope
from endosfm3d_ros.core.window.scope_told import LEFT
from endosfm3d_ros.core.window.words import Words
from test.core.bumpy_wall import (
    CENTRE,
    HEIGHT,
    NOISE_PX,
    WIDTH,
    adjusted,
    built,
    flight,
    project,
    scene_points,
    solved,
)
from test.core.test_patches import sight


@pytest.mark.parametrize('kind', ['advance', 'orbit'])
@pytest.mark.parametrize('start', [0.6, 1.4])
@pytest.mark.parametrize('focal', [0.35 * WIDTH, 0.8 * WIDTH])
def test_a_second_of_moving_finds_the_focal_length_from_40_percent_off(
    kind: str, start: float, focal: float
) -> None:
    scope = solved(built(kind, focal, start)).scope
    off = float(scope.focal[0] - np.log(focal))
    assert abs(off) < 0.03
    assert abs(off) < 3 * scope.log_focal_sigma


def test_a_scene_that_is_all_wrong_is_put_right_in_few_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In an orbit from 40 % off; a trace of damping holds the focal length where it is."""
    focal = 0.8 * WIDTH

    def off() -> float:
        local_map = built('orbit', focal, 0.6)
        for _ in range(4):
            local_map = adjusted(local_map)
        return abs(float(local_map.scope.focal[0] - np.log(focal)))

    now = off()
    assert now < 0.01
    monkeypatch.setattr(bundle_adjustment, 'FIRST_DAMPING', 1e-4)
    monkeypatch.setattr(bundle_adjustment, 'LEAST_DAMPING', 1e-6)
    assert off() > 3 * now


def test_an_adjustment_that_is_on_its_way_says_how_far_it_may_have_to_go() -> None:
    focal = 0.8 * WIDTH
    local_map = built('orbit', focal, 0.6)
    for _ in range(6):
        local_map = adjusted(local_map)
        off = abs(float(local_map.scope.focal[0] - np.log(focal)))
        assert off < 3 * local_map.scope.log_focal_sigma
        assert local_map.solution is not None
        step = LEFT * abs(local_map.solution.step[-SHARED + REFERENCE])
        assert local_map.scope.log_focal_sigma > step
    assert step < 0.5 * local_map.scope.log_focal_sigma  # it has arrived


@pytest.mark.parametrize('start', [0.6, 1.4])
def test_a_camera_at_rest_learns_nothing_and_says_so(start: float) -> None:
    focal = 0.6 * WIDTH
    scope = solved(built('rest', focal, start)).scope
    assert abs(float(scope.focal[0]) - np.log(focal * start)) < 0.1  # it stays with its prior
    assert scope.log_focal_sigma > 0.25


@pytest.mark.parametrize('start', [0.6, 1.4])
def test_sliding_sideways_before_a_wall_does_not_run_away(start: float) -> None:
    """Bas-relief: a flat far scene and a long lens explain the same tracks."""
    focal = 0.6 * WIDTH
    scope = solved(built('sideways', focal, start)).scope
    off = float(scope.focal[0] - np.log(focal))
    assert abs(off) < abs(np.log(start)) + 0.1  # never worse than the prior by more
    assert abs(off) < 3 * scope.log_focal_sigma


def test_an_adjustment_turns_back_from_what_no_endoscope_has_and_is_no_surer() -> None:
    """A slide tells next to nothing; its maps' relief is wrong."""
    slide = built('sideways', 0.9 * WIDTH, 1.8, relief=0.7)
    picked = slide._picked()
    views, beliefs, start = slide._views(picked), slide._beliefs(), slide._scene(picked)
    wall = float(np.log(1.3 * WIDTH))
    free, held = (
        bundle_adjustment.adjust(views, replace(beliefs, longest=longest), start, 40)
        for longest in (np.inf, wall)
    )
    reference = len(held.covariance) - SHARED + REFERENCE
    assert free.scene.shared[REFERENCE] > wall + 0.2
    assert held.scene.shared[REFERENCE] < wall + 0.1
    assert held.covariance[reference, reference] > 0.5 * free.covariance[reference, reference]


@pytest.mark.parametrize(('guess', 'wall'), [(0.65, 1.7), (1.6, 1.6 * np.exp(0.35))])
def test_the_wall_stands_beyond_what_is_guessed_and_stays(guess: float, wall: float) -> None:
    """Also where the first guess is of a lens as endoscopes hardly have."""
    frame = sight(np.zeros((HEIGHT, WIDTH), np.uint8))
    width = frame.size[0]
    scope = Scope.guessed(float(np.log(guess * width)), 0.35, CENTRE, 3.0)
    begun = Odometry.begun(scope, frame)
    after = replace(begun.map, keyframes=built('rest', 200.0, 1.0).keyframes).forgotten()
    for local_map in (begun.map, after, begun.restarted().map):
        assert np.exp(local_map.longest) == pytest.approx(wall * width, rel=1e-6)


def test_a_lens_longer_than_endoscopes_have_is_told_where_it_shows() -> None:
    focal = 1.35 * LONGEST_LENS * WIDTH
    wall = float(np.log(LONGEST_LENS * WIDTH))
    scope = solved(replace(built('orbit', focal, 0.7), longest=wall)).scope
    assert float(scope.focal[0]) == pytest.approx(np.log(focal), abs=0.03)


def test_stated_sigmas_are_about_as_large_as_the_errors() -> None:
    """Normalised squared error of log focal over seeds: its expectation is 1."""
    errors = []
    for seed in range(12):
        focal = WIDTH * float(
            np.exp(np.random.default_rng(seed).uniform(np.log(0.4), np.log(1.3)))
        )
        scope = solved(built('orbit' if seed % 2 else 'advance', focal, 1.2, seed)).scope
        errors.append((float(scope.focal[0] - np.log(focal)) / scope.log_focal_sigma) ** 2)
    assert 0.05 < np.mean(errors) < 2.0  # careful: real tracks err more alike than this noise


def test_zoom_is_followed_by_the_rim_and_the_reference_is_not_moved() -> None:
    focal, zoom = 0.5 * WIDTH, np.linspace(1.0, 1.3, 10)
    local_map = solved(built('orbit', focal, 1.3, zoom=zoom))
    told = np.array([view.log_focal for view in local_map.keyframes])
    assert told - told[0] == pytest.approx(np.log(zoom), abs=0.004)
    assert float(local_map.scope.focal[0]) == pytest.approx(np.log(focal), abs=0.03)


def test_what_windows_tell_adds_up_and_nothing_is_counted_twice() -> None:
    """A second window that shares one keyframe with the first makes the focal length surer."""
    focal = 0.7 * WIDTH
    first = solved(built('orbit', focal, 1.2, seed=3))
    assert first.words.since[-1].number == 27 and first.belief.number == -1
    window = first
    for number in range(9):  # the same keyframes again stand for new ones, ids apart
        view = first.keyframes[number + 1]
        again = replace(view, number=27 + 3 * (number + 1), ids=view.ids + 1000)
        window = window.with_keyframe(again)
    assert window.belief.number == 27 and not window.words.since  # what was told has become belief
    assert window.belief.log_focal_sigma < first.belief.log_focal_sigma
    after = solved(window)
    assert after.scope.log_focal_sigma < first.scope.log_focal_sigma


def test_what_is_believed_is_what_was_told_at_the_window_s_oldest_keyframe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = solved(built('orbit', 0.7 * WIDTH, 1.2, seed=3))
    monkeypatch.setattr(window_of, 'WINDOW', 5)
    window = replace(whole.forgotten(), words=Words(Scope.guessed(5.4, 0.45, CENTRE, 3.0)))
    told, believed = {}, []
    for view in whole.keyframes:
        window = adjusted(window.with_keyframe(view))
        told.update({word.number: word for word in window.words.since})
        oldest = window.keyframes[0].number
        if oldest in told:
            believed.append(oldest)
            assert window.belief is told[oldest] and window.belief.first <= oldest
        assert all(oldest < word.number <= view.number for word in window.words.since)
    assert believed == [6, 9, 12, 15]  # with no gap between two of them


def test_a_map_is_adjusted_though_every_frame_is_a_keyframe() -> None:
    known = built('advance', 0.6 * WIDTH, 0.7, believed_bend=(BARREL, BARREL_SIGMA))
    odometry = Odometry(
        LocalMap(known.size, NOISE_PX, Words(known.belief), known.belief), log_focal=5.0
    )
    for view in known.keyframes[:6]:
        local_map = odometry.map.with_keyframe(view)
        odometry = replace(odometry, map=local_map, due=True).settled()
    assert odometry.map.solution is not None and odometry.map.told_at >= 9


def test_what_can_not_be_completed_is_left_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observations, 'MOST_POINTS', 120)
    local_map, asked = built('advance', 0.6 * WIDTH, 1.0).adjusted(), []
    assert local_map.left_out is not None and len(local_map.left_out)

    def fails(*_: object) -> None:
        asked.append(1)
        raise np.linalg.LinAlgError

    monkeypatch.setattr('endosfm3d_ros.core.window.local_map.place_points', fails)
    after = Odometry(local_map, log_focal=5.0).settled()
    assert asked and not after.map.waits and after.map.scope is local_map.scope


def test_a_keyframe_that_sees_little_neither_breaks_a_window_nor_makes_anything_move() -> None:
    """One keyframe sees the right side only: few points say where that stood."""
    local_map = built('orbit', 0.6 * WIDTH, 1.1, seed=2)
    keyframes = list(local_map.keyframes)
    view = keyframes[5]
    some = view.pixels[:, 0] > 230
    of = {
        name: getattr(view, name)[some] for name in ('ids', 'pixels', 'log_depth', 'depth_sigma')
    }
    keyframes[5] = replace(view, **of)
    window = replace(local_map, keyframes=tuple(keyframes))
    for _ in range(6):
        window = adjusted(window)
        assert not window.landmarks.moving.any()
    assert window.solution is not None and np.isfinite(window.solution.covariance).all()


def test_a_fast_move_leaves_no_keyframe_without_its_share_of_the_points() -> None:
    """Most tracks end within a few keyframes, yet old ones are many: the newest must be held."""
    belief = Scope.guessed(float(np.log(190.0)), 0.35, CENTRE, 3.0)
    local_map = LocalMap((WIDTH, HEIGHT), NOISE_PX, Words(belief), belief)
    rng = np.random.default_rng(2)
    for k in range(10):
        ids = 150 * max(0, k - 6) + np.arange(400)  # at rest, then half the tracks are lost a time
        pixels = rng.uniform(20, 230, (400, 2))
        local_map = local_map.with_keyframe(
            Keyframe(
                3 * k, ids, pixels, np.full(400, 3.5), np.full(400, 0.1), np.nan, 1.0,
                np.eye(3), np.zeros(3), float(np.log(190.0)), 0.0,
            )
        )  # fmt: skip
    picked = local_map.landmarks.ids[local_map._picked()]
    assert len(picked) == MOST_POINTS
    assert min(np.isin(picked, view.ids).sum() for view in local_map.keyframes) >= 60


def test_the_jacobian_is_the_slope_of_the_residuals() -> None:
    """A step of the normal equations' gradient against finite differences of the cost."""
    local_map = built('advance', 200.0, 1.1, distortion=-0.2)
    local_map = replace(local_map, scope=replace(local_map.scope, distortion=-0.15))
    picked = local_map._picked()
    views, beliefs, start = (
        local_map._views(picked),
        local_map._beliefs(),
        local_map._scene(picked),
    )
    problem = _Problem(views, beliefs)
    system = problem.linearised(start, problem.residuals(start))
    nothing = np.zeros_like(start.points)
    shared = len(system.b) - SHARED
    per_view = (PER_VIEW + 1, PER_VIEW + 4, 3 * PER_VIEW + FOCAL, 5 * PER_VIEW + 7)
    for unknown in (*per_view, shared, shared + 3, shared + REFERENCE, shared + DISTORTION):
        costs = []
        for sign in (1.0, -1.0):
            step = np.zeros(len(system.b))
            step[unknown] = sign * 1e-6
            # points held in the world: undo what the anchored retraction does for a camera's step
            moved = problem.moved(start, step, nothing)._replace(points=start.points)
            costs.append(problem.cost(moved, problem.residuals(moved)))
        slope = (costs[0] - costs[1]) / 2e-6
        assert slope == pytest.approx(2 * system.b[unknown], rel=2e-3, abs=0.05)


def test_points_that_were_not_adjusted_stand_where_the_keyframes_see_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As near to the truth as those that were, and as sure of it as they err."""
    monkeypatch.setattr(observations, 'MOST_POINTS', 120)
    monkeypatch.setattr(observations, 'LEAST_OF_A_VIEW', 80)
    local_map = built('orbit', 200.0, 1.0)
    for _ in range(6):
        picked = local_map._picked()
        local_map = adjusted(local_map)
    others = np.setdiff1d(local_map.landmarks.of(local_map.keyframes[-1].ids), picked)
    assert len(others) > 10 and np.isfinite(local_map.landmarks.track_sigma[others]).all()
    truth = scene_points(np.random.default_rng(0), 200.0)[local_map.landmarks.ids]
    T = local_map.keyframes[-1].T_cam_world
    off = np.log((local_map.landmarks.places @ T[:3, :3].T + T[:3, 3])[:, 2])
    off -= np.log((truth @ T[:3, :3].T + T[:3, 3])[:, 2])
    off -= np.median(off)
    assert np.std(off[others]) < 0.02 < 0.04  # a network's map is 0.04 off at a point
    surprise = off[others] / local_map.landmarks.track_sigma[others]
    assert 0.3 < np.median(np.abs(surprise)) / 0.6745 < 3.0


@pytest.mark.parametrize('kind', ['advance', 'orbit'])
def test_a_point_placed_alone_is_as_sure_as_its_pixels_and_says_how_well_they_fit(
    kind: str,
) -> None:
    """Of its depth in the last keyframe that sees it; what its maps say is no part of either."""
    points = scene_points(np.random.default_rng(0), 200.0)[:40]
    cameras, noise = flight(kind, 8), np.random.default_rng(1)
    sigma_px = 0.3

    def pixels(X: np.ndarray) -> np.ndarray:
        return np.stack([project(X, T, 200.0) for T in cameras], axis=1)

    seen = pixels(points) + 0.02 * noise.standard_normal((40, 8, 2))  # better than is stated
    seen[:20, 6:] = np.nan  # half of them were lost before the end
    last = np.where(np.arange(40) < 20, 5, 7)
    shape = seen.shape[:2]
    views = Views(
        seen, np.full(shape, sigma_px), np.full(shape, 5.0), np.full(shape, 0.5),
        np.zeros((*shape, 4)), np.full(8, np.nan), np.ones(8), np.zeros((7, 2)),
    )  # fmt: skip
    poses, shared = np.stack([inverse(T) for T in cameras]), np.zeros(SHARED)
    R, t = (np.ascontiguousarray(part) for part in (poses[:, :3, :3], poses[:, :3, 3]))
    shared[SHARED_CENTRE] = CENTRE
    start = Scene(R, t, np.full(8, np.log(200.0)), np.zeros(8),
                  shared, 1.2 * points)  # fmt: skip
    placed, sigma, misfit = place_points(views, start, 8)
    off = (pixels(placed) - seen) / sigma_px
    count = np.isfinite(off[..., 0]).sum(axis=1)
    assert misfit == pytest.approx(np.sqrt(np.nansum(off**2, axis=(1, 2)) / count))
    J = np.stack(
        [(pixels(placed + 1e-4 * axis) - pixels(placed)) / 1e-4 for axis in np.eye(3)], -1
    )
    J[np.isnan(seen)] = 0.0
    information = np.einsum('nkip,nkiq->npq', J, J) / sigma_px**2
    row = poses[last, 2]
    along = row[:, :3] / ((row[:, :3] * placed).sum(1) + row[:, 3])[:, None]
    known = np.einsum('np,np->n', along, np.linalg.solve(information, along[..., None])[..., 0])
    assert sigma == pytest.approx(np.sqrt(known), rel=0.05)


def test_points_that_were_left_out_go_as_deep_as_their_neighbours_went() -> None:
    """A keyframe's scale is of a map that is bent besides: it says so only where no point does."""
    belief = Scope.guessed(float(np.log(200.0)), 0.35, CENTRE, 3.0)
    rng = np.random.default_rng(0)
    old = Keyframe(
        0, np.arange(100), rng.uniform(20, 230, (100, 2)), np.full(100, 3.5), np.full(100, 0.1),
        np.nan, 1.0, np.eye(3), np.zeros(3), float(np.log(200.0)), 0.0,
    )  # fmt: skip
    known = LocalMap((WIDTH, HEIGHT), NOISE_PX, Words(belief), belief).with_keyframe(old).landmarks
    new, lens = replace(old, log_scale=0.5), Lens(CENTRE, 0.0)
    for placed, deeper in ((np.arange(60), 1.1), (np.arange(5), np.exp(0.5))):
        were, fits = known.places, np.full(len(placed), 0.1)
        are = known.placed(placed, 1.1 * were[placed], fits, fits)
        carried = with_others_carried(are, placed, were, [old], [new], lens, lens)
        grown = carried.places[:, 2] / were[:, 2]
        assert grown[len(placed) :] == pytest.approx(deeper)
        assert grown[: len(placed)] == pytest.approx(1.1)


def test_points_that_no_keyframe_of_the_window_sees_any_more_are_forgotten() -> None:
    local_map = built('orbit', 200.0, 1.0)
    view = local_map.keyframes[-1]
    for number in range(1, 11):
        fresh = replace(view, number=view.number + number, ids=view.ids + 1000 * number)
        local_map = local_map.with_keyframe(fresh)
    seen = np.unique(np.concatenate([one.ids for one in local_map.keyframes]))
    assert np.array_equal(np.sort(local_map.landmarks.ids), seen)


def test_a_map_of_few_points_is_left_as_it_is() -> None:
    whole, few = built('orbit', 200.0, 1.0), []
    for view in whole.keyframes:
        some = np.isin(view.ids, whole.keyframes[-1].ids[: window_of.FEWEST_SHARED - 1])
        of = {
            name: getattr(view, name)[some]
            for name in ('ids', 'pixels', 'log_depth', 'depth_sigma')
        }
        few.append(replace(view, **of))
    local_map = replace(whole, keyframes=tuple(few))
    assert local_map.adjusted() is local_map


def test_only_points_that_two_keyframes_see_are_left_to_be_placed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observations, 'MOST_POINTS', 60)
    monkeypatch.setattr(observations, 'LEAST_OF_A_VIEW', 30)
    local_map = built('orbit', 200.0, 1.0)
    newest = local_map.keyframes[-1]
    ids = np.where(np.arange(len(newest.ids)) % 2, newest.ids, newest.ids + 1000)
    *others, _ = local_map.keyframes
    local_map = replace(local_map, keyframes=tuple(others)).with_keyframe(replace(newest, ids=ids))
    left = local_map.adjusted().left_out
    assert left is not None and len(left) and not (left >= 1000).any()


@pytest.mark.parametrize('start', [0.6, 1.4])
def test_however_much_an_adjustment_stretches_the_world_its_maps_scales_follow(
    start: float,
) -> None:
    local_map = built('orbit', 200.0, start)
    for _ in range(4):
        local_map = adjusted(local_map)
    off = []
    for view in local_map.keyframes:
        row = local_map.landmarks.of(view.ids)
        z = (local_map.landmarks.places[row] @ view.R.T + view.t)[:, 2]
        off.append(np.median(np.log(z) - view.log_depth) - view.log_scale)
    assert np.abs(off).max() < 0.05
    mean = np.mean([view.log_scale for view in local_map.keyframes])
    assert local_map.log_scale == pytest.approx(mean)


def test_a_map_that_is_left_tells_the_next_one_what_depth_maps_are_worth_and_its_lens() -> None:
    local_map = replace(solved(built('orbit', 200.0, 1.1)), lens_asked=12, log_scale=0.2)
    gone = local_map.forgotten()
    assert (gone.log_scale, gone.lens_asked) == (0.2, 12) and not gone.keyframes


def test_a_camera_at_rest_makes_no_point_sure() -> None:
    local_map = solved(built('rest', 200.0, 1.0))
    sigma = local_map.landmarks.track_sigma[np.isfinite(local_map.landmarks.track_sigma)]
    assert len(sigma) > 100 and np.median(sigma) > 0.12  # a network's map is surer than that


def test_a_map_that_is_lost_again_and_again_still_knows_what_zooms_there_are() -> None:
    local_map = built('orbit', 200.0, 1.1)
    for _ in range(50):
        local_map = local_map.forgotten().with_keyframe(local_map.keyframes[-1])
    covariance = local_map.belief.covariance
    assert 0.2 < np.sqrt(covariance[1, 1]) < 0.36  # scopes zoom by 1 to 2
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_a_map_that_is_left_for_another_scale_or_lost_in_view_of_the_rim_keeps_the_zoom() -> None:
    """The next picture is a frame later: only what nobody sees may be anything."""
    known = solved(built('orbit', 200.0, 1.1))
    odometry = Odometry(known, log_focal=known.keyframes[-1].log_focal)
    sigma = known.scope.log_focal_sigma
    assert odometry.restarted().scope.log_focal_sigma < 1.1 * sigma + 0.005
    assert odometry.restarted().log_focal == pytest.approx(known.scope.focal.sum())
    nothing = sight(np.zeros((HEIGHT, WIDTH), np.uint8))
    assert odometry.lost(nothing).scope.log_focal_sigma > 0.2
    rim = replace(nothing, log_zoom=0.1, log_zoom_sigma=0.002)
    lost = odometry.lost(rim)
    assert lost.scope.log_focal_sigma < 1.1 * sigma + 0.005
    assert lost.scope.focal.sum() == pytest.approx(known.scope.focal[0] + 0.1)
    assert lost.log_focal == pytest.approx(lost.scope.focal.sum())


def test_a_picture_that_is_only_zoomed_tells_no_focal_length() -> None:
    """Zoomed, turned and shifted: blind. Orbiting or sliding: not. Both at once: a little."""
    rng = np.random.default_rng(1)
    first = rng.uniform(0, 250, (80, 2))
    turn = np.array([[np.cos(0.1), np.sin(0.1)], [-np.sin(0.1), np.cos(0.1)]])

    def window(*later: np.ndarray) -> np.ndarray:
        pixels = np.stack([first, *later], axis=1)
        return pixels + NOISE_PX * rng.standard_normal(pixels.shape)

    assert zoom_doubt(window(1.1 * first @ turn + [3.0, -5.0], 1.3 * first), 0.3) == np.inf
    shift = np.array([12.0, 4.0])
    assert zoom_doubt(window(first + shift), 0.3) == 1.0  # no zoom at all
    views = built('orbit', 200.0, 1.0)
    pixels = views._views(views._picked()).pixels
    assert zoom_doubt(pixels, NOISE_PX) < 1.05
    zooming = np.exp(0.02 * np.arange(10))[None, :, None]
    both = zoom_doubt(pixels * zooming, NOISE_PX)
    assert 1.0 < both < 1.5
    assert zoom_doubt(pixels * zooming, NOISE_PX, worse=3.0) > both  # tracks that fit ill


def test_a_keyframe_that_shares_nothing_with_the_newest_takes_no_doubt_away() -> None:
    rng = np.random.default_rng(2)
    first = rng.uniform(0, 250, (80, 2))
    pixels = np.stack([first, first, 1.1 * first, 1.2 * first], axis=1)
    pixels += NOISE_PX * rng.standard_normal(pixels.shape)
    pixels[15:, 0] = np.nan  # the oldest sees fewer than are needed
    assert zoom_doubt(pixels, 0.3) == np.inf
    pixels[:, :3] = np.nan  # nobody shares anything with the newest
    assert zoom_doubt(pixels, 0.3) == np.inf


@pytest.mark.parametrize('start', [0.6, 1.4])
def test_zooming_at_rest_follows_the_zoom_and_holds_the_reference(start: float) -> None:
    focal, zoom = 0.8 * WIDTH, np.linspace(1.0, 1.4, 10)
    scope = solved(built('rest', focal, start, zoom=zoom)).scope
    assert float(scope.focal[0]) == pytest.approx(np.log(focal * start), abs=0.01)
    assert float(scope.focal[1]) == pytest.approx(np.log(1.4), abs=0.01)
    assert scope.log_focal_sigma > 0.3


def test_a_zoom_that_only_tracks_tell_is_as_sure_as_they_are() -> None:
    """Nothing tells the focal length here, and the zoom since it was told adds its own doubt."""
    zoom = np.linspace(1.0, 1.4, 10)
    off, sigmas = [], []
    for seed, rim in [(0, True), *((seed, False) for seed in range(10))]:
        whole = built('rest', 0.8 * WIDTH, 1.0, seed, zoom=zoom, rim=rim)
        known = replace(whole.scope, covariance=np.diag([1e-4, 1e-8, TIED**2, 10.0, 10.0]))
        window = replace(whole.forgotten(), scope=known, words=Words(known))
        for view in whole.keyframes:
            window = adjusted(window.with_keyframe(view))
        scope = solved(window).scope
        sigmas.append(float(np.sqrt(scope.covariance[1, 1])))
        off.append(abs(float(scope.focal[1]) - np.log(1.4)))
    assert off[0] < 3 * sigmas[0] < 0.015
    assert np.sqrt(np.mean(np.square(off[1:]))) < 0.0125
    assert np.all(np.less(off[1:], np.multiply(3.0, sigmas[1:])))
    assert min(sigmas[1:]) > 0.005 and np.median(sigmas[1:]) < 0.16


def zooming(kind: str, rims: int, keyframes: int = 10, start: float = 1.2) -> LocalMap:
    """
    Adjusted after a zoom of 3 % a keyframe through a lens that may bend lines, and does not.

    :param rims: keyframes, the first ones, in which the rim is seen.
    """
    zoom = np.exp(0.03 * np.arange(10))
    bend = (BARREL, BARREL_SIGMA)
    whole = built(kind, 0.7 * WIDTH, start, zoom=zoom, believed_bend=bend)
    window = replace(whole.forgotten(), words=Words(whole.belief), scope=whole.belief)
    for number, view in enumerate(whole.keyframes[:keyframes]):
        seen = view if number < rims else replace(view, log_zoom=np.nan)
        window = adjusted(window.with_keyframe(seen))
    return solved(window)


@pytest.mark.parametrize(('kind', 'keyframes'), [('advance', 5), ('orbit', 10), ('orbit', 5)])
def test_a_zoom_that_only_tracks_tell_is_as_unsure_as_the_maps_relief(
    kind: str, keyframes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An advance into a scene that is deeper than its maps say looks like a slower zoom."""
    unsure, by_rim = (zooming(kind, rims, keyframes) for rims in (0, 1))
    monkeypatch.setattr(zoom_told, 'RELIEF_ZOOMING', zoom_told.RELIEF_SIGMA)
    sure, as_before = (zooming(kind, rims, keyframes) for rims in (0, 1))
    assert unsure.scope.log_focal_sigma > 1.2 * sure.scope.log_focal_sigma
    assert unsure.step_covariance is not None and sure.step_covariance is not None
    assert (np.diag(unsure.step_covariance) >= np.diag(sure.step_covariance) - 1e-12).all()
    # It widens what is told and moves nothing, and one rim in the window is enough.
    assert unsure.scope.focal == pytest.approx(sure.scope.focal, abs=1e-9)
    assert float(unsure.scope.focal.sum()) == pytest.approx(unsure.keyframes[-1].log_focal)
    assert by_rim.scope.log_focal_sigma == pytest.approx(as_before.scope.log_focal_sigma)


def test_a_focal_length_that_somebody_else_measured_is_that_of_the_frames_to_come() -> None:
    local_map = solved(built('orbit', 200.0, 1.1))
    odometry = Odometry(local_map, log_focal=local_map.keyframes[-1].log_focal + 0.02)
    after = odometry.informed(float(np.log(240.0)), 1e-4)
    assert float(after.scope.focal.sum()) == pytest.approx(np.log(240.0), abs=1e-3)
    moved = float(after.scope.focal.sum() - odometry.scope.focal.sum())
    assert after.log_focal - odometry.log_focal == pytest.approx(moved) != pytest.approx(0.0)


def test_a_word_hears_what_else_was_measured_and_is_taken_back() -> None:
    local_map = solved(built('advance', 0.7 * WIDTH, 1.05, zoom=np.exp(0.02 * np.arange(10))))
    (word,) = local_map.words.since
    newest = local_map.keyframes[-1].log_focal
    informed = local_map.informed(newest + 0.1, 1e-4)
    assert float(informed.words.since[0].focal.sum()) == pytest.approx(newest + 0.1, abs=1e-3)
    zoomed = local_map.keyframes[0].log_focal - newest
    assert float(informed.belief.focal.sum()) == pytest.approx(newest + 0.1 + zoomed, abs=1e-3)
    assert local_map.solution is not None
    picked = np.arange(len(local_map.solution.scene.points))
    heard = replace(local_map, words=Words(local_map.belief, (word,)))
    again = heard._taken_over(picked, local_map.solution, np.inf)
    assert not again.words.since  # this window told nothing, after all


def test_the_forerunner_s_word_loses_what_the_zoom_since_is_unsure_of() -> None:
    zoom = np.exp(0.01 * np.arange(10))
    local_map = solved(built('advance', 0.7 * WIDTH, 1.05, zoom=zoom, rim=False))
    then, newest = local_map.keyframes[3], local_map.keyframes[-1]
    surest = replace(local_map.scope, covariance=1e-8 * np.eye(5), number=then.number)
    unsure = replace(local_map.scope, covariance=np.eye(5), first=1)  # without what that has seen
    assert local_map.solution is not None
    told = Words(local_map.belief, (surest,)).averaged_with(
        unsure, local_map.solution, local_map.keyframes
    )
    way = newest.log_focal - then.log_focal
    assert float(told.lens[1] - surest.lens[1]) == pytest.approx(way, abs=1e-4)  # nearly all of it
    assert 0.005 < told.log_focal_sigma < 0.2
    assert abs(way - 6 * 0.01) < 3 * told.log_focal_sigma
    surer, earlier = replace(local_map.scope, first=1), replace(unsure, first=0)
    alone = Words(local_map.belief, (earlier,)).averaged_with(
        surer, local_map.solution, local_map.keyframes
    )
    assert alone.focal == pytest.approx(
        local_map.scope.focal, abs=0.01 * local_map.scope.log_focal_sigma
    )


def test_a_zoom_is_told_from_the_reference_that_is_told_though_points_have_another() -> None:
    """A forerunner, 6 % off the window, is surer: a rim that leaves must not show that."""
    zoom = np.exp(0.015 * np.arange(10))
    local_map = solved(built('advance', 0.7 * WIDTH, 1.05, zoom=zoom))
    number = local_map.keyframes[5].number
    focal = np.array([local_map.scope.focal[0] + 0.06, 5 * 0.015])
    lens = np.array([*focal, 0.0, *np.add(local_map.scope.centre, [3.0, -2.0])])
    surest = replace(local_map.scope, lens=lens, covariance=1e-8 * np.eye(5))
    surest = replace(surest, number=number, first=-1)
    told = solved(replace(local_map, words=Words(local_map.belief, (surest,))))
    assert float(told.scope.focal[0]) == pytest.approx(focal[0], abs=0.009)
    newest = told.keyframes[-1].log_focal
    assert newest - told.gap - float(told.scope.focal[0]) == pytest.approx(9 * 0.015, abs=0.004)
    assert newest - told.reference == pytest.approx(9 * 0.015, abs=0.004)
    assert -0.08 < told.gap < -0.04
    assert told.solution is not None
    assert told.scope.centre == pytest.approx(surest.centre, abs=0.5)
    assert told.centre == pytest.approx(told.solution.scene.shared[SHARED_CENTRE])
    odometry = replace(Odometry(told), log_focal=newest).lost(
        sight(np.zeros((HEIGHT, WIDTH), np.uint8))
    )
    assert odometry.log_focal == pytest.approx(newest - told.gap) and odometry.map.gap == 0.0


def test_two_words_on_a_scope_are_averaged_and_no_surer_than_their_mean() -> None:
    mine = Scope.guessed(5.0, 0.1, CENTRE, 3.0, (BARREL, BARREL_SIGMA))
    other = Scope.guessed(5.2, 0.2, CENTRE + 2.0, 1.0, (BARREL, BARREL_SIGMA))
    both = mine.averaged(other, 0.25)
    assert both.focal[0] == pytest.approx(5.05)
    assert both.covariance[0, 0] == pytest.approx(0.75 * 0.1**2 + 0.25 * 0.2**2)
    assert both.covariance[2, 2] == pytest.approx(BARREL_SIGMA**2)
    assert both.centre == pytest.approx(CENTRE + 0.5)
    assert both.centre_sigma**2 == pytest.approx(0.75 * 3.0**2 + 0.25)
    bent = replace(other, lens=np.array([5.2, 0.0, -0.3, *other.centre]))
    bent.covariance[0, 2] = bent.covariance[2, 0] = 0.01  # so it tells another one held straight
    told = mine.averaged(bent, 0.25).focal
    assert told == pytest.approx(0.75 * mine.focal + 0.25 * bent.focal)


def test_tracks_that_are_worse_than_stated_are_not_believed_as_stated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sigma(stated_px: float) -> float:
        local_map = replace(built('advance', 250.0, 1.0, rim=False), sigma_px=stated_px)
        for _ in range(3):
            local_map = adjusted(local_map)
        return float(local_map.scope.log_focal_sigma)

    honest, boasting = sigma(NOISE_PX), sigma(NOISE_PX / 5)
    assert boasting > 0.5 * honest
    monkeypatch.setattr('endosfm3d_ros.core.adjustment.bundle_adjustment.ALIKE', 1e9)
    assert sigma(NOISE_PX / 5) < 0.7 * boasting
