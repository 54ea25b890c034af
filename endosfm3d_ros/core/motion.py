# SPDX-License-Identifier: Apache-2.0
"""What a frame hands to whatever tells the camera's motion, and what it gets back."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Intrinsics, Motion
from endosfm3d_ros.core.intrinsics import CameraEstimate
from endosfm3d_ros.core.picture.inside import Inside
from endosfm3d_ros.core.prepare import Window
from endosfm3d_ros.core.tracking.followed import Followed


@dataclass(frozen=True)
class View:
    """
    One frame, prepared and looked at.

    :param picture: (h, w, 3) uint8 RGB network picture; texture: (h, w) uint8 of it.
    :param inside: the field of view, on the network picture.
    :param window: of the network picture; size: (width, height) of the input picture [px].
    :param coming: the network's depth map, on its way while the tracks are followed; see `depth`.
    :param estimate: the camera after this frame's rim.
    :param rim: the rim was measured in this very frame, and believed.
    :param network_focal: what a motion network says of the focal length of the input picture, in
        the one frame of an epoch that takes it [px]; `estimate` has it already.
    :param given: a calibration to hold, of the input picture; None where K is estimated.
    :param dt: since the frame before [s]; 0 for the first.
    """

    picture: np.ndarray
    texture: np.ndarray
    inside: Inside
    window: Window
    size: tuple[int, int]
    coming: 'Future[DepthMap]'
    estimate: CameraEstimate
    rim: bool
    given: Intrinsics | None
    network_focal: float | None
    dt: float

    @property
    def depth(self) -> DepthMap:
        """
        What the network says, NaN outside the mask, scaled by the user's factor; waits for it.

        :raises Exception: whatever the network raised.
        """
        return self.coming.result()

    @property
    def input_camera(self) -> Intrinsics:
        """The camera of the input picture as it is known so far."""
        return self.given or self.estimate.camera(*self.size)


@dataclass(frozen=True)
class Moved:
    """
    What the motion's teller says.

    :param motion: the step since the frame before.
    :param estimate: the camera, with what the tracks told of it.
    :param depth: the network's map, made to agree with those before where that is known.
    :param refinement: what K, motion and scale rest on: 'window', or 'none'.
    :param rigid_share: of the tracks, that move as one with the camera; NaN where none was asked.
    :param stretch: what a millimetre of the network, scaled by the user's factor, is worth here.
    :param map_number: see `Reconstruction`.
    :param events: sentences for a person; usually none.
    """

    motion: Motion
    estimate: CameraEstimate
    depth: DepthMap
    refinement: str
    rigid_share: float
    stretch: float = 1.0
    map_number: int = 0
    events: tuple[str, ...] = ()


class Mover(Protocol):
    """Tells motion from frame to frame; a value: what it was before stays what it was."""

    @property
    def followed(self) -> Followed:
        """The tracks of the last frame; none where they are not told from each other."""
        ...

    def moved(self, view: View) -> tuple['Mover', Moved]:
        """Go on by a frame that shows something."""
        ...

    def passed(self, view: View) -> tuple['Mover', Moved]:
        """Go on by a frame that shows nothing, or whose motion can not be told."""
        ...

    def settled(self) -> 'Mover':
        """Do what can wait until the frame was answered."""
        ...

    def disowned(self, doubt: float) -> 'Mover':
        """
        Forget places, in the same epoch: the pictures that told them were not what the scope saw.

        :param doubt: by how much what they told of log focal may be off (sigma).
        """
        ...

    def restarted(self) -> 'Mover':
        """
        Forget places and keep what belongs to the scope: the depth maps, and so all lengths, have
        another scale from now on.
        """
        ...
