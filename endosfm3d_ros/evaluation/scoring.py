# SPDX-License-Identifier: Apache-2.0
"""Depth images of a run against the truth of their frames, and lazy answers on the same pixels."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.evaluation.depth import DepthErrors, asked_for, depth_errors
from endosfm3d_ros.evaluation.falloff import light_falloff
from endosfm3d_ros.evaluation.protocols import Protocol
from endosfm3d_ros.evaluation.sampling import (
    DepthTruth,
    picture_on_truth,
    truth_on_picture,
)
from endosfm3d_ros.evaluation.truth import Truth


@dataclass(frozen=True)
class DepthPicture:
    """
    A depth image of a run and the two cameras that say which pixel of the input each of its pixels
    is.

    :param stamp_ns: of its frame [ns].
    :param depth: (h, w) float32 [mm, nominal]; NaN where unknown.
    :param camera: of this picture.
    :param input_camera: the same camera at the input picture's size.
    :param image: (h, w, 3) uint8 RGB, the picture it belongs to; None where it was not kept.
    """

    stamp_ns: int
    depth: np.ndarray
    camera: Intrinsics
    input_camera: Intrinsics
    image: np.ndarray | None = None


@dataclass(frozen=True)
class DepthScore:
    """
    Errors of one depth image.

    :param stamp_ns: of its frame.
    :param ours: of the run, median-scaled.
    :param unscaled: of the run, its millimetres taken at their word.
    :param wall: a constant on the same pixels, median-scaled.
    :param light: light falloff on the same pixels, median-scaled; None without a picture.
    """

    stamp_ns: int
    ours: DepthErrors
    unscaled: DepthErrors
    wall: DepthErrors
    light: DepthErrors | None


def score_depth(
    pictures: Iterable[DepthPicture], truth: Truth, frames: dict[int, int], protocol: Protocol
) -> tuple[list[DepthScore], int]:
    """
    Score every depth image whose frame has depth truth.

    :param frames: stamp of the run [ns] -> frame of the truth.
    :return: the scores by stamp, and how many images say nothing where the truth does.
    """
    scores, silent = [], 0
    left = dict(frames)  # a clip may be looped: each frame counts once, as in `match`
    for picture in pictures:
        frame = left.pop(picture.stamp_ns, None)
        if frame is None or frame not in truth.depth_frames:
            continue
        found, target, light = _on_one_grid(picture, truth.read_depth(frame), protocol)
        if score := _score(picture.stamp_ns, found, target, light, protocol):
            scores.append(score)
        else:
            silent += bool(asked_for(target, protocol.nearest, protocol.farthest).any())
    return sorted(scores, key=lambda score: score.stamp_ns), silent


def _on_one_grid(
    picture: DepthPicture, truth: DepthTruth, protocol: Protocol
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What was found, what is true and what light says (h, w) on the pixels of the protocol."""
    light = None if picture.image is None else light_falloff(picture.image)
    if protocol.on_truth:
        target = truth.depth
        cameras = (picture.camera, picture.input_camera, truth)
        found = picture_on_truth(picture.depth, *cameras)
        light = None if light is None else picture_on_truth(light, *cameras)
    else:
        found = picture.depth
        target = truth_on_picture(truth, picture.camera, picture.input_camera)
    return found, target, light


def _score(
    stamp_ns: int,
    found: np.ndarray,
    target: np.ndarray,
    light: np.ndarray | None,
    protocol: Protocol,
) -> DepthScore | None:
    """Score one depth image; None where no pixel has both truth and an estimate."""
    speaks = np.isfinite(found) & (found > 0)

    def errors(depth: np.ndarray, median_scaling: bool = True) -> DepthErrors | None:
        said = np.where(speaks, depth, np.nan)
        return depth_errors(said, target, protocol.nearest, protocol.farthest, median_scaling)

    ours, unscaled = errors(found), errors(found, median_scaling=False)
    wall = errors(np.ones_like(found))
    if ours is None or unscaled is None or wall is None:
        return None
    return DepthScore(stamp_ns, ours, unscaled, wall, None if light is None else errors(light))
