# SPDX-License-Identifier: Apache-2.0
"""What is believed of an endoscope's optics, and how a measurement changes it."""

from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.adjustment.priors import TIED
from endosfm3d_ros.core.zoom_filter import ZOOM_RANGE

BARREL, BARREL_SIGMA = -0.12, 0.12  # `lens.py`'s c of lenses that bend lines; fisheyes: -0.33
SHOWN, REFUTED = 0.2, 0.9  # chance of a straight lens: where it is said to bend, and no more
LENS_ERROR = 1.8  # times as far off, in sigmas, as windows say of the distortion
LENS_LEAST = 0.005  # sigma of it that windows have in common: minutes before one place end there


@dataclass(frozen=True)
class Scope:
    """
    What is believed of the endoscope: a focal length that never changes, times its zoom, and a
    distortion and a principal point that never change either.

    Most videos come from lenses that bend lines, or were straightened before, and which of the two
    nobody says. So the distortion is always estimated, but none is told until it is shown.

    :param lens: (5,) mean of log focal length at the reference [log px of the input picture], log
        zoom against it at the keyframe `number`, distortion (`lens.py`), and principal point [px].
    :param covariance: (5, 5) of them: a window hardly tells them apart, several do.
    :param distortion: that is told, and that points are placed by; 0 until one is shown.
    :param pinhole: the lens is known to bend nothing: a distortion is never asked for.
    :param number: of the last keyframe whose measurements this belief rests on; -1: a guess;
        first: of the oldest one of the window that told it.
    """

    lens: np.ndarray
    covariance: np.ndarray
    distortion: float = 0.0
    pinhole: bool = False
    number: int = -1
    first: int = -1

    @classmethod
    def guessed(
        cls,
        log_focal: float,
        sigma: float,
        centre: np.ndarray,
        centre_sigma: float,
        distortion: tuple[float, float] | None = None,
    ) -> 'Scope':
        """
        Before anything was measured; the first frame's zoom is the reference.

        :param distortion: and sigma of it; None: the lens is known to bend nothing.
        """
        bend, bend_sigma = distortion or (0.0, TIED)
        covariance = np.diag([sigma, TIED, bend_sigma, centre_sigma, centre_sigma]) ** 2
        lens = np.array([log_focal, 0.0, bend, *centre])
        return cls(lens, covariance, pinhole=distortion is None)

    @property
    def _as_told(self) -> np.ndarray:
        """(5,) `lens`, the told distortion being right."""
        by_bend = self.covariance[:, 2] / self.covariance[2, 2]
        return self.lens + by_bend * (self.distortion - self.lens[2])

    @property
    def focal(self) -> np.ndarray:
        """(2,) log focal length at the reference and log zoom, the told distortion being right."""
        return self._as_told[:2]

    @property
    def centre(self) -> np.ndarray:
        """(2,) principal point [px], the told distortion being right."""
        return self._as_told[3:]

    @property
    def centre_sigma(self) -> float:
        """Of either coordinate of it, at most [px]."""
        return float(np.sqrt(np.diag(self.covariance)[3:].max()))

    @property
    def straight(self) -> float:
        """
        The chance that the lens bends nothing (Dickey and Lientz 1970): evidence for none over
        that for any is how much likelier none became by what was measured.
        """
        mean, variance = float(self.lens[2]), self.distortion_sigma**2
        usual = BARREL_SIGMA**2
        odds = BARREL**2 / usual - mean**2 / variance - np.log(variance / usual)
        return float(0.5 + 0.5 * np.tanh(0.25 * odds))

    def bends(self, told: bool) -> bool:
        """Whether a distortion is shown, or, where one was told before, not refuted."""
        return self.straight < (REFUTED if told else SHOWN)

    def zoomed(self, log_zoom: float, variance: float = 0.0) -> 'Scope':
        """The same at a zoom that is larger by so much, known with this variance."""
        loose, lens, keep = self.covariance.copy(), self.lens.copy(), np.ones(5)
        loose[1, 1] += variance
        lens[1] += log_zoom
        keep[1] = 1.0 / max(1.0, float(np.sqrt(loose[1, 1])) / ZOOM_RANGE)
        return replace(self, lens=lens, covariance=keep[:, None] * loose * keep)

    def measured(self, log_focal: float, sigma: float) -> 'Scope':
        """After a measurement of the focal length at that keyframe (Kalman)."""
        of_focal = self.covariance[:, :2].sum(axis=1)
        gain = of_focal / (of_focal[:2].sum() + sigma**2)
        return replace(
            self,
            lens=self.lens + gain * (log_focal - self.lens[:2].sum()),
            covariance=self.covariance - np.outer(gain, of_focal),
        )

    def averaged(self, other: 'Scope', share: float) -> 'Scope':
        """
        Another word on the same keyframe taken in, but for its distortion and its number.

        They rest on some of the same pictures and on the same kind of depth maps, so all of their
        errors may be common, and together they are no surer than their mean.

        :param share: of the other.
        """
        mean = replace(
            self,
            lens=self.lens + share * (other.lens - self.lens),
            covariance=self.covariance + share * (other.covariance - self.covariance),
        )
        return mean._telling(self._as_told + share * (other._as_told - self._as_told))

    def scaled(self, by: float) -> 'Scope':
        """
        The same, the variance of all but the principal point so many times as large; what it would
        be if the others were known stays.
        """
        C = by * self.covariance
        with_others = self.covariance[3:, :3]
        explained = with_others @ np.linalg.solve(self.covariance[:3, :3], with_others.T)
        C[3:, 3:] = self.covariance[3:, 3:] + (by - 1.0) * explained
        return replace(self, covariance=C)

    def doubted(self, lever: np.ndarray) -> 'Scope':
        """
        The same, less sure.

        :param lever: (5,) by which `lens` may be off besides, all at once.
        """
        return replace(self, covariance=self.covariance + np.outer(lever, lever))._telling(
            self._as_told
        )

    def _telling(self, lens: np.ndarray) -> 'Scope':
        """
        Move its lens so that it is this one `_as_told`, which hangs on how sure it is of what; its
        own distortion stays.
        """
        moved = self.lens + lens - self._as_told
        moved[2] = self.lens[2]
        return replace(self, lens=moved)

    @property
    def barrel(self) -> 'Scope':
        """The same, where a cushion was measured: no scope is one, so its lens bends nothing."""
        way = min(0.0, float(self.lens[2])) - self.lens[2]
        return replace(self, lens=self.lens + self.covariance[:, 2] / self.covariance[2, 2] * way)

    @property
    def reference_variance(self) -> float:
        """Of `focal[0]` where the lens is as told: straight if no distortion is, else any."""
        C = self.covariance
        known = 0.0 if self.distortion else C[0, 2] ** 2 / C[2, 2]
        return float(C[0, 0] - known)

    @property
    def focal_covariance(self) -> np.ndarray:
        """(2, 2) of `focal`: as sure as a lens that is as told, as far as that is sure."""
        C, of_bend = self.covariance[:2, :2], self.covariance[:2, 2]
        if self.distortion:
            return C
        known = np.outer(of_bend, of_bend) / self.covariance[2, 2]
        off = self.lens[:2] - self.focal
        bends = 0.0 if self.pinhole else 1.0 - self.straight
        return C - (1.0 - bends) * known + bends * np.outer(off, off)

    @property
    def log_focal_sigma(self) -> float:
        """Of the focal length at that keyframe."""
        return float(np.sqrt(self.focal_covariance.sum()))

    @property
    def distortion_sigma(self) -> float:
        """Of the distortion."""
        return float(np.hypot(LENS_ERROR * np.sqrt(self.covariance[2, 2]), LENS_LEAST))
