# SPDX-License-Identifier: Apache-2.0
"""
The zoom filter: raw measurements of the focal length become a smooth K with a trust.

log f(t) = log f0 + log zoom(t). f0 belongs to the scope and never changes; zoom is measured well
at every moment where the round field stop is seen, since optical zoom scales it with the picture:
dr/r = df/f.
"""

from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.field_of_view import FieldOfView
from endosfm3d_ros.core.frame import Intrinsics

FOCAL, ZOOM, RATE = 0, 1, 2  # the state: log f0 [log px], log zoom, its rate [1/s]
ZOOM_ACCELERATION = 0.8  # spectral density [1/s^1.5]: a hand turns a zoom wheel
ZOOM_RANGE = 0.35  # sigma of log zoom at most, however long it was not seen: scopes zoom by 1 to 2
RATE_DECAY_S = 0.3  # an unmeasured zoom comes to rest
GATE_SIGMAS = 3.5  # a measurement farther off than this is doubted ...
GATE_PATIENCE = 3  # ... and believed when it came this often in a row before,
GATE_AGREEMENT = 0.03  # each time the same within this
CENTRE_BLEND = 0.2  # share of a newly seen rim's centre that the principal point takes over
LEARNT = 0.9  # of the prior's sigma: below, a late rim does not begin log f0 again
RADIUS_FLOOR = 5e-4  # the rim is never known better than this share of its radius


@dataclass(frozen=True)
class ZoomFilter:
    """
    A Kalman filter over (log f0, log zoom, zoom rate); constant velocity, white acceleration.

    :param mean: (3,) float64.
    :param covariance: (3, 3) float64.
    :param prior_sigma: standard deviation of log f0 before anything was measured.
    :param doubts: measurements of log zoom refused in a row that agree with each other.
    :param common: covariance with log f0, and variance, of an error of log zoom that all that is
        measured has in common, so that no measurement shows it; beside `covariance`.
    """

    mean: np.ndarray
    covariance: np.ndarray
    prior_sigma: float
    doubts: tuple[float, ...] = ()
    common: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def start(cls, focal_px: float, sigma: float) -> 'ZoomFilter':
        """
        Begin an epoch: zoom is 1 by definition.

        :param focal_px: prior focal length [px of the input picture].
        :param sigma: standard deviation of its logarithm.
        """
        return cls(
            np.array([np.log(focal_px), 0.0, 0.0]), np.diag([sigma**2, 1e-10, 0.1**2]), sigma
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
        return float(np.sqrt(self.covariance[ZOOM, ZOOM]))

    @property
    def log_focal_sigma(self) -> float:
        """Standard deviation of log f now."""
        pick = np.array([1.0, 1.0, 0.0])
        return float(np.sqrt(pick @ self.whole_covariance @ pick))

    @property
    def whole_covariance(self) -> np.ndarray:
        """(3, 3) with what all measurements have in common."""
        whole = self.covariance.copy()
        with_focal, of_zoom = self.common
        whole[FOCAL, ZOOM] += with_focal
        whole[ZOOM, FOCAL] += with_focal
        whole[ZOOM, ZOOM] += of_zoom
        return whole

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
        A = np.eye(3)
        A[ZOOM, RATE], A[RATE, RATE] = RATE_DECAY_S * (1 - keep), keep
        q = agility**2
        Q = np.zeros((3, 3))
        Q[1:, 1:] = q * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        covariance = A @ self.covariance @ A.T + Q
        sigma = np.sqrt(covariance[ZOOM, ZOOM])
        keep_within = np.diag([1.0, min(1.0, ZOOM_RANGE / sigma), min(1.0, ZOOM_RANGE / sigma)])
        return replace(self, mean=A @ self.mean, covariance=keep_within @ covariance @ keep_within)

    def measure_zoom(self, log_zoom: float, sigma: float) -> 'ZoomFilter':
        """
        Take in a relative measurement, such as the log of the rim's radius over its first radius.

        One that lies far off is doubted and changes nothing; when it comes again and again, the
        zoom jumped (a digital step, another scope), and the state follows.
        """
        sigma = max(sigma, RADIUS_FLOOR)
        pick = np.array([0.0, 1.0, 0.0])
        innovation = log_zoom - self.mean[ZOOM]
        if innovation**2 <= GATE_SIGMAS**2 * (self.covariance[ZOOM, ZOOM] + sigma**2):
            return replace(self._measure(pick, log_zoom, sigma), doubts=())
        agree = tuple(value for value in self.doubts if abs(value - log_zoom) < GATE_AGREEMENT)
        if len(agree) < GATE_PATIENCE:
            return replace(self, doubts=(*agree, log_zoom))
        covariance = self.covariance.copy()
        covariance[RATE] = covariance[:, RATE] = 0.0
        covariance[ZOOM, ZOOM], covariance[RATE, RATE] = innovation**2, 0.1**2
        mean = np.array([self.mean[FOCAL], self.mean[ZOOM], 0.0])
        return replace(self, mean=mean, covariance=covariance, doubts=())._measure(
            pick, log_zoom, sigma
        )

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
        """Take in a relative measurement that was judged already: by the tracks, say."""
        pick = np.array([0.0, 1.0, 0.0])
        return self._measure(pick, log_zoom, max(sigma, RADIUS_FLOOR))

    def measure_focal(self, focal_px: float, sigma: float) -> 'ZoomFilter':
        """
        Take in an absolute measurement [px of the input picture], sigma of its logarithm: it shows
        what the relative ones have in common.
        """
        whole = replace(self, covariance=self.whole_covariance, common=(0.0, 0.0))
        return whole._measure(np.array([1.0, 1.0, 0.0]), float(np.log(focal_px)), sigma)

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


def prior_focal(radius_px: float, field_of_view_deg: float) -> float:
    """
    Focal length of a scope of this field of view: f = radius / tan(field of view / 2).

    :param radius_px: radius of the round picture, else half the picture's diagonal [px].
    :param field_of_view_deg: full angle across it, as scopes' data sheets state it [deg].
    :return: [px].
    """
    return radius_px / float(np.tan(np.radians(field_of_view_deg) / 2))


@dataclass(frozen=True)
class CameraEstimate:
    """
    The camera of the input picture as it is known now.

    :param zoom: the focal length's filter.
    :param centre: principal point (u, v) [px]: the rim's centre, smoothed; the picture's centre
        without a rim.
    :param field_of_view_deg: the scope's, across the round picture, else across the diagonal
        [deg]; None where a calibration was given.
    :param first_radius: the rim's radius at zoom 1 [px]; None before a rim was seen.
    :param jumped: the zoom was believed to have jumped with the last rim.
    :param distortion: of the lens, see `lens.py`, once it is told from none; distortion_sigma of
        what is known of it, NaN where nothing is.
    """

    zoom: ZoomFilter
    centre: tuple[float, float]
    field_of_view_deg: float | None
    first_radius: float | None = None
    jumped: bool = False
    distortion: float = 0.0
    distortion_sigma: float = float('nan')

    @classmethod
    def start(
        cls, field: FieldOfView, given: Intrinsics | None, field_of_view_deg: float, sigma: float
    ) -> 'CameraEstimate':
        """
        Begin an epoch, from a given calibration or from the scope's usual field of view.

        :param field: the visible part of the first picture that shows something.
        :param given: a calibration, if there is one.
        :param field_of_view_deg: full angle across the round picture, else across the diagonal
            [deg].
        :param sigma: standard deviation of the log of the focal length that follows.
        """
        half_diagonal = float(np.hypot(field.width, field.height)) / 2
        radius = field.circle[2] if field.circle else half_diagonal
        focal = given.fx if given else prior_focal(radius, field_of_view_deg)
        centre = ((field.width - 1) / 2, (field.height - 1) / 2)
        return cls(ZoomFilter.start(focal, sigma), centre, None if given else field_of_view_deg)

    @property
    def zoom_seen(self) -> bool:
        """Whether a rim ever showed the zoom."""
        return self.first_radius is not None

    @property
    def doubts(self) -> bool:
        """Whether the last rim was refused: nothing of it is to be used."""
        return bool(self.zoom.doubts)

    def predict(self, dt: float, agility: float = ZOOM_ACCELERATION) -> 'CameraEstimate':
        """Let dt seconds pass; agility is the zoom filter's."""
        return replace(self, zoom=self.zoom.predict(dt, agility), jumped=False)

    def see(self, field: FieldOfView) -> 'CameraEstimate':
        """
        Take in this frame's rim, if it has one; without one, or with one in doubt, the camera
        holds.
        """
        if not field.circle or not field.circle_sigma:
            return replace(self, zoom=replace(self.zoom, doubts=()))
        u, v, radius = field.circle
        if self.first_radius is None:
            return self._see_first(u, v, radius)
        measured = float(np.log(radius / self.first_radius))
        zoom = self.zoom.measure_zoom(measured, field.circle_sigma[2] / radius)
        if zoom.doubts:
            return replace(self, zoom=zoom)
        doubts = self.zoom.doubts
        if len(doubts) >= GATE_PATIENCE and abs(measured - doubts[-1]) < GATE_AGREEMENT:
            # they were believed at last, and not the rim of before: it jumped
            return replace(self, zoom=zoom, centre=(u, v), jumped=True)
        step_u, step_v = CENTRE_BLEND * (u - self.centre[0]), CENTRE_BLEND * (v - self.centre[1])
        centre = (self.centre[0] + step_u, self.centre[1] + step_v)
        return replace(self, zoom=zoom, centre=centre)

    def _see_first(self, u: float, v: float, radius: float) -> 'CameraEstimate':
        """
        The first rim of an epoch says where the scope's field of view ends, so where its focal
        length starts.
        """
        zoom = self.zoom
        learnt = zoom.covariance[FOCAL, FOCAL] < (LEARNT * zoom.prior_sigma) ** 2
        if self.field_of_view_deg is not None and not learnt:
            log_focal = np.log(prior_focal(radius, self.field_of_view_deg))
            zoom = replace(zoom, mean=np.array([log_focal - zoom.mean[ZOOM], *zoom.mean[1:]]))
        return replace(self, zoom=zoom, centre=(u, v), first_radius=radius / zoom.zoom)

    def camera(self, width: int, height: int) -> Intrinsics:
        """Square pixels, no skew: the pinhole of an input picture of this size."""
        return Intrinsics(width, height, self.zoom.focal_px, self.zoom.focal_px, *self.centre)
