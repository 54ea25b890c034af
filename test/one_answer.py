# SPDX-License-Identifier: Apache-2.0
"""What the pipeline answers to one picture."""

import numpy as np

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Frame, Reconstruction
from endosfm3d_ros.core.pipeline import Pipeline


def one_answer() -> Reconstruction:
    """To a textured picture, by a network that sees a wall."""

    def flat(picture: np.ndarray) -> DepthMap:
        one = np.ones(picture.shape[:2], np.float32)
        return DepthMap(50 * one, one)

    picture = np.random.default_rng(0).integers(40, 220, (224, 280, 3)).astype(np.uint8)
    return Pipeline(flat, [(224, 280)]).step(Frame(picture, 1, 'scope'))
