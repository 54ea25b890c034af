# SPDX-License-Identifier: Apache-2.0
"""What an adjustment says becomes what is told: which unknown is which, and how sure that is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from endosfm3d_ros.core.adjustment.bundle_adjustment import Solution
from endosfm3d_ros.core.adjustment.scene import (
    BENDS,
    CENTRE,
    DISTORTION,
    FOCAL,
    PER_VIEW,
    REFERENCE,
    SCALE,
    SHARED,
    Beliefs,
    Scene,
    Views,
)
from endosfm3d_ros.core.window.scope import BARREL, BARREL_SIGMA, REFUTED, SHOWN, Scope
from endosfm3d_ros.core.window.scope_told import (
    BEND_SIGMAS,
    LEFT,
    SHIFT_ERROR,
    TURN_ERROR,
    ZOOM_ERROR,
    LensQuestion,
    scope_told,
    step_covariance,
    zoom_variance,
)

K = 10
NEWEST, FIRST = PER_VIEW * (K - 1), PER_VIEW * K  # its unknowns, and the shared ones
PRINCIPAL = np.array([160.0, 128.0])
NUMBERS = [3 * k for k in range(K)]
# Reference, newest keyframe's focal length, distortion, principal point: where they stand
OF_LENS = [FIRST + REFERENCE, NEWEST + FOCAL, FIRST + DISTORTION, FIRST, FIRST + 1]


def ended(
    log_focal: float = 5.4, zoom: float = 0.0, distortion: float = 0.0, **given: Any
) -> Solution:
    """An adjustment that ended there, all of its unknowns by themselves unless given."""
    size = PER_VIEW * K + SHARED
    shared = np.zeros(SHARED)
    shared[CENTRE], shared[REFERENCE], shared[DISTORTION] = PRINCIPAL, log_focal, distortion
    scene = Scene(
        np.tile(np.eye(3), (K, 1, 1)), np.zeros((K, 3)),
        log_focal + zoom * np.linspace(0.0, 1.0, K), np.zeros(K), shared, np.zeros((0, 3)),
    )  # fmt: skip
    nothing = np.zeros(size)
    variances = np.full(size, 1e-4)
    variances[OF_LENS] = np.square([0.03, 0.03, 0.02, 2.0, 2.0])
    usual = Solution(
        scene, np.diag(variances), nothing, nothing, nothing, nothing,
        np.zeros((0, K)), np.zeros(0), np.zeros(0), 0.0, 0.45, True,
    )  # fmt: skip
    return replace(usual, **given)


def guessed(log_focal: float = 5.4, sigma: float = 0.1) -> Scope:
    return Scope.guessed(log_focal, sigma, PRINCIPAL, 3.0, (BARREL, BARREL_SIGMA))


def test_a_frame_s_step_is_its_share_of_the_window_s_shift_then_turn() -> None:
    solution = ended()
    C = solution.covariance
    turn, shift = np.square([1e-3, 2e-3, 3e-3]), np.square([0.1, 0.2, 0.3])
    C[range(NEWEST, NEWEST + 6), range(NEWEST, NEWEST + 6)] = *turn, *shift
    said = step_covariance(solution, 27)
    expected = np.r_[SHIFT_ERROR**2 * shift, TURN_ERROR**2 * turn] / 27
    assert said == pytest.approx(np.diag(expected), abs=1e-15)


@pytest.mark.parametrize('common', [NEWEST + FOCAL, FIRST + DISTORTION, NEWEST + SCALE])
def test_a_step_s_error_that_all_steps_share_is_none_of_its_own(common: int) -> None:
    """The scale is common to all maps: what one of them errs alone is its own."""
    solution = ended()
    C, ahead = solution.covariance, NEWEST + 5
    lever = np.zeros(len(C))
    lever[ahead], others = 0.5, [common]
    if common == NEWEST + SCALE:
        others = [PER_VIEW * k + SCALE for k in range(K)]
    lever[others] = 0.3
    before = step_covariance(solution, 27)
    known = replace(solution, covariance=C + 100.0 * np.outer(lever, lever))
    whole = SHIFT_ERROR**2 * known.covariance[ahead, ahead] / 27
    assert step_covariance(known, 27)[2, 2] < 1e-3 * whole
    alone = replace(solution, flatter=10.0 * np.eye(len(C))[ahead])  # by a relief that is wrong
    expected = before[2, 2] + SHIFT_ERROR**2 * 100.0 / 27
    assert step_covariance(alone, 27)[2, 2] == pytest.approx(expected)


def test_a_zoom_since_a_keyframe_is_as_sure_as_tracks_and_relief_make_it() -> None:
    solution = ended()
    C, then, now = solution.covariance, PER_VIEW * 4 + FOCAL, NEWEST + FOCAL
    C[then, then], C[now, now], C[then, now], C[now, then] = 4e-4, 9e-4, 5e-4, 5e-4
    assert zoom_variance(solution, 4) == pytest.approx(ZOOM_ERROR**2 * 3e-4)
    flatter = 0.01 * np.eye(len(C))[now] - 0.02 * np.eye(len(C))[then]
    wider = zoom_variance(replace(solution, flatter=flatter), 4)
    assert wider == pytest.approx(ZOOM_ERROR**2 * 3e-4 + 0.03**2)


def test_what_is_told_is_reference_zoom_and_centre_and_where_the_lens_would_go_if_let() -> None:
    pull = np.zeros(PER_VIEW * K + SHARED)
    pull[OF_LENS] = 0.02, 0.03, -0.1, 1.0, -2.0
    solution = ended(5.4, zoom=0.2, pull=pull)
    told = scope_told(solution, guessed(), 1.0, NUMBERS)
    assert told.lens == pytest.approx([5.42, 0.21, -0.1, 161.0, 126.0])
    assert (told.distortion, told.first, told.number) == (0.0, 0, 27)
    bent = scope_told(ended(5.4, 0.2, -0.15, pull=pull), guessed(), 1.0, NUMBERS)
    assert bent.lens == pytest.approx([5.4, 0.2, -0.15, *PRINCIPAL])
    assert bent.distortion == -0.15


def test_a_lens_that_is_pulled_to_a_cushion_is_straight() -> None:
    pull = 0.05 * np.eye(PER_VIEW * K + SHARED)[FIRST + DISTORTION]
    assert scope_told(ended(pull=pull), guessed(), 1.0, NUMBERS).lens[2] == pytest.approx(0.0)


def test_a_window_that_contradicts_what_was_believed_is_less_sure_and_bent_maps_make_it_so() -> (
    None
):
    def sigma(log_focal: float, bent: float = 0.0) -> float:
        solution = ended(log_focal)
        solution.scene.shared[BENDS] = bent * BEND_SIGMAS
        return float(
            np.sqrt(scope_told(solution, guessed(5.4, 0.1), 1.0, NUMBERS).covariance[0, 0])
        )

    agreeing = sigma(5.4)
    assert agreeing == pytest.approx(0.03, rel=0.15)
    assert sigma(5.42) == pytest.approx(agreeing)
    assert sigma(5.8) > 3.0 * agreeing
    assert sigma(5.4, 1.0) == pytest.approx(agreeing)
    assert 1.5 * agreeing < sigma(5.4, 3.0) < 0.1


def test_a_belief_is_no_contradiction_where_it_says_the_same_of_the_lens_that_is_told() -> None:
    """It told a straight one; of a barrel it knows that its focal length is shorter, too."""
    belief = guessed(5.4, 0.2)
    C = belief.covariance
    C[0, 2] = C[2, 0] = 0.99 * np.sqrt(C[0, 0] * C[2, 2])
    barrel = -0.3
    of_barrel = float(replace(belief, distortion=barrel).focal[0])
    assert of_barrel < 5.2
    told = scope_told(ended(of_barrel, distortion=barrel), belief, 1.0, NUMBERS)
    other = scope_told(ended(float(belief.focal[0]), distortion=barrel), belief, 1.0, NUMBERS)
    assert np.sqrt(told.covariance[0, 0]) < 0.035 < 0.05 < np.sqrt(other.covariance[0, 0])


@pytest.mark.parametrize('name', ['step', 'flatter'])
def test_what_may_be_left_to_go_and_a_wrong_relief_make_what_is_told_less_sure(name: str) -> None:
    lever = 0.1 * np.eye(PER_VIEW * K + SHARED)[FIRST + REFERENCE]
    plain = scope_told(ended(), guessed(), 1.0, NUMBERS)
    wider = scope_told(ended(**{name: lever}), guessed(), 1.0, NUMBERS)
    added = (LEFT if name == 'step' else 1.0) ** 2 * 0.01
    assert wider.covariance[0, 0] - plain.covariance[0, 0] == pytest.approx(added)
    assert wider.covariance[0, 1] - plain.covariance[0, 1] == pytest.approx(-added)  # as f stays
    assert wider.focal == pytest.approx(plain.focal)


def test_a_lens_is_shown_anew_by_as_much_however_it_was_told_before() -> None:
    solution, belief = ended(distortion=-0.06), guessed()
    told = scope_told(solution, belief, 1.0, NUMBERS)
    assert SHOWN < told.straight < REFUTED
    nothing: Any = None
    views: Views = nothing
    beliefs: Beliefs = nothing
    question = LensQuestion(views, solution.scene, beliefs, belief, 1.0, NUMBERS, told=True)
    assert question.bends(solution) and not question.shown(solution)
