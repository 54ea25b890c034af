# SPDX-License-Identifier: Apache-2.0
"""
The zoom filter: raw measurements of the focal length become a smooth one with its sigma.

log f(t) = log f0 + log zoom(t). f0 belongs to the scope and never changes; zoom is measured well
at every moment where the round field stop is seen, since optical zoom scales it with the picture:
dr/r = df/f.
"""

from dataclasses import dataclass, replace

import numpy as np

FOCAL, ZOOM, RATE = 0, 1, 2  # the state: log f0 [log px], log zoom, its rate [1/s]
ZOOM_ACCELERATION = 0.8  # spectral density [1/s^1.5]: a hand turns a zoom wheel
AT_START = 1e-5  # sigma of log zoom where it is 1 by definition
ZOOM_RANGE = 0.35  # sigma of log zoom at most, however long it was not seen: scopes zoom by 1 to 2
RATE_DECAY_S = 0.3  # an unmeasured zoom comes to rest
GATE_SIGMAS = 3.5  # a rim farther off than this is doubted
ODD_SIGMAS = 1.75  # one that is believed and farther off than this may still be false
PATIENCE = 3  # rims: so many may be false in a row
JUMPED_RATE = 0.3  # sigma of the rate after a jump [1/s]
RADIUS_FLOOR = 5e-4  # the rim is never known better than this share of its radius


@dataclass(frozen=True)
class Doubt:
    """
    A course of the zoom by rims that were refused.

    :param course: with them taken in.
    :param lacks: rims that have to go on with it before it is told.
    :param jumped: it began with a jump.
    """

    course: 'ZoomFilter'
    lacks: int
    jumped: bool


@dataclass(frozen=True)
class ZoomFilter:
    """
    A Kalman filter over (log f0, log zoom, zoom rate); constant velocity, white acceleration.

    A rim that comes unexpected is right or false, and the next ones show which. So both courses of
    the zoom are followed, the one that is told and the other one, until one of them is left.

    :param mean: (3,) float64.
    :param covariance: (3, 3) float64.
    :param prior_sigma: standard deviation of log f0 before anything was measured.
    :param common: covariance with log f0, and variance, of an error of log zoom that all that is
        measured has in common, so that no measurement shows it; beside `covariance`.
    :param before: the course without the last rims, which are believed though the first was odd,
        or the one that was told until a rim spoke against it; None where nothing is undecided.
    :param odd: rims since then, at most PATIENCE.
    :param doubts: courses by the last rims, which are refused; empty where the last is believed.
    :param jumped: the zoom was believed to have jumped with the last rim.
    :param by_tracks: it was last told by tracks, whose common error rims have not.
    """

    mean: np.ndarray
    covariance: np.ndarray
    prior_sigma: float
    common: tuple[float, float] = (0.0, 0.0)
    before: 'ZoomFilter | None' = None
    odd: int = 0
    doubts: tuple[Doubt, ...] = ()
    jumped: bool = False
    by_tracks: bool = False

    @classmethod
    def start(cls, focal_px: float, sigma: float) -> 'ZoomFilter':
        """
        Begin an epoch: zoom is 1 by definition.

        :param focal_px: prior focal length [px of the input picture].
        :param sigma: standard deviation of its logarithm.
        """
        return cls(
            np.array([np.log(focal_px), 0.0, 0.0]), np.diag([sigma**2, AT_START**2, 0.1**2]), sigma
        )

    @property
    def focal_px(self) -> float:
        """Focal length now [px of the input picture]."""
        return float(np.exp(self.mean[FOCAL] + self.mean[ZOOM]))

    @property
    def zoom(self) -> float:
        """Focal length now over that at the epoch's start."""
        return float(np.exp(self.mean[ZOOM]))

    @property
    def zoom_sigma(self) -> float:
        """Standard deviation of log zoom."""
        return float(np.sqrt(self.whole_covariance[ZOOM, ZOOM]))

    @property
    def measured_sigma(self) -> float:
        """Standard deviation of log zoom, if what is measured has no error in common."""
        return float(np.sqrt(self.covariance[ZOOM, ZOOM] + self._undecided))

    @property
    def log_focal_sigma(self) -> float:
        """Standard deviation of log f now."""
        pick = np.array([1.0, 1.0, 0.0])
        return float(np.sqrt(pick @ self.whole_covariance @ pick))

    @property
    def whole_covariance(self) -> np.ndarray:
        """(3, 3) with what all measurements have in common, and what is undecided."""
        whole = self._with_common
        whole[ZOOM, ZOOM] += self._undecided
        return whole

    @property
    def _with_common(self) -> np.ndarray:
        """(3, 3) with what all measurements have in common."""
        whole = self.covariance.copy()
        with_focal, of_zoom = self.common
        whole[FOCAL, ZOOM] += with_focal
        whole[ZOOM, FOCAL] += with_focal
        whole[ZOOM, ZOOM] += of_zoom
        return whole

    @property
    def _undecided(self) -> float:
        """Variance of log zoom as the last rims may be false as well as right."""
        return 0.25 * float(self.mean[ZOOM] - self.before.mean[ZOOM]) ** 2 if self.before else 0.0

    @property
    def trust(self) -> float:
        """0: no better than the prior; towards 1 as sigma(log f) goes to zero."""
        return float(np.clip(1.0 - self.log_focal_sigma / self.prior_sigma, 0.0, 1.0))

    def predict(self, dt: float, agility: float = ZOOM_ACCELERATION) -> 'ZoomFilter':
        """
        Let dt seconds pass.

        :param agility: spectral density of the zoom's acceleration [1/s^1.5].
        """
        keep = np.exp(-dt / RATE_DECAY_S)
        way = RATE_DECAY_S * (1 - keep)  # that a rate of 1 goes until it has come to rest so far
        A = np.eye(3)
        A[ZOOM, RATE], A[RATE, RATE] = way, keep
        q = agility**2
        Q = np.zeros((3, 3))
        Q[1:, 1:] = q * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        covariance = A @ self.covariance @ A.T + Q
        sigma = np.sqrt(covariance[ZOOM, ZOOM])
        keep_within = np.diag([1.0, min(1.0, ZOOM_RANGE / sigma), min(1.0, ZOOM_RANGE / sigma)])
        return replace(
            self,
            mean=A @ self.mean,
            covariance=keep_within @ covariance @ keep_within,
            before=self.before and self.before.predict(dt, agility),
            doubts=tuple(
                replace(doubt, course=doubt.course.predict(dt, agility)) for doubt in self.doubts
            ),
            jumped=False,
        )

    def measure_zoom(self, log_zoom: float, sigma: float) -> 'ZoomFilter':
        """
        Take in a relative measurement, such as the log of the rim's radius over its first radius.

        One that lies far off is doubted and changes nothing that is told. If the next one goes on
        as it began, the zoom runs; if PATIENCE of them stay with it, the zoom jumped (a digital
        step, another scope). One that lies off by less is believed, until one of the next fits
        better without it.
        """
        sigma = max(sigma, RADIUS_FLOOR)
        told, before = self._alone, self.before
        fits = [told] if told._off(log_zoom, sigma) < GATE_SIGMAS else []
        if before and before._off(log_zoom, sigma) < ODD_SIGMAS:
            fits.append(before)
        # rather that it runs than that it jumped
        likely = [
            doubt for doubt in self.doubts if doubt.course._off(log_zoom, sigma) < ODD_SIGMAS
        ]
        fits += [doubt.course for doubt in likely[:1]]
        if not fits:
            return self._doubting(log_zoom, sigma)
        best = min(fits, key=lambda course: abs(log_zoom - course.mean[ZOOM]))
        if best is told:
            return self._believing(log_zoom, sigma)
        after = best._measured_zoom(log_zoom, sigma)
        if best is before:
            return replace(self._on(after), before=told, odd=2)
        doubt = likely[0]
        if doubt.lacks > 1:
            return replace(self, doubts=(replace(doubt, course=after, lacks=doubt.lacks - 1),))
        if doubt.jumped:
            return replace(self._on(after), jumped=True)
        return replace(self._on(after), before=told, odd=1)

    def _believing(self, log_zoom: float, sigma: float) -> 'ZoomFilter':
        """With a rim that goes on with what is told."""
        told = self._alone
        after = replace(told._measured_zoom(log_zoom, sigma), by_tracks=False)
        if self.before:
            stays = self.odd < PATIENCE
            return replace(after, before=self.before, odd=self.odd + 1) if stays else after
        if told._off(log_zoom, sigma) < ODD_SIGMAS:
            return after
        # the zoom began to run, or it stepped and rests
        covariance = after.covariance.copy()
        covariance[RATE, RATE] += (after.mean[RATE] - told.mean[RATE]) ** 2
        return replace(after, covariance=covariance, before=told, odd=1)

    def _doubting(self, log_zoom: float, sigma: float) -> 'ZoomFilter':
        """With a rim that fits nowhere: the zoom runs faster than expected, or it jumped."""
        now = self
        if self.before and self.odd == 1:  # nothing went on with the odd rim
            now = replace(self._on(self.before), before=self._alone, odd=2)
        mean, covariance = now.mean.copy(), now.covariance.copy()
        mean[1:] = log_zoom, 0.0
        covariance[1:] = covariance[:, 1:] = 0.0
        covariance[ZOOM, ZOOM], covariance[RATE, RATE] = sigma**2, JUMPED_RATE**2
        alone = replace(now._alone, by_tracks=False)
        jumped = replace(alone, mean=mean, covariance=covariance)
        runs = alone._measured_zoom(log_zoom, sigma)
        doubts = Doubt(runs, 1, jumped=False), Doubt(jumped, PATIENCE, jumped=True)
        return replace(now, doubts=doubts)

    @property
    def _alone(self) -> 'ZoomFilter':
        """The course that is told, without the others."""
        return replace(self, before=None, odd=0, doubts=(), jumped=False)

    def _off(self, log_zoom: float, sigma: float) -> float:
        """How far a measurement lies from what is expected, in sigmas."""
        common = self.common[1] if self.by_tracks else 0.0
        expected = np.sqrt(self.covariance[ZOOM, ZOOM] + common + sigma**2)
        return float(abs(log_zoom - self.mean[ZOOM]) / expected)

    def _on(self, course: 'ZoomFilter') -> 'ZoomFilter':
        """On another course, log f0 as it is known now."""
        mean, covariance = course.mean.copy(), course.covariance.copy()
        mean[FOCAL] = self.mean[FOCAL]
        covariance[FOCAL] = covariance[:, FOCAL] = 0.0
        covariance[FOCAL, FOCAL] = self.covariance[FOCAL, FOCAL]
        return replace(self._alone, mean=mean, covariance=covariance, by_tracks=course.by_tracks)

    def without_rim(self) -> 'ZoomFilter':
        """The rim is lost: what a single one said that no other one went on with is dropped."""
        return self._on(self.before) if self.before and self.odd == 1 else self._alone

    def counted_from_here(self, focal_too: bool) -> 'ZoomFilter':
        """
        All that is measured from now on tells the zoom since now: what is unknown of it up to here
        is common to that.

        :param focal_too: the focal length is known from now on, not the one at the epoch's start.
        """
        covariance, until = self.covariance.copy(), self.covariance[ZOOM, ZOOM]
        covariance[ZOOM] = covariance[:, ZOOM] = 0.0
        covariance[ZOOM, ZOOM] = AT_START**2
        common = -0.5 * until if focal_too else 0.0, until
        return replace(self, covariance=covariance, common=common)

    def informed(self, log_focal: float, known: np.ndarray) -> 'ZoomFilter':
        """
        Replace what is known of log f0 by a better word on it, its own included.

        :param known: (2, 2) covariance of log f0 and of log zoom.
        """
        covariance = self.covariance.copy()
        covariance[FOCAL] = covariance[:, FOCAL] = 0.0
        covariance[FOCAL, FOCAL] = known[0, 0]
        mean = np.array([log_focal, *self.mean[1:]])
        common = float(known[0, 1]), float(known[1, 1])
        return replace(self, mean=mean, covariance=covariance, common=common)

    def follow_zoom(self, log_zoom: float, sigma: float) -> 'ZoomFilter':
        """
        Take in a relative measurement that was judged already: by the tracks, say. It shows
        whether the last rims were false.
        """
        course = self._alone
        if self.before:
            way, other = log_zoom - self.mean[ZOOM], log_zoom - self.before.mean[ZOOM]
            course = self._on(self.before) if abs(other) < abs(way) else course
        told = course._measured_zoom(log_zoom, max(sigma, RADIUS_FLOOR))
        return replace(told, by_tracks=True)

    def measure_focal(self, focal_px: float, sigma: float) -> 'ZoomFilter':
        """
        Take in an absolute measurement [px of the input picture], sigma of its logarithm: it shows
        what the relative ones have in common.
        """
        whole = replace(self, covariance=self._with_common, common=(0.0, 0.0))
        return whole._measure(np.array([1.0, 1.0, 0.0]), float(np.log(focal_px)), sigma)

    def _measured_zoom(self, log_zoom: float, sigma: float) -> 'ZoomFilter':
        return self._measure(np.array([0.0, 1.0, 0.0]), log_zoom, sigma)

    def _measure(self, pick: np.ndarray, value: float, sigma: float) -> 'ZoomFilter':
        """
        Kalman update with a measurement of pick @ state, in Joseph's form, which stays positive.
        """
        gain = self.covariance @ pick / (pick @ self.covariance @ pick + sigma**2)
        steady = np.eye(3) - np.outer(gain, pick)
        return replace(
            self,
            mean=self.mean + gain * (value - pick @ self.mean),
            covariance=steady @ self.covariance @ steady.T + sigma**2 * np.outer(gain, gain),
        )
