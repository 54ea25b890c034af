# SPDX-License-Identifier: Apache-2.0
"""
Lays a run beside the truth of its clip: which frame is which, which pixel is which, then every
error.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.evaluation.depth import (
    DepthErrors,
    constant_depth_errors,
    depth_errors,
    mean_depth_errors,
)
from endosfm3d_ros.evaluation.intrinsics import IntrinsicsErrors, intrinsics_errors
from endosfm3d_ros.evaluation.trajectory import (
    TrajectoryErrors,
    align,
    constant_forward,
    no_motion,
    trajectory_errors,
)
from endosfm3d_ros.evaluation.truth import Truth


@dataclass(frozen=True)
class Estimate:
    """
    What a run said, frame by frame.

    :param stamps_ns: (N,) int64, rising.
    :param cameras: N cameras at the input picture's size.
    :param T_odom_cam: (N, 4, 4) maps points of each camera into odom [mm, nominal].
    :param epochs: (N,) whole numbers: odometry starts again with each.
    """

    stamps_ns: np.ndarray
    cameras: tuple[Intrinsics, ...]
    T_odom_cam: np.ndarray
    epochs: np.ndarray


@dataclass(frozen=True)
class DepthPicture:
    """
    A depth image of a run and the two cameras that say which pixel of the input each of its pixels
    is.

    :param stamp_ns: of its frame [ns].
    :param depth: (h, w) float32 [mm, nominal]; NaN where unknown.
    :param camera: of this picture.
    :param input_camera: the same camera at the input picture's size.
    """

    stamp_ns: int
    depth: np.ndarray
    camera: Intrinsics
    input_camera: Intrinsics


@dataclass(frozen=True)
class Matches:
    """
    Which frame of the run is which frame of the truth.

    :param run: (M,) places in the run's stamps.
    :param truth: (M,) frame numbers of the truth, rising, none twice.
    :param unmatched: frames of the run that have no partner.
    """

    run: np.ndarray
    truth: np.ndarray
    unmatched: int


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

    :param matched: frames with truth.
    :param unmatched: frames of the run without.
    :param truth_frames: frames that the truth knows.
    :param depth: of the run; None where no depth could be scored.
    :param depth_constant: a flat wall, median-scaled.
    :param trajectory: of the longest epoch; None with fewer than three frames.
    :param trajectory_still: a camera that never moves.
    :param trajectory_forward: a camera that goes straight ahead at constant speed.
    :param intrinsics: of the run.
    :param intrinsics_first_held: the run's own first K, held.
    :param intrinsics_calibrated_once: the true first K, held: a perfect calibration that ignores
        zoom.
    :param series: curves.
    """

    matched: int
    unmatched: int
    truth_frames: int
    depth: DepthErrors | None
    depth_constant: DepthErrors | None
    trajectory: TrajectoryErrors | None
    trajectory_still: TrajectoryErrors | None
    trajectory_forward: TrajectoryErrors | None
    intrinsics: IntrinsicsErrors
    intrinsics_first_held: IntrinsicsErrors
    intrinsics_calibrated_once: IntrinsicsErrors
    series: Series

    def as_json(self) -> dict[str, Any]:
        """The errors without the curves, plain dicts; None for what is not a number."""
        return {name: _plain(value) for name, value in asdict(self).items() if name != 'series'}


def compare(
    estimate: Estimate,
    pictures: Iterable[DepthPicture],
    truth: Truth,
    first_stamp_ns: int | None = None,
) -> Evaluation:
    """
    Score a run.

    :param estimate: the run.
    :param pictures: its depth images, in any order; those whose frame has no depth truth are
        passed over.
    :param truth: of the clip.
    :param first_stamp_ns: the stamp that the clip's first frame was sent under, known to who
        played it; default: the run's first stamp, which is right where the first frame was not
        lost.
    """
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
    scores = _score_depth(pictures, truth, frames)
    path = _longest_epoch(estimate.epochs[matches.run])
    T_odom_cam, T_world_cam = (
        estimate.T_odom_cam[matches.run][path],
        truth.T_world_cam[matches.truth][path],
    )
    similarity = align(T_odom_cam[:, :3, 3], T_world_cam[:, :3, 3])
    seconds = (stamps_ns - stamps_ns[0]) * 1e-9
    focal_true = np.sqrt(K_true[:, 0, 0] * K_true[:, 1, 1])
    return Evaluation(
        matched=len(matches.run),
        unmatched=matches.unmatched,
        truth_frames=len(truth.stamps),
        depth=mean_depth_errors([ours for _, ours, _ in scores]),
        depth_constant=mean_depth_errors([wall for _, _, wall in scores]),
        **_score_path(T_odom_cam, T_world_cam, matches.truth[path]),
        intrinsics=intrinsics_errors(seconds, K, K_true),
        intrinsics_first_held=intrinsics_errors(seconds, np.broadcast_to(K[0], K.shape), K_true),
        intrinsics_calibrated_once=intrinsics_errors(
            seconds, np.broadcast_to(K_true[0], K.shape), K_true
        ),
        series=Series(
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
            depth_stamps_ns=[stamp for stamp, _, _ in scores],
            abs_rel=[ours.abs_rel for _, ours, _ in scores],
        ),
    )


def match(
    stamps_ns: np.ndarray, truth_stamps: np.ndarray, first_stamp_ns: int | None = None
) -> Matches:
    """
    Pair frames by the time since the first, within half a frame: live play may drop frames in
    between.

    :param stamps_ns: (N,) int64, the run's.
    :param truth_stamps: (M,) the truth's [s].
    :param first_stamp_ns: see `compare`.
    """
    if not len(stamps_ns):
        return Matches(np.empty(0, int), np.empty(0, int), 0)
    first = int(stamps_ns[0]) if first_stamp_ns is None else first_stamp_ns
    seconds = (stamps_ns - first) * 1e-9
    since_first = truth_stamps - truth_stamps[0]
    half_frame = float(np.median(np.diff(since_first))) / 2 if len(since_first) > 1 else 1e-3
    between = (since_first[1:] + since_first[:-1]) / 2
    nearest = np.searchsorted(between, seconds)
    distance = np.abs(seconds - since_first[nearest])
    run: list[int] = []
    numbers: list[int] = []
    for place in np.lexsort((distance, nearest)):
        if distance[place] < half_frame and (not numbers or numbers[-1] != nearest[place]):
            run.append(int(place))
            numbers.append(int(nearest[place]))
    return Matches(np.array(run, int), np.array(numbers, int), len(stamps_ns) - len(run))


def truth_on_picture(
    depth_true: np.ndarray, camera: Intrinsics, input_camera: Intrinsics
) -> np.ndarray:
    """
    Read the truth at every pixel of a network picture, which is a crop and a resize of the input.

    Both cameras are one, so u_in = (u - cx) fx_in / fx + cx_in; the truth's picture shows all of
    the input at a size of its own: u_true = (u_in + 1/2) s - 1/2.

    :param depth_true: (h', w') float32 [mm], the whole input picture at any size; NaN where
        unknown.
    :param camera: of the network picture.
    :param input_camera: the same camera at the input picture's size.
    :return: (h, w) float32 [mm] at the network picture's size, nearest pixel; NaN outside of the
        input.
    """
    height, width = depth_true.shape
    u_in = (np.arange(camera.width) - camera.cx) * (input_camera.fx / camera.fx) + input_camera.cx
    v_in = (np.arange(camera.height) - camera.cy) * (input_camera.fy / camera.fy) + input_camera.cy
    u = np.floor((u_in + 0.5) * (width / input_camera.width) + 1e-6).astype(int)
    v = np.floor((v_in + 0.5) * (height / input_camera.height) + 1e-6).astype(int)
    seen = ((v >= 0) & (v < height))[:, None] & ((u >= 0) & (u < width))[None, :]
    sampled = depth_true[np.clip(v, 0, height - 1)[:, None], np.clip(u, 0, width - 1)[None, :]]
    return np.where(seen, sampled, np.float32(np.nan))


def _score_depth(
    pictures: Iterable[DepthPicture], truth: Truth, frames: dict[int, int]
) -> list[tuple[int, DepthErrors, DepthErrors]]:
    """
    Stamp, errors of the run and of a flat wall, for every depth image whose frame has depth
    truth.
    """
    scores = []
    for picture in pictures:
        frame = frames.get(picture.stamp_ns)
        if frame is None or frame not in truth.depth_files:
            continue
        target = truth_on_picture(truth.depth(frame), picture.camera, picture.input_camera)
        ours, wall = (
            depth_errors(picture.depth, target),
            constant_depth_errors(picture.depth, target),
        )
        if ours and wall:
            scores.append((picture.stamp_ns, ours, wall))
    return sorted(scores, key=lambda score: score[0])


def _score_path(
    T_odom_cam: np.ndarray, T_world_cam: np.ndarray, order: np.ndarray
) -> dict[str, TrajectoryErrors | None]:
    """Errors of the run's path and of two lazy ones; None each with fewer than three frames."""
    paths = {
        'trajectory': T_odom_cam,
        'trajectory_still': no_motion(len(order)),
        'trajectory_forward': constant_forward(order),
    }
    enough = len(order) >= 3
    return {
        name: trajectory_errors(cameras, T_world_cam, order) if enough else None
        for name, cameras in paths.items()
    }


def _longest_epoch(epochs: np.ndarray) -> np.ndarray:
    """Where the epoch with the most frames is, (N,) bool."""
    values, counts = np.unique(epochs, return_counts=True)
    return np.asarray(epochs == values[counts.argmax()])


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
