# SPDX-License-Identifier: Apache-2.0
"""What an adjusted window tells of the zoom, and how sure it then is of all else."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from endosfm3d_ros.core.adjustment.bundle_adjustment import Solution
from endosfm3d_ros.core.adjustment.scene import DISTORTION, FOCAL, PER_VIEW
from endosfm3d_ros.core.window import zoom_steps
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.observations import zoom_steps_of
from endosfm3d_ros.core.window.scope_told import ZOOM_ERROR

RELIEF_SIGMA = 0.16  # see `bends_at`
# of it where only tracks tell a zoom from an advance: maps of scenes unlike those that a network
# learned from may be twice as flat as the scene
RELIEF_ZOOMING = 1.0


def with_zoom_told(
    keyframes: Sequence[Keyframe], solution: Solution
) -> tuple[list[Keyframe], Solution]:
    """
    The keyframes, with what tracks say of each one's zoom since the one before, and the
    adjustment, which is only as sure as it is that the zoom rested where it was held, and, where a
    zoom runs that no rim shows, that the maps are as deep as the scene.
    """
    first, *later = keyframes
    focal = FOCAL + PER_VIEW * np.arange(len(keyframes))
    steps, pulls = zoom_steps.asked(
        [view.zoom_step for view in later],
        zoom_steps_of(keyframes),
        np.diff([view.number for view in keyframes]),
        solution.scene.log_focal,
        solution.covariance[np.ix_(focal, focal)],
        solution.lever[focal],
        ZOOM_ERROR,
    )
    told = [first] + [
        replace(view, zoom_step=step) for view, step in zip(later, steps, strict=True)
    ]
    known = solution.covariance - np.outer(solution.lever, solution.lever)
    of_steps = np.diff(known[:, focal], axis=1)
    covariance = solution.covariance + of_steps @ pulls @ of_steps.T
    # By the same covariance, or a straight lens is told elsewhere than it was adjusted to.
    bent = PER_VIEW * len(told) + DISTORTION
    pull = covariance[bent] / covariance[bent, bent] * solution.pull[bent]
    flatter = np.zeros_like(solution.lever)
    rim = any(np.isfinite(view.log_zoom) for view in told)
    if not rim and any(view.zoom_step.runs for view in told[1:]):
        flatter = np.sqrt((RELIEF_ZOOMING / RELIEF_SIGMA) ** 2 - 1.0) * solution.lever
    return told, replace(solution, covariance=covariance, pull=pull, flatter=flatter)
