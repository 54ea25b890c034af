# SPDX-License-Identifier: Apache-2.0
"""The lens of the input picture, undone in every output, and the way back to its own pixels."""

from dataclasses import dataclass

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.picture.rectify import Calibration, unrectified
from endosfm3d_ros.core.straighten import as_the_lens_saw


@dataclass(frozen=True)
class Lens:
    """
    How the input's lens bends straight lines.

    :param coefficient: found from the motion (`core/lens.py`); 0 where it told none.
    :param model: else of the calibration that was given, as CameraInfo names it.
    :param distortion: its coefficients; none or all zero means none.
    """

    coefficient: float = 0.0
    model: str = ''
    distortion: tuple[float, ...] = ()

    @property
    def bends(self) -> bool:
        """Whether there is anything to undo."""
        return bool(self.coefficient) or any(self.distortion)

    def saw(self, values: np.ndarray, flat: Intrinsics) -> tuple[np.ndarray, Intrinsics]:
        """
        Bend what belongs to a straightened or rectified picture as the input is bent.

        :param values: (h, w) float32 or (h, w, 3) uint8; flat: their K.
        :return: the same, NaN or black beyond, and its K.
        """
        if self.coefficient:
            return as_the_lens_saw(values, flat, self.coefficient)
        if self.bends:
            values = unrectified(values, Calibration(flat, self.model, self.distortion))
        return values, flat
