# SPDX-License-Identifier: Apache-2.0
"""
Lays a run beside the truth of its clip: which frame is which, which pixel is which, then every
error, and beside it what lazy answers would score.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.evaluation.depth import DepthErrors, mean_depth_errors
from endosfm3d_ros.evaluation.intervals import Interval, over_frames
from endosfm3d_ros.evaluation.intrinsics import (
    IntrinsicsErrors,
    focal_length,
    intrinsics_errors,
    relative_errors,
)
from endosfm3d_ros.evaluation.matching import match
from endosfm3d_ros.evaluation.protocols import WORLDS, Protocol
from endosfm3d_ros.evaluation.scoring import DepthPicture, DepthScore, score_depth
from endosfm3d_ros.evaluation.trajectory import (
    SNIPPET,
    Similarity,
    TrajectoryErrors,
    align,
    constant_forward,
    no_motion,
    snippet_errors,
    trajectory_errors,
)
from endosfm3d_ros.evaluation.truth import Placed, Truth

DEPTH_FIGURES = ('abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'delta1')
NOT_IN_JSON = ('series', 'per_frame')


@dataclass(frozen=True)
class Estimate:
    """
    What a run said, frame by frame.

    :param stamps_ns: (N,) int64, in the order of receipt; one may come twice.
    :param cameras: N cameras at the input picture's size.
    :param T_odom_cam: (N, 4, 4) maps points of each camera into odom [mm, nominal]; NaN where it
        was withheld.
    :param epochs: (N,) whole numbers: odometry starts again with each.
    """

    stamps_ns: np.ndarray
    cameras: tuple[Intrinsics, ...]
    T_odom_cam: np.ndarray
    epochs: np.ndarray


@dataclass(frozen=True)
class Series:
    """
    Curves for a page; lists, so that they can be written as JSON.

    :param stamps_ns: of the matched frames.
    :param fx, fy, cx, cy: the truth's, at the input picture's size [px].
    :param zoom: the truth's focal length over that of the first matched frame.
    :param path_stamps_ns: of the matched frames of the run's longest epoch.
    :param path: positions of the run after Sim(3) [mm].
    :param path_true: positions of the truth [mm] at the same moments.
    :param path_rotation: (3, 3), turns the truth's world so that it stands as the run's odom does.
    :param depth_stamps_ns: of the depth images scored.
    :param abs_rel: of each.
    """

    stamps_ns: list[int]
    fx: list[float]
    fy: list[float]
    cx: list[float]
    cy: list[float]
    zoom: list[float]
    path_stamps_ns: list[int]
    path: list[list[float]]
    path_true: list[list[float]]
    path_rotation: list[list[float]]
    depth_stamps_ns: list[int]
    abs_rel: list[float]


@dataclass(frozen=True)
class Evaluation:
    """
    A run's errors beside what lazy answers would score on the same frames and pixels.

    :param protocol: how depth was scored.
    :param matched: frames with truth.
    :param unmatched: frames of the run without.
    :param truth_frames: frames that the truth knows; of a bag, its poses.
    :param truth_unmatched: of these, how many the run has no frame for; None of a bag, whose poses
        have stamps of their own.
    :param matched_by: what the two clocks were compared by.
    :param truth_topics: of a bag, that the truth was read from, by role.
    :param truth_placed: of a bag, how it was brought to the pictures.
    :param depth: of the run; None where no depth could be scored.
    :param depth_unscaled: the same, the run's millimetres taken at their word.
    :param depth_silent: depth images that say nothing where the truth does: in no error, but in
        coverage.
    :param depth_constant: a flat wall, median-scaled.
    :param depth_light: light falloff, median-scaled; None where the run kept no pictures.
    :param trajectory: of the longest epoch, within one of the truth's where it has some; None with
        fewer than three frames.
    :param trajectory_still: a camera that never moves.
    :param trajectory_forward: a camera that goes straight ahead at constant speed.
    :param intrinsics: of the run.
    :param intrinsics_first_held: the run's own first K, held.
    :param intrinsics_calibrated_once: the true first K, held: a perfect calibration that ignores
        zoom.
    :param intervals: means with 95 % intervals, by the name of the figure.
    :param per_frame: the values behind the intervals.
    :param series: curves.
    """

    protocol: str
    matched: int
    unmatched: int
    truth_frames: int
    truth_unmatched: int | None
    matched_by: str
    truth_topics: dict[str, str]
    truth_placed: Placed | None
    depth: DepthErrors | None
    depth_unscaled: DepthErrors | None
    depth_silent: int
    depth_constant: DepthErrors | None
    depth_light: DepthErrors | None
    trajectory: TrajectoryErrors | None
    trajectory_still: TrajectoryErrors | None
    trajectory_forward: TrajectoryErrors | None
    intrinsics: IntrinsicsErrors
    intrinsics_first_held: IntrinsicsErrors
    intrinsics_calibrated_once: IntrinsicsErrors
    intervals: dict[str, Interval]
    per_frame: dict[str, list[float]]
    series: Series

    def as_json(self) -> dict[str, Any]:
        """The errors without the curves, plain dicts; None for what is not a number."""
        plain = {name: plain_json(value) for name, value in asdict(self).items()}
        return {name: value for name, value in plain.items() if name not in NOT_IN_JSON}


def compare(
    estimate: Estimate,
    pictures: Iterable[DepthPicture],
    truth: Truth,
    first_stamp_ns: int | None = None,
    protocol: Protocol = WORLDS,
) -> Evaluation:
    """
    Score a run.

    :param estimate: the run.
    :param pictures: its depth images, in any order; those whose frame has no depth truth are
        passed over.
    :param truth: of the clip.
    :param first_stamp_ns: the stamp that the clip's first frame was sent under, known to who
        played it; default: see `matching.clock`.
    :param protocol: how depth is scored.
    """
    placed = truth.placed
    matches = match(estimate.stamps_ns, truth.stamps, first_stamp_ns)
    if not len(matches.run):
        raise ValueError(
            'no frame of the run has a partner in the truth: is this the truth of this clip?'
        )
    stamps_ns = estimate.stamps_ns[matches.run]
    K_true = truth.K[matches.truth]
    K = np.stack([estimate.cameras[place].matrix for place in matches.run])
    frames = {
        int(stamp): int(frame) for stamp, frame in zip(stamps_ns, matches.truth, strict=True)
    }
    scores, silent = score_depth(pictures, truth, frames, protocol)
    epochs = estimate.epochs[matches.run]
    if truth.epochs is not None:
        pair = np.stack([epochs, truth.epochs[matches.truth]], axis=1)
        epochs = np.unique(pair, axis=0, return_inverse=True)[1].ravel()
    path = _longest_epoch(epochs, estimate.T_odom_cam[matches.run])
    met = matches.truth[path]
    order = met if truth.numbers is None else truth.numbers[met]
    T_odom_cam, T_world_cam = estimate.T_odom_cam[matches.run][path], truth.T_world_cam[met]
    seconds = (stamps_ns - stamps_ns[0]) * 1e-9
    per_frame = _per_frame(scores, K, K_true, snippet_errors(T_odom_cam, T_world_cam, order))
    return Evaluation(
        protocol=protocol.name,
        matched=len(matches.run),
        unmatched=matches.unmatched,
        truth_frames=placed.poses if placed else len(truth.stamps),
        truth_unmatched=None if placed else len(truth.stamps) - len(matches.run),
        matched_by=placed.how if placed else matches.how,
        truth_topics=dict(truth.topics),
        truth_placed=placed,
        depth=mean_depth_errors([one.ours for one in scores], silent),
        depth_unscaled=mean_depth_errors([one.unscaled for one in scores], silent),
        depth_silent=silent,
        depth_constant=mean_depth_errors([one.wall for one in scores]),
        depth_light=mean_depth_errors([one.light for one in scores if one.light]),
        **_score_path(T_odom_cam, T_world_cam, order),
        intrinsics=intrinsics_errors(seconds, K, K_true),
        intrinsics_first_held=intrinsics_errors(seconds, np.broadcast_to(K[0], K.shape), K_true),
        intrinsics_calibrated_once=intrinsics_errors(
            seconds, np.broadcast_to(K_true[0], K.shape), K_true
        ),
        intervals={name: over_frames(values) for name, values in per_frame.items()},
        per_frame=per_frame,
        series=_series(stamps_ns, path, K_true, T_odom_cam, T_world_cam, scores),
    )


def plain_json(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {name: plain_json(inner) for name, inner in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _per_frame(
    scores: list[DepthScore], K: np.ndarray, K_true: np.ndarray, snippets: np.ndarray
) -> dict[str, list[float]]:
    """The values of every frame or snippet, by figure; figures without any are left out."""
    found: dict[str, list[float]] = {
        name: [getattr(one.ours, name) for one in scores] for name in DEPTH_FIGURES
    }
    found['constant_abs_rel'] = [one.wall.abs_rel for one in scores]
    found |= {name: values.tolist() for name, values in relative_errors(K, K_true).items()}
    found['snippet_ate'] = (snippets / SNIPPET).tolist()
    found['snippet_rmse'] = (snippets / np.sqrt(SNIPPET)).tolist()
    return {name: values for name, values in found.items() if values}


def _series(
    stamps_ns: np.ndarray,
    path: np.ndarray,
    K_true: np.ndarray,
    T_odom_cam: np.ndarray,
    T_world_cam: np.ndarray,
    scores: list[DepthScore],
) -> Series:
    similarity = Similarity(1.0, np.eye(3), np.zeros(3))
    if len(T_odom_cam):
        similarity = align(T_odom_cam[:, :3, 3], T_world_cam[:, :3, 3])
    focal_true = focal_length(K_true)
    return Series(
        stamps_ns=stamps_ns.tolist(),
        fx=K_true[:, 0, 0].tolist(),
        fy=K_true[:, 1, 1].tolist(),
        cx=K_true[:, 0, 2].tolist(),
        cy=K_true[:, 1, 2].tolist(),
        zoom=(focal_true / focal_true[0]).tolist(),
        path_stamps_ns=stamps_ns[path].tolist(),
        path=similarity.points(T_odom_cam[:, :3, 3]).tolist(),
        path_true=T_world_cam[:, :3, 3].tolist(),
        path_rotation=similarity.R.T.tolist(),
        depth_stamps_ns=[one.stamp_ns for one in scores],
        abs_rel=[one.ours.abs_rel for one in scores],
    )


def _score_path(
    T_odom_cam: np.ndarray, T_world_cam: np.ndarray, order: np.ndarray
) -> dict[str, TrajectoryErrors | None]:
    """Errors of the run's path and of two lazy ones; None each with fewer than three frames."""
    names = 'trajectory', 'trajectory_still', 'trajectory_forward'
    if len(order) < 3:
        return dict.fromkeys(names)
    paths = T_odom_cam, no_motion(len(order)), constant_forward(order)
    return {
        name: trajectory_errors(cameras, T_world_cam, order)
        for name, cameras in zip(names, paths, strict=True)
    }


def _longest_epoch(epochs: np.ndarray, T_odom_cam: np.ndarray) -> np.ndarray:
    """The told frames of the epoch that has most of them, (N,) bool."""
    told = np.isfinite(T_odom_cam).all(axis=(1, 2))
    if not told.any():
        return told
    values, counts = np.unique(epochs[told], return_counts=True)
    return np.asarray(told & (epochs == values[counts.argmax()]))
