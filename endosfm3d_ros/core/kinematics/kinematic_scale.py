# SPDX-License-Identifier: Apache-2.0
"""
How many millimetres the robot moved while the picture says one: scale from kinematics.

A scope that only pivots about its trocar moves a far camera and a near one alike: where the motion
does not tell where the camera sits, it is taken to sit at the tip, and how far it may be off
counts as uncertainty of the scale.
"""

from dataclasses import replace

import numpy as np

from endosfm3d_ros.core.geometry import nearest_rotation, rotation_vectors, rotations
from endosfm3d_ros.core.kinematics.hand_eye import (
    DELAY,
    DELAYS_S,
    FOCAL,
    LEVER,
    ROTATION,
    SCALE,
    Fit,
    Problem,
    Steps,
    inverse_of,
)
from endosfm3d_ros.core.kinematics.robot_path import RobotCurve

LEAST_FOCAL_SIGMA = 0.003  # of its log: no calibration is better
LAG = 10  # steps; agreement is judged over about a second
LITTLE_TURN = 0.02  # in a second [rad]
LEAST_STEPS = 15
ROUNDS, STARTING_ROUNDS = 12, 3
HALF_OF_CHI_SQUARE = 0.455  # the median, of one degree of freedom
OUTLIER = 3.0  # residuals beyond so many sigmas say little
VISUAL_ERRORS = (0.02, 0.04, 0.08, 0.15, 0.3, 0.6)  # of a step's length, one axis; the data choose


def fit_scale(
    steps: Steps,
    curve: RobotCurve,
    lever_sigma_mm: float,
    log_focal_sigma: float,
    start: Fit | None = None,
) -> Fit | None:
    """
    Fit scale, hand-eye and delay to both motions.

    :param steps: the camera's.
    :param curve: the robot's, in the same seconds.
    :param lever_sigma_mm: how far the camera may sit from the tip, one axis [mm].
    :param log_focal_sigma: how well the camera's focal length is known, of its log.
    :param start: an earlier fit, to go on from.
    :return: None while the two have too little time in common.
    """
    problem = Problem(steps, curve, max(log_focal_sigma, LEAST_FOCAL_SIGMA))
    if len(problem.number) < LEAST_STEPS:
        return None
    starts = [start] if start else _first_guesses(problem)
    problem.weighing = float(np.exp(starts[0].log_scale))
    tried = [_descend(problem, one, STARTING_ROUNDS) for one in starts]
    fit = min(tried, key=problem.cost)
    for _ in range(3):
        _weigh(problem, fit)
        problem.free_what_is_seen(fit, lever_sigma_mm)
        fit = _descend(problem, fit, ROUNDS)
    return _with_uncertainty(problem, fit, lever_sigma_mm)


def _first_guesses(problem: Problem) -> list[Fit]:
    """Hand-eye rotations that the translations say, the rotations say, and both together."""
    R_A, t_A = problem.robot_steps(0.0)
    r_A = rotation_vectors(R_A)
    pairs = [(_lagged(t_A), _lagged(problem.t_B)), (_lagged(r_A), _lagged(problem.r_B))]
    sums = [a.T @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12) for a, b in pairs]
    (moved, seen), _ = pairs
    ratio = np.linalg.norm(moved) / (np.linalg.norm(seen) + 1e-12)
    log_scale = float(np.log(np.clip(ratio, 1e-4, 1e4)))
    return [
        Fit(log_scale, np.inf, nearest_rotation(one), np.zeros(3), 0.0)
        for one in (sums[0] + sums[1], *sums)
    ]


def _descend(problem: Problem, fit: Fit, rounds: int) -> Fit:
    """Levenberg's steps downhill."""
    cost, damping = problem.cost(fit), 1e-3
    for _ in range(rounds):
        H, g = problem.equations(fit)
        step = -inverse_of(H + damping * np.diag(np.diag(H))) @ g  # singular where nothing moves
        moved = _moved(fit, step)
        new_cost = problem.cost(moved)
        if new_cost >= cost:
            damping *= 10.0
            continue
        settled = cost - new_cost < 1e-5 * cost
        fit, cost, damping = moved, new_cost, damping / 5.0
        if settled:
            break
    return fit


def _moved(fit: Fit, step: np.ndarray) -> Fit:
    return replace(
        fit,
        R_tip_cam=nearest_rotation(rotations(step[None, ROTATION])[0] @ fit.R_tip_cam),
        log_scale=fit.log_scale + float(np.clip(step[SCALE], -1.0, 1.0)),
        t_tip_cam=fit.t_tip_cam + step[LEVER],
        delay_s=float(np.clip(fit.delay_s + step[DELAY], *DELAYS_S)),
        log_focal=fit.log_focal + float(np.clip(step[FOCAL], -0.5, 0.5)),
    )


def _weigh(problem: Problem, fit: Fit) -> None:
    """Learn from the residuals how well steps are seen, and which of them say little."""
    r_t, r_r = problem.residuals(fit)
    problem.weighing = scale = float(np.exp(fit.log_scale))
    problem.turn_sigma = max(1e-3, 1.4826 * float(np.median(np.abs(r_r))))
    problem.outlying = np.zeros(len(r_t))
    for problem.visual_error in VISUAL_ERRORS:
        white = problem.white(r_t, scale)
        if np.median(white**2) <= HALF_OF_CHI_SQUARE:
            break
    sizes = np.abs(problem.white(r_t, scale)).max(axis=1)
    problem.outlying = np.where(sizes > OUTLIER, np.sum(r_t**2, axis=1), 0.0)


def _with_uncertainty(problem: Problem, fit: Fit, lever_sigma_mm: float) -> Fit:
    """
    The fit's own sigma of log s, and what disagrees over a second beyond the robot's noise: errors
    of the camera's path that go on for longer than a step are in the second only.
    """
    r_t, r_r = problem.residuals(fit)
    worse = max(1.0, float(np.mean(problem.white(r_t, problem.weighing) ** 2)))
    own = problem.covariance(fit, lever_sigma_mm)[SCALE, SCALE] * worse
    moved, off = _lagged(problem.robot_steps(fit.delay_s)[1]), _lagged(r_t)
    motion = max(float(np.mean(np.sum(moved**2, axis=1))), 1e-12)
    rest = float(np.mean(np.sum(off**2, axis=1)))
    beyond = max(0.0, rest - 6 * problem.robot_noise_mm**2) / 3 / motion  # of one axis
    seconds = max(1.0, len(r_t) / LAG)
    return replace(
        fit,
        log_sigma=float(np.sqrt(own + beyond / seconds)),
        span_mm=problem.span_mm(fit.delay_s),
        agreement=max(0.0, 1.0 - rest / motion),
        turn_agreement=_turn_agreement(problem, fit, r_r),
    )


def _turn_agreement(problem: Problem, fit: Fit, r_r: np.ndarray) -> float:
    """
    A camera that takes sideways moves for pans turns where the robot does not, and its path is too
    short by what it took away, however well both agree in direction.
    """
    robot = _lagged(rotation_vectors(problem.robot_steps(fit.delay_s)[0]))
    turned = max(float(np.mean(np.sum(one**2, axis=1))) for one in (robot, _lagged(problem.r_B)))
    rest = float(np.mean(np.sum(_lagged(r_r) ** 2, axis=1)))
    return max(0.0, 1.0 - rest / turned) if turned > LITTLE_TURN**2 else 1.0


def _lagged(steps: np.ndarray) -> np.ndarray:
    """Sums of LAG steps in a row, (n, 3): for a second in which the scope turns little."""
    total = np.vstack([np.zeros(3), np.cumsum(steps, axis=0)])
    return total[LAG:] - total[:-LAG] if len(steps) >= LAG else total[-1:]
