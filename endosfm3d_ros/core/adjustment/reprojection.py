# SPDX-License-Identifier: Apache-2.0
"""
What every observation of a window is off by, how much it says, and its slopes: the inner loops.

An observation has three rows: u and v of its pixel, and the log depth of the map there.
"""

from typing import NamedTuple

import numpy as np

from endosfm3d_ros.core.adjustment.scene import (
    DISTORTION,
    FOCAL,
    NEAREST_MM,
    PER_VIEW,
    SCALE,
    SHARED,
    Scene,
    Views,
)
from endosfm3d_ros.core.kernel import kernel
from endosfm3d_ros.core.lens import magnified

PIXEL_KERNEL = 2.5  # sigmas beyond which a residual loses its say (Cauchy)
DEPTH_KERNEL = 2.0
USUAL_RMS = 0.45  # of residuals over their stated sigma, which knows of more than residuals show
# An observation knows of the unknowns of its keyframe, and of the shared ones; where those begin:
OWN, U0, V0, FIRST_BEND = PER_VIEW + SHARED, PER_VIEW, PER_VIEW + 1, PER_VIEW + 2

magnified_at = kernel(magnified)


class Measured(NamedTuple):
    """
    The M observations of N points in K keyframes, point by point.

    :param n: (M,) which point; k: (M,) in which keyframe; first: (N,) a point's first observation.
    :param pixels: (M, 2) [px]; pixel_sigma: (M,) of either coordinate.
    :param log_depth: (M,) of the map there [log mm]; depth_sigma: (M,) of it, infinite where it is
        unknown; depth_share: (M,) what it counts, 1 in all of a point's keyframes together.
    :param bends: (M, 4), see `bends_at`.
    :param freedom: (N,) rows of a point that are left when it has taken three for its place.
    """

    n: np.ndarray
    k: np.ndarray
    first: np.ndarray
    pixels: np.ndarray
    pixel_sigma: np.ndarray
    log_depth: np.ndarray
    depth_sigma: np.ndarray
    depth_share: np.ndarray
    bends: np.ndarray
    freedom: np.ndarray

    @classmethod
    def of(cls, views: Views) -> 'Measured':
        """Those of a window's views, in which every point is seen somewhere."""
        seen = np.isfinite(views.pixels[..., 0])
        if not seen.any(axis=1).all():
            raise np.linalg.LinAlgError('a point that no keyframe sees')
        n, k = np.nonzero(seen)
        log_depth = views.log_depth[seen]
        deep = np.isfinite(log_depth)
        return cls(
            n=n,
            k=k,
            first=np.flatnonzero(np.diff(n, prepend=-1)),
            pixels=views.pixels[seen],
            pixel_sigma=views.pixel_sigma[seen],
            log_depth=np.where(deep, log_depth, 0.0),
            depth_sigma=np.where(deep, views.depth_sigma[seen], np.inf),
            depth_share=deep / np.maximum(np.bincount(n, deep, len(seen)), 1.0)[n],
            bends=np.where(deep[:, None], views.bends[seen], 0.0),
            freedom=np.maximum(2.0 * seen.sum(axis=1) - 3.0, 1.0),
        )


@kernel
def residuals_of(measured: Measured, scene: Scene) -> np.ndarray:
    """(M, 3) whitened; 0 where no depth was known."""
    focal, shared = np.exp(scene.log_focal), scene.shared
    out = np.empty((len(measured.n), 3))
    for m in range(len(out)):
        k = measured.k[m]
        x, y, z = in_camera(scene, measured.n[m], k)
        x, y = x / z, y / z
        magnifies = focal[k] * magnified_at(x * x + y * y, shared[DISTORTION])[0]
        out[m, 0] = (shared[0] + magnifies * x - measured.pixels[m, 0]) / measured.pixel_sigma[m]
        out[m, 1] = (shared[1] + magnifies * y - measured.pixels[m, 1]) / measured.pixel_sigma[m]
        told = measured.log_depth[m] + scene.log_scale[k]
        for bend in range(4):
            told += measured.bends[m, bend] * shared[2 + bend]
        out[m, 2] = (np.log(z) - told) / measured.depth_sigma[m]
    return out


@kernel
def cost_of(measured: Measured, residuals: np.ndarray, alike: float) -> float:
    """
    Robust cost of all residuals.

    A patch that looks different from elsewhere is off in all of its keyframes, and nobody knows
    before by how much. So each track has a spread of its own, about the usual one: its residuals
    together are a multivariate Student t (Lange et al. 1989, "Robust statistical modeling using
    the t distribution"), within which single ones may be outliers (Cauchy).

    :param alike: measurements' worth of belief that a track errs as much as usual.
    """
    tracks, depths = 0.0, 0.0
    strayed = _strayed(measured, residuals)
    for n in range(len(strayed)):
        tracks += (alike + measured.freedom[n]) * np.log1p(strayed[n] / alike)
    for m in range(len(residuals)):
        off = residuals[m, 2] / DEPTH_KERNEL
        depths += measured.depth_share[m] * np.log1p(off * off)
    return USUAL_RMS**2 * tracks + DEPTH_KERNEL**2 * depths


@kernel
def weights_of(measured: Measured, residuals: np.ndarray, alike: float) -> np.ndarray:
    """(M, 2): of pixel and depth rows; the slope of the cost by their squares."""
    out = np.empty((len(residuals), 2))
    strayed = _strayed(measured, residuals)
    for m in range(len(out)):
        n = measured.n[m]
        u, v, off = residuals[m, 0], residuals[m, 1], residuals[m, 2] / DEPTH_KERNEL
        of_track = (alike + measured.freedom[n]) / (alike + strayed[n])
        out[m, 0] = of_track / (1.0 + (u * u + v * v) / PIXEL_KERNEL**2)
        out[m, 1] = measured.depth_share[m] / (1.0 + off * off)
    return out


@kernel
def _strayed(measured: Measured, residuals: np.ndarray) -> np.ndarray:
    """(N,) squared residuals of each track over the usual one, outliers tamed."""
    out = np.zeros(len(measured.first))
    for m in range(len(residuals)):
        u, v = residuals[m, 0] / PIXEL_KERNEL, residuals[m, 1] / PIXEL_KERNEL
        out[measured.n[m]] += (PIXEL_KERNEL / USUAL_RMS) ** 2 * np.log1p(u * u + v * v)
    return out


@kernel
def normal_equations_of(
    measured: Measured, scene: Scene, residuals: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """H, b, W, H_points, b_points of `NormalEquations`, without what is believed."""
    N, K = len(scene.points), len(scene.t)
    shared, C = PER_VIEW * K, PER_VIEW * K + SHARED
    H_own, b_own = np.zeros((K, OWN, OWN)), np.zeros((K, OWN))
    W, H_points, b_points = np.zeros((N, 3, C)), np.zeros((N, 3, 3)), np.zeros((N, 3))
    J, by_point = np.zeros((3, OWN)), np.empty((3, 3))
    for m in range(len(measured.n)):
        n, k = measured.n[m], measured.k[m]
        _slopes(measured, scene, m, weights, J)
        _by_point(scene.R[k], J, by_point)
        r_u = residuals[m, 0] * np.sqrt(weights[m, 0])
        r_v = residuals[m, 1] * np.sqrt(weights[m, 0])
        r_deep = residuals[m, 2] * np.sqrt(weights[m, 1])
        H_k, b_k = H_own[k], b_own[k]
        for a in range(OWN):
            u, v, deep, H_ka = J[0, a], J[1, a], J[2, a], H_k[a]
            b_k[a] += u * r_u + v * r_v + deep * r_deep
            for c in range(OWN):
                H_ka[c] += u * J[0, c] + v * J[1, c] + deep * J[2, c]
        for p in range(3):
            u, v, deep = by_point[0, p], by_point[1, p], by_point[2, p]
            b_points[n, p] += u * r_u + v * r_v + deep * r_deep
            H_np, W_np = H_points[n, p], W[n, p]
            for q in range(3):
                H_np[q] += u * by_point[0, q] + v * by_point[1, q] + deep * by_point[2, q]
            own, common = W_np[PER_VIEW * k : PER_VIEW * (k + 1)], W_np[shared:]
            for a in range(PER_VIEW):
                own[a] = u * J[0, a] + v * J[1, a] + deep * J[2, a]
            for a in range(SHARED):
                c = PER_VIEW + a
                common[a] += u * J[0, c] + v * J[1, c] + deep * J[2, c]
    H, b = np.zeros((C, C)), np.zeros(C)
    for k in range(K):
        own = PER_VIEW * k
        H[own : own + PER_VIEW, own : own + PER_VIEW] = H_own[k, :PER_VIEW, :PER_VIEW]
        H[own : own + PER_VIEW, shared:] = H_own[k, :PER_VIEW, PER_VIEW:]
        H[shared:, own : own + PER_VIEW] = H_own[k, PER_VIEW:, :PER_VIEW]
        H[shared:, shared:] += H_own[k, PER_VIEW:, PER_VIEW:]
        b[own : own + PER_VIEW] = b_own[k, :PER_VIEW]
        b[shared:] += b_own[k, PER_VIEW:]
    return H, b, W, H_points, b_points


@kernel
def points_alone(
    measured: Measured, scene: Scene, residuals: np.ndarray, weights: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    H_points and b_points of `NormalEquations`.

    :param rows: of each observation: 3, or 2 without the map's depth.
    """
    H, b = np.zeros((len(scene.points), 3, 3)), np.zeros((len(scene.points), 3))
    J, by_point = np.zeros((3, OWN)), np.empty((3, 3))
    for m in range(len(measured.n)):
        n = measured.n[m]
        _slopes(measured, scene, m, weights, J)
        _by_point(scene.R[measured.k[m]], J, by_point)
        for row in range(rows):
            r = residuals[m, row] * np.sqrt(weights[m, row // 2])
            for p in range(3):
                b[n, p] += by_point[row, p] * r
                for q in range(3):
                    H[n, p, q] += by_point[row, p] * by_point[row, q]
    return H, b


@kernel
def pose_equations_of(
    points: np.ndarray,
    pixels: np.ndarray,
    R: np.ndarray,
    t: np.ndarray,
    log_focal: float,
    centre: np.ndarray,
    distortion: float,
    sigma_px: float,
    kernel_sigmas: float,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Normal equations of a camera among known points: H (7, 7) and b (7,) by turn, shift, log focal.

    :param points: (N, 3) in the world [mm]; pixels: (N, 2) where they are seen [px].
    :param R: (3, 3), t: (3,) of the camera [mm]; centre: (2,) principal point [px].
    :param kernel_sigmas: of sigma_px, beyond which a residual loses its say (Cauchy).
    """
    H, b, J = np.zeros((7, 7)), np.zeros(7), np.zeros((2, 7))
    f = np.exp(log_focal) / sigma_px
    for n in range(len(points)):
        x, y, z = points[n]
        X = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + t[0]
        Y = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + t[1]
        Z = max(R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + t[2], NEAREST_MM)
        pixel_slopes(X, Y, Z, f, distortion, J)
        r_u = (centre[0] - pixels[n, 0]) / sigma_px + J[0, FOCAL]  # f times where it is imaged
        r_v = (centre[1] - pixels[n, 1]) / sigma_px + J[1, FOCAL]
        weight = 1.0 / (1.0 + (r_u * r_u + r_v * r_v) / kernel_sigmas**2)
        for i in range(7):
            u, v = weight * J[0, i], weight * J[1, i]
            b[i] += u * r_u + v * r_v
            for j in range(7):
                H[i, j] += u * J[0, j] + v * J[1, j]
    return H, b


@kernel
def _slopes(measured: Measured, scene: Scene, m: int, weights: np.ndarray, J: np.ndarray) -> None:
    """
    Fill in J (3, 16): an observation's rows, each by the root of its weight, by its keyframe's
    unknowns and the shared ones. Columns 3 to 5 are slopes by the point in the camera, too.
    """
    k = measured.k[m]
    X, Y, Z = in_camera(scene, measured.n[m], k)
    px = np.sqrt(weights[m, 0]) / measured.pixel_sigma[m]
    deep = np.sqrt(weights[m, 1]) / measured.depth_sigma[m]
    f = np.exp(scene.log_focal[k]) * px
    by_distortion = pixel_slopes(X, Y, Z, f, scene.shared[DISTORTION], J)
    J[2, 0], J[2, 1], J[2, 5] = Y * deep / Z, -X * deep / Z, deep / Z
    J[2, SCALE] = -deep
    J[0, U0] = J[1, V0] = px
    bent = PER_VIEW + DISTORTION
    J[0, bent], J[1, bent] = by_distortion * X / Z, by_distortion * Y / Z
    for bend in range(4):
        J[2, FIRST_BEND + bend] = -deep * measured.bends[m, bend]


@kernel
def pixel_slopes(X: float, Y: float, Z: float, f: float, bent: float, J: np.ndarray) -> float:
    """
    Fill in the rows u and v of J by a small motion of the camera (turn, shift) and log focal.

    :param X, Y, Z: a point in the camera [mm]; f: focal length [px], times the rows' weight; bent:
        the lens's distortion.
    :return: slopes of u and v by the distortion, over x / z and y / z.
    """
    x, y = X / Z, Y / Z
    squared = x * x + y * y
    wide, by_squared, by_distortion = magnified_at(squared, bent)
    near, across = f / Z, 2.0 * by_squared
    outward = near * (wide + across * squared)
    J[0, 3], J[0, 4], J[0, 5] = near * (wide + across * x * x), near * across * x * y, -outward * x
    J[1, 3], J[1, 4], J[1, 5] = J[0, 4], near * (wide + across * y * y), -outward * y
    for row in range(2):  # a turn w moves X by w x X
        J[row, 0] = Y * J[row, 5] - Z * J[row, 4]
        J[row, 1] = Z * J[row, 3] - X * J[row, 5]
        J[row, 2] = X * J[row, 4] - Y * J[row, 3]
    J[0, FOCAL], J[1, FOCAL] = f * wide * x, f * wide * y
    return f * by_distortion


@kernel
def _by_point(R: np.ndarray, J: np.ndarray, out: np.ndarray) -> None:
    """Fill in the slopes (3, 3) by the point in the world, of those that `_slopes` made."""
    for row in range(3):
        for p in range(3):
            out[row, p] = J[row, 3] * R[0, p] + J[row, 4] * R[1, p] + J[row, 5] * R[2, p]


@kernel
def in_camera(scene: Scene, n: int, k: int) -> tuple[float, float, float]:
    """A point in a keyframe's camera [mm]."""
    R, t, x, y, z = (
        scene.R[k],
        scene.t[k],
        scene.points[n, 0],
        scene.points[n, 1],
        scene.points[n, 2],
    )
    return (
        R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + t[0],
        R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + t[1],
        max(R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + t[2], NEAREST_MM),
    )
