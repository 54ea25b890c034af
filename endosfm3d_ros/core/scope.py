# SPDX-License-Identifier: Apache-2.0
"""What is believed of an endoscope's optics, and how a measurement changes it."""

from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.priors import TIED


@dataclass(frozen=True)
class Scope:
    """
    What is believed of the endoscope: a focal length that never changes, times its zoom.

    :param focal: (2,) log focal length at the reference [log px of the input picture], and log
        zoom against it at the keyframe `number`; covariance (2, 2) of both.
    :param centre: (2,) principal point [px]; centre_sigma.
    :param number: of the last keyframe whose measurements this belief rests on; -1: a guess.
    """

    focal: np.ndarray
    covariance: np.ndarray
    centre: np.ndarray
    centre_sigma: float
    number: int = -1

    @classmethod
    def guessed(
        cls, log_focal: float, sigma: float, centre: np.ndarray, centre_sigma: float
    ) -> 'Scope':
        """Before anything was measured; the first frame's zoom is the reference."""
        covariance = np.diag([sigma**2, TIED**2])
        return cls(np.array([log_focal, 0.0]), covariance, centre, centre_sigma)

    def measured(self, log_focal: float, sigma: float) -> 'Scope':
        """After a measurement of the focal length at that keyframe (Kalman)."""
        gain = self.covariance.sum(axis=1) / (self.covariance.sum() + sigma**2)
        return replace(
            self,
            focal=self.focal + gain * (log_focal - self.focal.sum()),
            covariance=self.covariance - np.outer(gain, self.covariance.sum(axis=0)),
        )

    @property
    def log_focal_sigma(self) -> float:
        """Of the focal length at that keyframe."""
        return float(np.sqrt(self.covariance.sum()))
