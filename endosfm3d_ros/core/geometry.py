# SPDX-License-Identifier: Apache-2.0
"""Pinhole and rigid-motion formulas, each in one place; millimetres, radians, optical frames."""

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Intrinsics

# odom has x along the first view and z up (REP 103); optical has z along the view and y down (REP
# 105).
R_BODY_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def unproject_pixels(pixels: np.ndarray, depth: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """
    Lift some pixels to points.

    :param pixels: (N, 2) u, v [px].
    :param depth: (N,) z-depth [mm].
    :param camera: pinhole camera.
    :return: (N, 3) float64 points in the optical frame [mm].
    """
    x = (pixels[:, 0] - camera.cx) / camera.fx * depth
    y = (pixels[:, 1] - camera.cy) / camera.fy * depth
    return np.stack([x, y, depth], axis=1).astype(np.float64)


def rigid(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Put a rotation (3, 3) and a translation (3,) [mm] into a (4, 4) motion."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, np.ravel(t)
    return T


def motion_from_vector(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """
    Motion of an axis-angle vector (3,) [rad] and a translation (3,) [mm]: T = Trans(t) Rot(r).
    """
    return rigid(cv2.Rodrigues(np.asarray(rotation, np.float64).reshape(3, 1))[0], translation)


def inverse(T: np.ndarray) -> np.ndarray:
    """Invert a rigid motion (4, 4): T_b_a from T_a_b."""
    return rigid(T[:3, :3].T, -T[:3, :3].T @ T[:3, 3])


def skew(v: np.ndarray) -> np.ndarray:
    """Make cross-product matrices, (..., 3) to (..., 3, 3): times b they are a x b."""
    S = np.zeros((*v.shape[:-1], 3, 3))
    S[..., 0, 1], S[..., 0, 2], S[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    return S - np.swapaxes(S, -1, -2)


def rotations(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 3, 3) of axis-angle vectors (N, 3) [rad] (Rodrigues)."""
    angle = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)[:, None, None]
    turns = skew(vectors)
    once, twice = np.sin(angle) / angle, 0.5 * (np.sin(angle / 2.0) / (angle / 2.0)) ** 2
    return np.eye(3) + once * turns + twice * (turns @ turns)


def rotation_vectors(R: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (N, 3) [rad] of rotation matrices (N, 3, 3); turns below pi."""
    odd = R - np.swapaxes(R, 1, 2)
    axis = 0.5 * np.stack([odd[:, 2, 1], odd[:, 0, 2], odd[:, 1, 0]], axis=1)
    sine = np.linalg.norm(axis, axis=1)
    angle = np.arctan2(sine, 0.5 * (np.trace(R, axis1=1, axis2=2) - 1.0))
    return axis * (angle / np.maximum(sine, 1e-12))[:, None]


def nearest_rotation(R: np.ndarray) -> np.ndarray:
    """
    Clean the rounding off a chained rotation (3, 3): the closest orthonormal matrix (Kabsch).
    """
    U, _, Vt = np.linalg.svd(R)
    return U @ np.diag([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))]) @ Vt


def quaternion(R: np.ndarray) -> tuple[float, float, float, float]:
    """
    Rotation matrix to unit quaternion.

    :param R: (3, 3).
    :return: x, y, z, w (ROS order), w >= 0; stable for every angle (Shepperd 1978: the largest
        pivot).
    """
    q = np.empty(4)
    trace = np.trace(R)
    pivot = int(np.argmax([R[0, 0], R[1, 1], R[2, 2], trace]))
    if pivot == 3:
        q[:] = R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + trace
    else:
        i, j, k = pivot, (pivot + 1) % 3, (pivot + 2) % 3
        q[i] = 1 + R[i, i] - R[j, j] - R[k, k]
        q[j], q[k], q[3] = R[j, i] + R[i, j], R[k, i] + R[i, k], R[k, j] - R[j, k]
    q *= (1.0 if q[3] >= 0 else -1.0) / np.linalg.norm(q)
    return float(q[0]), float(q[1]), float(q[2]), float(q[3])


def rotation_from_quaternion(x: float, y: float, z: float, w: float) -> np.ndarray:
    """Unit quaternion (ROS order) to rotation matrix (3, 3)."""
    a, b, c, d = np.array([x, y, z, w]) / np.linalg.norm([x, y, z, w])
    return np.array(
        [
            [1 - 2 * (b * b + c * c), 2 * (a * b - c * d), 2 * (a * c + b * d)],
            [2 * (a * b + c * d), 1 - 2 * (a * a + c * c), 2 * (b * c - a * d)],
            [2 * (a * c - b * d), 2 * (b * c + a * d), 1 - 2 * (a * a + b * b)],
        ]
    )
