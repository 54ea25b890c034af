# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline on a film, from a focal length that is wrong, beside the truth."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from endosfm3d_ros.core.depth_map import DepthMap, DepthNetwork
from endosfm3d_ros.core.frame import Frame, Reconstruction
from endosfm3d_ros.core.geometry import inverse
from endosfm3d_ros.core.lens import undistorted
from endosfm3d_ros.core.picture.field_of_view import find_field_of_view
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.settings import Settings
from endosfm3d_ros.core.trajectory import Trajectory
from endosfm3d_ros.evaluation.trajectory import align, trajectory_errors
from training.geometry.bound import Assumed, Seen, focal_bound
from training.geometry.films import Filmed

SECOND = 25  # frames
KEYFRAME_EVERY = 3  # frames, of the bound
BOUND_EVERY = 12  # frames
CORNER_PX = 4.0  # of 320: a rim is seen that leaves so much of the picture's corners dark
GRID_PX = 8  # between the points at which depth maps are compared
SAME_DEPTH = 0.05
# Extent of a part of a path that says something of its scale: in mm, and of the whole's.
LEAST_MM, LEAST_SHARE = 3.0, 0.1


@dataclass(frozen=True)
class Start:
    """
    How a run begins.

    :param factor: the prior focal length over the true one.
    :param guess: whether the depth network may say what it thinks of the focal length.
    :param refinement: 'window' or 'none'.
    :param lens: 'auto', or 'straight': whatever it is, it is taken for a pinhole.
    """

    factor: float
    guess: bool
    refinement: str
    lens: str = 'auto'


@dataclass(frozen=True)
class Run:
    """
    What came of it; lists have one value a frame. It is written and read as JSON.

    :param film: its name; rim: whether the first picture shows the field stop's rim.
    :param error: of log focal length; sigma: as stated; known: whether the step was known.
    :param bound: frame numbers, and the best possible sigma there.
    :param path_error: ATE after Sim(3) as a share of the path; path_mm: its true length.
    :param scale_drift: log of depth's scale in the last second over that in the one after the
        first; path_drift: of the scale of the path's last third over that of its first, each
        aligned by itself (Sim(3)); NaN where the camera rests in one of them.
    :param motion_surprise: squared error of motions over a second by their covariance, by 6.
    :param disagreement: median |change of log depth's error| of a point over a second, after
        the first.
    :param zoom: RMS of log told zoom against the true one, from a second on; zoom_surprise: mean
        of its square by the stated variance, where one is stated.
    :param step_ms: CPU time of a step without its networks; settle_ms: of what follows it.
    """

    film: str
    start: Start
    rim: bool
    error: list[float]
    sigma: list[float]
    known: list[bool]
    bound: list[tuple[int, float]]
    path_error: float
    path_mm: float
    scale_drift: float
    path_drift: float
    motion_surprise: float
    disagreement: float
    zoom: float
    zoom_surprise: float
    step_ms: list[float]
    settle_ms: list[float]

    @property
    def move(self) -> str:
        """Kind of motion."""
        return self.film.split('_')[0]


class Remembered:
    """A depth network that answers a picture once, and tells what its answers cost."""

    def __init__(self, network: DepthNetwork) -> None:
        self.network, self.answers, self.cpu_s = network, dict[bytes, DepthMap](), 0.0
        self.guess = True

    def __call__(self, picture: np.ndarray) -> DepthMap:
        """See `DepthNetwork`."""
        begun = time.thread_time()  # the pipeline asks in a thread of its own
        key = picture.tobytes()
        if key not in self.answers:
            self.answers[key] = self.network(picture)
        said = self.answers[key]
        self.cpu_s += time.thread_time() - begun
        return said if self.guess else replace(said, log_focal=float('nan'))


def run(
    film: Filmed, network: Remembered, sizes: tuple[tuple[int, int], ...], start: Start
) -> Run:
    """Play a film through a pipeline of its own."""
    said, step_ms, settle_ms = played(film, network, sizes, start)
    path_error, path_mm = path_off(film, said)
    zoom_error = zoom_off(film, said)[SECOND:]
    zoom_sigma = np.array([one.zoom_sigma for one in said])[SECOND:]
    windowed = start.refinement == 'window'
    rim = find_field_of_view(film.images[0], None).circle is not None
    return Run(
        film=film.name,
        start=start,
        rim=rim,
        error=focal_off(film, said).tolist(),
        sigma=[one.log_focal_sigma for one in said],
        known=[one.motion.known for one in said],
        bound=_bounds(film, said[0].log_focal_sigma) if windowed else [],
        path_error=path_error,
        path_mm=path_mm,
        scale_drift=_scale_drift(film, said),
        path_drift=path_drift(told_poses(said), film.T_world_cam),
        motion_surprise=_motion_surprise(film, said),
        disagreement=_disagreement(film, said),
        zoom=float(np.sqrt(np.mean(zoom_error**2))),
        zoom_surprise=float(np.mean((zoom_error / zoom_sigma)[np.isfinite(zoom_sigma)] ** 2)),
        step_ms=step_ms,
        settle_ms=settle_ms,
    )


def played(
    film: Filmed, network: Remembered, sizes: tuple[tuple[int, int], ...], start: Start
) -> tuple[list[Reconstruction], list[float], list[float]]:
    """What is said of every frame, and CPU time of the steps and of what follows each [ms]."""
    field = find_field_of_view(film.images[0], None)
    angle = 2 * np.degrees(np.arctan(field.radius / (start.factor * film.K[0, 0, 0])))
    settings = Settings(
        prior_field_of_view_deg=float(angle), refinement=start.refinement, lens=start.lens
    )
    network.guess = start.guess
    pipeline = Pipeline(network, sizes, settings)
    said, step_ms, settle_ms = [], [], []
    for number, image in enumerate(film.images):
        frame = Frame(image, round(film.stamps[number] * 1e9) + 1, 'scope')
        network.cpu_s, begun = 0.0, time.process_time()
        said.append(pipeline.step(frame))
        stepped = time.process_time()
        pipeline.settle()
        _ = pipeline.learnt_scope  # waits for it
        step_ms.append(1e3 * (stepped - begun - network.cpu_s))
        settle_ms.append(1e3 * (time.process_time() - stepped))
    return said, step_ms, settle_ms


def focal_off(film: Filmed, said: Sequence[Reconstruction]) -> np.ndarray:
    """Error of log focal length, (N,)."""
    return np.log(np.array([one.input_camera.fx for one in said]) / film.K[:, 0, 0])


def zoom_off(film: Filmed, said: Sequence[Reconstruction]) -> np.ndarray:
    """Error of log told zoom since the first frame, (N,); one that is not known is none."""
    zoom = np.nan_to_num(np.array([one.zoom for one in said]), nan=1.0)
    return np.log(zoom / zoom[0] * film.K[0, 0, 0] / film.K[:, 0, 0])


def told_poses(said: Sequence[Reconstruction]) -> np.ndarray:
    """T_odom_cam of every frame, (N, 4, 4)."""
    return np.stack([one.T_odom_cam for one in said])


def path_off(film: Filmed, said: Sequence[Reconstruction]) -> tuple[float, float]:
    """ATE after Sim(3) as a share of the path, and the path's true length [mm]."""
    way = np.linalg.norm(np.diff(film.T_world_cam[:, :3, 3], axis=0), axis=1).sum()
    ate = trajectory_errors(told_poses(said), film.T_world_cam).ate_sim3
    return float(ate / way), float(way)


def _scale_drift(film: Filmed, said: Sequence[Reconstruction]) -> float:
    """See `Run`; the medians of a few frames of each second."""
    early, late = (
        np.nanmean([np.nanmedian(depth_ratio(film, said, k)) for k in range(*part, 5)])
        for part in ((SECOND, 2 * SECOND), (len(said) - SECOND, len(said)))
    )
    return float(late - early)


def path_drift(told: np.ndarray, true: np.ndarray) -> float:
    """
    See `Run`.

    :param told: (N, 4, 4) T_world_cam as told, in any unit; true likewise, in mm.
    """
    whole, scales = np.ptp(true[:, :3, 3], axis=0).max(), []
    third = len(true) // 3
    for part in (slice(third), slice(-third, None)):
        ours, theirs = told[part, :3, 3], true[part, :3, 3]
        if np.ptp(theirs, axis=0).max() < max(LEAST_MM, LEAST_SHARE * whole):
            return float('nan')
        scales.append(-np.log(align(ours, theirs).scale))
    return float(scales[1] - scales[0])


def _bounds(film: Filmed, prior: float) -> list[tuple[int, float]]:
    assumed = Assumed(prior=prior)
    rim = rim_seen(film)
    out = []
    for last in range(BOUND_EVERY, len(film.images), BOUND_EVERY):
        pick = np.arange(0, last + 1, KEYFRAME_EVERY)
        depth = film.depth[pick].astype(np.float32)
        seen = Seen(depth, film.K[pick], film.T_world_cam[pick], pick, rim[pick])
        out.append((last, focal_bound(seen, assumed)))
    return out


def rim_seen(film: Filmed) -> np.ndarray:
    """
    Which pictures show the rim, (N,) bool: the first one's, grown with the true zoom, until it
    leaves the picture.
    """
    circle = find_field_of_view(film.images[0], None).circle
    if circle is None:
        return np.zeros(len(film.images), bool)
    height, width = film.images.shape[1:3]
    centre = np.array(circle[:2])
    corners = np.array([[0, 0], [0, height - 1], [width - 1, 0], [width - 1, height - 1]])
    farthest = np.linalg.norm(corners - centre, axis=1).max() - CORNER_PX * width / 320
    return np.asarray(circle[2] * film.K[:, 0, 0] / film.K[0, 0, 0] < farthest)


def depth_ratio(film: Filmed, said: Sequence[Reconstruction], number: int) -> np.ndarray:
    """Log of said over true depth at every pixel of the film's picture; NaN where unknown."""
    one, true = said[number], film.depth[number].astype(np.float32)
    ours, theirs = one.camera, one.input_camera
    v, u = np.mgrid[: true.shape[0], : true.shape[1]].astype(np.float32)
    image = np.stack([(u - theirs.cx) / theirs.fx, (v - theirs.cy) / theirs.fy], axis=-1)
    ray = undistorted(image, one.distortion)
    depth = cv2.remap(
        one.depth,
        (ray[..., 0] * ours.fx + ours.cx).astype(np.float32),
        (ray[..., 1] * ours.fy + ours.cy).astype(np.float32),
        cv2.INTER_NEAREST,
        borderValue=float('nan'),
    )
    with np.errstate(invalid='ignore', divide='ignore'):
        ratio = np.log(depth / true)
    return np.where(np.isfinite(ratio), ratio, np.nan)


def _disagreement(film: Filmed, said: list[Reconstruction]) -> float:
    """How far apart two maps a second apart put the same point, by the true motion."""
    off = [np.zeros(0)]
    for k in range(SECOND, len(said) - SECOND, 5):
        j = k + SECOND
        before, after = depth_ratio(film, said, k), depth_ratio(film, said, j)
        height, width = before.shape
        v, u = np.mgrid[0:height:GRID_PX, 0:width:GRID_PX].reshape(2, -1)
        z = film.depth[k][v, u].astype(float)
        known = np.isfinite(z) & (z > 0)
        u, v, z = u[known], v[known], z[known]
        X = np.column_stack([u, v, np.ones(len(u))]) @ np.linalg.inv(film.K[k]).T * z[:, None]
        T = inverse(film.T_world_cam[j]) @ film.T_world_cam[k]
        X = X @ T[:3, :3].T + T[:3, 3]
        there = np.rint((X @ film.K[j].T)[:, :2] / np.maximum(X[:, 2:], 1e-6)).astype(int)
        inside = (X[:, 2] > 0) & (there >= 0).all(1) & (there < [width, height]).all(1)
        column, row = there[inside].T
        true = film.depth[j][row, column].astype(float)
        with np.errstate(invalid='ignore', divide='ignore'):
            same = np.abs(np.log(true / X[inside, 2])) < SAME_DEPTH
        off.append((after[row, column] - before[v[inside], u[inside]])[same])
    values = np.abs(np.concatenate(off))
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float('nan')


def _motion_surprise(film: Filmed, said: list[Reconstruction]) -> float:
    """Mean over stretches of a second, from a second on; NaN where no step of them is known."""
    surprises = []
    for k in range(SECOND, len(said) - SECOND, 5):
        steps = [one.motion for one in said[k + 1 : k + 1 + SECOND]]
        if not all(step.known for step in steps):
            continue
        path = Trajectory()
        T_odom_before = path.T_odom_cam
        for step in steps:
            path = path.advance(step)
        ratio = np.nanmedian([depth_ratio(film, said, k), depth_ratio(film, said, k + SECOND)])
        T_true = inverse(film.T_world_cam[k]) @ film.T_world_cam[k + SECOND]
        T_true[:3, 3] *= np.exp(ratio)
        T_true = T_odom_before @ T_true
        turn = cv2.Rodrigues(T_true[:3, :3] @ path.T_odom_cam[:3, :3].T)[0].ravel()
        off = np.concatenate([T_true[:3, 3] - path.T_odom_cam[:3, 3], turn])
        covariance = path.total_covariance(0.0, said[k].log_focal_sigma)
        surprises.append(float(off @ np.linalg.solve(covariance, off)) / 6)
    return float(np.mean(surprises)) if surprises else float('nan')
