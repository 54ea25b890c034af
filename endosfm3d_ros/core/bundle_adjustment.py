# SPDX-License-Identifier: Apache-2.0
"""
Robust bundle adjustment of a few keyframes: poses, focal lengths, points, and what depth maps are
off by.

Everything that a second of tracks can say is one least-squares problem. Its unknowns: the pose
and the log focal length of every keyframe, one log scale per depth map, a principal point, a few
smooth terms by which the maps are bent, the reference focal length, and the points. Points are
eliminated (Schur complement), which leaves about a hundred unknowns. Triggs et al. 2000,
"Bundle Adjustment: A Modern Synthesis".
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

POSE, FOCAL, SCALE, PER_VIEW = slice(0, 6), 6, 7, 8  # unknowns of one keyframe: turn, shift, ...
CENTRE, BENDS, REFERENCE = slice(0, 2), slice(2, 6), 6  # and those that all of them share
RELIEF = 5  # of the shared ones
SHARED = 7
PIXEL_KERNEL = 2.5  # sigmas beyond which a residual loses its say (Cauchy)
DEPTH_KERNEL = 2.0
TIED = 1e-4  # sigma of what is held or equal
MOST_ZOOM_STEP, MOST_DEPTH_STEP = 0.5, 0.7  # of the logarithms, an iteration
NEAREST_MM = 0.05  # a point is never nearer to a camera that sees it


@dataclass(frozen=True)
class Views:
    """
    What was measured in K keyframes of N points; NaN where a keyframe does not see a point.

    :param pixels: (N, K, 2) u, v in the input picture [px].
    :param pixel_sigma: (N, K) standard deviation of either coordinate [px].
    :param log_depth: (N, K) log of the depth map's z at that pixel [log mm], NaN where unknown.
    :param depth_sigma: (N, K) standard deviation of it, each taken as if a track's keyframes told
        one thing.
    :param bends: (N, K, 4) the smooth terms' values there, see `bends_at`.
    :param log_zoom: (K,) measured log zoom against the reference; NaN where no rim was seen.
    :param log_zoom_sigma: (K,) of it.
    :param wander: (K - 1,) sigma of how far log zoom may move to the next keyframe where nothing
        measures it.
    """

    pixels: np.ndarray
    pixel_sigma: np.ndarray
    log_depth: np.ndarray
    depth_sigma: np.ndarray
    bends: np.ndarray
    log_zoom: np.ndarray
    log_zoom_sigma: np.ndarray
    wander: np.ndarray


@dataclass(frozen=True)
class Beliefs:
    """
    What is known before: means and standard deviations of Gaussians.

    :param focal: (2,) log of the reference focal length [log px], and log zoom of the first
        keyframe against it; focal_covariance (2, 2) of both.
    :param centre: (2,) principal point [px]; centre_sigma [px].
    :param log_scale: of the depth maps: world over network; log_scale_sigma of it.
    :param scale_flicker: sigma between the scales of neighbouring keyframes.
    :param bend_sigma: (4,) of the smooth terms' coefficients.
    :param relief_sigma: how far the maps' relief may really be off. It is not left to the
        adjustment, which would buy a better fit with a flat scene and a long lens (bas-relief
        ambiguity; Belhumeur et al. 1999); the covariance considers it (Schmidt 1966).
    """

    focal: np.ndarray
    focal_covariance: np.ndarray
    centre: np.ndarray
    centre_sigma: float
    log_scale: float
    log_scale_sigma: float
    scale_flicker: float
    bend_sigma: np.ndarray
    relief_sigma: float


@dataclass(frozen=True)
class Scene:
    """
    The unknowns.

    :param R: (K, 3, 3) and t: (K, 3): keyframe_T_world [mm].
    :param log_focal: (K,) [log px].
    :param log_scale: (K,) of each depth map.
    :param shared: (7,) principal point (2) [px], coefficients of the bends (4), reference log
        focal.
    :param points: (N, 3) in the world [mm].
    """

    R: np.ndarray
    t: np.ndarray
    log_focal: np.ndarray
    log_scale: np.ndarray
    shared: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class Solution:
    """
    Where the adjustment ended.

    :param scene: the unknowns.
    :param covariance: (8 K + 7,) squared: of the keyframes' unknowns in order (a small motion of
        the camera's frame: turn [rad], shift [mm]; log focal; log scale), then the shared ones.
        The first keyframe's pose is held: its rows are zero.
    :param weights: (N, K) 0 to 1, how much each observation agrees; 0 where there is none.
    :param cost: robust cost, priors included.
    :param pixel_rms: robust spread of reprojection over its stated sigma; about 1 when honest.
    :param converged: False where more iterations would go on.
    """

    scene: Scene
    covariance: np.ndarray
    weights: np.ndarray
    cost: float
    pixel_rms: float
    converged: bool


def bends_at(pixels: np.ndarray, log_depth: np.ndarray, width: int, height: int) -> np.ndarray:
    """
    Values of the smooth terms by which a depth map may be wrong: tilts, a bowl, and relief.

    :param pixels: (..., 2) [px]; log_depth: (...) of the map there; width, height: of the picture.
    :return: (..., 4): x, y, r^2 about the picture's centre (of half its longer side), and log
        depth less its median.
    """
    half = max(width, height) / 2
    x = (pixels[..., 0] - (width - 1) / 2) / half
    y = (pixels[..., 1] - (height - 1) / 2) / half
    relief = log_depth - np.nanmedian(log_depth) if np.isfinite(log_depth).any() else log_depth
    return np.stack([x, y, x * x + y * y, relief], axis=-1)


def adjust(
    views: Views, beliefs: Beliefs, start: Scene, iterations: int = 6, tolerance: float = 5e-4
) -> Solution:
    """
    Minimise, by Levenberg-Marquardt with reweighting.

    :param start: where to begin; its first keyframe's pose is held.
    :param iterations: at most; go on from where it ended, if it had not converged.
    :param tolerance: it has converged when the cost falls by less, relatively.
    """
    problem = _Problem(views, beliefs)
    scene, damping, converged = start, 1e-3, False
    residuals = problem.residuals(scene)
    cost = problem.cost(scene, residuals)
    for _ in range(iterations):
        system = problem.linearised(scene, residuals)
        for _ in range(4):
            moved = problem.moved(scene, *system.solved(damping))
            new_residuals = problem.residuals(moved)
            new_cost = problem.cost(moved, new_residuals)
            if new_cost < cost:
                break
            damping *= 8.0
        else:
            converged = True  # no step makes it better
            break
        converged = cost - new_cost < tolerance * cost
        scene, residuals, cost = moved, new_residuals, new_cost
        damping = max(damping / 6.0, 1e-6)
        if converged:
            break
    covariance = problem.linearised(scene, residuals).covariance(beliefs.relief_sigma)
    weights = problem.weights(residuals)[..., 0]
    spread = residuals[..., :2][weights > 0]
    pixel_rms = float(1.4826 * np.median(np.abs(spread))) if spread.size else 1.0
    return Solution(scene, covariance, weights, cost, pixel_rms, converged)


@dataclass(frozen=True)
class _System:
    """
    Normal equations: `kept` unknowns of cameras, and points on the side.

    :param H: (C, C); b: (C,); W: (N, C, 3); H_points: (N, 3, 3); b_points: (N, 3).
    """

    H: np.ndarray
    b: np.ndarray
    W: np.ndarray
    H_points: np.ndarray
    b_points: np.ndarray

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Schur complement on the cameras, its right side, and the points' inverses."""
        N, C, _ = self.W.shape
        diagonal = np.einsum('nii->ni', self.H_points)
        H_points = self.H_points + np.eye(3) * (damping * diagonal + 1e-9)[:, None, :]
        inverse = np.linalg.inv(H_points)  # (N, 3, 3)
        Y = self.W @ inverse  # (N, C, 3)
        flat_Y = Y.transpose(1, 0, 2).reshape(C, 3 * N)
        flat_W = self.W.transpose(1, 0, 2).reshape(C, 3 * N)
        S = self.H - flat_Y @ flat_W.T
        S[np.arange(C), np.arange(C)] += damping * np.diag(self.H)
        return S, self.b - flat_Y @ self.b_points.ravel(), inverse

    def solved(self, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """The step of the cameras (C,) and of the points (N, 3)."""
        S, right, inverse = self.reduced(damping)
        step = -np.linalg.solve(S, right)
        back = self.b_points + np.einsum('ncp,c->np', self.W, step)
        return step, -np.einsum('npq,nq->np', inverse, back)

    def covariance(self, relief_sigma: float) -> np.ndarray:
        """Of all camera unknowns; rows and columns of the held pose and of relief are zero."""
        S, _, _ = self.reduced(0.0)
        relief = len(S) - SHARED + RELIEF
        free = np.r_[POSE.stop : relief, relief + 1 : len(S)]
        estimated = np.linalg.inv(S[np.ix_(free, free)])
        lever = estimated @ S[free, relief] * relief_sigma
        out = np.zeros_like(S)
        out[np.ix_(free, free)] = estimated + np.outer(lever, lever)
        return out


class _Problem:
    def __init__(self, views: Views, beliefs: Beliefs) -> None:
        self.views, self.beliefs = views, beliefs
        self.seen = np.isfinite(views.pixels[..., 0])
        self.anchor = self.seen.argmax(axis=1)
        self.deep = self.seen & np.isfinite(views.log_depth)
        known = np.maximum(self.deep.sum(1, keepdims=True), 1)
        self.depth_share = np.where(self.deep, 1.0 / known, 0.0)  # (N, K)
        self.pixels = np.where(self.seen[..., None], views.pixels, 0.0)
        self.log_depth = np.where(self.deep, views.log_depth, 0.0)
        self.bends = np.where(self.deep[..., None], views.bends, 0.0)

    def residuals(self, scene: Scene) -> np.ndarray:
        """(N, K, 3) whitened: u, v, log depth; 0 where nothing was measured."""
        X = self._in_cameras(scene)
        z = np.maximum(X[..., 2], NEAREST_MM)
        f = np.exp(scene.log_focal)[None, :, None]
        uv = scene.shared[CENTRE] + f * X[..., :2] / z[..., None]
        out = np.empty((*self.seen.shape, 3))
        out[..., :2] = (uv - self.pixels) / self.views.pixel_sigma[..., None]
        off = np.log(z) - self.log_depth - scene.log_scale - self.bends @ scene.shared[BENDS]
        out[..., 2] = off / self.views.depth_sigma
        out[~self.seen] = 0.0
        out[..., 2][~self.deep] = 0.0
        return out

    def cost(self, scene: Scene, residuals: np.ndarray) -> float:
        """Robust cost with the priors."""
        pixel = (residuals[..., :2] ** 2).sum(-1)
        depth = residuals[..., 2] ** 2
        k, d = PIXEL_KERNEL**2, DEPTH_KERNEL**2
        total = k * np.log1p(pixel / k).sum() + d * (self.depth_share * np.log1p(depth / d)).sum()
        error, _ = self._priors(scene)
        return float(total + error @ error)

    def weights(self, residuals: np.ndarray) -> np.ndarray:
        """(N, K, 2): of pixel and depth rows, Cauchy's 1 / (1 + (r / k)^2)."""
        pixel = (residuals[..., :2] ** 2).sum(-1)
        w_pixel = np.where(self.seen, 1.0 / (1.0 + pixel / PIXEL_KERNEL**2), 0.0)
        w_depth = self.depth_share / (1.0 + residuals[..., 2] ** 2 / DEPTH_KERNEL**2)
        return np.stack([w_pixel, w_depth], axis=-1)

    def linearised(self, scene: Scene, residuals: np.ndarray) -> _System:
        """Build the normal equations at this scene."""
        X = self._in_cameras(scene)  # (N, K, 3)
        N, K, _ = X.shape
        z = np.maximum(X[..., 2], NEAREST_MM)
        f = np.exp(scene.log_focal)[None, :]
        per_px = f / (z * self.views.pixel_sigma)
        ratio = X[..., :2] / z[..., None]
        d_X = np.zeros((N, K, 3, 3))  # rows u, v, log depth; by X
        d_X[..., 0, 0] = d_X[..., 1, 1] = per_px
        d_X[..., 0, 2], d_X[..., 1, 2] = -per_px * ratio[..., 0], -per_px * ratio[..., 1]
        d_X[..., 2, 2] = 1.0 / (z * self.views.depth_sigma)
        root = np.sqrt(self.weights(residuals))
        rows = np.stack([root[..., 0], root[..., 0], root[..., 1]], axis=-1)  # (N, K, 3)
        d_X *= rows[..., None]
        r = residuals * rows
        J_view = np.zeros((N, K, 3, PER_VIEW))
        J_view[..., 0:3] = np.cross(X[..., None, :], d_X)  # a turn w moves X by w x X
        J_view[..., 3:6] = d_X
        J_view[..., :2, FOCAL] = (f / self.views.pixel_sigma)[..., None] * ratio * rows[..., :2]
        J_view[..., 2, SCALE] = -rows[..., 2] / self.views.depth_sigma
        J_shared = np.zeros((N, K, 3, SHARED))
        J_shared[..., 0, 0] = J_shared[..., 1, 1] = rows[..., 0] / self.views.pixel_sigma
        J_shared[..., 2, BENDS] = -self.bends * (rows[..., 2] / self.views.depth_sigma)[..., None]
        J_points = d_X @ scene.R  # (N, K, 3, 3)

        C = PER_VIEW * K + SHARED
        H, b = np.zeros((C, C)), np.zeros(C)
        views, shared = slice(0, PER_VIEW * K), slice(PER_VIEW * K, C)
        by_view = J_view.transpose(1, 0, 2, 3).reshape(K, 3 * N, PER_VIEW)
        r_by_view = r.transpose(1, 0, 2).reshape(K, 3 * N)
        shared_by_view = J_shared.transpose(1, 0, 2, 3).reshape(K, 3 * N, SHARED)
        blocks = by_view.transpose(0, 2, 1) @ by_view  # (K, 8, 8)
        cross = by_view.transpose(0, 2, 1) @ shared_by_view  # (K, 8, 7)
        for k in range(K):
            own = slice(PER_VIEW * k, PER_VIEW * (k + 1))
            H[own, own] = blocks[k]
            H[own, shared] = cross[k]
            H[shared, own] = cross[k].T
        b[views] = np.einsum('kra,kr->ka', by_view, r_by_view).ravel()
        flat_shared = J_shared.reshape(-1, SHARED)
        H[shared, shared] = flat_shared.T @ flat_shared
        b[shared] = flat_shared.T @ r.ravel()
        W_views = (J_view.transpose(0, 1, 3, 2) @ J_points).reshape(N, PER_VIEW * K, 3)
        points = J_points.reshape(N, 3 * K, 3)
        W_shared = J_shared.reshape(N, 3 * K, SHARED).transpose(0, 2, 1) @ points
        error, J = self._priors(scene)
        H += J.T @ J
        b += J.T @ error
        return _System(
            H=H,
            b=b,
            W=np.concatenate([W_views, W_shared], axis=1),
            H_points=points.transpose(0, 2, 1) @ points,
            b_points=np.einsum('nrp,nr->np', points, r.reshape(N, 3 * K)),
        )

    def moved(self, scene: Scene, step: np.ndarray, point_step: np.ndarray) -> Scene:
        """
        The scene after a step; the first pose stays.

        Points move in the pixel and the log depth of the first keyframe that sees them: there a
        longer lens or a deeper scene moves nothing to first order, so steps may be large.
        """
        K = len(scene.t)
        view, shared = step[: PER_VIEW * K].reshape(K, PER_VIEW), step[PER_VIEW * K :]
        R, t = scene.R.copy(), scene.t.copy()
        for k in range(1, K):
            turn = cv2.Rodrigues(view[k, 0:3])[0]
            R[k] = turn @ R[k]
            t[k] = turn @ t[k] + view[k, 3:6]
        log_focal = scene.log_focal + np.clip(view[:, FOCAL], -MOST_ZOOM_STEP, MOST_ZOOM_STEP)

        a = self.anchor
        X = np.einsum('nij,nj->ni', scene.R[a], scene.points) + scene.t[a]
        X[:, 2] = np.maximum(X[:, 2], NEAREST_MM)
        d_X = np.einsum('nij,nj->ni', scene.R[a], point_step)
        d_X += np.cross(view[a, 0:3], X) + view[a, 3:6]
        z = X[:, 2:]
        ratio = X[:, :2] / z
        d_ratio = (d_X[:, :2] - ratio * d_X[:, 2:]) / z + ratio * view[a, FOCAL][:, None]
        shrink = np.exp(scene.log_focal - log_focal)[a][:, None]
        new_z = z * np.exp(np.clip(d_X[:, 2:] / z, -MOST_DEPTH_STEP, MOST_DEPTH_STEP))
        new_X = np.concatenate([(ratio + d_ratio) * shrink * new_z, new_z], axis=1)
        return replace(
            scene,
            R=R,
            t=t,
            log_focal=log_focal,
            log_scale=scene.log_scale + view[:, SCALE],
            shared=scene.shared + shared,
            points=np.einsum('nji,nj->ni', R[a], new_X - t[a]),
        )

    def _in_cameras(self, scene: Scene) -> np.ndarray:
        in_views = scene.points @ scene.R.transpose(0, 2, 1) + scene.t[:, None]  # (K, N, 3)
        return in_views.transpose(1, 0, 2)

    def _priors(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """Whitened errors of everything believed, and their Jacobian (rows, C)."""
        views, beliefs, K = self.views, self.beliefs, len(scene.t)
        rows: list[tuple[float, dict[int, float], float]] = []  # error, slopes, sigma
        shared = PER_VIEW * K
        reference = shared + REFERENCE
        for axis in range(2):
            off = float(scene.shared[axis] - beliefs.centre[axis])
            rows.append((off, {shared + axis: 1.0}, beliefs.centre_sigma))
        for bend in range(BENDS.start, BENDS.stop):
            sigma = float(beliefs.bend_sigma[bend - BENDS.start])
            rows.append((float(scene.shared[bend]), {shared + bend: 1.0}, sigma))
        whiten = np.linalg.inv(np.linalg.cholesky(beliefs.focal_covariance))
        first = scene.log_focal[0] - scene.shared[REFERENCE]
        white = whiten @ (np.array([scene.shared[REFERENCE], first]) - beliefs.focal)
        for row in range(2):
            a, b = float(whiten[row, 0]), float(whiten[row, 1])
            rows.append((float(white[row]), {reference: a - b, FOCAL: b}, 1.0))
        measured = np.isfinite(views.log_zoom).tolist()
        for k in range(K):
            if measured[k]:
                off = float(scene.log_focal[k] - scene.shared[REFERENCE] - views.log_zoom[k])
                slopes = {PER_VIEW * k + FOCAL: 1.0, reference: -1.0}
                rows.append((off, slopes, float(views.log_zoom_sigma[k])))
        for k in range(K - 1):
            ahead, here = PER_VIEW * (k + 1), PER_VIEW * k
            off = float(scene.log_scale[k + 1] - scene.log_scale[k])
            rows.append((off, {ahead + SCALE: 1.0, here + SCALE: -1.0}, beliefs.scale_flicker))
            if not (measured[k] and measured[k + 1]):
                off = float(scene.log_focal[k + 1] - scene.log_focal[k])
                wander = float(views.wander[k])
                sigma = wander * max(1.0, abs(off) / wander) ** 0.5  # it rests, or runs: |x|
                rows.append((off, {ahead + FOCAL: 1.0, here + FOCAL: -1.0}, sigma))
        off = float(scene.log_scale.mean()) - beliefs.log_scale
        slopes = {PER_VIEW * k + SCALE: 1.0 / K for k in range(K)}
        rows.append((off, slopes, beliefs.log_scale_sigma))
        rows += [(0.0, {held: 1.0}, TIED) for held in range(POSE.start, POSE.stop)]
        errors, J = np.empty(len(rows)), np.zeros((len(rows), shared + SHARED))
        for at, (off, slopes, sigma) in enumerate(rows):
            errors[at] = off / sigma
            for column, slope in slopes.items():
                J[at, column] = slope / sigma
        return errors, J
