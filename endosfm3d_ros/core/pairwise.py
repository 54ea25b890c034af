# SPDX-License-Identifier: Apache-2.0
"""Motion from frame to frame by PnP on the previous depth: the odometry without a window."""

from dataclasses import dataclass

import cv2
import numpy as np

from endosfm3d_ros.core import tracks
from endosfm3d_ros.core.frame import Intrinsics, Motion
from endosfm3d_ros.core.motion import Moved, View
from endosfm3d_ros.core.prepare import Window, warp_between
from endosfm3d_ros.core.tracking.followed import Followed


@dataclass(frozen=True)
class _Before:
    """
    What the frame before leaves.

    :param window: of the network picture; texture: (h, w) uint8 of it; camera: of it.
    :param depth: (h, w) float32 [mm]; points: (N, 2) float32 tracks [network px].
    """

    window: Window
    texture: np.ndarray
    camera: Intrinsics
    depth: np.ndarray
    points: np.ndarray

    def seen_through(self, window: Window, width: int, height: int) -> '_Before':
        """All of it as another window of an input picture of this size would have shown it."""
        points = window.network_pixels(self.window.input_pixels(self.points))
        return _Before(
            window,
            warp_between(self.texture, self.window, window, cv2.INTER_LINEAR),
            window.network_camera(self.window.input_camera(self.camera, width, height)),
            warp_between(self.depth, self.window, window, cv2.INTER_NEAREST, np.nan),
            points.astype(np.float32),
        )


@dataclass(frozen=True)
class Pairwise:
    """
    :param before: the frame before, where it showed something.
    :param begun: whether there was a frame at all.
    """

    before: _Before | None = None
    begun: bool = False

    @property
    def followed(self) -> Followed:
        """See `Mover`; its tracks bear no numbers."""
        return Followed()

    def moved(self, view: View) -> tuple['Pairwise', Moved]:
        """See `Mover`."""
        points = np.zeros((0, 2), np.float32)
        if self.before is not None:
            motion, points = self._step(view, self.before)
        else:
            motion = tracks.unknown_motion(view.dt) if self.begun else tracks.no_motion()
        allowed = tracks.trackable(view.picture, view.inside)
        points = tracks.refill(view.texture, allowed, points)
        camera = view.window.network_camera(view.input_camera)
        before = _Before(view.window, view.texture, camera, view.depth.depth, points)
        share = float('nan')
        return Pairwise(before, True), Moved(motion, view.estimate, view.depth, 'none', share)

    def passed(self, view: View) -> tuple['Pairwise', Moved]:
        """See `Mover`."""
        motion = tracks.unknown_motion(view.dt) if self.begun else tracks.no_motion()
        moved = Moved(motion, view.estimate, view.depth, 'none', float('nan'))
        return Pairwise(None, True), moved

    def settled(self) -> 'Pairwise':
        """See `Mover`; nothing waits."""
        return self

    def disowned(self, doubt: float) -> 'Pairwise':
        """See `Mover`; it knows no places but the last."""
        return Pairwise(None, self.begun)

    def restarted(self) -> 'Pairwise':
        """See `Mover`."""
        return Pairwise()

    def _step(self, view: View, before: _Before) -> tuple[Motion, np.ndarray]:
        """The step, and the tracks that are still alive."""
        if before.window != view.window:
            before = before.seen_through(view.window, *view.size)
        there, ok = tracks.follow(before.texture, view.texture, before.points)
        camera = view.window.network_camera(view.input_camera)
        motion, agree = tracks.motion_from_tracks(
            before.points[ok], there[ok], before.depth, before.camera, camera, view.dt
        )
        return motion, there[ok][agree] if motion.known else there[ok]
