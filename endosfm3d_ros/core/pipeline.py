# SPDX-License-Identifier: Apache-2.0
"""One frame in, one reconstruction out: the whole of the product in one readable step."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np

from endosfm3d_ros.core import camera_told, tracks, validity
from endosfm3d_ros.core.depth_map import DepthMap, DepthNetwork, confidence, unknown_depth
from endosfm3d_ros.core.frame import Frame, Intrinsics, Reconstruction
from endosfm3d_ros.core.intrinsics import CameraEstimate
from endosfm3d_ros.core.motion import Moved, Mover, View
from endosfm3d_ros.core.network_motion import (
    MotionNetwork,
    NetworkMotion,
    network_step,
)
from endosfm3d_ros.core.pairwise import Pairwise
from endosfm3d_ros.core.picture.echo import MISLED, Echo, Went
from endosfm3d_ros.core.picture.field_of_view import FieldOfView, find_field_of_view
from endosfm3d_ros.core.picture.inside import Inside
from endosfm3d_ros.core.pipeline_state import Look, Past, State
from endosfm3d_ros.core.prepare import Window, choose_window, prepare
from endosfm3d_ros.core.ready import get_ready
from endosfm3d_ros.core.settings import Settings
from endosfm3d_ros.core.straighten import straightened
from endosfm3d_ros.core.trajectory import Trajectory, step_covariance
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.core.windowed import Windowed

RIM_HOLD_S = 1.0  # a rim that is lost is taken to be where it was for so long


class Pipeline:
    """
    The state between frames, and the step that advances it.

    :param depth_network: network picture (h, w, 3) uint8 RGB -> DepthMap.
    :param sizes: (height, width) of every network size it takes [px].
    :param settings: the user's choices.
    :param motion_network: (previous, current) network pictures of one window -> NetworkMotion;
        asked once an epoch for a prior of K, and for the step where tracks know nothing.
    :param learnt: what an earlier pass over the same video learnt of the scope (`learnt_scope`),
        epoch by epoch: another one has another picture size, or its zoom counts from elsewhere.
    """

    def __init__(
        self,
        depth_network: DepthNetwork,
        sizes: Sequence[tuple[int, int]],
        settings: Settings | None = None,
        motion_network: MotionNetwork | None = None,
        learnt: Sequence[Scope | None] = (),
    ) -> None:
        self._learnt = tuple(learnt)
        self.depth_network = depth_network
        self.motion_network = motion_network
        self.sizes = tuple(sizes)
        self.settings = settings or Settings()
        get_ready()
        self._state = State(Trajectory(), self._mover(cuts=0))
        self._beside = ThreadPoolExecutor(1, 'beside')  # what the step need not wait for at once
        self._settling: tuple[Mover, Future[Mover]] | None = None

    def _mover(self, cuts: int | None) -> Mover:
        """What tells motion from here on, with what was learnt after so many cuts."""
        if self.settings.refinement != 'window':
            return Pairwise()
        straight = self.settings.lens == 'straight'
        if cuts is None or cuts >= len(self._learnt):
            return Windowed(straight=straight)
        return Windowed(straight=straight, learnt=self._learnt[cuts])

    @property
    def learnt_scope(self) -> Scope | None:
        """What the window knows of the scope by now, in this epoch; None without a window."""
        mover = self._settled(self._state.mover)
        return mover.scope if isinstance(mover, Windowed) else None

    def reset(self, why: str = 'a reset was asked for') -> None:
        """Open a new epoch: odometry and filters start again with the next frame."""
        mover = self._mover(cuts=None)  # the zoom counts from here: what was learnt is not of it
        self._state = self._state.restarted(why, mover, self._state.cuts)

    def change(self, settings: Settings) -> None:
        """
        Go on by other settings from the next frame; another scale opens a new epoch.

        Lengths of one epoch all have one scale: neither TF nor the path ever mixes two.
        """
        before, now = self.settings.scale or 1.0, settings.scale or 1.0
        self.settings = settings
        if before != now:
            why = f'the scale changed from {before:.4g} to {now:.4g}'
            settled = replace(self._state, mover=self._settled(self._state.mover))
            self._state = settled.rescaled(why)

    def settle(self) -> None:
        """
        Begin what can wait until the last frame was answered: the window is adjusted beside the
        caller, who may go on at once. Without this the next step begins it.
        """
        mover = self._state.mover
        if self._settling is None or self._settling[0] is not mover:
            self._settling = mover, self._beside.submit(mover.settled)

    def _settled(self, mover: Mover) -> Mover:
        """The same mover, adjusted where that was begun; waits for it."""
        if self._settling is None or self._settling[0] is not mover:
            return mover
        _, coming = self._settling
        return coming.result()

    def step(self, frame: Frame) -> Reconstruction:
        """
        Reconstruct one frame.

        :param frame: the newest picture.
        :return: everything that is said about it.
        :raises ValueError: the settings ask for a calibration that this frame does not bring, or
            it has the stamp of the frame before. After any error the state is what it was.
        :raises ArithmeticError: the motion has no solution; a reset helps.
        """
        self.settle()
        given = self.settings.calibration_of(frame)
        state = self._opened(frame)
        past = state.past
        dt = (frame.stamp_ns - past.shown_ns) * 1e-9 if past else 0.0
        echo, image = self._unmixed(frame, state, dt)
        look = self._look(image, frame.stamp_ns, state, dt)
        window = choose_window(look.field, self.sizes, past.window if past else None)
        picture, inside = prepare(image, window), _inside(look.field, window, frame, past)
        raw = picture if image is frame.image else prepare(frame.image, window)
        mask = inside.mask
        verdict = self._judge(picture, raw, mask, window, past)
        if past and verdict.valid and past.answers(verdict, inside, self.settings, given):
            return self._shown_again(frame, state, past, look, verdict)
        estimate = self._camera_estimate(look.measured, given, state, dt, verdict.valid)
        depth = self._depth_of(picture, mask, verdict.valid)
        said = None
        if verdict.valid and not state.network_k_taken and given is None:
            said = self._ask_motion(picture, window, past)
        network_focal = camera_told.network_focal(said, window, look.field)
        rim = self._believes_rim(look.measured, estimate)
        view = View(
            picture=picture,
            texture=tracks.texture(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), inside),
            inside=inside,
            window=window,
            size=(look.field.width, look.field.height),
            coming=depth,
            estimate=camera_told.with_focal(estimate, network_focal),
            rim=rim,
            given=given,
            network_focal=network_focal,
            dt=dt,
        )
        tell = verdict.valid and not estimate.jumped
        mover, moved = _gone_on(self._settled(state.mover), view, tell)
        if past and echo.listens and self.settings.undo_noise_reduction:
            went = Went.of(state.mover.followed, mover.followed, inside)
            echo = echo.heard(past.image, frame.image, went)
        if echo.turned(state.echo):
            mover = mover.disowned(MISLED)
        motion, estimate, depth_map = moved.motion, moved.estimate, moved.depth
        if tell and not motion.known:
            said = said or self._ask_motion(picture, window, past)
            scale = (self.settings.scale or 1.0) * moved.stretch
            motion = (said and network_step(said, scale)) or motion
        input_camera = given or estimate.camera(*view.size)
        camera = window.network_camera(input_camera)
        trajectory = state.trajectory.advance(motion)
        begun = estimate if verdict.valid or state.estimate else None
        taken = state.network_k_taken or said is not None
        off = camera_told.contradicted(estimate, given, rim, state.k_contradicted)
        trust, log_focal_sigma = camera_told.trust(estimate, given, off)
        zoom, zoom_sigma = camera_told.zoom(estimate, moved, given)
        some = view.depth.log_sigma[::4, ::4][mask[::4, ::4]]
        log_scale_sigma = float(np.median(some)) if len(some) else 1.0
        bend = estimate.distortion
        picture, depth_map, camera = straightened(picture, depth_map, camera, bend)
        told = Reconstruction(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            image=picture,
            depth=depth_map.depth,
            confidence=confidence(depth_map),
            camera=camera,
            input_camera=input_camera,
            distortion=bend,
            distortion_sigma=estimate.distortion_sigma,
            T_odom_cam=trajectory.T_odom_cam,
            odom_covariance=trajectory.total_covariance(log_scale_sigma, log_focal_sigma),
            motion=replace(
                motion, covariance=step_covariance(motion, log_scale_sigma, log_focal_sigma)
            ),
            valid=verdict.valid,
            reason=verdict.reason,
            k_trust=trust,
            zoom=zoom,
            zoom_sigma=zoom_sigma,
            log_focal_sigma=log_focal_sigma,
            epoch=trajectory.epoch,
            refinement=moved.refinement,
            rigid_share=moved.rigid_share,
            map_number=moved.map_number,
            repeats=verdict.repeats,
            mixed=echo.share,
            events=(
                *state.events,
                *echo.events(state.echo),
                *camera_told.rim_events(estimate),
                *camera_told.lens_events(state.estimate, estimate),
                *moved.events,
            ),
        )
        now = Past(
            frame.stamp_ns, frame.stamp_ns, frame.frame_id, frame.image, look.field,
            look.rim_seen_ns, window, frame.covered, inside, raw, view.picture, verdict, told,
            self.settings, given,
        )  # fmt: skip
        self._state = State(
            trajectory, mover, now, begun,
            network_k_taken=taken, cuts=state.cuts, k_contradicted=off, echo=echo,
            camera=(*now.size, frame.frame_id),
        )  # fmt: skip
        return told

    def _shown_again(
        self,
        frame: Frame,
        state: State,
        past: Past,
        look: Look,
        verdict: validity.Validity,
    ) -> Reconstruction:
        """
        A picture that came before, as a grabber sends it that is faster than the camera: what was
        said of it holds, and nothing moved that it could show.
        """
        still = replace(past.said.motion, T_prev_cam=np.eye(4))
        told = replace(
            past.said,
            stamp_ns=frame.stamp_ns,
            motion=still,
            repeats=verdict.repeats,
            events=state.events,
        )
        now = replace(
            past,
            stamp_ns=frame.stamp_ns,
            rim_seen_ns=look.rim_seen_ns,
            verdict=verdict,
            said=told,
        )
        self._state = replace(state, past=now, events=())
        return told

    def _opened(self, frame: Frame) -> State:
        """The state that this frame goes on from: the last one, or that of a new epoch."""
        height, width = frame.image.shape[:2]
        camera = height, width, frame.frame_id
        state = self._state if camera == self._state.camera else replace(self._state, echo=Echo())
        past = state.past
        if past is None:
            return state
        gap_s = (frame.stamp_ns - past.stamp_ns) * 1e-9
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
            return state
        cuts = state.cuts + 1
        return state.restarted(why, self._mover(cuts), cuts)

    def _look(self, image: np.ndarray, now: int, state: State, dt: float) -> Look:
        """
        Measure the visible part; a rim that is lost for a moment, or in doubt, is held where it
        was, and so is one that moved by less than the network picture shows.

        :param image: (H, W, 3) uint8 RGB input picture; now: its stamp [ns].
        """
        past = state.past
        if not self.settings.find_circle:
            height, width = image.shape[:2]
            everything = FieldOfView(width, height, (0, 0, width, height))
            return Look(everything, everything, now)
        found = find_field_of_view(image, past.field if past else None)
        if past is None or past.field.circle is None:
            return Look(found, found, now)
        if found.circle is None:
            held = (now - past.rim_seen_ns) * 1e-9 <= RIM_HOLD_S
            return Look(past.field, found, past.rim_seen_ns) if held else Look(found, found, now)
        doubtful = False
        if self.settings.zoom_by_rim and state.estimate:
            agility = self.settings.zoom_agility
            doubtful = state.estimate.predict(dt, agility).see(found).doubts
        return Look(past.field if doubtful or past.holds(found) else found, found, now)

    def _unmixed(self, frame: Frame, state: State, dt: float) -> tuple[Echo, np.ndarray]:
        """The input picture without what the camera mixed into it of the one before."""
        past, image = state.past, frame.image
        if not self.settings.undo_noise_reduction:
            return Echo(), image
        if past is None:
            return state.echo, image
        echo = state.echo.stepped(dt)
        if not echo.undoes or echo.same(image, past.image):
            return echo, image
        return echo, echo.undone(image, past.image)

    def _judge(
        self,
        picture: np.ndarray,
        raw: np.ndarray,
        mask: np.ndarray,
        window: Window,
        past: Past | None,
    ) -> validity.Validity:
        before = past.raw if past and past.window == window else None
        repeats = past.verdict.repeats if past else 0
        chosen = self.settings
        return validity.judge(
            picture, mask, before, repeats, chosen.frozen_after, chosen.tissue_colour, raw
        )

    def _camera_estimate(
        self,
        measured: FieldOfView,
        given: Intrinsics | None,
        state: State,
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
        if given:
            estimate = estimate.by_calibration(given)
        if not chosen.zoom_by_rim:
            return estimate.without_rim()
        return estimate.see(measured) if valid or not state.estimate else estimate

    def _believes_rim(self, measured: FieldOfView, estimate: CameraEstimate) -> bool:
        """Whether this frame's rim tells the zoom; an electronic stop never does."""
        return self.settings.zoom_by_rim and measured.circle is not None and not estimate.doubts

    def _ask_motion(
        self, picture: np.ndarray, window: Window, past: Past | None
    ) -> NetworkMotion | None:
        """What the motion network says, where there is one and a picture of the same window."""
        if not self.motion_network or not past or not past.verdict.valid or past.window != window:
            return None
        return self.motion_network(past.picture, picture)

    def _depth_of(self, picture: np.ndarray, mask: np.ndarray, valid: bool) -> 'Future[DepthMap]':
        """Begin what takes longest, on another core; a picture that shows nothing has none."""
        if valid:
            return self._beside.submit(self._depth, picture, mask)
        nothing: Future[DepthMap] = Future()
        nothing.set_result(unknown_depth(picture))
        return nothing

    def _depth(self, picture: np.ndarray, mask: np.ndarray) -> DepthMap:
        """What the network says at the user's scale; a depth whose sigma is none is unknown."""
        said = self.depth_network(picture)
        scale = self.settings.scale or 1.0
        stated = np.isfinite(said.log_sigma)
        known = mask & stated & np.isfinite(said.depth) & (said.depth > 0)
        depth = np.where(known, said.depth * np.float32(scale), np.float32(np.nan))
        log_sigma = said.log_sigma if stated.all() else np.where(stated, said.log_sigma, 1.0)
        return replace(said, depth=depth, log_sigma=log_sigma.astype(np.float32, copy=False))


def _inside(field: FieldOfView, window: Window, frame: Frame, past: Past | None) -> Inside:
    """What of the network picture shows the scene; the same object while it is the same."""
    if past and (past.field, past.window, past.covered) == (field, window, frame.covered):
        return past.inside
    return Inside(window.mask(field, frame.covered))


def _gone_on(mover: Mover, view: View, tell: bool) -> tuple[Mover, Moved]:
    """
    The mover after this frame.

    :raises ArithmeticError: it has no answer. NumPy's own error is a ValueError, which would put
        the blame on the picture.
    """
    try:
        return mover.moved(view) if tell else mover.passed(view)
    except np.linalg.LinAlgError as error:
        raise ArithmeticError(f'the motion has no solution: {error}') from error
