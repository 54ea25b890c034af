# SPDX-License-Identifier: Apache-2.0
"""
What a network's depth map is off by, told by the window's points that lie in it.

A network sees one picture: it is a few per cent off, smoothly, over whole folds and organs. Points
that the window saw from several places are where they are, network or not. So a map's error is
taken for a scale, tilts and a bowl, and what is left of it for a Gaussian process over the picture
whose spread is the network's own sigma (Rasmussen and Williams 2006, "Gaussian Processes for
Machine Learning", section 2.2). Both are fitted to the points, each as sure as its parallax makes
it. Where no point is near the map stays as the network said, and as unsure; and near is what lies
beside it at the same depth: what goes for a fold is nothing to the wall behind it.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from endosfm3d_ros.core.adjustment.scene import bends_at
from endosfm3d_ros.core.bilateral_grid import BilateralGrid
from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.tracking.sight import Sight, values_at

FEWEST_POINTS = 20
SMOOTH_SIGMAS = np.array([0.3, 0.06, 0.09, 0.11])  # of a map's log scale, its tilts and its bowl
SMOOTH_NOISE = 0.1  # of a point against them: what is left for the relief
REACH = 0.15  # of the network picture's width: so far errors go together
REACH_DEPTH = 0.15  # and of log depth
ALONE = 0.35  # share of the network's sigma that no neighbour tells of
TRACK_FLOOR = 0.02  # of a point's log depth
SWAY = 1.0  # of log depth, times the share of the map's points that move by themselves
TRACK_DOUBT = 2.0  # tracks err together: a point is worth so many times less than they say
KERNEL = 2.0  # sigmas beyond which a point loses its say (Cauchy)
CELL_PX = 17  # of the points in a cell the surest speaks: its neighbours err as it does
COMMON = np.float32(1.0 - ALONE**2)  # share of the network's variance that neighbours share
LEAST_SIGMA = 1e-3  # of log depth: no network is surer
NODE_PX = 16  # between the nodes of the relief's grid
LAYER = 0.5 * REACH_DEPTH  # and between its layers, of log depth
BEYOND = 3.0  # reaches before the nearest point and behind the farthest they end


@dataclass(frozen=True)
class Relief:
    """
    The local part of what a map is off by.

    :param mean: to add to log depth, in the network's own sigmas.
    :param left: (h', w') float32 share of the network's sigma that is left, 0..1, on a grid whose
        corners are the picture's.
    """

    mean: BilateralGrid
    left: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """
    What makes a depth map agree with the map's points.

    :param smooth: (4,) to add to log depth: scale, and what x, y and r^2 bend it by (`bends_at`).
    :param relief: None where too few points are sure.
    """

    smooth: np.ndarray
    relief: Relief | None = None

    def of(self, depth_map: DepthMap, sight: Sight) -> DepthMap:
        """The depth map of this sight, agreeing."""
        if self.relief is None and not self.smooth.any():
            return depth_map
        log_sigma = depth_map.log_sigma
        added = self._smooth_picture(sight)
        if self.relief is not None:
            added += log_sigma * self.relief.mean.over(sight.log_depth)
            log_sigma = log_sigma * _over(self.relief.left, log_sigma.shape)
        return replace(depth_map, depth=depth_map.depth * np.exp(added), log_sigma=log_sigma)

    def _smooth_picture(self, sight: Sight) -> np.ndarray:
        """The smooth part at each network pixel: (h, w) float32."""
        window, (width, height) = sight.window, sight.size
        half = max(width, height) / 2
        corner = sight.map_pixels(np.array([[0.0, 0.0], [1.0, 1.0]]))
        steps = corner[1] - corner[0]
        u = corner[0, 0] + steps[0] * np.arange(window.network_width)
        v = corner[0, 1] + steps[1] * np.arange(window.network_height)
        x = ((u - (width - 1) / 2) / half)[None, :]
        y = ((v - (height - 1) / 2) / half)[:, None]
        across = self.smooth[0] + self.smooth[1] * x + self.smooth[3] * x * x
        down = self.smooth[2] * y + self.smooth[3] * y * y
        return (across + down).astype(np.float32)


@dataclass(frozen=True)
class Seen:
    """
    The window's points in one picture, and what its depth map says there.

    :param points: (N, 2) [network px].
    :param bends: (N, 3) values of tilts and bowl there, see `bends_at`.
    :param log_z: (N,) depth by the map of points [log mm]; sigma (N,) of it by tracks alone,
        infinite where only networks told it.
    :param said: (N,) by the depth map [log mm, up to its scale]; said_sigma (N,) of it.
    """

    points: np.ndarray
    bends: np.ndarray
    log_z: np.ndarray
    sigma: np.ndarray
    said: np.ndarray
    said_sigma: np.ndarray

    @classmethod
    def through(cls, sight: Sight, points: np.ndarray, z: np.ndarray, sigma: np.ndarray) -> 'Seen':
        """
        Look the depth map up at points; those without depth are left out.

        :param points: (N, 2) [network px]; z (N,) of them in this camera [mm]; sigma (N,) of it.
        """
        said = values_at(sight.log_depth, points)
        good = (z > 0) & np.isfinite(said)
        points, said = points[good], said[good].astype(np.float64)
        bends = bends_at(sight.map_pixels(points), said, *sight.size)[:, :3]
        said_sigma = np.maximum(values_at(sight.depth_sigma, points), LEAST_SIGMA)
        log_z, wide = np.log(z[good]), said_sigma.astype(np.float64)
        return cls(points, bends, log_z, sigma[good], said, wide)

    def __len__(self) -> int:
        return len(self.points)

    def picked(self, which: np.ndarray) -> 'Seen':
        """Some of them."""
        return Seen(**{name: part[which] for name, part in vars(self).items()})


def agree(
    seen: Seen,
    sight: Sight,
    log_scale: float,
    log_focal_sigma: float = 0.0,
    swaying: float = 0.0,
) -> Agreement:
    """
    Fit a depth map to the map's points.

    :param log_scale: of depth maps, as it is expected.
    :param log_focal_sigma: how sure the focal length is: a wrong one stretches the points' relief.
    :param swaying: share of the map's points that move by themselves: where many do the others
        may sway as well, by less than would tell.
    """
    if len(seen) < FEWEST_POINTS:
        return Agreement(np.array([log_scale, 0.0, 0.0, 0.0]))
    smooth = _smooth(seen, log_scale)
    sure = seen.picked(np.isfinite(seen.sigma))
    if len(sure) < FEWEST_POINTS:
        return Agreement(smooth)
    off = sure.log_z - sure.said - smooth[0] - sure.bends @ smooth[1:]
    return Agreement(smooth, _relief(sure, off, sight, log_focal_sigma, SWAY * swaying))


def _smooth(seen: Seen, log_scale: float) -> np.ndarray:
    """Scale, tilts and bowl, robustly: (4,)."""
    off = seen.log_z - seen.said
    B = np.column_stack([np.ones(len(off)), seen.bends])
    known = np.where(np.isfinite(seen.sigma), seen.sigma, 0.0)
    sigma = np.hypot(SMOOTH_NOISE, TRACK_DOUBT * known)
    start = np.array([log_scale, 0.0, 0.0, 0.0])
    fit = np.array([float(np.median(off)), 0.0, 0.0, 0.0])
    for _ in range(3):
        r = (off - B @ fit) / sigma
        weighted = (B / (sigma**2 * (1.0 + r * r))[:, None]).T
        H = weighted @ B + np.diag(SMOOTH_SIGMAS**-2)
        fit = np.linalg.solve(H, weighted @ off + start / SMOOTH_SIGMAS**2)
    return fit


def _relief(
    sure: Seen, off: np.ndarray, sight: Sight, log_focal_sigma: float, sway: float
) -> Relief:
    """
    The Gaussian process on a grid; how sure it is, at each node's own depth.

    :param off: (N,) what is left of each point's log depth; sway: sigma of it besides.
    """
    surest = _one_a_cell(sure)
    sure, y = sure.picked(surest), (off[surest] / sure.said_sigma[surest]).astype(np.float32)
    middle = float(np.median(sure.said))
    stretched = log_focal_sigma * (sure.said - middle)
    error = np.sqrt((TRACK_DOUBT * sure.sigma) ** 2 + TRACK_FLOOR**2 + stretched**2 + sway**2)
    noise = ((error / sure.said_sigma) ** 2 + ALONE**2).astype(np.float32)
    columns, rows, deep = _nodes(sight.log_depth, middle)
    reach = REACH * sight.log_depth.shape[1]
    u, v = sure.points.T
    between = _alike(u, u, reach) * _alike(v, v, reach) * _alike(sure.said, sure.said, REACH_DEPTH)
    between *= COMMON
    weight = np.ones_like(y)
    for _ in range(2):  # robust: reweighted
        _, told = cv2.solve(between + np.diag(noise / weight), y, flags=cv2.DECOMP_CHOLESKY)
        weight = 1.0 / (1.0 + (y - between @ told[:, 0]) ** 2 / (KERNEL**2 * noise))
    # OpenCV takes a third of LAPACK's time for a matrix of this size
    _, inverse = cv2.invert(between + np.diag(noise / weight), flags=cv2.DECOMP_CHOLESKY)
    beside = _alike(rows, v, reach)[:, None] * _alike(columns, u, reach)  # (h', w', N)
    beside = COMMON * beside.reshape(deep.size, -1)
    layers = _layers(sure.said)
    told = (inverse @ y)[:, None] * _alike(sure.said, layers, REACH_DEPTH)
    mean = (beside @ told).reshape(*deep.shape, len(layers))
    across = beside * _alike(deep.ravel(), sure.said, REACH_DEPTH)
    known = np.einsum('mn,mn->m', across, across @ inverse).reshape(deep.shape)
    at = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    own = np.maximum(values_at(sight.depth_sigma, at), LEAST_SIGMA).reshape(deep.shape)
    common = log_focal_sigma * (deep - middle) / own
    left = np.sqrt(np.clip(1.0 - known + known * common**2, ALONE**2, 1.0))  # of the variance
    return Relief(BilateralGrid(mean, layers[0], LAYER), left.astype(np.float32))


def _one_a_cell(seen: Seen) -> np.ndarray:
    """The surest point of each cell of the picture: (M,) of N."""
    order = np.argsort(seen.sigma, kind='stable')
    column, row = (seen.points[order] // CELL_PX).astype(int).T
    _, first = np.unique(column + 10_000 * row, return_index=True)
    return order[first]


def _nodes(log_depth: np.ndarray, middle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid's columns (w',) and rows (h',) [network px], log depth (h', w') or the middle."""
    height, width = log_depth.shape
    rows = np.linspace(0, height - 1, max(height // NODE_PX, 2))
    columns = np.linspace(0, width - 1, max(width // NODE_PX, 2))
    at = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    deep = values_at(log_depth, at).astype(np.float64).reshape(len(rows), len(columns))
    return columns, rows, np.where(np.isfinite(deep), deep, middle)


def _layers(log_depth: np.ndarray) -> np.ndarray:
    """Log depths of the grid's layers: all that points (N,) have a say in."""
    first, last = (
        end(log_depth) + way * BEYOND * REACH_DEPTH for end, way in ((np.min, -1), (np.max, 1))
    )
    return np.arange(first, last + LAYER, LAYER)


def _alike(a: np.ndarray, b: np.ndarray, reach: float) -> np.ndarray:
    """How far the network's errors go together at a (M,) and b (N,) of one axis: (M, N)."""
    a, b = (np.asarray(one / reach, np.float32) for one in (a, b))
    away = a[:, None] - b[None, :]
    return np.exp(np.float32(-0.5) * away * away)


def _over(grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A grid spread over a picture of this shape (h, w): float32."""
    rows, columns = grid.shape
    height, width = shape
    stretch = np.diag([(width - 1) / (columns - 1), (height - 1) / (rows - 1), 1.0])[:2]
    flat = cv2.warpAffine(
        grid, stretch, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(flat)
