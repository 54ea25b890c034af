# SPDX-License-Identifier: Apache-2.0
"""The camera of the input picture: the zoom filter and the rim's centre make a K with a trust."""

from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.picture.field_of_view import FieldOfView
from endosfm3d_ros.core.zoom_filter import FOCAL, ZOOM, ZOOM_ACCELERATION, ZoomFilter

CENTRE_BLEND = 0.2  # share of a newly seen rim's centre that the principal point takes over
LEARNT = 0.9  # of the prior's sigma: below, a late rim does not begin log f0 again


def prior_focal(radius_px: float, field_of_view_deg: float) -> float:
    """
    Focal length of a scope of this field of view: f = radius / tan(field of view / 2).

    :param radius_px: radius of the round picture, else half the picture's diagonal, without black
        bars [px].
    :param field_of_view_deg: full angle across it, as scopes' data sheets state it [deg].
    :return: [px].
    """
    return radius_px / float(np.tan(np.radians(field_of_view_deg) / 2))


@dataclass(frozen=True)
class CameraEstimate:
    """
    The camera of the input picture as it is known now.

    :param zoom: the focal length's filter.
    :param centre: principal point (u, v) [px]: the rim's centre, smoothed; without a rim the
        centre of what black bars leave open.
    :param field_of_view_deg: the scope's, across the round picture, else across the diagonal
        [deg]; None where a calibration was given.
    :param first_radius: the rim's radius at zoom 1 [px]; None before a rim was seen.
    :param distortion: of the lens, see `lens.py`, once it is told from none; distortion_sigma of
        what is known of it, NaN where nothing is.
    """

    zoom: ZoomFilter
    centre: tuple[float, float]
    field_of_view_deg: float | None
    first_radius: float | None = None
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
        focal = given.fx if given else prior_focal(field.radius, field_of_view_deg)
        usual = None if given else field_of_view_deg
        return cls(ZoomFilter.start(focal, sigma), field.centre, usual)

    @property
    def zoom_seen(self) -> bool:
        """Whether a rim ever showed the zoom."""
        return self.first_radius is not None

    @property
    def jumped(self) -> bool:
        """Whether the zoom was believed to have jumped with the last rim."""
        return self.zoom.jumped

    @property
    def doubts(self) -> bool:
        """Whether the last rim was refused: nothing of it is to be used."""
        return bool(self.zoom.doubts)

    def predict(self, dt: float, agility: float = ZOOM_ACCELERATION) -> 'CameraEstimate':
        """Let dt seconds pass; agility is the zoom filter's."""
        return replace(self, zoom=self.zoom.predict(dt, agility))

    def by_calibration(self, given: Intrinsics) -> 'CameraEstimate':
        """Before a rim is seen it zooms as a given calibration does, which may follow the zoom."""
        if self.zoom_seen:
            return self
        mean = self.zoom.mean.copy()
        mean[ZOOM] = np.log(given.fx) - mean[FOCAL]
        return replace(self, zoom=replace(self.zoom, mean=mean))

    def without_rim(self) -> 'CameraEstimate':
        """No rim tells the zoom now: none is in doubt, and tracks are asked."""
        return replace(self, zoom=self.zoom.without_rim())

    def see(self, field: FieldOfView) -> 'CameraEstimate':
        """
        Take in this frame's rim, if it has one; without one, or with one in doubt, the camera
        holds.
        """
        if not field.circle or not field.circle_sigma:
            return self.without_rim()
        u, v, radius = field.circle
        if self.first_radius is None:
            return self._see_first(u, v, radius)
        measured = float(np.log(radius / self.first_radius))
        zoom = self.zoom.measure_zoom(measured, field.circle_sigma[2] / radius)
        if zoom.doubts:
            return replace(self, zoom=zoom)
        if zoom.jumped:
            return replace(self, zoom=zoom, centre=(u, v))
        step_u, step_v = CENTRE_BLEND * (u - self.centre[0]), CENTRE_BLEND * (v - self.centre[1])
        centre = (self.centre[0] + step_u, self.centre[1] + step_v)
        return replace(self, zoom=zoom, centre=centre)

    def _see_first(self, u: float, v: float, radius: float) -> 'CameraEstimate':
        """
        The first rim of an epoch says where the scope's field of view ends, so where its focal
        length starts.
        """
        zoom, usual = self.zoom, self.field_of_view_deg
        if zoom.covariance[FOCAL, FOCAL] < (LEARNT * zoom.prior_sigma) ** 2:
            usual = None  # it was learnt
        if usual is not None:
            log_focal = np.log(prior_focal(radius, usual))
            zoom = replace(zoom, mean=np.array([log_focal - zoom.mean[ZOOM], *zoom.mean[1:]]))
        if not zoom.by_tracks:
            zoom = zoom.counted_from_here(focal_too=usual is not None)
        return replace(self, zoom=zoom, centre=(u, v), first_radius=radius / zoom.zoom)

    def camera(self, width: int, height: int) -> Intrinsics:
        """Square pixels, no skew: the pinhole of an input picture of this size."""
        return Intrinsics(width, height, self.zoom.focal_px, self.zoom.focal_px, *self.centre)
