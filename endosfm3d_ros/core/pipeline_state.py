# SPDX-License-Identifier: Apache-2.0
"""What one step of the pipeline leaves to the next one."""

from dataclasses import dataclass, field, replace

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics, Reconstruction
from endosfm3d_ros.core.intrinsics import CameraEstimate
from endosfm3d_ros.core.motion import Mover
from endosfm3d_ros.core.picture.echo import Echo
from endosfm3d_ros.core.picture.field_of_view import FieldOfView
from endosfm3d_ros.core.picture.inside import Inside
from endosfm3d_ros.core.picture.overlays import Box
from endosfm3d_ros.core.prepare import Window
from endosfm3d_ros.core.settings import Settings
from endosfm3d_ros.core.trajectory import Trajectory
from endosfm3d_ros.core.validity import Validity


@dataclass(frozen=True)
class Past:
    """
    What the frame before leaves to the next one.

    :param stamp_ns: of the newest picture; shown_ns: when it was first shown [ns].
    :param image: the input picture as it came; raw: the network picture of that; picture: the
        same without what the camera mixed into it.
    :param said: of it, by these settings and with this calibration.
    """

    stamp_ns: int
    shown_ns: int
    frame_id: str
    image: np.ndarray
    field: FieldOfView
    rim_seen_ns: int
    window: Window
    covered: tuple[Box, ...]
    inside: Inside
    raw: np.ndarray
    picture: np.ndarray
    verdict: Validity
    said: Reconstruction
    settings: Settings
    given: Intrinsics | None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the input picture."""
        return self.image.shape[0], self.image.shape[1]

    def answers(
        self, now: Validity, inside: Inside, settings: Settings, given: Intrinsics | None
    ) -> bool:
        """Whether what was said holds for a picture: it is the same, and so is what is asked."""
        same = now.repeats > 0 and inside is self.inside
        return same and (settings, given) == (self.settings, self.given)

    def holds(self, field: FieldOfView) -> bool:
        """Whether a field of view is that of before as far as the network picture shows it."""
        before, half = self.field, 0.5 * self.window.width / self.window.network_width
        if not (field.circle and before.circle and field.opening == before.opening):
            return False
        return max(abs(a - b) for a, b in zip(field.circle, before.circle, strict=True)) < half


@dataclass(frozen=True)
class Look:
    """
    What part of the picture is picture.

    :param field: what is believed: for the window and the mask.
    :param measured: what this frame alone says: for the camera's estimate, which gates it.
    :param rim_seen_ns: when the believed rim was last seen [ns].
    """

    field: FieldOfView
    measured: FieldOfView
    rim_seen_ns: int


@dataclass(frozen=True)
class State:
    """
    All that one step leaves to the next; replaced as a whole, so a step that fails changes
    nothing.

    :param echo: what is known of the camera's temporal noise reduction; camera: whose it is: rows,
        columns and frame id of its pictures.
    :param cuts: epochs that the video itself opened: by a gap, another size, another frame id.
    :param k_contradicted: by how much the last rim contradicted a given K, in log focal length.
    """

    trajectory: Trajectory
    mover: Mover
    past: Past | None = None
    estimate: CameraEstimate | None = None
    events: tuple[str, ...] = ()
    network_k_taken: bool = False
    cuts: int = 0
    k_contradicted: float = 0.0
    echo: Echo = field(default_factory=Echo)
    camera: tuple[int, int, str] | None = None

    def restarted(self, why: str, mover: Mover, cuts: int) -> 'State':
        """Begin the next epoch."""
        trajectory = self.trajectory.restart()
        event = f'epoch {trajectory.epoch}: {why}; odometry and filters start again'
        events = (*self.events, event)
        return State(
            trajectory, mover, events=events, cuts=cuts, echo=self.echo, camera=self.camera
        )

    def rescaled(self, why: str) -> 'State':
        """Begin the next epoch at another scale: the scope is still the same."""
        trajectory = self.trajectory.restart()
        event = f'epoch {trajectory.epoch}: {why}; odometry starts again'
        mover, events = self.mover.restarted(), (*self.events, event)
        return replace(self, trajectory=trajectory, mover=mover, events=events)
