# SPDX-License-Identifier: Apache-2.0
"""Points that an adjustment left out go where their keyframes went."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from endosfm3d_ros.core.keyframe import Keyframe
from endosfm3d_ros.core.landmarks import Landmarks
from endosfm3d_ros.core.lens import distorted, undistorted
from endosfm3d_ros.core.scene import NEAREST_MM


class Lens(NamedTuple):
    """All of a lens but its focal length: principal point (2,) [px], and `distorted`'s kappa."""

    centre: np.ndarray
    distortion: float


def with_others_carried(
    landmarks: Landmarks,
    placed: np.ndarray,
    before: Sequence[Keyframe],
    after: Sequence[Keyframe],
    lens_before: Lens,
    lens_after: Lens,
) -> Landmarks:
    """
    Points go where their newest keyframe went, pixel by pixel, through a lens that is taken to be
    another one now.

    :param placed: rows of points that stay: they were adjusted.
    :param before: the keyframes as they were, oldest first; after: as they are.
    """
    places = landmarks.places.copy()
    waiting = np.ones(len(landmarks), bool)
    waiting[placed] = False
    shift = lens_before.centre - lens_after.centre
    for old, new in zip(reversed(before), reversed(after), strict=True):
        row = landmarks.of(old.ids)
        row = row[(row >= 0) & waiting[row]]
        X = places[row] @ old.R.T + old.t
        z = np.maximum(X[:, 2:], NEAREST_MM)
        image = distorted(X[:, :2] / z, lens_before.distortion)
        image = image * np.exp(old.log_focal - new.log_focal) + shift / np.exp(new.log_focal)
        X[:, :2] = undistorted(image, lens_after.distortion) * z
        X *= np.exp(new.log_scale - old.log_scale)
        places[row] = (X - new.t) @ new.R
        waiting[row] = False
    return replace(landmarks, places=places)
