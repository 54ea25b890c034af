# SPDX-License-Identifier: Apache-2.0
"""A depth map that is smoothly wrong, and points that are right: does the map come to agree?"""

from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from endosfm3d_ros.core.agreement import (
    ALONE,
    FEWEST_POINTS,
    REACH,
    SMOOTH_SIGMAS,
    TRACK_DOUBT,
    TRACK_FLOOR,
    Agreement,
    Seen,
    _over,
    agree,
)
from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.prepare import Window
from endosfm3d_ros.core.tracking.sight import Sight

HEIGHT, WIDTH, SIGMA = 120, 150, 0.08
V, U = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
TRUE = 40.0 + 0.1 * U + 5.0 * np.sin(V / 30.0)
WRONG = SIGMA * np.sin(U / 20.0) * np.cos(V / 25.0)  # of log depth: a network's folds


def sight_of(depth: np.ndarray, taller: float = 1.0, left: int = 0, sigma: float = SIGMA) -> Sight:
    """
    :param taller: of the input's pixels, against the network's.
    :param left: of the network picture's window, the input has that much more there.
    """
    width, height = 2 * WIDTH, round(2 * taller * HEIGHT)
    coming: Future[DepthMap] = Future()
    coming.set_result(DepthMap(depth, np.full(depth.shape, sigma, np.float32)))
    return Sight(
        texture=np.zeros(depth.shape, np.uint8),
        allowed=np.zeros(depth.shape, np.uint8),
        window=Window(left, 0, width, height, WIDTH, HEIGHT),
        size=(left + width, height),
        coming=coming,
        log_zoom=float('nan'),
        log_zoom_sigma=1.0,
        to_map=np.array([[1.0, 1.0], [0.0, 0.0]]),
        dt=0.04,
    )


def points(
    sight: Sight, count: int = 200, sigma: float = 0.01, right: float = WIDTH
) -> tuple[Seen, np.ndarray]:
    rng = np.random.default_rng(4)
    at = np.column_stack([rng.uniform(2, right - 3, count), rng.uniform(2, HEIGHT - 3, count)])
    at = at.astype(np.float32)
    column, row = np.rint(at).astype(int).T
    z = TRUE[row, column] * np.exp(0.005 * rng.standard_normal(count))
    return Seen.through(sight, at, z.astype(np.float64), np.full(count, sigma)), at


def off_by(depth: np.ndarray) -> np.ndarray:
    error = np.log(depth / TRUE)
    return np.abs(error - np.median(error))


def mended(sight: Sight, seen: Seen) -> tuple[DepthMap, Agreement]:
    agreement = agree(seen, sight, 0.0)
    return agreement.of(sight.coming.result(), sight), agreement


def test_points_all_over_take_two_thirds_of_a_smooth_error_away() -> None:
    sight = sight_of((TRUE * np.exp(WRONG)).astype(np.float32))
    before = float(np.mean(off_by(sight.coming.result().depth)))
    seen, _ = points(sight)
    said, _ = mended(sight, seen)
    assert np.mean(off_by(said.depth)) < 0.36 * before
    assert np.median(said.log_sigma) < 0.7 * SIGMA  # and the map says that it is surer now
    assert (
        said.log_sigma.min() >= ALONE * SIGMA - 1e-6
    )  # but never surer than no neighbour makes it


def test_where_no_point_is_near_the_map_stays_as_unsure_as_the_network_was() -> None:
    sight = sight_of((TRUE * np.exp(WRONG)).astype(np.float32))
    seen, _ = points(sight, right=50)
    said, agreement = mended(sight, seen)
    assert said.log_sigma[:, 120:].min() > 0.95 * SIGMA
    assert said.log_sigma[20:100, 10:40].max() < 0.7 * SIGMA
    assert agreement.relief is not None
    assert np.abs(agreement.relief.mean.over(sight.log_depth)[:, 110:]).max() < 0.05


def test_points_without_parallax_bend_nothing() -> None:
    """They stand where a network put them: what they say of another map is no news."""
    sight = sight_of((TRUE * np.exp(WRONG)).astype(np.float32))
    seen, _ = points(sight, sigma=float('inf'))
    _, agreement = mended(sight, seen)
    assert agreement.relief is None
    seen, _ = points(sight, sigma=0.5)
    said, _ = mended(sight, seen)
    assert said.log_sigma.min() > 0.8 * SIGMA


def test_a_scale_and_a_tilt_are_taken_over_whole() -> None:
    tilted = TRUE * np.exp(0.05 * (U / WIDTH - 0.5)) / 1.2
    sight = sight_of(tilted.astype(np.float32))
    seen, _ = points(sight)
    said, agreement = mended(sight, seen)
    assert agreement.smooth[0] == pytest.approx(np.log(1.2), abs=0.02)
    assert np.abs(np.log(said.depth / TRUE)).max() < 0.02


@pytest.mark.parametrize(('taller', 'left'), [(1.0, 0), (1.6, 0), (1.0, 80)])
@pytest.mark.parametrize('term', [0, 1, 2, 3])
def test_each_smooth_error_is_taken_away_by_points_that_know_no_relief(
    term: int, taller: float, left: int
) -> None:
    """Over all of the picture, whatever the shape of the network's pixels and its window."""
    wide, high = left + 2 * WIDTH, 2 * taller * HEIGHT
    half = max(wide, high) / 2
    x = (left + 2 * (U + 0.5) - wide / 2) / half
    y = (2 * taller * (V + 0.5) - high / 2) / half
    error = 0.1 * (np.ones_like(x), x, y, x * x + y * y)[term]
    sight = sight_of((TRUE * np.exp(-error)).astype(np.float32), taller, left)
    seen, _ = points(sight, sigma=float('inf'))
    said, agreement = mended(sight, seen)
    assert agreement.relief is None
    assert np.abs(np.log(said.depth / TRUE)).max() < 0.2 * np.abs(error).max()


def test_points_behind_the_camera_or_without_depth_say_nothing() -> None:
    depth = TRUE.astype(np.float32)
    depth[:, :30] = np.nan
    sight = sight_of(depth)
    at = np.array([[100.0, 50.0], [100.0, 60.0], [100.0, 70.0], [10.0, 50.0]], np.float32)
    seen = Seen.through(sight, at, np.array([40.0, 0.0, -3.0, 40.0]), np.full(4, 0.01))
    assert seen.points.tolist() == [[100.0, 50.0]] and np.isfinite(seen.log_z).all()


def test_too_few_sure_points_bend_nothing_though_others_are_many() -> None:
    sight = sight_of((TRUE * np.exp(WRONG)).astype(np.float32))
    seen, _ = points(sight)
    for sure, bends in ((FEWEST_POINTS - 1, False), (FEWEST_POINTS, True)):
        sigma = np.where(np.arange(len(seen)) < sure, 0.01, np.inf)
        assert (agree(replace(seen, sigma=sigma), sight, 0.0).relief is not None) == bends


def test_what_sure_points_say_outweighs_what_unsure_ones_beside_them_do() -> None:
    """Half of the points, said to be unsure, are a fifth too far."""
    sight = sight_of((TRUE * np.exp(WRONG)).astype(np.float32))
    sure, _ = points(sight)
    beside = replace(sure, log_z=sure.log_z + 0.2, sigma=np.full(len(sure), 0.5))
    mixed = Seen(
        **{name: np.concatenate([one, vars(beside)[name]]) for name, one in vars(sure).items()}
    )
    said, expected = (mended(sight, seen)[0] for seen in (mixed, sure))
    assert np.abs(np.log(said.depth / expected.depth)).max() < 0.03
    assert said.log_sigma == pytest.approx(expected.log_sigma, rel=0.02)


@pytest.mark.parametrize('track', [1e-3, 0.03])
def test_a_map_that_agrees_is_as_sure_as_it_errs(track: float) -> None:
    """
    Drawn as it is believed: errors that go together, each pixel's own, and the points'; small
    beside REACH_DEPTH, or they would pass for depth.
    """
    small = 0.25 * SIGMA
    rng = np.random.default_rng(5)
    surprises = []
    for _ in range(12):
        waves = rng.standard_normal((300, 2)) / (REACH * WIDTH)
        phase = waves[:, :1, None] * U + waves[:, 1:, None] * V
        phase += rng.uniform(0, 2 * np.pi, (300, 1, 1))
        together = np.sqrt(2 / 300) * np.cos(phase).sum(0)
        error = np.sqrt(1 - ALONE**2) * together + ALONE * rng.standard_normal(U.shape)
        sight = sight_of((40.0 * np.exp(small * error)).astype(np.float32), sigma=small)
        at = np.column_stack([rng.uniform(2, 147, 250), rng.uniform(2, 117, 250)])
        off = np.hypot(TRACK_DOUBT * track, TRACK_FLOOR) * rng.standard_normal(250)
        seen = Seen.through(sight, at.astype(np.float32), 40.0 * np.exp(off), np.full(250, track))
        said, _ = mended(sight, seen)
        surprises.append(np.mean((np.log(said.depth / 40.0) / said.log_sigma) ** 2))
    assert 0.85 < np.mean(surprises) < 1.1


def test_the_smooth_error_weighs_points_against_what_was_expected() -> None:
    """At the least of both costs together, where neither outweighs the other."""
    sight = sight_of((TRUE / 1.2).astype(np.float32))
    seen, _ = points(sight, count=30)
    sigma = np.where(np.arange(30) % 2, 1.0, 0.3)
    wild = seen.log_z + 0.3 * np.sin(np.arange(30.0))
    B = np.column_stack([np.ones(30), seen.bends])
    noise, before = np.hypot(0.1, TRACK_DOUBT * sigma), np.array([0.4, 0.0, 0.0, 0.0])

    def cost(fit: np.ndarray) -> float:
        r = (wild - seen.said - B @ fit) / noise
        return float(np.sum(np.log1p(r * r)) + np.sum(((fit - before) / SMOOTH_SIGMAS) ** 2))

    told = agree(replace(seen, log_z=wild, sigma=sigma), sight, 0.4).smooth
    assert np.log(1.2) + 0.02 < told[0] < 0.38
    for step in 0.004 * np.vstack([np.eye(4), -np.eye(4)]):
        assert cost(told) < cost(told + step)


@pytest.mark.parametrize('shape', [(2, 2), (8, 10)])
def test_a_grid_s_corners_are_the_picture_s(shape: tuple[int, int]) -> None:
    v, u = np.linspace(0, HEIGHT - 1, shape[0]), np.linspace(0, WIDTH - 1, shape[1])
    grid = (2.0 * u[None, :] - 3.0 * v[:, None]).astype(np.float32)
    node = u[1] - u[0]  # OpenCV reads at 32nds between two
    assert _over(grid, (HEIGHT, WIDTH)) == pytest.approx(2.0 * U - 3.0 * V, abs=0.1 * node)


def test_points_on_a_tool_do_not_drag_the_tissue_along() -> None:
    sight = sight_of((TRUE * np.exp(WRONG)).astype(np.float32))
    seen, at = points(sight)
    tool = at[:, 0] > 130
    wrong = Seen(**{**vars(seen), 'log_z': seen.log_z + np.where(tool, 1.0, 0.0)})
    said, _ = mended(sight, wrong)
    clean, _ = mended(sight, seen)
    assert np.abs(np.log(said.depth / clean.depth))[:, :90].max() < 0.03


def test_an_edge_is_not_smeared_across() -> None:
    """A near fold that is told too near says nothing of the wall behind it, up to the edge."""
    edge = np.where(U < 75, 20.0, 60.0)
    sight = sight_of((edge * np.where(U < 75, 0.9, 1.0)).astype(np.float32))
    rng = np.random.default_rng(1)
    at = np.column_stack([rng.uniform(2, 147, 300), rng.uniform(2, 117, 300)]).astype(np.float32)
    column, row = np.rint(at).astype(int).T
    seen = Seen.through(sight, at, edge[row, column].astype(np.float64), np.full(300, 0.01))
    said, _ = mended(sight, seen)
    far = np.log(said.depth[:, 75:] / 60.0)
    near = np.log(said.depth[:, :75] / 20.0)
    assert np.abs(np.median(far) - np.median(near)) < 0.02
    assert far.std() < 0.01 and near.std() < 0.01


def test_few_points_hold_the_scale_that_was_expected() -> None:
    sight = sight_of(TRUE.astype(np.float32))
    seen, _ = points(sight, count=FEWEST_POINTS - 1)
    agreement = agree(seen, sight, 0.3)
    assert agreement.smooth.tolist() == [0.3, 0.0, 0.0, 0.0] and agreement.relief is None


def test_a_map_with_holes_agrees_where_it_is_known() -> None:
    depth = (TRUE * np.exp(WRONG)).astype(np.float32)
    depth[:, :30] = np.nan
    sight = sight_of(depth)
    seen, _ = points(sight)
    assert len(seen) < 200
    said, _ = mended(sight, seen)
    assert np.isnan(said.depth[:, :30]).all() and np.isfinite(said.depth[:, 30:]).all()
    assert np.isfinite(said.log_sigma).all()


def test_an_unsure_focal_length_makes_no_map_sure() -> None:
    """A wrong focal length stretches the relief of all points: no number of them helps."""
    deep = np.where(U < 75, 25.0, 60.0) + 0.05 * U
    sight = sight_of(deep.astype(np.float32))
    rng = np.random.default_rng(2)
    at = np.column_stack([rng.uniform(2, 147, 300), rng.uniform(2, 117, 300)]).astype(np.float32)
    column, row = np.rint(at).astype(int).T
    log_z = 1.3 * np.log(deep[row, column])
    seen = Seen.through(sight, at, np.exp(log_z), np.full(300, 0.005))
    sure, unsure = (agree(seen, sight, 0.0, sigma).relief for sigma in (0.005, 0.3))
    assert sure is not None and unsure is not None
    assert np.median(unsure.left) > 1.4 * np.median(sure.left)


def test_where_some_points_move_by_themselves_the_others_say_less() -> None:
    sight = sight_of((TRUE * np.exp(WRONG)).astype(np.float32))
    seen, _ = points(sight)
    still, swaying = (agree(seen, sight, 0.0, 0.0, share) for share in (0.0, 0.3))
    smooth = Agreement(still.smooth)  # what all points together say stays
    assert swaying.smooth.tolist() == still.smooth.tolist()
    told = [one.of(sight.coming.result(), sight) for one in (smooth, still, swaying)]
    moved = [float(np.abs(np.log(one.depth / told[0].depth)).mean()) for one in told]
    assert moved[2] < 0.6 * moved[1]
    assert np.median(told[2].log_sigma) > 1.2 * np.median(told[1].log_sigma)
