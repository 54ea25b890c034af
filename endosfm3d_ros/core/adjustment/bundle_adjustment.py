# SPDX-License-Identifier: Apache-2.0
"""
Robust bundle adjustment of a few keyframes: poses, focal lengths, points, and what depth maps are
off by.

Everything that a second of tracks can say is one least-squares problem. Its unknowns: the pose
and the log focal length of every keyframe, one log scale per depth map, a principal point, a few
smooth terms by which the maps are bent, the reference focal length, the lens's distortion, and
the points. Points are eliminated (Schur complement), which leaves about a hundred unknowns. Triggs
et al. 2000, "Bundle Adjustment: A Modern Synthesis".
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from endosfm3d_ros.core.adjustment.normal_equations import NormalEquations
from endosfm3d_ros.core.adjustment.priors import Priors
from endosfm3d_ros.core.adjustment.reprojection import (
    Measured,
    cost_of,
    normal_equations_of,
    points_alone,
    residuals_of,
    weights_of,
)
from endosfm3d_ros.core.adjustment.scene import (
    DISTORTION,
    NEAREST_MM,
    PER_VIEW,
    SHARED,
    Beliefs,
    Scene,
    Views,
)
from endosfm3d_ros.core.adjustment.scene_step import MOST_DISTORTION, points_moved, scene_moved

ALIKE = 3.0  # measurements' worth of belief that a track errs as much as usual
FIRST_DAMPING, LEAST_DAMPING = 1e-5, 1e-8  # see `minimised`
FREE_DAMPING = 1e-9  # that holds nothing
SHARES = 1.0, 0.5, 0.25  # of a step, while it leads up
TOLERANCE = 5e-4  # of the cost: it has converged when it falls by less


@dataclass(frozen=True)
class Solution:
    """
    Where the adjustment ended.

    :param scene: the unknowns.
    :param covariance: (8 K + 8,) squared: of the keyframes' unknowns in order (a small motion of
        the camera's frame: turn [rad], shift [mm]; log focal; log scale), then the shared ones.
        The first keyframe's pose is held: its rows are zero.
    :param pull: (8 K + 8,) where the unknowns would go if the distortion was let go, as far as one
        step tells.
    :param lever: (8 K + 8,) the part of it that a wrong relief of the maps would bring; flatter:
        what one that is wronger than usual would bring beyond that, none by itself.
    :param step: (8 K + 8,) the last one: as far or farther it may still have to go.
    :param weights: (N, K) how much each observation says: 1 usually, up to 7 where a track fits
        well throughout, 0 where there is none.
    :param track_sigma: (N,) of a point's log depth by its tracks alone, in the last keyframe that
        sees it, the cameras taken as right; large where there is no parallax.
    :param misfit: (N,) root mean square of a point's reprojection over its stated sigma.
    :param cost: robust cost, priors included.
    :param pixel_rms: robust spread of reprojection over its stated sigma; USUAL_RMS as a rule.
    :param converged: False where more iterations would go on.
    """

    scene: Scene
    covariance: np.ndarray
    pull: np.ndarray
    lever: np.ndarray
    flatter: np.ndarray
    step: np.ndarray
    weights: np.ndarray
    track_sigma: np.ndarray
    misfit: np.ndarray
    cost: float
    pixel_rms: float
    converged: bool


def adjust(
    views: Views,
    beliefs: Beliefs,
    start: Scene,
    iterations: int,
    tolerance: float = TOLERANCE,
) -> Solution:
    """
    Minimise, by Levenberg-Marquardt with reweighting.

    :param start: where to begin; its first keyframe's pose is held.
    :param iterations: at most; go on from where it ended, if it had not converged.
    :param tolerance: it has converged when the cost falls by less, relatively.
    """
    problem = _Problem(views, beliefs)
    return problem.solution(problem.minimised(start, iterations, tolerance))


def adjust_freed(
    views: Views, beliefs: Beliefs, start: Scene, iterations: int, by: float
) -> Solution | None:
    """
    Go on from where an adjustment ended both with damping and without any to speak of.

    :param iterations: of each.
    :param by: where it ends without damping is taken only if its cost is so much lower; None if
        it is not that much below the start's.
    """
    problem = _Problem(views, beliefs)
    begun = problem.cost(start, problem.residuals(start))
    freed = problem.minimised(start, iterations, free=True)
    if freed.cost > begun - by:
        return None
    gone_on = problem.minimised(start, iterations)
    return problem.solution(freed if freed.cost < gone_on.cost - by else gone_on)


def place_points(
    views: Views, scene: Scene, iterations: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Points that an adjustment left out: where its keyframes, taken as right, see them.

    :param views: of those N points.
    :param scene: its cameras, and where the points are to begin with.
    :return: (N, 3) in the world [mm], and (N,) `track_sigma` and `misfit`, see `Solution`.
    """
    problem = _Problem(views)
    for _ in range(iterations):
        scene = problem.placed_alone(scene)
    residuals = problem.residuals(scene)
    return scene.points, problem.track_sigma(scene, residuals), problem.misfit(residuals)


class _Minimum(NamedTuple):
    """
    Where going downhill ended.

    :param residuals: as `_Problem.residuals`; cost: there; step: (C,) the last one of the cameras.
    """

    scene: Scene
    residuals: np.ndarray
    cost: float
    step: np.ndarray
    converged: bool


class _Problem:
    """A window's observations, and what is believed, where anything is asked of it."""

    def __init__(self, views: Views, beliefs: Beliefs | None = None) -> None:
        self.measured = measured = Measured.of(views)
        self.anchor = measured.k[measured.first]
        self.straight = beliefs is not None and beliefs.straight
        if beliefs is not None:
            self.priors, self.relief_sigma = Priors(views, beliefs), beliefs.relief_sigma

    def minimised(
        self, scene: Scene, iterations: int, tolerance: float = TOLERANCE, free: bool = False
    ) -> _Minimum:
        """
        Go downhill, see `adjust`.

        Damping is by each unknown's own curvature (Marquardt). That of a focal length with all
        else held is millions of times what is left of it when the scene may go along, so what
        looks like next to no damping holds it in its place: 1e-6 left a slide a hundredth of its
        steps. 1e-5 to begin with still may look like convergence; `free` has none to speak of.
        """
        damping, least = (FREE_DAMPING,) * 2 if free else (FIRST_DAMPING, LEAST_DAMPING)
        converged = False
        residuals, last = self.residuals(scene), np.zeros(PER_VIEW * len(scene.t) + SHARED)
        cost = self.cost(scene, residuals)
        for _ in range(iterations):
            before = cost
            system = self.priors.walled(self.linearised(scene, residuals), scene)
            if self.straight:
                system = system.holding(len(system.b) - SHARED + DISTORTION)
            for _ in range(4):
                scene, residuals, cost, step = self.stepped(
                    system, damping, scene, residuals, cost
                )
                if step is not None:
                    damping, last = max(damping / 6.0, least), step
                    break
                damping *= 30.0
            converged = step is None or before - cost < tolerance * before
            if converged:
                break
        return _Minimum(scene, residuals, cost, last, converged)

    def solution(self, end: _Minimum) -> Solution:
        """What is told where going downhill ended."""
        scene, residuals = end.scene, end.residuals
        covariance, lever, pull = self.linearised(scene, residuals).covariance(self.relief_sigma)
        weights = np.zeros((len(self.measured.first), len(scene.t)))
        weights[self.measured.n, self.measured.k] = self.weights(residuals)[:, 0]
        return Solution(
            scene=scene,
            covariance=covariance,
            pull=pull,
            lever=lever,
            flatter=np.zeros_like(lever),
            step=end.step,
            weights=weights,
            track_sigma=self.track_sigma(scene, residuals),
            misfit=self.misfit(residuals),
            cost=end.cost,
            pixel_rms=_spread(residuals),
            converged=end.converged,
        )

    def stepped(
        self,
        system: NormalEquations,
        damping: float,
        scene: Scene,
        residuals: np.ndarray,
        cost: float,
    ) -> tuple[Scene, np.ndarray, float, np.ndarray | None]:
        """
        Go downhill by a step from where the system is linearised, or by as much of it as leads
        down; the cameras' part of the step (C,), None where it leads up.
        """
        step, of_points = system.solved(damping)
        bent = len(step) - SHARED + DISTORTION
        if step[bent] > 0.0 and scene.shared[DISTORTION] >= MOST_DISTORTION:
            # it goes no farther, and the rest of the step is another one without it
            step, of_points = system.holding(bent).solved(damping)
        for share in SHARES:
            moved = self.moved(scene, share * step, share * of_points)
            new_residuals = self.residuals(moved)
            new_cost = self.cost(moved, new_residuals)
            if new_cost < cost:
                return moved, new_residuals, new_cost, step
        return scene, residuals, cost, None

    def residuals(self, scene: Scene) -> np.ndarray:
        """(M, 3) whitened: u, v, log depth; 0 where no depth was known."""
        return residuals_of(self.measured, scene)

    def cost(self, scene: Scene, residuals: np.ndarray) -> float:
        """Robust cost with the priors."""
        return float(cost_of(self.measured, residuals, ALIKE) + self.priors.cost(scene))

    def weights(self, residuals: np.ndarray) -> np.ndarray:
        """(M, 2): of pixel and depth rows."""
        return weights_of(self.measured, residuals, ALIKE)

    def misfit(self, residuals: np.ndarray) -> np.ndarray:
        """See `Solution`."""
        squared, n = (residuals[:, :2] ** 2).sum(axis=1), self.measured.n
        return np.sqrt(np.bincount(n, squared) / np.bincount(n))

    def linearised(self, scene: Scene, residuals: np.ndarray) -> NormalEquations:
        """Build the normal equations at this scene."""
        weights = self.weights(residuals)
        H, b, *of_points = normal_equations_of(self.measured, scene, residuals, weights)
        error, slopes = self.priors.at(scene)
        return NormalEquations(H + slopes.T @ slopes, b + error @ slopes, *of_points)

    def placed_alone(self, scene: Scene) -> Scene:
        """After a step of the points, the cameras held."""
        residuals = self.residuals(scene)
        H, b = points_alone(self.measured, scene, residuals, self.weights(residuals), 3)
        H += np.eye(3) * (1e-4 * np.trace(H, axis1=1, axis2=2)[:, None, None] + 1e-9)
        return points_moved(scene, -np.linalg.solve(H, b[..., None])[..., 0], self.anchor)

    def track_sigma(self, scene: Scene, residuals: np.ndarray) -> np.ndarray:
        """See `Solution`."""
        weights = np.minimum(self.weights(residuals), 1.0)  # none is surer than stated
        H, _ = points_alone(self.measured, scene, residuals, weights, 2)
        k = self.measured.k[np.append(self.measured.first[1:], len(self.measured.k)) - 1]
        z = (scene.R[k, 2] * scene.points).sum(axis=1) + scene.t[k, 2]
        along = scene.R[k, 2] / np.maximum(z, NEAREST_MM)[:, None]  # of log depth by the point
        H += np.eye(3) * (1e-6 * np.trace(H, axis1=1, axis2=2)[:, None, None] + 1e-12)
        variance = np.einsum('np,np->n', along, np.linalg.solve(H, along[..., None])[..., 0])
        return np.sqrt(variance)

    def moved(self, scene: Scene, step: np.ndarray, point_step: np.ndarray) -> Scene:
        """The scene after a step of the cameras (C,) and of the points (N, 3)."""
        return scene_moved(scene, step, point_step, self.anchor)


def _spread(residuals: np.ndarray) -> float:
    """Robust standard deviation of u and v."""
    return float(1.4826 * np.median(np.abs(residuals[:, :2]))) if len(residuals) else 1.0
