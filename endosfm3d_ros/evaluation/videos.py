# SPDX-License-Identifier: Apache-2.0
"""Several videos summed up: means over frames and over videos, with intervals over videos."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from endosfm3d_ros.evaluation.compare import Evaluation
from endosfm3d_ros.evaluation.intervals import over_videos


def over_all(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    """
    Sum up.

    :return: figure -> {'per_frame': ..., 'per_video': ...}, each mean, low, high, count; figures
        that a video lacks are taken over the others, and `count` says how many those are.
    """
    names = sorted({name for one in evaluations for name in one.per_frame})
    found = {}
    for name in names:
        values = [one.per_frame[name] for one in evaluations if name in one.per_frame]
        frames, videos = over_videos(values)
        found[name] = {'per_frame': asdict(frames), 'per_video': asdict(videos)}
    return found
