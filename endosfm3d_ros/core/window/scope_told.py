# SPDX-License-Identifier: Apache-2.0
"""
What an adjustment says of the endoscope and its motion, how far to believe it, and which lens it
has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.adjustment.bundle_adjustment import Solution, adjust, adjust_freed
from endosfm3d_ros.core.adjustment.scene import (
    BENDS,
    CENTRE,
    DISTORTION,
    FOCAL,
    PER_VIEW,
    REFERENCE,
    SCALE,
    Beliefs,
    Scene,
    Views,
)
from endosfm3d_ros.core.window.scope import Scope

BEND_SIGMAS = np.array([0.08, 0.11, 0.14, 0.05])  # see `bends_at`
# Measured on rendered worlds: errors of tracks and maps are not independent, but tracks are stated
# twice as unsure as their residuals are (`USUAL_RMS`). Of log focal:
MODEL_ERROR = 0.9
ZOOM_ERROR = 1.15  # likewise, of log zoom between keyframes
SHIFT_ERROR, TURN_ERROR = 1.5, 3.0  # of a frame's step
LEFT = 2.0  # times its last step an adjustment may still have to go
CURVED = 0.1  # of the belief's variance: so far an adjustment strays as it is not linear
WORK = 36  # iterations that one frame has time for, times the keyframes that are adjusted
TELLING = 4  # keyframes: a lens may be told from so many or more
# An adjustment `is_unsure` that knows log focal no better, of so many keyframes or more; freed it
# has so many iterations, as `WORK`, once with damping and once without
UNSURE_FOCAL, FREED_FROM = 0.08, 8
FREED_WORK = 40
SHOWN_BY = 4.0  # of the cost: it is 2 sigma better then


def overrated(belief: Scope, doubt: float) -> float:
    """
    By how much a belief's variance is divided as it goes into an adjustment.

    There it stands against residuals that overrate themselves, so what other windows told goes in
    as much surer than it is. A first guess does not: it has to let go.

    :param doubt: of `zoom_doubt`.
    """
    return doubt * (MODEL_ERROR**2 if belief.number >= 0 else 1.0)


def zoom_variance(solution: Solution, view: int) -> float:
    """Of the log zoom from a keyframe of the window to its newest one, as an adjustment tells."""
    pick = [FOCAL + PER_VIEW * view, FOCAL + PER_VIEW * (len(solution.scene.t) - 1)]
    spread = solution.covariance[np.ix_(pick, pick)]
    told = ZOOM_ERROR**2 * float(spread[0, 0] + spread[1, 1] - 2.0 * spread[0, 1])
    return told + float(np.diff(solution.flatter[pick])[0] ** 2)


def step_covariance(solution: Solution, frames: int) -> np.ndarray:
    """
    Covariance of one frame's step, such that the window's frames add up to what it tells of the
    newest keyframe against the oldest: (6, 6) as `Motion` has it [mm, rad].

    The maps' common scale, the focal length and the distortion are taken as right: their errors
    are common to all steps.

    :param frames: from the oldest keyframe to the newest.
    """
    K = len(solution.scene.t)
    C = solution.covariance + np.outer(solution.flatter, solution.flatter)
    newest = PER_VIEW * (K - 1)
    pose = np.r_[newest + 3 : newest + 6, newest : newest + 3]
    common = np.zeros((3, len(C)))
    common[0, [PER_VIEW * k + SCALE for k in range(K)]] = 1.0 / K
    common[1, newest + FOCAL] = common[2, PER_VIEW * K + DISTORTION] = 1.0
    shared = C[pose] @ common.T
    given = shared @ np.linalg.solve(common @ C @ common.T + 1e-12 * np.eye(3), shared.T)
    values, vectors = np.linalg.eigh((C[np.ix_(pose, pose)] - given) / max(frames, 1))
    honest = np.diag([SHIFT_ERROR] * 3 + [TURN_ERROR] * 3)
    return honest @ ((vectors * np.maximum(values, 0.0)) @ vectors.T) @ honest


def scope_told(solution: Solution, belief: Scope, doubt: float, numbers: Sequence[int]) -> Scope:
    """
    What belief and window say together, of the reference and of the newest keyframe.

    :param belief: that the adjustment began with; doubt: of `zoom_doubt`.
    :param numbers: of the keyframes, oldest first.
    """
    scene, K = solution.scene, len(solution.scene.t)
    first = PER_VIEW * K
    pick = [first + REFERENCE, PER_VIEW * (K - 1) + FOCAL, first + DISTORTION, first, first + 1]
    joint = solution.covariance[np.ix_(pick, pick)]
    to_zoom = np.eye(5)
    to_zoom[1, 0] = -1.0
    bend = float(scene.shared[DISTORTION])
    lens = to_zoom @ [
        scene.shared[REFERENCE], scene.log_focal[-1], bend, *scene.shared[CENTRE]
    ]  # fmt: skip
    if not bend:  # it was held
        lens = lens + to_zoom @ solution.pull[pick]
    told = Scope(
        lens=lens,
        covariance=to_zoom @ joint @ to_zoom.T,
        distortion=bend,
        pinhole=belief.pinhole,
        number=numbers[-1],
        first=numbers[0],
    )
    honesty = _honesty(told, belief, scene.shared[BENDS], doubt)
    honest = told.barrel.scaled(honesty)
    for lever in (solution.flatter, LEFT * solution.step):
        honest = honest.doubted(to_zoom @ lever[pick])
    return honest


def _honesty(told: Scope, belief: Scope, bends: np.ndarray, doubt: float) -> float:
    """
    By how much the variance of the reference's log focal length is larger than an adjustment says.

    What this window adds to the belief is worth MODEL_ERROR times less in sigmas than it
    says, and less still where it had to bend the depth maps beyond belief: then it
    explains its tracks wrongly. Where window and belief contradict each other one of them is
    wrong, nobody knows which, and both are taken to be worse than they say (Birge 1932, "The
    calculation of errors by the method of least squares"): tissue that moves, or tracks that slip,
    may bend one window, but not what is told of it.

    :param told: by the adjustment; bends: (4,) coefficients it ended with.
    """
    belief = replace(belief, distortion=told.distortion)
    believed, variance = belief.reference_variance, told.reference_variance
    strayed = max(1.0, float(np.mean((bends / BEND_SIGMAS) ** 2)))
    added = max(1.0 / variance - overrated(belief, doubt) / believed, 1e-9)
    both = 1.0 / (1.0 / believed + added / (strayed * doubt * MODEL_ERROR**2))
    expected = believed - both + CURVED * believed  # squared way from the belief
    way = float(told.focal[0] - belief.focal[0])
    return both * max(1.0, way**2 / expected) / variance


def is_unsure(solution: Solution) -> bool:
    """Whether damping may hold what an adjustment tells, see `LensQuestion.freed`."""
    K = len(solution.scene.t)
    reference = PER_VIEW * K + REFERENCE
    return K >= FREED_FROM and solution.covariance[reference, reference] > UNSURE_FOCAL**2


@dataclass(frozen=True)
class LensQuestion:
    """
    A window that is to be adjusted through the right lens: one that bends lines or one that does
    not.

    :param views: what was measured; scene: where to begin.
    :param beliefs: before, in which the distortion is held if none is told.
    :param belief: of the scope before this window; doubt: of `zoom_doubt`.
    :param numbers: of the keyframes, oldest first.
    :param told: whether a distortion is told so far.
    """

    views: Views
    scene: Scene
    beliefs: Beliefs
    belief: Scope
    doubt: float
    numbers: Sequence[int]
    told: bool

    @property
    def has_one_answer(self) -> bool:
        """Whether nothing can be asked: the lens is known, or the window tells no focal length."""
        return bool(np.isinf(self.doubt)) or self.belief.pinhole

    def bends(self, solution: Solution) -> bool:
        """Whether the lens bends lines by an adjustment."""
        return scope_told(solution, self.belief, self.doubt, self.numbers).bends(self.told)

    def as_told(self) -> Solution:
        """Through the lens that is told so far."""
        return self._adjusted(self.beliefs, self.scene)

    def bent(self, scene: Scene) -> Solution:
        """Through one that may bend lines, from that scene on."""
        return self._adjusted(replace(self.beliefs, straight=False), scene)

    def through(self, distortion: float) -> Scene:
        """
        Where a bent lens is tried first: a scene that was explained without any distortion would
        be no place to begin with.
        """
        return _through(self.scene, distortion)

    def shown(self, solution: Solution) -> bool:
        """Whether an adjustment through a bent lens shows that it is one."""
        return len(self.scene.t) >= TELLING and replace(self, told=False).bends(solution)

    def straightened(self, scene: Scene) -> Solution:
        """Through one that bends nothing, from where a bent one led."""
        return self._adjusted(replace(self.beliefs, straight=True), _through(scene, 0.0))

    def freed(self) -> Solution | None:
        """
        On from an adjustment that `is_unsure` without damping, where that is shown to be better
        than to go on with it; None where there is nothing to gain.

        Damping holds a focal length that next to nothing tells. At rest that is right: what is
        left is noise, which would move it for no reason. On a slide it may hold a flat scene and a
        lens twice as long.
        """
        iterations = FREED_WORK // len(self.scene.t)
        return adjust_freed(self.views, self.beliefs, self.scene, iterations, SHOWN_BY)

    def _adjusted(self, beliefs: Beliefs, scene: Scene) -> Solution:
        """As far as one frame has time for it."""
        return adjust(self.views, beliefs, scene, WORK // len(scene.t))


def _through(scene: Scene, distortion: float) -> Scene:
    """The same through a lens of this distortion."""
    shared = scene.shared.copy()
    shared[DISTORTION] = distortion
    return scene._replace(shared=shared)
