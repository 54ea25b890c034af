# SPDX-License-Identifier: Apache-2.0
"""Motion, focal length and depth scale by the window: how the odometry meets a frame's view."""

from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core import tracks
from endosfm3d_ros.core.adjustment.priors import TIED
from endosfm3d_ros.core.agreement import Agreement
from endosfm3d_ros.core.frame import Intrinsics, Motion
from endosfm3d_ros.core.geometry import inverse
from endosfm3d_ros.core.intrinsics import CameraEstimate
from endosfm3d_ros.core.motion import Moved, View
from endosfm3d_ros.core.network_motion import K_SIGMA
from endosfm3d_ros.core.odometry import ZOOM_NOISE, Odometry
from endosfm3d_ros.core.tracking.followed import Followed
from endosfm3d_ros.core.tracking.sight import Sight
from endosfm3d_ros.core.window.placed import Placed
from endosfm3d_ros.core.window.scope import BARREL, BARREL_SIGMA, Scope

GIVEN_SIGMA = 1e-3  # of the log focal length of a calibration
# Of the principal point [picture widths]; less than it is, as tracks outnumber their own errors.
CENTRE_SIGMA, RIM_CENTRE_SIGMA = 0.02, 0.008
AGAIN = 4.0  # by so much a belief's variance grows before the same pictures are seen again
GUESS_FLOOR = 0.25  # a network's guess of log focal is not taken for better: scopes differ


@dataclass(frozen=True)
class Windowed:
    """
    :param odometry: None before a frame showed something.
    :param T_world_cam: (4, 4) of the last frame, as told [mm].
    :param begun: whether there was a frame at all.
    :param waited_s: since the last frame that was placed [s].
    :param reference: the first calibration that was given: the map's pixels are this camera's;
        None where K is estimated.
    :param straight: the lens is known to bend no lines.
    :param learnt: what an earlier pass over the same video learnt of the scope; None without one.
    """

    odometry: Odometry | None = None
    T_world_cam: np.ndarray | None = None
    begun: bool = False
    waited_s: float = 0.0
    reference: Intrinsics | None = None
    straight: bool = False
    learnt: Scope | None = None

    @property
    def followed(self) -> Followed:
        """See `Mover`."""
        return self.odometry.followed if self.odometry else Followed()

    def moved(self, view: View) -> tuple['Windowed', Moved]:
        """See `Mover`."""
        estimate = view.estimate
        before = self.odometry
        if before is None and view.given is None:
            estimate = _with_guess(view)
        sight = self._sight(view)
        if before is None:
            scope = self.learnt or _scope(view, estimate, self.straight)
            before = Odometry.begun(scope, sight)
        elif view.network_focal:
            before = before.informed(float(np.log(view.network_focal)), K_SIGMA)
        after, placed = before.step(sight)
        motion = self._motion(placed, view.dt)
        moved = Moved(
            motion=motion,
            estimate=_told(view, estimate, after, placed),
            depth=placed.depth,
            refinement='window' if after.map.solution else 'none',
            rigid_share=placed.share if motion.known and self.begun else float('nan'),
            stretch=float(np.exp(placed.log_scale)),
            map_number=after.map.number,
            events=placed.events if self.begun else (),
        )
        now = replace(
            self,
            odometry=after,
            T_world_cam=placed.T_world_cam,
            begun=True,
            waited_s=0.0,
            reference=self.reference or view.given,
        )
        return now, moved

    def passed(self, view: View) -> tuple['Windowed', Moved]:
        """
        See `Mover`; the map waits, the tracks are looked for where they were, and the depth map is
        taken to be off by what the last one was off by.
        """
        motion = tracks.unknown_motion(view.dt) if self.begun else tracks.no_motion()
        moved = Moved(motion, view.estimate, view.depth, 'none', float('nan'))
        if self.odometry:
            off = Agreement(self.odometry.offset)
            moved = replace(
                moved,
                depth=off.of(view.depth, self._sight(view)),
                stretch=float(np.exp(off.smooth[0])),
                map_number=self.odometry.map.number,
            )
        return replace(self, begun=True, waited_s=self.waited_s + view.dt), moved

    def settled(self) -> 'Windowed':
        """See `Mover`."""
        return replace(self, odometry=self.odometry.settled()) if self.odometry else self

    def disowned(self, doubt: float) -> 'Windowed':
        """See `Mover`."""
        return replace(self, odometry=self.odometry and self.odometry.disowned(doubt))

    def restarted(self) -> 'Windowed':
        """See `Mover`."""
        odometry = self.odometry and self.odometry.restarted()
        return replace(self, odometry=odometry, T_world_cam=None, begun=False, waited_s=0.0)

    @property
    def scope(self) -> Scope | None:
        """
        What is known of the scope, for another pass over the same video; None before anything was.

        That pass will see the same pictures again, so the belief is loosened; where the zoom
        stood at the end is not told.
        """
        if self.odometry is None:
            return None
        scope = self.odometry.scope
        covariance = AGAIN * scope.covariance
        covariance[1] = covariance[:, 1] = 0.0
        covariance[1, 1] = TIED**2
        return replace(scope, lens=scope.lens * [1, 0, 1, 1, 1], covariance=covariance, number=-1)

    def _sight(self, view: View) -> Sight:
        """A frame as the odometry sees it."""
        size, to_map = _map_picture(view, self.reference or view.given)
        log_zoom, sigma = _zoom(view)
        return Sight(
            texture=view.texture,
            allowed=tracks.trackable(view.picture, view.inside),
            window=view.window,
            size=size,
            coming=view.coming,
            log_zoom=log_zoom,
            log_zoom_sigma=sigma,
            to_map=to_map,
            dt=view.dt + self.waited_s,
        )

    def _motion(self, placed: Placed, dt: float) -> Motion:
        """The step from the last place that was told; dt since the frame before [s]."""
        if not self.begun:
            return tracks.no_motion()
        if self.T_world_cam is None or not placed.known:
            return tracks.unknown_motion(dt)  # what was waited before was counted then
        T_prev_cam = inverse(self.T_world_cam) @ placed.T_world_cam
        return Motion(T_prev_cam, placed.covariance, True, placed.inliers)


def _zoom(view: View) -> tuple[float, float]:
    """Log zoom as it was measured, and its sigma; NaN where nothing measured it."""
    if view.given:
        return 0.0, GIVEN_SIGMA
    if view.rim:
        return float(np.log(view.estimate.zoom.zoom)), view.estimate.zoom.measured_sigma
    return float('nan'), 1.0


def _with_guess(view: View) -> CameraEstimate:
    """The prior focal length and the network's guess of it, each as sure as it is."""
    estimate, guess = view.estimate, view.depth.log_focal
    if not np.isfinite(guess):
        return estimate
    zoom = estimate.zoom
    log_focal = guess + float(np.log(view.window.width))
    sigma = max(view.depth.log_focal_sigma, GUESS_FLOOR)
    return replace(estimate, zoom=zoom.measure_focal(float(np.exp(log_focal)), sigma))


def _map_picture(view: View, reference: Intrinsics | None) -> tuple[tuple[int, int], np.ndarray]:
    """
    Size and `to_map` of a `Sight`: a pixel goes where the reference's camera, its pixels made
    square, sees the same ray, so that a calibration may follow the zoom.
    """
    width, height = view.size
    if view.given is None or reference is None:
        return (width, height), np.array([[1.0, 1.0], [0.0, 0.0]])
    aspect = reference.fx / reference.fy
    given, centre = view.given, np.array([reference.cx, reference.cy * aspect])
    stretch = reference.fx / np.array([given.fx, given.fy])
    shift = centre - stretch * [given.cx, given.cy]
    return (width, round(height * aspect)), np.array([stretch, shift])


def _scope(view: View, estimate: CameraEstimate, straight: bool) -> Scope:
    """What is believed before the first frame's tracks."""
    width = view.size[0]
    if view.given:
        centre = np.array([view.given.cx, view.given.cy * view.given.fx / view.given.fy])
        return Scope.guessed(
            float(np.log(view.given.fx)), GIVEN_SIGMA, centre, GIVEN_SIGMA * width
        )
    sigma = (RIM_CENTRE_SIGMA if view.rim else CENTRE_SIGMA) * width
    zoom = estimate.zoom
    centre = np.array(estimate.centre)
    return Scope.guessed(
        float(zoom.mean[0]),
        float(np.sqrt(zoom.covariance[0, 0])),
        centre,
        sigma,
        None if straight else (BARREL, BARREL_SIGMA),
    )


def _told(view: View, estimate: CameraEstimate, after: Odometry, placed: Placed) -> CameraEstimate:
    """The camera's estimate with what the window knows of the scope and this frame of its zoom."""
    if view.given:
        return estimate
    scope = after.scope
    reference = float(scope.focal[0])
    zoom = estimate.zoom.informed(reference, scope.focal_covariance)
    if not view.rim and not estimate.doubts and placed.known:
        noise = max(placed.log_focal_sigma, ZOOM_NOISE)
        zoom = zoom.follow_zoom(placed.log_focal - reference, noise)
    if not after.map.solution and scope.number < 0:
        return replace(estimate, zoom=zoom)
    return replace(
        estimate,
        zoom=zoom,
        centre=(float(scope.centre[0]), float(scope.centre[1])),
        distortion=scope.distortion,
        distortion_sigma=scope.distortion_sigma,
    )
