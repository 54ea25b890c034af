# SPDX-License-Identifier: Apache-2.0
"""
How well can tracks tell a focal length at all: the Cramér-Rao bound.

The Fisher information of everything that tracks and depth maps measured, priors added, is inverted
at the true motion; no unbiased estimator does better on average (Cramér 1946, Rao 1945; with
priors: Van Trees 1968). The bound is optimistic where an estimator has a harder life: here the
principal point is known, a track's first pixel is exact, and no track is wrong.
"""

from dataclasses import dataclass

import numpy as np

from endosfm3d_ros.core.geometry import inverse, skew

POSE, FOCAL, MAP, PER_VIEW = slice(0, 6), 6, 7, 8  # unknowns of a keyframe: turn and shift, ...
SHAPES = 4  # and of what all depth maps are bent by: x, y, r^2, relief
MARGIN_PX = 4.0  # tracks end so far from the edge of what is seen
SAME_DEPTH = 0.05  # of log depth: a point farther behind what is seen is hidden


@dataclass(frozen=True)
class Assumed:
    """
    What is measured how well, as standard deviations.

    :param points: tracks alive in every keyframe; new ones replace those that end.
    :param track: of either coordinate of a track [picture widths]: 0.3 px of 320.
    :param depth: of a point's log depth by itself, where its track begins.
    :param shape: of each coefficient by which all depth maps are bent: tilts, bowl, relief.
    :param scale: of each depth map's log scale.
    :param wander: of log focal, a frame, between keyframes.
    :param rim: of a keyframe's log zoom by the rim, where its picture shows one.
    :param prior: of log focal at the first frame.
    """

    points: int = 300
    track: float = 0.3 / 320.0
    depth: float = 0.07
    shape: float = 0.3
    scale: float = 0.04
    wander: float = 0.01
    rim: float = 1e-3
    prior: float = 0.45


@dataclass(frozen=True)
class Seen:
    """
    K true views of a scene.

    :param depth: (K, H, W) z-depth [mm], not finite or 0 where nothing is seen.
    :param K: (K, 3, 3) intrinsics [px]; T_world_cam: (K, 4, 4) [mm].
    :param numbers: (K,) of the frames in the video.
    :param rim: (K,) bool, which pictures show a rim that scales with the zoom.
    """

    depth: np.ndarray
    K: np.ndarray
    T_world_cam: np.ndarray
    numbers: np.ndarray
    rim: np.ndarray


@dataclass(frozen=True)
class Tracks:
    """
    N points as they are followed.

    :param anchor: (N,) the view in which each begins.
    :param pixels: (N, 2) there [px]; depth: (N,) there [mm].
    :param follows: (N, K) bool, the views in which each is measured; not its first.
    """

    anchor: np.ndarray
    pixels: np.ndarray
    depth: np.ndarray
    follows: np.ndarray


def focal_bound(seen: Seen, assumed: Assumed, seed: int = 0) -> float:
    """Standard deviation of the last view's log focal length, at best."""
    return information_bound(seen, followed(seen, assumed.points, seed), assumed)


def followed(seen: Seen, points: int, seed: int = 0) -> Tracks:
    """
    Draw points where depth is known and follow them by the truth: to the picture's edge, or until
    something hides them.
    """
    rng = np.random.default_rng(seed)
    views = len(seen.depth)
    anchor, pixels = np.zeros(0, int), np.zeros((0, 2))
    depth, world = np.zeros(0), np.zeros((0, 3))
    alive, follows = np.zeros(0, bool), np.zeros((0, views), bool)
    for k in range(views):
        alive = alive & _visible(seen, k, world)
        follows[:, k] = alive
        v, u = np.nonzero(np.isfinite(seen.depth[k]) & (seen.depth[k] > 0))
        wanted = min(points - int(alive.sum()), len(u))
        if wanted <= 0:
            continue
        pick = rng.choice(len(u), wanted, replace=False)
        fresh = np.column_stack([u[pick], v[pick]]).astype(float)
        z = seen.depth[k][v[pick], u[pick]].astype(float)
        rays = np.column_stack([fresh, np.ones(wanted)]) @ np.linalg.inv(seen.K[k]).T
        T = seen.T_world_cam[k]
        anchor = np.concatenate([anchor, np.full(wanted, k)])
        pixels, depth = np.concatenate([pixels, fresh]), np.concatenate([depth, z])
        world = np.concatenate([world, (rays * z[:, None]) @ T[:3, :3].T + T[:3, 3]])
        alive = np.concatenate([alive, np.ones(wanted, bool)])
        follows = np.concatenate([follows, np.zeros((wanted, views), bool)])
    return Tracks(anchor, pixels, depth, follows)


def information_bound(seen: Seen, tracks: Tracks, assumed: Assumed) -> float:
    """See `focal_bound`, of tracks that are given."""
    views, (height, width) = len(seen.K), seen.depth.shape[1:]
    C = PER_VIEW * views + SHAPES
    information = np.diag(_priors(views, assumed)) + _zoom_information(seen, assumed)
    cross, own = np.zeros((C, len(tracks.depth))), np.full(len(tracks.depth), assumed.depth**-2)
    shapes = _shapes(seen, tracks, max(width, height) / 2)
    for k in range(1, views):
        at = np.flatnonzero(tracks.follows[:, k])
        if not len(at):
            continue
        J, d_depth = _slopes(seen, tracks, shapes, at, k)
        J, d_depth = J / (assumed.track * width), d_depth / (assumed.track * width)
        flat = J.reshape(-1, C)
        information += flat.T @ flat
        cross[:, at] += np.einsum('nrc,nr->cn', J, d_depth)
        own[at] += (d_depth**2).sum(1)
    free = np.arange(POSE.stop, C)  # the first view's pose is where the world is
    left = information[np.ix_(free, free)] - (cross[free] / own) @ cross[free].T
    last = PER_VIEW * (views - 1) + FOCAL - POSE.stop
    return float(np.sqrt(np.linalg.inv(left)[last, last]))


def _visible(seen: Seen, k: int, world: np.ndarray) -> np.ndarray:
    """Which of the points (N, 3) view k sees."""
    if not len(world):
        return np.zeros(0, bool)
    height, width = seen.depth.shape[1:]
    T_cam_world = inverse(seen.T_world_cam[k])
    X = world @ T_cam_world[:3, :3].T + T_cam_world[:3, 3]
    z = np.maximum(X[:, 2], 1e-6)
    u, v = (X @ seen.K[k].T)[:, :2].T / z
    inside = (u > MARGIN_PX) & (u < width - 1 - MARGIN_PX) & (X[:, 2] > 0)
    inside &= (v > MARGIN_PX) & (v < height - 1 - MARGIN_PX)
    column = np.rint(np.where(inside, u, 0)).astype(int)
    row = np.rint(np.where(inside, v, 0)).astype(int)
    there = seen.depth[k][row, column].astype(float)
    known = np.isfinite(there) & (there > 0)
    off = np.abs(np.log(np.where(known, there, 1.0)) - np.log(z))
    return np.asarray(inside & known & (off < SAME_DEPTH))


def _shapes(seen: Seen, tracks: Tracks, half: float) -> np.ndarray:
    """(N, SHAPES) by what the bends change log depth where a track begins."""
    centre = seen.K[tracks.anchor][:, :2, 2]
    x, y = ((tracks.pixels - centre) / half).T
    medians = np.array(
        [np.median(depth[np.isfinite(depth) & (depth > 0)]) for depth in seen.depth]
    )
    relief = np.log(tracks.depth / medians[tracks.anchor])
    return np.stack([x, y, x * x + y * y, relief], axis=1)


def _slopes(
    seen: Seen, tracks: Tracks, shapes: np.ndarray, at: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    How the pixels of tracks `at` in view k move with all cameras' unknowns and with each point's
    own log depth: (n, 2, C) and (n, 2) [px].

    A small motion (turn w, shift s) of a camera's frame moves a point X of it by w x X + s.
    """
    views, n = len(seen.K), len(at)
    a = tracks.anchor[at]
    T_a_world = np.linalg.inv(seen.T_world_cam)[a]
    T_k_world = inverse(seen.T_world_cam[k])
    rays = np.column_stack([tracks.pixels[at], np.ones(n)])
    X_a = np.einsum('nij,nj->ni', np.linalg.inv(seen.K)[a], rays) * tracks.depth[at, None]
    R_world_a = T_a_world[:, :3, :3].transpose(0, 2, 1)
    X_world = np.einsum('nij,nj->ni', R_world_a, X_a - T_a_world[:, :3, 3])
    X = X_world @ T_k_world[:3, :3].T + T_k_world[:3, 3]
    R_k_a = T_k_world[:3, :3] @ R_world_a
    f, z = seen.K[k, 0, 0], X[:, 2]
    d_X = np.zeros((n, 2, 3))
    d_X[:, 0, 0] = d_X[:, 1, 1] = f / z
    d_X[:, 0, 2], d_X[:, 1, 2] = -f * X[:, 0] / z**2, -f * X[:, 1] / z**2
    d_X_a = d_X @ R_k_a

    J = np.zeros((n, 2, PER_VIEW * views + SHAPES))
    here = PER_VIEW * k
    J[:, :, here : here + 3] = -d_X @ skew(X)
    J[:, :, here + 3 : here + 6] = d_X
    J[:, :, here + FOCAL] = f * X[:, :2] / z[:, None]
    one, there = np.arange(n), PER_VIEW * a
    turned = d_X_a @ skew(X_a)
    for axis in range(3):
        J[one, :, there + axis] += turned[:, :, axis]
        J[one, :, there + 3 + axis] -= d_X_a[:, :, axis]
    narrower = X_a * [-1.0, -1.0, 0.0]  # a longer lens puts the same pixel nearer to the axis
    J[one, :, there + FOCAL] += np.einsum('nrj,nj->nr', d_X_a, narrower)
    d_depth = np.einsum('nrj,nj->nr', d_X_a, X_a)
    J[one, :, there + MAP] += d_depth
    J[:, :, PER_VIEW * views :] = d_depth[:, :, None] * shapes[at, None, :]
    return J, d_depth


def _priors(views: int, assumed: Assumed) -> np.ndarray:
    """Diagonal of what is known before, (C,)."""
    known = np.zeros(PER_VIEW * views + SHAPES)
    known[MAP : PER_VIEW * views : PER_VIEW] = assumed.scale**-2
    known[PER_VIEW * views :] = assumed.shape**-2
    known[FOCAL] = assumed.prior**-2
    return known


def _zoom_information(seen: Seen, assumed: Assumed) -> np.ndarray:
    """
    Of the focal lengths against each other, (C, C): since a zoom takes time, and by the rims,
    each of which is measured against one that nobody knows.
    """
    views = len(seen.numbers)
    out = np.zeros((PER_VIEW * views + SHAPES,) * 2)
    for k, frames in enumerate(np.diff(seen.numbers)):
        pair = [PER_VIEW * k + FOCAL, PER_VIEW * (k + 1) + FOCAL]
        sigma = assumed.wander * float(frames)
        out[np.ix_(pair, pair)] += np.array([[1.0, -1.0], [-1.0, 1.0]]) / sigma**2
    some = PER_VIEW * np.flatnonzero(seen.rim) + FOCAL
    if len(some):
        out[np.ix_(some, some)] += (np.eye(len(some)) - 1.0 / len(some)) / assumed.rim**2
    return out
