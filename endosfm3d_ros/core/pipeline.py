# SPDX-License-Identifier: Apache-2.0
"""One frame in, one reconstruction out: the whole of the product in one readable step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from endosfm3d_ros.core import tracks, validity
from endosfm3d_ros.core.depth_map import DepthMap, DepthNetwork, confidence, unknown_depth
from endosfm3d_ros.core.field_of_view import FieldOfView, find_field_of_view
from endosfm3d_ros.core.frame import Frame, Intrinsics, Motion, Reconstruction
from endosfm3d_ros.core.intrinsics import ZOOM_ACCELERATION, CameraEstimate
from endosfm3d_ros.core.prepare import Window, choose_window, prepare
from endosfm3d_ros.core.trajectory import Trajectory, step_covariance

GIVEN_K_ZOOM = 0.03  # a given K is doubted once the rim says that the scope zoomed by more
RIM_HOLD_S = 1.0  # a rim that is lost is taken to be where it was for so long


@dataclass(frozen=True)
class Settings:
    """
    What a user may choose; the node's parameters of the same names explain each.

    :param intrinsics_source: 'estimated', 'camera_info' or 'fixed'.
    :param fixed_camera: intrinsics of the input picture for 'fixed'.
    :param prior_field_of_view_deg: full angle across the round picture, else across the diagonal
        [deg].
    :param prior_focal_sigma: standard deviation of the log of the focal length that follows from
        it.
    :param zoom_agility: spectral density of the zoom's acceleration [1/s^1.5].
    :param scale: factor on depth and translation; None while nothing anchors it.
    :param find_circle: look for the round field stop.
    :param zoom_by_rim: its radius tells the zoom; not where an electronic stop stands still.
    :param frozen_after: a picture repeated this often is frozen.
    :param tissue_colour: tissue is red: smoke and rooms are told by their colours.
    :param gap_s: a longer gap between stamps opens a new epoch [s].
    """

    intrinsics_source: str = 'estimated'
    fixed_camera: Intrinsics | None = None
    prior_field_of_view_deg: float = 75.0
    prior_focal_sigma: float = 0.35
    zoom_agility: float = ZOOM_ACCELERATION
    scale: float | None = None
    find_circle: bool = True
    zoom_by_rim: bool = True
    frozen_after: int = 5
    tissue_colour: bool = True
    gap_s: float = 2.0


@dataclass(frozen=True)
class _Past:
    """What the frame before leaves to the next one; network pictures all of one window."""

    stamp_ns: int
    frame_id: str
    size: tuple[int, int]
    field: FieldOfView
    rim_seen_ns: int
    window: Window
    picture: np.ndarray
    grey: np.ndarray
    camera: Intrinsics
    depth: np.ndarray
    points: np.ndarray
    verdict: validity.Validity


@dataclass(frozen=True)
class _Look:
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
class _State:
    """
    All that one step leaves to the next; replaced as a whole, so a step that fails changes
    nothing.
    """

    trajectory: Trajectory
    past: _Past | None = None
    estimate: CameraEstimate | None = None
    events: tuple[str, ...] = ()

    def restarted(self, why: str) -> '_State':
        trajectory = self.trajectory.restart()
        event = f'epoch {trajectory.epoch}: {why}; odometry and filters start again'
        return _State(trajectory, events=(event,))


class Pipeline:
    """
    The state between frames, and the step that advances it.

    :param depth_network: network picture (h, w, 3) uint8 RGB -> DepthMap.
    :param sizes: (height, width) of every network size it takes [px].
    :param settings: the user's choices.
    """

    def __init__(
        self,
        depth_network: DepthNetwork,
        sizes: Sequence[tuple[int, int]],
        settings: Settings | None = None,
    ) -> None:
        self.depth_network = depth_network
        self.sizes = tuple(sizes)
        self.settings = settings or Settings()
        self._state = _State(Trajectory())

    def reset(self) -> None:
        """Open a new epoch: odometry and filters start again with the next frame."""
        self._state = self._state.restarted('a reset was asked for')

    def change(self, settings: Settings) -> None:
        """
        Go on by other settings from the next frame; another scale opens a new epoch.

        Lengths of one epoch all have one scale: neither TF nor the path ever mixes two.
        """
        before, now = self.settings.scale or 1.0, settings.scale or 1.0
        self.settings = settings
        if before != now:
            why = f'the scale changed from {before:.4g} to {now:.4g}'
            self._state = self._state.restarted(why)

    def step(self, frame: Frame) -> Reconstruction:
        """
        Reconstruct one frame.

        :param frame: the newest picture.
        :return: everything that is said about it.
        :raises ValueError: the settings ask for a calibration that this frame does not bring, or
            it has the stamp of the frame before. After any error the state is what it was.
        """
        given = self._given(frame)
        state = self._opened(frame)
        past = state.past
        dt = (frame.stamp_ns - past.stamp_ns) * 1e-9 if past else 0.0
        look = self._look(frame, state, dt)
        window = choose_window(look.field, self.sizes, past.window if past else None)
        picture, mask = prepare(frame.image, window), window.mask(look.field, frame.covered)
        verdict = self._judge(picture, mask, window, past)
        estimate = self._camera_estimate(look.measured, given, state, dt, verdict.valid)
        input_camera = given or estimate.camera(look.field.width, look.field.height)
        camera = window.network_camera(input_camera)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        motion, points = _move(
            grey, camera, window, past, verdict.valid and not estimate.jumped, dt
        )
        depth_map = self._depth(picture, mask) if verdict.valid else unknown_depth(picture)
        if verdict.valid:
            points = tracks.refill(grey, tracks.trackable(picture, mask), points)
        trajectory = state.trajectory.advance(motion)
        now = _Past(
            frame.stamp_ns, frame.frame_id, frame.image.shape[:2], look.field, look.rim_seen_ns,
            window, picture, grey, camera, depth_map.depth, points, verdict,
        )  # fmt: skip
        begun = estimate if verdict.valid or state.estimate else None
        self._state = _State(trajectory, now, begun)
        trust, log_focal_sigma = _trust(estimate, given)
        log_scale_sigma = float(np.median(depth_map.log_sigma[mask])) if mask.any() else 1.0
        return Reconstruction(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            image=picture,
            depth=depth_map.depth,
            confidence=confidence(depth_map),
            camera=camera,
            input_camera=input_camera,
            T_odom_cam=trajectory.T_odom_cam,
            odom_covariance=trajectory.total_covariance(log_scale_sigma, log_focal_sigma),
            motion=replace(
                motion, covariance=step_covariance(motion, log_scale_sigma, log_focal_sigma)
            ),
            valid=verdict.valid,
            reason=verdict.reason,
            k_trust=trust,
            zoom=estimate.zoom.zoom if estimate.zoom_seen else float('nan'),
            log_focal_sigma=log_focal_sigma,
            epoch=trajectory.epoch,
            events=(*state.events, *_rim_events(estimate)),
        )

    def _given(self, frame: Frame) -> Intrinsics | None:
        """The calibration that the settings say to believe, of this frame's very size."""
        source = self.settings.intrinsics_source
        if source == 'estimated':
            return None
        given = frame.camera if source == 'camera_info' else self.settings.fixed_camera
        height, width = frame.image.shape[:2]
        if given is None:
            raise ValueError(
                f"intrinsics.source is '{source}' and no calibration came with the picture; "
                'publish '
                'camera_info, give intrinsics.fixed, or set intrinsics.source to estimated'
            )
        if (given.width, given.height) != (width, height):
            raise ValueError(
                f'the calibration is of a {given.width}x{given.height} picture, '
                f'this one is {width}x{height}'
            )
        return given

    def _opened(self, frame: Frame) -> _State:
        """The state that this frame goes on from: the last one, or that of a new epoch."""
        past = self._state.past
        if past is None:
            return self._state
        gap_s = (frame.stamp_ns - past.stamp_ns) * 1e-9
        height, width = frame.image.shape[:2]
        if gap_s == 0:
            raise ValueError(
                f'two pictures with the one stamp {frame.stamp_ns} ns; '
                'needed a new stamp for each: mend the driver'
            )
        if gap_s < 0:
            why = f'the stamp went back by {-gap_s:.3f} s (a looping bag?)'
        elif gap_s > self.settings.gap_s:
            why = f'no picture for {gap_s:.1f} s'
        elif past.size != (height, width):
            why = f'the picture changed from {past.size[1]}x{past.size[0]} to {width}x{height}'
        elif past.frame_id != frame.frame_id:
            why = f'the frame id changed from {past.frame_id} to {frame.frame_id}'
        else:
            return self._state
        return self._state.restarted(why)

    def _look(self, frame: Frame, state: _State, dt: float) -> _Look:
        """
        Measure the visible part; a rim that is lost for a moment, or in doubt, is held where it
        was.
        """
        image, past, now = frame.image, state.past, frame.stamp_ns
        if not self.settings.find_circle:
            height, width = image.shape[:2]
            everything = FieldOfView(width, height, (0, 0, width, height))
            return _Look(everything, everything, now)
        found = find_field_of_view(image, past.field if past else None)
        if past is None or past.field.circle is None:
            return _Look(found, found, now)
        if found.circle is None:
            held = (now - past.rim_seen_ns) * 1e-9 <= RIM_HOLD_S
            return _Look(past.field, found, past.rim_seen_ns) if held else _Look(found, found, now)
        agility = self.settings.zoom_agility
        doubtful = state.estimate and state.estimate.predict(dt, agility).see(found).doubts
        return _Look(past.field if doubtful else found, found, now)

    def _judge(
        self, picture: np.ndarray, mask: np.ndarray, window: Window, past: _Past | None
    ) -> validity.Validity:
        before = past.picture if past and past.window == window else None
        repeats = past.verdict.repeats if past else 0
        chosen = self.settings
        return validity.judge(
            picture, mask, before, repeats, chosen.frozen_after, chosen.tissue_colour
        )

    def _camera_estimate(
        self,
        measured: FieldOfView,
        given: Intrinsics | None,
        state: _State,
        dt: float,
        valid: bool,
    ) -> CameraEstimate:
        """
        The camera after this frame's rim was seen; a frame that shows nothing says nothing of it.
        """
        chosen = self.settings
        if state.estimate:
            estimate = state.estimate.predict(dt, chosen.zoom_agility)
        else:
            estimate = CameraEstimate.start(
                measured, given, chosen.prior_field_of_view_deg, chosen.prior_focal_sigma
            )
        looks = chosen.zoom_by_rim and (valid or not state.estimate)
        return estimate.see(measured) if looks else estimate

    def _depth(self, picture: np.ndarray, mask: np.ndarray) -> DepthMap:
        said = self.depth_network(picture)
        scale = self.settings.scale or 1.0
        known = mask & np.isfinite(said.depth) & (said.depth > 0)
        depth = np.where(known, said.depth * np.float32(scale), np.float32(np.nan))
        return replace(said, depth=depth)


def _move(
    grey: np.ndarray,
    camera: Intrinsics,
    window: Window,
    past: _Past | None,
    possible: bool,
    dt: float,
) -> tuple[Motion, np.ndarray]:
    """The step since the previous frame, and the tracks that are still alive [network px]."""
    none = np.zeros((0, 2), np.float32)
    if past is None:
        return tracks.no_motion(), none
    if not possible or not past.verdict.valid:
        return tracks.unknown_motion(dt), none
    before, points, depth, camera_before = past.grey, past.points, past.depth, past.camera
    if past.window != window:
        before, points, depth, camera_before = _seen_through(window, past)
    there, ok = tracks.follow(before, grey, points)
    motion, agree = tracks.motion_from_tracks(
        points[ok], there[ok], depth, camera_before, camera, dt
    )
    return motion, there[ok][agree] if motion.known else there[ok]


def _trust(estimate: CameraEstimate, given: Intrinsics | None) -> tuple[float, float]:
    """Trust in K and sigma of log f; a given K loses both once the rim says the scope zoomed."""
    if given is None:
        return estimate.zoom.trust, estimate.zoom.log_focal_sigma
    moved = abs(float(np.log(estimate.zoom.zoom)))
    return (1.0, 0.0) if moved <= GIVEN_K_ZOOM else (0.0, moved)


def _rim_events(estimate: CameraEstimate) -> tuple[str, ...]:
    if not estimate.jumped:
        return ()
    return (
        f'the round picture jumped (zoom is now {estimate.zoom.zoom:.2f}): this step is not known',
    )


def _seen_through(
    window: Window, past: _Past
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Intrinsics]:
    """
    The previous frame's grey picture, tracks, depth and camera as the new window would have shown
    them.
    """
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    there = past.window.network_pixels(window.input_pixels(corners))
    affine = np.column_stack(
        [there[1] - there[0], there[2] - there[0], there[0]]
    )  # new pixel -> old pixel
    size = (window.network_width, window.network_height)
    how = cv2.WARP_INVERSE_MAP
    grey = cv2.warpAffine(
        past.grey, affine, size, flags=how | cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    depth = cv2.warpAffine(
        past.depth,
        affine,
        size,
        flags=how | cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=np.nan,
    )
    points = window.network_pixels(past.window.input_pixels(past.points)).astype(np.float32)
    height, width = past.size
    camera = window.network_camera(past.window.input_camera(past.camera, width, height))
    return grey, points, depth, camera
