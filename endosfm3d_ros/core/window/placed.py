# SPDX-License-Identifier: Apache-2.0
"""Where the odometry says that a frame was taken, and what it has to tell a person."""

from dataclasses import dataclass

import numpy as np

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.scale import ANOTHER_MAP

NEW_MAP = f'a new map begins, its scale may be another by some {100 * ANOTHER_MAP:.0f} %'
LOST = f'the tracks were lost: {NEW_MAP}'
RECOGNISED = 'the tracks were lost: their points are recognised, the map goes on'
RETURNED = 'the map before the tracks were lost is recognised and goes on: place and scale are its'


@dataclass(frozen=True)
class Placed:
    """
    Where a frame was taken.

    :param T_world_cam: (4, 4), corrections fed in smoothly [mm].
    :param known: False where the tracks do not tell; the place is then that of the frame before.
    :param inliers: tracks that agree; share: of those that could be asked.
    :param covariance: (6, 6) of the step to this frame, as `Motion` has it [mm, rad].
    :param log_focal: of this frame, as it is told [log px]; log_focal_sigma of the step from the
        reference's.
    :param depth: this frame's depth map, agreeing with the map's points.
    :param log_scale: of the map over the network's millimetre, here.
    :param events: sentences for a person; usually none.
    """

    T_world_cam: np.ndarray
    known: bool
    inliers: int
    share: float
    covariance: np.ndarray
    log_focal: float
    log_focal_sigma: float
    depth: DepthMap
    log_scale: float
    events: tuple[str, ...] = ()
