# SPDX-License-Identifier: Apache-2.0
"""What is believed of a scope, all of it together: conditions, measurements and priors."""

from dataclasses import replace

import numpy as np
import pytest

from endosfm3d_ros.core.adjustment.priors import WALL, Priors
from endosfm3d_ros.core.adjustment.scene import (
    BENDS,
    DISTORTION,
    FOCAL,
    REFERENCE,
    Beliefs,
    Scene,
    Views,
)
from endosfm3d_ros.core.window.scope import BARREL, BARREL_SIGMA, REFUTED, SHOWN, Scope
from endosfm3d_ros.core.zoom_filter import ZOOM_RANGE

SIZES = np.array([0.05, 0.02, 0.1, 3.0, 3.0])


def known(seed: int = 0, **given: float) -> Scope:
    """One that knows how its errors go together."""
    rng = np.random.default_rng(seed)
    root = SIZES[:, None] * (np.eye(5) + 0.4 * rng.standard_normal((5, 5)))
    scope = Scope.guessed(5.4, 0.1, np.array([160.0, 128.0]), 3.0, (BARREL, BARREL_SIGMA))
    lens = scope.lens + root @ rng.standard_normal(5)
    return replace(scope, lens=lens, covariance=root @ root.T, number=3, **given)


def test_what_is_told_is_believed_of_a_lens_as_told() -> None:
    scope = known()
    C, rest = scope.covariance, [0, 1, 3, 4]
    given = scope.lens[rest] + C[rest, 2] / C[2, 2] * (scope.distortion - scope.lens[2])
    assert [*scope.focal, *scope.centre] == pytest.approx(given)
    assert scope.centre_sigma == pytest.approx(np.sqrt(max(C[3, 3], C[4, 4])))


def test_to_be_less_sure_moves_nothing_that_is_told() -> None:
    scope = known()
    lever = SIZES * [1.0, -0.5, 0.3, 0.2, 0.1]
    for other in (scope.scaled(4.0), scope.scaled(0.1), scope.doubted(lever)):
        assert other.focal == pytest.approx(scope.focal)
        assert other.centre == pytest.approx(scope.centre)
        assert other.lens[2] == scope.lens[2]
    assert scope.scaled(4.0).reference_variance == pytest.approx(4.0 * scope.reference_variance)
    assert (np.linalg.eigvalsh(scope.scaled(0.01).covariance) > 0).all()
    if_known = np.linalg.inv(np.linalg.inv(scope.covariance)[3:, 3:])  # the rest of it
    scaled = np.linalg.inv(np.linalg.inv(scope.scaled(4.0).covariance)[3:, 3:])
    assert scaled == pytest.approx(if_known)


def test_the_chance_of_a_straight_lens_is_what_the_measurement_made_of_the_usual_one() -> None:
    """As likely as a bent one before; then none gained or lost by what was measured."""

    def density(x: float, mean: float, sigma: float) -> float:
        return float(np.exp(-0.5 * ((x - mean) / sigma) ** 2) / sigma)

    for bend in (-0.2, -0.05, 0.0, 0.05):
        scope = replace(known(), lens=known().lens * [1, 1, 0, 1, 1] + bend * np.eye(5)[2])
        told = density(0.0, bend, scope.distortion_sigma)
        odds = told / density(0.0, BARREL, BARREL_SIGMA)
        assert scope.straight == pytest.approx(odds / (1.0 + odds))


def test_a_zoom_that_is_hardly_known_makes_the_zoom_unsure_and_no_more_than_scopes_zoom() -> None:
    scope = known()
    zoomed = scope.zoomed(0.1, 0.01)
    assert zoomed.lens == pytest.approx(scope.lens + 0.1 * np.eye(5)[1])
    assert zoomed.covariance - scope.covariance == pytest.approx(np.diag(0.01 * np.eye(5)[1]))
    lost = scope.zoomed(0.0, 9.0)
    assert lost.covariance[1, 1] == pytest.approx(ZOOM_RANGE**2)
    others = [0, 2, 3, 4]
    assert lost.covariance[np.ix_(others, others)] == pytest.approx(
        scope.covariance[np.ix_(others, others)]
    )
    assert np.linalg.eigvalsh(lost.covariance).min() > 0


def test_the_mean_of_two_words_tells_the_mean_of_what_they_tell_through_lenses_of_their_own() -> (
    None
):
    mine, other = known(), known(1, distortion=-0.1)
    both = mine.averaged(other, 0.25)
    assert both.focal == pytest.approx(0.75 * mine.focal + 0.25 * other.focal)
    assert both.centre == pytest.approx(0.75 * mine.centre + 0.25 * other.centre)
    assert both.lens[2] == pytest.approx(0.75 * mine.lens[2] + 0.25 * other.lens[2])
    assert both.distortion == mine.distortion


def test_a_measured_focal_length_moves_the_principal_point_that_goes_with_it() -> None:
    scope = replace(known(), distortion=0.0, pinhole=True)
    pick = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    informed = scope.measured(5.5, 0.01)
    information = np.linalg.inv(scope.covariance) + np.outer(pick, pick) / 0.01**2
    mean = np.linalg.solve(scope.covariance, scope.lens) + pick * 5.5 / 0.01**2
    assert informed.covariance == pytest.approx(np.linalg.inv(information), rel=1e-6, abs=1e-9)
    assert informed.lens == pytest.approx(np.linalg.solve(information, mean), rel=1e-9)
    assert abs(informed.lens[3] - scope.lens[3]) > 0.01


@pytest.mark.parametrize(('distortion', 'bends'), [(-0.012, False), (-0.06, True), (-0.3, True)])
def test_minutes_before_one_place_show_no_lens_that_hardly_bends(distortion: float, bends: bool):
    lens, C = known().lens, np.diag(SIZES**2)
    lens[2], C[2, 2] = distortion, 0.0005**2  # each window says the same once more
    assert replace(known(), lens=lens, covariance=C).bends(told=False) is bends


def test_a_lens_that_was_told_stays_told_until_it_is_refuted() -> None:
    """Between what shows one and what refutes one, what was told before goes on."""
    lens, C = known().lens.copy(), np.diag(SIZES**2)
    lens[2], C[2, 2] = -0.06, 0.02**2
    between = replace(known(), lens=lens, covariance=C)
    assert SHOWN < between.straight < REFUTED
    assert between.bends(told=True) and not between.bends(told=False)
    lens[2], C[2, 2] = 0.0, 0.005**2
    assert not replace(between, lens=lens, covariance=C).bends(told=True)


def test_what_is_said_of_a_focal_length_is_as_sure_as_its_lens_is() -> None:
    """Of a straight one that is told: a mixture, as likely straight as it is said to be."""
    scope = known()
    C, of_bend = scope.covariance[:2, :2], scope.covariance[:2, 2]
    if_straight = C - np.outer(of_bend, of_bend) / scope.covariance[2, 2]
    assert replace(scope, pinhole=True).focal_covariance == pytest.approx(if_straight)
    off = scope.lens[:2] - scope.focal
    if_not = C + np.outer(off, off)
    share = scope.straight
    assert 0.05 < share < 0.95
    assert scope.focal_covariance == pytest.approx(share * if_straight + (1 - share) * if_not)
    assert scope.reference_variance == pytest.approx(if_straight[0, 0])
    told = replace(scope, distortion=-0.1)
    assert told.focal_covariance == pytest.approx(C)
    assert told.reference_variance == pytest.approx(C[0, 0])


def test_a_cushion_that_was_measured_is_a_straight_lens_and_a_barrel_is_what_it_is() -> None:
    cushion = replace(known(), lens=known().lens + 0.3 * np.eye(5)[2])
    assert cushion.lens[2] > 0.0
    straight = cushion.barrel
    assert straight.lens[2] == pytest.approx(0.0)
    assert straight.focal == pytest.approx(cushion.focal)  # all else goes along
    assert straight.lens[:2] == pytest.approx(cushion.focal)
    barrel = replace(known(), lens=known().lens - 0.3 * np.eye(5)[2])
    assert barrel.barrel.lens == pytest.approx(barrel.lens)


def believed(
    scope: Scope, log_scale: float = 0.0, longest: float = np.inf
) -> tuple[Priors, Scene]:
    """Priors of two keyframes, a step of the zoom between them, and the scene that they expect."""
    K = 2
    nothing = np.zeros((0, K))
    views = Views(
        np.zeros((0, K, 2)), nothing, nothing, nothing, np.zeros((0, K, 4)),
        np.full(K, np.nan), np.full(K, np.nan), np.array([[0.0, 0.01]]),
    )  # fmt: skip
    beliefs = Beliefs(
        lens=scope.lens,
        lens_covariance=scope.covariance,
        log_scale=log_scale,
        log_scale_sigma=0.2,
        scale_flicker=0.04,
        bend_sigma=np.full(4, 0.1),
        relief_sigma=0.1,
        longest=longest,
    )
    shared = np.zeros(8)
    shared[:2], shared[DISTORTION] = scope.lens[3:], scope.lens[2]
    shared[REFERENCE], shared[BENDS] = scope.lens[0], 0.0
    log_focal = np.full(K, scope.lens[:2].sum())
    scene = Scene(
        np.tile(np.eye(3), (K, 1, 1)), np.zeros((K, 3)), log_focal, np.zeros(K), shared,
        np.zeros((0, 3)),
    )  # fmt: skip
    return Priors(views, beliefs), scene


def test_an_adjustment_hears_all_of_the_belief() -> None:
    """Its rows are the belief's information, and vanish at its mean."""
    scope, K = known(), 2
    priors, scene = believed(scope)
    error, slopes = priors.at(scene)
    assert error == pytest.approx(0.0, abs=1e-9)
    at = 8 * K
    pick = [at + REFERENCE, FOCAL, at + DISTORTION, at, at + 1]
    only = (slopes[:, pick] != 0).any(1) & (slopes[:, 8 + FOCAL] == 0)
    to_zoom = np.eye(5)
    to_zoom[1, 0] = -1.0
    expected = to_zoom.T @ np.linalg.inv(scope.covariance) @ to_zoom
    assert slopes[only][:, pick].T @ slopes[only][:, pick] == pytest.approx(expected, rel=1e-6)


def test_a_focal_length_beyond_the_longest_costs_what_pulls_it_back() -> None:
    scope = known()
    free, scene = believed(scope)
    far = scene._replace(shared=scene.shared + 0.3 * np.eye(8)[REFERENCE])
    walled, _ = believed(scope, longest=float(scope.lens[0]) + 0.1)
    assert walled.cost(scene) == pytest.approx(free.cost(scene))
    assert walled.cost(far) - free.cost(far) == pytest.approx((0.2 / WALL) ** 2)


def test_depth_maps_are_worth_what_they_were_before_and_their_mean_may_wander_from_it() -> None:
    priors, scene = believed(known(), 0.3)
    for off in (0.0, 0.1):
        cost = priors.cost(scene._replace(log_scale=np.full(2, 0.3 + off)))
        assert cost == pytest.approx((off / 0.2) ** 2, abs=1e-9)
    apart = priors.cost(scene._replace(log_scale=np.array([0.3, 0.3 + 0.02])))
    assert apart == pytest.approx((0.01 / 0.2) ** 2 + (0.02 / 0.04) ** 2)


@pytest.mark.parametrize('zoom', [0.004, 0.05])  # within the step's sigma, and a jump
def test_the_cost_of_what_is_believed_has_the_slope_that_steps_go_by(zoom: float) -> None:
    priors, scene = believed(known())
    there = scene._replace(log_focal=np.add(scene.log_focal, [0.01, 0.01 + zoom]))
    error, slopes = priors.at(there)
    ahead, behind = (
        priors.cost(there._replace(log_focal=np.add(there.log_focal, [0.0, way])))
        for way in (1e-7, -1e-7)
    )
    assert (ahead - behind) / 2e-7 == pytest.approx(2.0 * error @ slopes[:, 8 + FOCAL], rel=1e-4)
    expected = (zoom / 0.01) ** 2 if zoom < 0.01 else 2.0 * zoom / 0.01 - 1.0
    alone = scene._replace(log_focal=np.add(scene.log_focal, [0.0, zoom]))
    assert priors.cost(alone) == pytest.approx(expected)
