# SPDX-License-Identifier: Apache-2.0
"""
A small window, adjusted before there is a first frame, so that no frame waits for a compiler.

Compiled loops (`kernel.py`) are made at their first call, which takes 10 to 30 s, or
fetched from where they are kept, which takes half a second.
"""

from functools import cache

import numpy as np

from endosfm3d_ros.core.bilateral_grid import BilateralGrid
from endosfm3d_ros.core.kernel import kernel
from endosfm3d_ros.core.picture.circle import consensus
from endosfm3d_ros.core.tracking.warp import Warp
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.local_map import LocalMap
from endosfm3d_ros.core.window.resection import resect
from endosfm3d_ros.core.window.scope import BARREL, BARREL_SIGMA, Scope
from endosfm3d_ros.core.window.words import Words

FOCAL_PX, CENTRE_PX, DEPTH_MM = 200.0, 100.0, 40.0
KEYFRAMES, WAY_MM = 3, 5.0


@cache
def get_ready() -> None:
    """Have every loop compiled; once a process."""
    kernel.run(_small_window)


def _small_window() -> None:
    rng, focal, centre = np.random.default_rng(0), float(np.log(FOCAL_PX)), np.full(2, CENTRE_PX)
    belief = Scope.guessed(focal, 0.5, centre, 5.0, (BARREL, BARREL_SIGMA))
    local_map = LocalMap((200, 200), 0.1, Words(belief), belief)
    points = rng.uniform([-20.0, -20.0, DEPTH_MM], [20.0, 20.0, 2 * DEPTH_MM], (40, 3))
    for k in range(KEYFRAMES):
        X = points - [WAY_MM * k, 0.0, 0.0]
        keyframe = Keyframe(
            number=3 * k,
            ids=np.arange(len(X)),
            pixels=CENTRE_PX + FOCAL_PX * X[:, :2] / X[:, 2:],
            log_depth=np.log(X[:, 2]),
            depth_sigma=np.full(len(X), 0.1),
            log_zoom=float('nan'),
            log_zoom_sigma=0.01,
            R=np.eye(3),
            t=np.array([-WAY_MM * k, 0.0, 0.0]),
            log_focal=focal,
            log_scale=0.0,
        )
        local_map = local_map.with_keyframe(keyframe)
    local_map.adjusted()
    resect(points, keyframe.pixels, centre, 1.0, keyframe.T_cam_world, focal, 0.1)
    consensus(keyframe.pixels, 1.0, 8, local_map.size)
    BilateralGrid(np.zeros((2, 2, 2), np.float32), 0.0, 1.0).over(np.zeros((2, 2), np.float32))
    warp = Warp.fitted(keyframe.pixels, keyframe.pixels, local_map.size)
    warp.back(keyframe.pixels, warp(keyframe.pixels))
