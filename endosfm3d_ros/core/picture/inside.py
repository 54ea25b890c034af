# SPDX-License-Identifier: Apache-2.0
"""Which pixels of network pictures show something of the scene, and what follows from it alone."""

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np


@dataclass(frozen=True)
class Inside:
    """
    What is picture: the same from frame to frame while the rim rests, so nothing of it is computed
    twice.

    :param mask: (h, w) bool, inside the field of view.
    """

    mask: np.ndarray
    _shares: dict[float, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def everywhere(self) -> bool:
        """Whether all is picture."""
        return bool(self.mask.all())

    @cached_property
    def as_float(self) -> np.ndarray:
        """(h, w) float32, 1 inside."""
        return self.mask.astype(np.float32)

    @cached_property
    def from_edge(self) -> np.ndarray:
        """How far each pixel is from what is no picture, (h, w) float32 [px]."""
        padded = np.pad(self.mask.astype(np.uint8), 1)  # beyond the picture nothing is visible
        return cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]

    def blurred(self, values: np.ndarray, sigma_px: float) -> np.ndarray:
        """Mean of values (h, w), 0 outside, by a Gaussian over what is inside."""
        if sigma_px not in self._shares:
            share = cv2.GaussianBlur(self.as_float, (0, 0), sigma_px)
            self._shares[sigma_px] = np.maximum(share, np.float32(1e-3))
        return cv2.GaussianBlur(values, (0, 0), sigma_px) / self._shares[sigma_px]
