# SPDX-License-Identifier: Apache-2.0
"""
How far a camera's path is from the truth: alignment, ATE, RPE, snippets, and two lazy baselines.
"""

from dataclasses import dataclass

import numpy as np

SNIPPET = 5


@dataclass(frozen=True)
class Similarity:
    """
    x -> scale R x + t, from one world into another.

    :param scale: positive.
    :param R: (3, 3) rotation.
    :param t: (3,) in the unit of the world it maps into.
    """

    scale: float
    R: np.ndarray
    t: np.ndarray

    def points(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 3)."""
        return self.scale * points @ self.R.T + self.t


@dataclass(frozen=True)
class TrajectoryErrors:
    """
    Errors of a path against the truth.

    :param frames: cameras compared.
    :param ate_sim3: RMSE of positions after the best Sim(3) [mm].
    :param ate_se3: RMSE of positions after the best SE(3), the run's own scale kept [mm].
    :param scale: the Sim(3)'s: true millimetres in one of the run's; None where the run has no
        extent.
    :param rpe_translation: RMSE of the step's translation, scaled by the Sim(3) [mm per frame].
    :param rpe_rotation: RMSE of the step's rotation [deg per frame].
    :param snippet_ate: the field's 5-frame number [mm]; None without five frames in a row.
    :param snippet_rmse: the true RMSE of the same snippets, sqrt(5) times as large [mm].
    """

    frames: int
    ate_sim3: float
    ate_se3: float
    scale: float | None
    rpe_translation: float
    rpe_rotation: float
    snippet_ate: float | None
    snippet_rmse: float | None


def align(source: np.ndarray, target: np.ndarray, with_scale: bool = True) -> Similarity:
    """
    The similarity that brings points closest to their partners (Umeyama, PAMI 1991, eq. 40-43).

    :param source: (N, 3).
    :param target: (N, 3), the partner of each.
    :param with_scale: False holds the scale at 1.
    :return: source -> target; where the source is a single place, a plain shift of scale 1.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or not len(source):
        raise ValueError(
            f'alignment needs two (N, 3) of one length, found {source.shape} and {target.shape}'
        )
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    centred_source, centred_target = source - mean_source, target - mean_target
    variance = float(np.mean(np.sum(centred_source**2, axis=1)))
    if variance < 1e-18:
        return Similarity(1.0, np.eye(3), mean_target - mean_source)
    U, singular, Vt = np.linalg.svd(centred_target.T @ centred_source / len(source))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    R = (U * signs) @ Vt
    scale = float(np.sum(singular * signs) / variance) if with_scale else 1.0
    return Similarity(scale, R, mean_target - scale * R @ mean_source)


def trajectory_errors(
    T_odom_cam: np.ndarray, T_world_cam: np.ndarray, order: np.ndarray | None = None
) -> TrajectoryErrors:
    """
    Compare a path with the truth.

    :param T_odom_cam: (N, 4, 4) estimate, up to scale and in a world of its own.
    :param T_world_cam: (N, 4, 4) truth [mm].
    :param order: (N,) whole frame numbers; steps and snippets use neighbours in number only, so
        that a dropped frame does not count as a large error. Default: no frame is missing.
    """
    order = np.arange(len(T_odom_cam)) if order is None else order
    positions, truth = T_odom_cam[:, :3, 3], T_world_cam[:, :3, 3]
    similarity = align(positions, truth)
    moves = bool(np.ptp(positions, axis=0).max() > 1e-9)
    scale = similarity.scale if moves else 1.0
    translation, rotation = _step_errors(T_odom_cam, T_world_cam, order, scale)
    snippets = snippet_errors(T_odom_cam, T_world_cam, order)
    return TrajectoryErrors(
        frames=len(positions),
        ate_sim3=_rmse(similarity.points(positions) - truth),
        ate_se3=_rmse(align(positions, truth, with_scale=False).points(positions) - truth),
        scale=scale if moves else None,
        rpe_translation=translation,
        rpe_rotation=rotation,
        snippet_ate=float(np.mean(snippets) / SNIPPET) if len(snippets) else None,
        snippet_rmse=float(np.mean(snippets) / np.sqrt(SNIPPET)) if len(snippets) else None,
    )


def snippet_errors(
    T_odom_cam: np.ndarray, T_world_cam: np.ndarray, order: np.ndarray | None = None
) -> np.ndarray:
    """
    Score snippets of five frames (Zhou et al. 2017, and all depth papers since).

    Per snippet, positions p_k of the estimate and q_k of the truth stand in the snippet's first
    camera, so both begin at 0; s = sum(q.p) / sum(p.p); the error is e = sqrt(sum |s p_k -
    q_k|^2). Papers print e / 5 and call it ATE; the true RMSE is e / sqrt(5).

    :return: e of every whole snippet, one starting at every frame (S,) [mm]; S may be 0.
    """
    order = np.arange(len(T_odom_cam)) if order is None else order
    errors = []
    for first in range(len(order) - SNIPPET + 1):
        window = slice(first, first + SNIPPET)
        if order[first + SNIPPET - 1] - order[first] != SNIPPET - 1:
            continue
        found, target = _seen_from_first(T_odom_cam[window]), _seen_from_first(T_world_cam[window])
        extent = float(np.sum(found * found))
        scale = float(np.sum(target * found)) / extent if extent > 1e-18 else 0.0
        errors.append(float(np.linalg.norm(scale * found - target)))
    return np.array(errors)


def no_motion(count: int) -> np.ndarray:
    """The camera that never moves, (N, 4, 4)."""
    return np.tile(np.eye(4), (count, 1, 1))


def constant_forward(order: np.ndarray) -> np.ndarray:
    """
    The camera that never turns and goes one unit along its view with each frame number, (N, 4,
    4).
    """
    cameras = no_motion(len(order))
    cameras[:, 2, 3] = np.asarray(order) - order[0]
    return cameras


def _seen_from_first(T_a_cam: np.ndarray) -> np.ndarray:
    """Positions (N, 3) in the first camera's frame."""
    return (np.linalg.inv(T_a_cam[0]) @ T_a_cam)[:, :3, 3]


def _step_errors(
    T_odom_cam: np.ndarray, T_world_cam: np.ndarray, order: np.ndarray, scale: float
) -> tuple[float, float]:
    """
    RMSE of steps between neighbours in frame number: translation [mm], rotation [deg]; NaN
    without steps.
    """
    follows = np.flatnonzero(np.diff(order) == 1)
    if not len(follows):
        return float('nan'), float('nan')
    found = np.linalg.inv(T_odom_cam[follows]) @ T_odom_cam[follows + 1]
    target = np.linalg.inv(T_world_cam[follows]) @ T_world_cam[follows + 1]
    found[:, :3, 3] *= scale
    error = np.linalg.inv(target) @ found
    sine = np.linalg.norm(
        error[:, :3, :3] - error[:, :3, :3].transpose(0, 2, 1), axis=(1, 2)
    ) / np.sqrt(8)
    cosine = (np.trace(error[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    angles = np.degrees(np.arctan2(sine, cosine))
    return _rmse(error[:, :3, 3]), float(np.sqrt(np.mean(angles**2)))


def _rmse(differences: np.ndarray) -> float:
    """Root of the mean squared length of the rows."""
    return float(np.sqrt(np.mean(np.sum(differences**2, axis=1))))
