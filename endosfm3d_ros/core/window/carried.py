# SPDX-License-Identifier: Apache-2.0
"""Points that an adjustment left out go where their keyframes went."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from endosfm3d_ros.core.adjustment.scene import NEAREST_MM
from endosfm3d_ros.core.lens import distorted, undistorted
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.landmarks import Landmarks

FEWEST_BESIDE = 20  # adjusted points that say how much deeper a keyframe sees the others now


class Lens(NamedTuple):
    """All of a lens but its focal length: principal point (2,) [px], and `distorted`'s kappa."""

    centre: np.ndarray
    distortion: float


def with_others_carried(
    landmarks: Landmarks,
    placed: np.ndarray,
    were: np.ndarray,
    before: Sequence[Keyframe],
    after: Sequence[Keyframe],
    lens_before: Lens,
    lens_after: Lens,
) -> Landmarks:
    """
    Points go where their newest keyframe went, pixel by pixel, through a lens that is taken to be
    another one now, and as much deeper as the adjusted points that it sees.

    :param placed: rows of points that stay: they were adjusted; were: (N, 3) all, before [mm].
    :param before: the keyframes as they were, oldest first; after: as they are.
    """
    places = landmarks.places.copy()
    waiting = np.ones(len(landmarks), bool)
    waiting[placed] = False
    adjusted = ~waiting
    shift = lens_before.centre - lens_after.centre
    for old, new in zip(reversed(before), reversed(after), strict=True):
        seen = landmarks.of(old.ids)
        seen = seen[seen >= 0]
        deeper = _deeper(were, places, seen[adjusted[seen]], old, new)
        row = seen[waiting[seen]]
        X = places[row] @ old.R.T + old.t
        z = np.maximum(X[:, 2:], NEAREST_MM)
        image = distorted(X[:, :2] / z, lens_before.distortion)
        image = image * np.exp(old.log_focal - new.log_focal) + shift / np.exp(new.log_focal)
        X[:, :2] = undistorted(image, lens_after.distortion) * z
        X *= np.exp(deeper)
        places[row] = (X - new.t) @ new.R
        waiting[row] = False
    return replace(landmarks, places=places)


def _deeper(
    were: np.ndarray, are: np.ndarray, beside: np.ndarray, old: Keyframe, new: Keyframe
) -> float:
    """
    By how much log depth grew in a keyframe: the median over the points beside, else its map's
    scale. That is of a map that is bent besides, so it is only worth something between two
    adjustments.

    :param were: (N, 3) points before; are: after [mm]; beside: rows of them.
    """
    if len(beside) < FEWEST_BESIDE:
        return new.log_scale - old.log_scale
    before = were[beside] @ old.R[2] + old.t[2]
    after = are[beside] @ new.R[2] + new.t[2]
    return float(np.median(np.log(np.maximum(after, NEAREST_MM) / np.maximum(before, NEAREST_MM))))
