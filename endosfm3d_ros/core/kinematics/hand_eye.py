# SPDX-License-Identifier: Apache-2.0
"""
The motion of a robot's tip and of the camera it holds, and how well they fit each other.

The robot knows a frame fixed in the scope ("tip"); where the camera sits in it (hand-eye) and how
late pictures are nobody knows. Over a step from time i to j, with A the tip's motion, B the
camera's in nominal millimetres, X = T_tip_cam, s the scale (the scaled form of A X = X B):

    t_A + (R_A - I) t_X = s R_X t_B        R_A R_X = R_X R_B

Unknown are s, R_X, t_X, the delay, and an error of the focal length, which stretches the camera's
sideways moves and pans. Robot positions err independently, so that two steps with a pose in common
err oppositely: their covariance is banded, and the weights use it.
"""

from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.geometry import rotation_vectors, skew
from endosfm3d_ros.core.kinematics.robot_path import RobotCurve

DELAYS_S = (-0.05, 0.4)  # how late pictures may be against the robot's stamps
DELAY_SIGMA_S = 0.15
DELAY_STEP_S = 0.1  # for the derivative by the delay: a shorter one would be that of the noise
SEEN_SHARE = 1 / 3  # of the prior's width: a direction of t_X that motion tells better is fitted
HELD_MM = 0.5  # how far t_X may leave zero in a direction that it does not tell
ROTATION, SCALE, LEVER, DELAY, FOCAL = slice(0, 3), 3, slice(4, 7), 7, 8
UNKNOWNS = 9
SIDEWAYS = np.array([1.0, 1.0, 0.0])


@dataclass(frozen=True)
class Steps:
    """
    The camera's motion in steps of about a tenth of a second.

    :param times: (M,) of the poses between them [s].
    :param T_odom_cam: (M, 4, 4) nominal [mm].
    :param joined: (M - 1,) whether the motion from a pose to the next is known.
    """

    times: np.ndarray
    T_odom_cam: np.ndarray
    joined: np.ndarray


@dataclass(frozen=True)
class Fit:
    """
    What explains both motions.

    :param log_scale: log of millimetres per nominal millimetre.
    :param log_sigma: its standard deviation.
    :param R_tip_cam: (3, 3).
    :param t_tip_cam: (3,) [mm].
    :param delay_s: how late pictures are [s].
    :param log_focal: log of the camera's focal length over the true one.
    :param span_mm: how far the robot's places lie apart, at most [mm].
    :param agreement: share of the robot's motion over a second that the camera's explains, 0 to 1.
    :param turn_agreement: the same of their turning; 1 where neither turns to speak of.
    """

    log_scale: float
    log_sigma: float
    R_tip_cam: np.ndarray
    t_tip_cam: np.ndarray
    delay_s: float
    log_focal: float = 0.0
    span_mm: float = 0.0
    agreement: float = 0.0
    turn_agreement: float = 1.0


class Problem:
    """Residuals of all steps, their derivatives, and their covariance."""

    def __init__(self, steps: Steps, curve: RobotCurve, focal_sigma: float) -> None:
        self.focal_sigma = focal_sigma
        known = curve.covers(steps.times - DELAYS_S[0]) & curve.covers(steps.times - DELAYS_S[1])
        self._use = steps.joined & known[:-1] & known[1:]
        self.number = np.flatnonzero(self._use)  # of the step's first pose
        self._times, self._curve = steps.times, curve
        self.lever_prior = np.eye(3) / HELD_MM**2  # inverse covariance of t_X [1/mm^2]
        R = steps.T_odom_cam[:, :3, :3]
        t = steps.T_odom_cam[:, :3, 3]
        i, j = self.number, self.number + 1
        self.t_B = np.einsum('nji,nj->ni', R[i], t[j] - t[i])
        self.r_B = rotation_vectors(np.swapaxes(R[i], 1, 2) @ R[j])
        self._shared = np.diff(self.number) == 1  # neighbours with a robot pose in common
        self._lengths = np.linalg.norm(self.t_B, axis=1)
        self.weighing = 1.0  # scale for the weights
        self.outlying = np.zeros(len(self.number))
        self.visual_error = 0.08  # of a step's length, one axis
        self.turn_sigma = 0.01

    def robot_steps(self, delay_s: float) -> tuple[np.ndarray, np.ndarray]:
        """The tip's rotations R_A (n, 3, 3) and translations t_A (n, 3) [mm] over the steps."""
        late = self._times[self.number[0] : self.number[-1] + 2] - delay_s
        p, R = self._curve.at(late)
        i = self.number - self.number[0]
        R_A = np.swapaxes(R[i], 1, 2) @ R[i + 1]
        return R_A, np.einsum('nji,nj->ni', R[i], p[i + 1] - p[i])

    @property
    def robot_noise_mm(self) -> float:
        """Standard deviation of one place of the robot, one axis [mm]."""
        return self._curve.noise_mm

    def span_mm(self, delay_s: float) -> float:
        """The longest diagonal of the box around the tip's places [mm]."""
        late = self._times[self.number[0] : self.number[-1] + 2] - delay_s
        return float(np.linalg.norm(np.ptp(self._curve.at(late)[0], axis=0)))

    def residuals(self, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
        """Of translation (n, 3) [mm] and of rotation (n, 3) [rad]."""
        R_A, t_A = self.robot_steps(fit.delay_s)
        r_t = t_A + (R_A - np.eye(3)) @ fit.t_tip_cam - self._seen(fit)
        return r_t, rotation_vectors(R_A) - self._turned(fit)

    def white(self, values: np.ndarray, scale: float) -> np.ndarray:
        """
        Make one axis's residuals independent, with variance one.

        :param values: (n, ...) residuals of translation or their derivatives [mm].
        :param scale: of the camera's steps, which sets their errors in millimetres.
        :return: the same shape: forward substitution with the covariance's Cholesky factor, which
            has one diagonal beside the main one.
        """
        robot = self._curve.noise_mm**2
        visual = (self.visual_error * scale * self._lengths) ** 2
        main, side = 2 * robot + visual + self.outlying, np.where(self._shared, -robot, 0.0)
        flat = values.reshape(len(values), -1)
        done = np.empty_like(flat)
        factor = float(np.sqrt(main[0]))
        done[0] = flat[0] / factor
        for k in range(1, len(flat)):
            beside = side[k - 1] / factor
            factor = float(np.sqrt(main[k] - beside**2))
            done[k] = (flat[k] - beside * done[k - 1]) / factor
        return done.reshape(values.shape)

    def cost(self, fit: Fit) -> float:
        """Twice the negative log likelihood, priors included."""
        r_t, r_r = self.residuals(fit)
        told = np.sum(self.white(r_t, self.weighing) ** 2) + np.sum((r_r / self.turn_sigma) ** 2)
        lever = fit.t_tip_cam @ self.lever_prior @ fit.t_tip_cam
        others = (fit.delay_s / DELAY_SIGMA_S) ** 2 + (fit.log_focal / self.focal_sigma) ** 2
        return float(told + lever + others)

    def equations(self, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
        """
        Gauss-Newton's normal equations.

        :return: (9, 9) and (9,), of a left rotation of R_X [rad], log scale, t_X [mm], delay [s]
            and log focal length.
        """
        r_t, r_r = self.residuals(fit)
        J_t, J_r = self._derivatives(fit, self._seen(fit))
        J = np.concatenate([self._flat(J_t), J_r.reshape(-1, UNKNOWNS) / self.turn_sigma])
        r = np.concatenate([self._flat(r_t[..., None])[:, 0], r_r.ravel() / self.turn_sigma])
        H, g = J.T @ J + self._prior(self.lever_prior), J.T @ r
        g[LEVER] += self.lever_prior @ fit.t_tip_cam
        g[DELAY] += fit.delay_s / DELAY_SIGMA_S**2
        g[FOCAL] += fit.log_focal / self.focal_sigma**2
        return H, g

    def information(self, fit: Fit) -> np.ndarray:
        """
        What the motion itself tells of the unknowns, (9, 9), without priors.

        Noise in a derivative looks like information. Here every product is of what the camera saw
        and of what the robot says it should have seen: their errors have nothing in common.
        """
        R_A, t_A = self.robot_steps(fit.delay_s)
        said = t_A + (R_A - np.eye(3)) @ fit.t_tip_cam
        sides = [self._derivatives(fit, moved) for moved in (self._seen(fit), said)]
        seen, told = (self._flat(J_t) for J_t, _ in sides)
        turn = sides[0][1].reshape(-1, UNKNOWNS) / self.turn_sigma
        H = seen.T @ told + turn.T @ turn
        return (H + H.T) / 2

    def covariance(self, fit: Fit, lever_sigma_mm: float) -> np.ndarray:
        """Of the unknowns (9, 9), with the true prior of t_X."""
        H = self.information(fit) + self._prior(np.eye(3) / lever_sigma_mm**2)
        return inverse_of(H)

    def free_what_is_seen(self, fit: Fit, lever_sigma_mm: float) -> None:
        """Let t_X go where the motion tells it; hold it at zero elsewhere."""
        H = self.information(fit) + self._prior(np.zeros((3, 3)))
        others = [0, 1, 2, SCALE, DELAY, FOCAL]
        cross = H[LEVER, others]
        told = H[LEVER, LEVER] - cross @ inverse_of(H[np.ix_(others, others)]) @ cross.T
        values, axes = np.linalg.eigh((told + told.T) / 2)
        seen = values > 1 / (SEEN_SHARE * lever_sigma_mm) ** 2
        weights = np.where(seen, 1 / lever_sigma_mm**2, 1 / HELD_MM**2)
        self.lever_prior = axes @ np.diag(weights) @ axes.T

    def _seen(self, fit: Fit) -> np.ndarray:
        """The camera's steps in the tip's axes, in millimetres, (n, 3)."""
        moved: np.ndarray = np.exp(fit.log_scale) * (self.t_B * stretch(fit)) @ fit.R_tip_cam.T
        return moved

    def _turned(self, fit: Fit) -> np.ndarray:
        """The camera's turns in the tip's axes, (n, 3) [rad]."""
        turned: np.ndarray = (self.r_B * stretch(fit)) @ fit.R_tip_cam.T
        return turned

    def _flat(self, J: np.ndarray) -> np.ndarray:
        """Whitened derivatives of the translations, (3 n, columns)."""
        return self.white(J, self.weighing).reshape(-1, J.shape[-1])

    def _prior(self, lever: np.ndarray) -> np.ndarray:
        H = np.zeros((UNKNOWNS, UNKNOWNS))
        H[LEVER, LEVER] = lever
        H[DELAY, DELAY] = 1 / DELAY_SIGMA_S**2
        H[FOCAL, FOCAL] = 1 / self.focal_sigma**2
        H[SCALE, SCALE] = 0.1  # a camera that stands still tells none
        H[ROTATION, ROTATION] = 1e-3 * np.eye(3)  # a straight path leaves one angle free
        return H

    def _derivatives(self, fit: Fit, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of both residuals (n, 3, 9), where `moved` are the camera's steps (n, 3) [mm]."""
        n = len(self.number)
        J_t, J_r = np.zeros((n, 3, UNKNOWNS)), np.zeros((n, 3, UNKNOWNS))
        R_A, _ = self.robot_steps(fit.delay_s)
        J_t[:, :, ROTATION] = skew(moved)
        J_t[:, :, SCALE] = -moved
        J_t[:, :, LEVER] = R_A - np.eye(3)
        J_r[:, :, ROTATION] = skew(self._turned(fit))
        sideways = fit.R_tip_cam @ np.diag(SIDEWAYS) @ fit.R_tip_cam.T
        J_t[:, :, FOCAL] = -moved @ sideways
        J_r[:, :, FOCAL] = -self._turned(fit) @ sideways
        sides = [
            self.residuals(replace(fit, delay_s=fit.delay_s + side))
            for side in (-DELAY_STEP_S / 2, DELAY_STEP_S / 2)
        ]
        J_t[:, :, DELAY] = (sides[1][0] - sides[0][0]) / DELAY_STEP_S
        J_r[:, :, DELAY] = (sides[1][1] - sides[0][1]) / DELAY_STEP_S
        return J_t, J_r


def inverse_of(H: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric matrix that ought to be positive; what is not is next to nothing."""
    size = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-12))
    values, axes = np.linalg.eigh(H / size[:, None] / size[None, :])
    inverse = axes @ np.diag(1 / np.maximum(values, 1e-6)) @ axes.T
    result: np.ndarray = inverse / size[:, None] / size[None, :]
    return result


def stretch(fit: Fit) -> np.ndarray:
    """
    What a wrong focal length does to motion: pans and sideways moves grow by its inverse, forward
    motion and roll do not (pixels = f angle, pixels = f x / z).
    """
    return np.exp(fit.log_focal * SIDEWAYS)
