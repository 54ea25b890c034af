# SPDX-License-Identifier: Apache-2.0
"""What is known of a clip as streams, each with stamps of its own, brought to a run's pictures."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.geometry import rotation_vectors, rotations
from endosfm3d_ros.evaluation.matching import clock, pairs
from endosfm3d_ros.evaluation.sampling import DepthTruth
from endosfm3d_ros.evaluation.truth import Placed, Truth

LONGEST_GAP_NS = 100_000_000  # between two poses farther apart nothing is said
SAME_POSE_NS = 1_000_000  # a pose so near is that of the picture, whatever lies around it
SAME_PICTURE_NS = 10_000_000  # a depth image or camera info so near is of the picture

Value = TypeVar('Value')


class Stream(Generic[Value]):
    """Values by their stamps [ns]; at least one."""

    def __init__(self, values: Mapping[int, Value]) -> None:
        self._stamps = sorted(values)
        self._values = values

    def at(self, stamp_ns: int) -> Value:
        """The one of this moment, to 10 ms; else the last before it; else the first."""
        after = bisect_right(self._stamps, stamp_ns)
        around = self._stamps[max(after - 1, 0) : after + 1]
        nearest = min(around, key=lambda stamp: abs(stamp - stamp_ns))
        is_of_it = abs(nearest - stamp_ns) <= SAME_PICTURE_NS
        return self._values[nearest if is_of_it else around[0]]


@dataclass(frozen=True)
class TruthTopics:
    """
    What is known of a clip.

    :param stamps_ns: (N,) int64 of the poses, rising.
    :param T_world_cam: (N, 4, 4) maps points of the camera at each into one world [mm].
    :param epochs: (N,) whole numbers: poses of two have nothing to do with each other.
    :param cameras: of the clip's pictures, of any size that has their shape.
    :param depth_stamps_ns: (M,) int64 of the depth images, rising.
    :param read_depth: stamp of a depth image and the camera of then -> that image.
    :param topics: where it was read from, by role.
    """

    stamps_ns: np.ndarray
    T_world_cam: np.ndarray
    epochs: np.ndarray
    cameras: Stream[Intrinsics]
    depth_stamps_ns: np.ndarray
    read_depth: Callable[[int, Intrinsics], DepthTruth]
    topics: Mapping[str, str]

    def of_pictures(self, stamps_ns: np.ndarray, cameras: Sequence[Intrinsics]) -> Truth:
        """
        Bring it to a run's pictures.

        Poses are interpolated between two at most 100 ms apart; a depth image is of the picture
        that it lies nearest to, if that is within 10 ms; so is a camera, and else it holds until
        the next one comes.

        :param stamps_ns: (P,) int64; one may come twice.
        :param cameras: P, which say the size of the run's input picture.
        :return: of the pictures that have a pose, by their own stamps, rising.
        """
        pictures, places = np.unique(stamps_ns, return_index=True)
        first_ns, how = clock(stamps_ns, self.stamps_ns, _half_step(self.stamps_ns))
        if first_ns != self.stamps_ns[0]:
            how += ', taken for the moment of the first pose'
        moments = pictures - first_ns + self.stamps_ns[0]
        T_world_cam, epochs, gaps, known = poses_at(
            self.stamps_ns, self.T_world_cam, self.epochs, moments
        )
        if not known.any():
            raise ValueError(
                'no picture of the run has its pose in the truth: none lies between two poses at '
                f'most {LONGEST_GAP_NS // 1_000_000} ms apart; is this the truth of this clip?'
            )
        sizes = [cameras[place] for place in places[known]]
        moments = moments[known]
        K = [
            _of_size(self.cameras.at(int(moment)), like).matrix
            for moment, like in zip(moments, sizes, strict=True)
        ]
        frames, images = pairs(moments, self.depth_stamps_ns, SAME_PICTURE_NS)
        off = np.abs(moments[frames] - self.depth_stamps_ns[images])
        depth = dict(zip(frames.tolist(), self.depth_stamps_ns[images].tolist(), strict=True))
        return Truth(
            stamps=pictures[known] * 1e-9,
            K=np.stack(K),
            T_world_cam=T_world_cam[known],
            circle=None,
            depth_frames=frozenset(depth),
            read_depth=partial(self._read, depth, sizes),
            numbers=_numbers(pictures)[known],
            epochs=epochs[known],
            topics=self.topics,
            placed=Placed(
                how=how,
                poses=len(self.stamps_ns),
                longest_gap_ms=float(gaps[known].max()) * 1e-6,
                usual_step_ms=2e-6 * _half_step(pictures),
                depth_images=len(self.depth_stamps_ns),
                depth_met=len(images),
                depth_off_ms=float(off.max()) * 1e-6 if len(off) else None,
            ),
        )

    def _read(self, stamps: Mapping[int, int], sizes: list[Intrinsics], frame: int) -> DepthTruth:
        """The depth of a picture."""
        stamp = stamps[frame]
        return self.read_depth(stamp, _of_size(self.cameras.at(stamp), sizes[frame]))


def poses_at(
    stamps_ns: np.ndarray, T_world_cam: np.ndarray, epochs: np.ndarray, moments_ns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    Interpolate poses: places on the straight line between two, turns at a constant rate (slerp).

    :param stamps_ns: (N,) int64, rising.
    :param T_world_cam: (N, 4, 4) [mm].
    :param epochs: (N,) whole numbers.
    :param moments_ns: (M,) int64.
    :return: (M, 4, 4) [mm]; (M,) its epoch; (M,) how far apart the two are, 0 on a pose [ns]; (M,)
        whether it is known: between two of one epoch at most LONGEST_GAP_NS apart, or at one to
        SAME_POSE_NS.
    """
    after = np.clip(np.searchsorted(stamps_ns, moments_ns), 0, len(stamps_ns) - 1)
    before = np.where(stamps_ns[after] > moments_ns, np.maximum(after - 1, 0), after)
    since, until = moments_ns - stamps_ns[before], stamps_ns[after] - moments_ns
    is_inside = (since >= 0) & (until >= 0)
    is_pose = np.minimum(np.abs(since), np.abs(until)) <= SAME_POSE_NS
    gap = stamps_ns[after] - stamps_ns[before]
    is_one = epochs[before] == epochs[after]
    share = np.clip(since / np.maximum(gap, 1), 0.0, 1.0)
    share = np.where(is_one, share, np.rint(share))[:, None]
    nearer = np.where(share[:, 0] > 0.5, after, before)
    R, t = T_world_cam[:, :3, :3], T_world_cam[:, :3, 3]
    turn = rotation_vectors(R[before].transpose(0, 2, 1) @ R[after])
    T = np.tile(np.eye(4), (len(moments_ns), 1, 1))
    T[:, :3, :3] = R[before] @ rotations(share * turn)
    T[:, :3, 3] = (1 - share) * t[before] + share * t[after]
    is_between = is_inside & is_one & (gap <= LONGEST_GAP_NS)
    return T, epochs[nearer], np.where(is_pose, 0, gap), is_pose | is_between


def _numbers(stamps_ns: np.ndarray) -> np.ndarray:
    """Frame numbers (N,) of stamps that rise: a step of usual length counts one, two of it two."""
    if len(stamps_ns) < 2:
        return np.zeros(len(stamps_ns), int)
    steps = np.rint(np.diff(stamps_ns) / (2 * _half_step(stamps_ns)))
    return np.concatenate([[0], np.cumsum(np.maximum(steps, 1))]).astype(int)


def _half_step(stamps_ns: np.ndarray) -> float:
    """Of stamps that rise, half the usual step [ns]; a millisecond for a single one."""
    return float(np.median(np.diff(stamps_ns))) / 2 if len(stamps_ns) > 1 else 1e6


def _of_size(camera: Intrinsics, like: Intrinsics) -> Intrinsics:
    """A camera at the size of another's picture, which must have the same shape."""
    if (camera.width, camera.height) == (like.width, like.height):
        return camera
    if abs(camera.height * like.width / camera.width - like.height) > 1:
        raise ValueError(
            f'the camera_info of the truth is of a {camera.width}x{camera.height} picture, the '
            f'run had {like.width}x{like.height}: needed one of the same shape'
        )
    return camera.resized(like.width, like.height)
