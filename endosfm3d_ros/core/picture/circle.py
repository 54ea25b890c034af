# SPDX-License-Identifier: Apache-2.0
"""Circles through points: the one that most points agree on, and the one that fits them best."""

import numpy as np

from endosfm3d_ros.core.kernel import kernel

Circle = tuple[float, float, float]  # u, v, r [px]


def consensus(
    points: np.ndarray, tolerance: float, trials: int, picture: tuple[int, int]
) -> Circle | None:
    """
    Find the circle that most points lie on and few lie outside of.

    :param points: (N, 2) u, v [px].
    :param tolerance: how far from the circle a point still lies on it [px].
    :param trials: circles through three of the points that are tried, the same ones on every call.
    :param picture: width and height of the picture [px]; the circle's centre must lie in it, and
        its radius between an eighth of the width and the whole.
    :return: u, v, r [px], or None where no three points make such a circle.
    """
    if len(points) < 3:
        return None
    points = np.array(points, float)
    triples = np.random.default_rng(0).integers(0, len(points), (trials, 3))
    a, b, c = (points[triples[:, k]] for k in range(3))
    ab, ac = b - a, c - a
    cross = 2 * (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    usable = np.abs(cross) > 1e-3 * (np.square(ab).sum(1) + np.square(ac).sum(1))
    if not usable.any():
        return None
    a, ab, ac, cross = a[usable], ab[usable], ac[usable], cross[usable]
    ab2, ac2 = np.square(ab).sum(1), np.square(ac).sum(1)
    offset_u = (ac[:, 1] * ab2 - ab[:, 1] * ac2) / cross
    offset_v = (ab[:, 0] * ac2 - ac[:, 0] * ab2) / cross
    radius = np.hypot(offset_u, offset_v)
    centre_u, centre_v = a[:, 0] + offset_u, a[:, 1] + offset_v
    score = _scores(points, centre_u, centre_v, radius, float(tolerance))
    width, height = picture
    likely = (radius > width / 8) & (radius < width)
    likely &= (np.abs(2 * centre_u - width) < width) & (np.abs(2 * centre_v - height) < height)
    best = int(np.argmax(np.where(likely, score, -np.inf)))
    if not likely[best]:
        return None
    return float(centre_u[best]), float(centre_v[best]), float(radius[best])


@kernel
def _scores(
    points: np.ndarray, u: np.ndarray, v: np.ndarray, radius: np.ndarray, tolerance: float
) -> np.ndarray:
    """How many points (N, 2) lie on each of T circles, less half of those outside: (T,)."""
    out = np.zeros(len(u))
    for trial in range(len(u)):
        for n in range(len(points)):
            way_u, way_v = points[n, 0] - u[trial], points[n, 1] - v[trial]
            distance = np.sqrt(way_u * way_u + way_v * way_v) - radius[trial]
            if abs(distance) < tolerance:
                out[trial] += 1.0
            elif distance > 2.0 * tolerance:
                out[trial] -= 0.5
    return out


def fit_circle(points: np.ndarray, circle: Circle, steps: int = 8) -> tuple[Circle, np.ndarray]:
    """
    Fit a circle by robust least squares of the distances from it (Gauss-Newton, Tukey's weights).

    :param points: (N, 2) u, v [px], N >= 3.
    :param circle: where to start [px].
    :param steps: at most so many.
    :return: the circle [px]; (N,) distance of each point from it, outside positive [px].
    """
    state = np.array(circle)
    jacobian = np.ones((len(points), 3))
    for step in range(steps):
        residual = _away(points, state, jacobian)
        if step < 3:
            limit = (8.0, 5.0, 4.0)[step] * spread(residual)
        weight = np.square(np.maximum(1 - np.square(residual / limit), 0))
        weighted = jacobian.T * weight
        change = np.linalg.solve(weighted @ jacobian + 1e-9 * np.eye(3), weighted @ residual)
        state += change
        if step >= 2 and np.abs(change).max() < 2e-3:
            break
    return (float(state[0]), float(state[1]), float(state[2])), _away(points, state, jacobian)


def _away(points: np.ndarray, circle: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """(N,) distances from the circle [px]; the directions are written to jacobian[:, :2]."""
    away = points - circle[:2]
    distance = np.sqrt(np.einsum('ij,ij->i', away, away))
    np.divide(away, distance[:, None], out=jacobian[:, :2])
    return distance - circle[2]


def spread(residual: np.ndarray) -> float:
    """1 sigma of residuals around 0 that outliers hardly change, at least 0.05 px."""
    size = np.abs(residual)
    return max(1.4826 * float(np.partition(size, len(size) // 2)[len(size) // 2]), 0.05)
