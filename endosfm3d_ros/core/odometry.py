# SPDX-License-Identifier: Apache-2.0
"""
Visual odometry over a local map: every frame is placed among known points, some frames stay as
keyframes, and the map is adjusted between two frames, never while one waits.

    step:    follow tracks -> resection -> is it a keyframe? -> what the depth map is off by
    settled: bundle adjustment of the window
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from endosfm3d_ros.core import tracks
from endosfm3d_ros.core.agreement import Agreement, Seen, agree
from endosfm3d_ros.core.geometry import inverse, motion_from_vector, nearest_rotation
from endosfm3d_ros.core.tracking.followed import Followed
from endosfm3d_ros.core.tracking.recognition import Looked
from endosfm3d_ros.core.tracking.sight import Sight, values_at
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.local_map import WINDOW, LocalMap
from endosfm3d_ros.core.window.placed import LOST, RECOGNISED, RETURNED, Placed
from endosfm3d_ros.core.window.resection import Resection, resect
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.core.window.words import Words
from endosfm3d_ros.core.window.zoom_steps import BEGINS, GOES_ON, REST, RUNS, ZoomStep, rests

TRACK_SIGMA_PX = 0.08  # of a track, of the network's picture
POINT_SIGMA_PX = 0.35  # with what a point is off before the window was adjusted
LEAST_GAP, LEAST_WAY_PX = 3, 2.5  # frames and median way of tracks to the next keyframe
FEWEST_RECOGNISED, LEAST_RECOGNISED = 20, 0.15  # points, and their share, that must agree
CORNER_SIGMA_PX = 0.7  # of a point that was recognised, of the network's picture
REMEMBERED = 250  # frames that a map which was left is kept at most
LOST_ZOOM = 0.1  # sigma of log zoom while tracks were lost
STRAYED = 0.7  # fewer of the followed points agree: then they may have been led astray together
LEAST_SHARED = 0.6  # of a keyframe's tracks, or another keyframe is needed
ZOOM_FLOOR = 1e-3
ZOOM_NOISE, YOUNG_NOISE = 0.004, 0.012  # of a frame's log zoom by its tracks; before any solution
# picture widths: 33 degrees from side to side, as hardly an endoscope sees, whole or zoomed in
LONGEST_LENS = 1.7
SETTLE_S = 0.3  # corrections of the place are fed in over about so long
FED_SIGMAS = 3.0  # of a step: more of a correction in it is said in its covariance


@dataclass(frozen=True)
class Odometry:
    """
    The state between frames; `begun` makes the first.

    :param map: keyframes and points.
    :param number: of the last frame.
    :param T_cam_world: (4, 4) of the last frame, as the map has it [mm].
    :param correction: (4, 4) camera now in the map -> camera as told; fades to the identity.
    :param log_focal: of the last frame, by which the points are placed (`LocalMap.gap`).
    :param followed: its tracks, some of them of points that the map knows.
    :param maps: that were begun.
    :param left: what it was when all tracks were lost, while the map is young that was begun then:
        where that one is recognised it goes on.
    :param offset: (4,) what the last frame's depth map was off by, see `Placed`.
    :param due: a keyframe was added, and the adjustment it calls for is not done.
    :param zooms: the zoom runs, for all that the last frame tells.
    """

    map: LocalMap
    number: int = -1
    T_cam_world: np.ndarray = field(default_factory=lambda: np.eye(4))
    correction: np.ndarray = field(default_factory=lambda: np.eye(4))
    log_focal: float = 0.0
    followed: Followed = field(default_factory=Followed)
    offset: np.ndarray = field(default_factory=lambda: np.zeros(4))
    due: bool = False
    zooms: bool = False
    maps: int = 0
    left: 'Odometry | None' = None

    @classmethod
    def begun(cls, scope: Scope, sight: Sight) -> 'Odometry':
        """
        Before the first frame.

        :param scope: what is believed of the endoscope, of a square-pixel input picture.
        """
        sigma_px = TRACK_SIGMA_PX * sight.pixel_size
        seldom = float(scope.focal[0]) + scope.log_focal_sigma
        longest = max(float(np.log(LONGEST_LENS * sight.size[0])), seldom)
        begun = LocalMap(sight.size, sigma_px, Words(scope), scope, longest=longest)
        return cls(begun, log_focal=float(scope.focal.sum()))

    @property
    def scope(self) -> Scope:
        """What is known of the endoscope now."""
        return self.map.scope

    def step(self, sight: Sight) -> tuple['Odometry', Placed]:
        """Place a frame; its tracks and, now and then, the frame itself are kept."""
        now = replace(self, number=self.number + 1, followed=self.followed.into(sight))
        if now.followed.anchor is None:
            return now._begun_again(sight, known=self.number < 0)
        found, looks = now._resected(sight), Looked(sight)
        share, lost, looked = now._share(found), not found.known, False
        if lost or (now.map.solution and found.agree.mean() < STRAYED):
            again, better = now._recognised(sight, looks)
            if better.known and better.agree.sum() > found.agree.sum():
                now, found, looked = again, better, True
        events = (RECOGNISED,) if lost and looked else ()
        if found.known:
            now, found = now._placed_by(found, sight)
        known = found.known
        fed = inverse(self.correction) @ now.correction if known else np.eye(4)
        if now.left and (looked or not known or now._wants_keyframe()):
            then, better = now._back_in(now.left, sight, looks)
            if better.known:
                now, found, looked, events = then, better, True, (RETURNED,)
        if not found.known:
            return now._begun_again(sight, known=False)
        agreement = now._agreement(sight)
        now = replace(now, offset=agreement.smooth)
        placed = Placed(
            inverse(now.T_cam_world) @ now.correction,
            known,
            int(found.agree.sum()),
            share,
            now._step_covariance(found.covariance, looked, fed),
            found.log_focal - now.map.gap,
            max(float(np.sqrt(found.covariance[6, 6])), ZOOM_FLOOR),
            agreement.of(sight.coming.result(), sight),
            float(agreement.smooth[0]),
            events,
        )
        if looked or now._wants_keyframe():
            now = now._completed_here(sight)._with_keyframe(sight, placed)
        return now, placed

    def settled(self) -> 'Odometry':
        """
        Adjust the window after a keyframe, a few iterations a frame: until it has converged while
        a map is young, once when its window is full or the scope is known; then what can wait has
        the frame after that.
        """
        now = self._completed()
        if not now.due:
            return now
        now = now._adjusted()
        return now if now.map.settled else now._completed()

    def _adjusted(self) -> 'Odometry':
        if not self.due:
            return self
        try:
            adjusted = self.map.adjusted()
        except np.linalg.LinAlgError:
            # a window that has no answer changes nothing
            return replace(self, map=self.map.with_nothing_asked(), due=False)
        done = adjusted is self.map or adjusted.arrived
        return replace(self._moved_to(adjusted), due=not done)

    def _completed(self) -> 'Odometry':
        """Do what an adjustment left, see `LocalMap.completed`."""
        if not self.map.waits:
            return self
        try:
            return replace(self, map=self.map.completed())
        except np.linalg.LinAlgError:
            return replace(self, map=self.map.with_nothing_left())

    def informed(self, log_focal: float, sigma: float) -> 'Odometry':
        """Take in somebody else's word on the focal length now, as one measurement of it."""
        told = self.map.informed(log_focal, sigma)
        moved = float(told.scope.focal.sum() - self.scope.focal.sum())
        return replace(self, map=told, log_focal=self.log_focal + moved)

    def lost(self, sight: Sight) -> 'Odometry':
        """
        After frames that showed nothing: the map is gone, what is known of the scope stays, and
        its zoom is what this frame's rim says.
        """
        log_focal = self.log_focal - self.map.gap
        if np.isfinite(sight.log_zoom):
            zoomed = sight.log_zoom - float(self.scope.focal[1])
            gone = self.map.forgotten(zoomed, max(sight.log_zoom_sigma, ZOOM_FLOOR))
            log_focal = float(self.scope.focal[0]) + sight.log_zoom
        else:
            gone = self.map.forgotten()
        return replace(
            self,
            map=gone,
            log_focal=log_focal,
            followed=self.followed.forgotten(),
            due=False,
        )

    def disowned(self, doubt: float) -> 'Odometry':
        """See `Mover`; a map begins anew where the next frame is."""
        gone = replace(self, map=self.map.doubted(doubt))._emptied()
        return replace(
            gone,
            map=replace(gone.map, number=self.map.number),  # until the next one begins
            followed=self.followed.forgotten(),
            due=False,
            left=None,
        )

    def restarted(self) -> 'Odometry':
        """
        An odometry at its origin that knows the scope, as it is zoomed now, for lengths of another
        scale.

        What a depth map's millimetre is worth in the world stays: a robot that measured the path
        measured it with that.
        """
        gone = self._emptied()
        return Odometry(gone.map, log_focal=gone.log_focal, offset=self.offset)

    def _emptied(self) -> 'Odometry':
        """With an empty map that knows the scope, as it is zoomed now."""
        focal = self.log_focal - self.map.gap
        zoomed = focal - float(self.scope.focal.sum())
        return replace(self, map=self.map.forgotten(zoomed, ZOOM_NOISE), log_focal=focal)

    # one frame

    @property
    def _rigid(self) -> np.ndarray:
        """Which tracks are of points that the map knows and that do not move: (N,) bool."""
        known = self.map.landmarks
        ids = self.followed.ids
        return (known.of(ids) >= 0) & ~known.moving_of(ids)

    def _resected(self, sight: Sight, corners: bool = False) -> Resection:
        """
        Where its tracks say that the frame was taken.

        :param corners: they are corners that were recognised, some of them falsely.
        """
        known, mine = self.map.landmarks, self.followed.kept(self._rigid)
        prior, sigma = self._prior_focal(sight)
        return resect(
            known.places[known.of(mine.ids)],
            sight.map_pixels(mine.points),
            self.map.centre,
            (CORNER_SIGMA_PX if corners else POINT_SIGMA_PX) * sight.pixel_size,
            self.T_cam_world,
            prior,
            max(sigma, LOST_ZOOM) if corners else sigma,
            self.scope.distortion,
            *((FEWEST_RECOGNISED, LEAST_RECOGNISED) if corners else ()),
        )

    def _share(self, found: Resection) -> float:
        """Of the tracks that the map knows, how many agree."""
        known = self.map.landmarks.of(self.followed.ids) >= 0
        return float(found.agree.sum() / max(known.sum(), 1))

    def _placed_by(self, found: Resection, sight: Sight) -> tuple['Odometry', Resection]:
        """Where a resection says, the tracks that do not agree dropped."""
        found, zooms = self._rested(found, sight)
        return replace(
            self._agreeing(found),
            T_cam_world=found.T_cam_world,
            log_focal=found.log_focal,
            zooms=zooms,
            correction=_faded(self.correction, sight.dt),
        ), found

    def _agreeing(self, found: Resection) -> 'Odometry':
        """Without the tracks that do not agree."""
        keep = ~self._rigid
        keep[~keep] = found.agree
        return replace(self, followed=self.followed.kept(keep))

    def _recognised(self, sight: Sight, looks: Looked) -> tuple['Odometry', Resection]:
        """
        With points of the map that are recognised in the frame, in place of its tracks, and where
        they say that it was taken.
        """
        known = self.map.landmarks
        there = self.followed.recognised(known.ids[~known.moving], looks)
        now = replace(self, followed=there)
        found = now._resected(sight, corners=True)
        if not found.known:
            return self, found
        now = replace(
            now._agreeing(found), T_cam_world=found.T_cam_world, log_focal=found.log_focal
        )
        now = now._completed_here(sight)
        return now, now._resected(sight)

    def _back_in(
        self, left: 'Odometry', sight: Sight, looks: Looked
    ) -> tuple['Odometry', Resection]:
        """
        The odometry as it was before the tracks were lost, placed in its map by what is recognised
        of it; what is told of the place does not jump.
        """
        then = replace(
            left,
            number=self.number,
            followed=replace(left.followed, next_id=self.followed.next_id).seen_in(sight),
            maps=self.maps,
            log_focal=self.log_focal - self.map.gap + left.map.gap,
            zooms=False,
        )
        then, found = then._recognised(sight, looks)
        if not found.known:
            return self, found
        then, found = then._placed_by(found, sight)
        told = inverse(self.T_cam_world) @ self.correction
        return replace(then, correction=then.T_cam_world @ told), found

    def _prior_focal(self, sight: Sight) -> tuple[float, float]:
        """What this frame's log focal length should be before its tracks are asked."""
        if np.isfinite(sight.log_zoom):
            focal = self.map.reference + sight.log_zoom
            return focal, max(sight.log_zoom_sigma, ZOOM_FLOOR)
        return self.log_focal, RUNS

    def _rested(self, found: Resection, sight: Sight) -> tuple[Resection, bool]:
        """A frame's place if the zoom rests since the last keyframe, and whether it runs."""
        if np.isfinite(sight.log_zoom):
            return found, False
        last = self.map.keyframes[-1]
        way, frames = found.log_focal - last.log_focal, self.number - last.number
        noise = ZOOM_NOISE if self.map.solution else YOUNG_NOISE
        variance = found.covariance[6, 6] + noise**2
        ran = self.zooms or last.zoom_step.runs
        if not rests(way, variance, frames, GOES_ON if ran else BEGINS):
            return found, True
        return found.at_focal(last.log_focal, REST * frames), False

    def _begun_again(self, sight: Sight, known: bool) -> tuple['Odometry', Placed]:
        """Open a map at the place that was last told."""
        T_world_cam = inverse(self.T_cam_world) @ self.correction
        now = self.lost(sight)
        now = replace(
            now,
            map=replace(now.map, number=self.maps),
            maps=self.maps + 1,
            T_cam_world=inverse(T_world_cam),
            correction=np.eye(4),
            left=self._worth_keeping,
            followed=now.followed.seen_in(sight),
        )
        nothing = tracks.no_motion() if known else tracks.unknown_motion(sight.dt)
        placed = Placed(
            T_world_cam,
            known,
            0,
            0.0,
            nothing.covariance,
            now.log_focal,
            ZOOM_FLOOR,
            Agreement(self.offset).of(sight.coming.result(), sight),
            float(self.offset[0]),
            () if known or not self.map.keyframes else (LOST,),
        )
        return now._with_keyframe(sight, placed), placed

    @property
    def _young(self) -> bool:
        """Whether the map is so young that the one before it is better."""
        since = self.number - self.left.number if self.left else 0
        return len(self.map.keyframes) < WINDOW and since < REMEMBERED

    @property
    def _worth_keeping(self) -> 'Odometry | None':
        """Of this odometry and the one it has left, which is worth going back to."""
        if self.left and self._young:
            return self.left
        return self if self.map.solution else None

    def _wants_keyframe(self) -> bool:
        anchor, mine = self.followed.anchor, self.followed
        if anchor is None or len(mine.ids) < LEAST_SHARED * len(anchor.ids):
            return True
        if self.number - self.map.keyframes[-1].number < LEAST_GAP:
            return False
        way = np.linalg.norm(mine.points - anchor.of(mine.ids), axis=1)
        return float(np.median(way)) >= LEAST_WAY_PX

    def _completed_here(self, sight: Sight) -> 'Odometry':
        """With tracks that were lost found again, and all of them put right."""
        where = self.map, self.T_cam_world, self.log_focal, sight
        followed = self.followed.with_lost_found(*where).put_right(*where)
        return replace(self, followed=followed)

    def _with_keyframe(self, sight: Sight, placed: Placed) -> 'Odometry':
        followed = self.followed.joined(sight)
        ids, points = followed.ids, followed.points
        log_z = np.log(values_at(placed.depth.depth, points).astype(np.float64))
        keyframe = Keyframe(
            number=self.number,
            ids=ids,
            pixels=sight.map_pixels(points),
            log_depth=values_at(sight.log_depth, points).astype(np.float64),
            depth_sigma=values_at(sight.depth_sigma, points).astype(np.float64),
            log_zoom=sight.log_zoom,
            log_zoom_sigma=max(sight.log_zoom_sigma, ZOOM_FLOOR),
            R=self.T_cam_world[:3, :3].copy(),
            t=self.T_cam_world[:3, 3].copy(),
            log_focal=self.log_focal,
            log_scale=placed.log_scale,
            zoom_step=ZoomStep(self.zooms),
        )
        return replace(
            self,
            map=self.map.with_keyframe(keyframe, log_z),
            followed=followed.held_to(sight, placed.depth.depth, self.number),
            due=True,
            left=self.left if self._young else None,
        )

    def _step_covariance(self, resected: np.ndarray, looked: bool, fed: np.ndarray) -> np.ndarray:
        """
        The window's, where it has one; else that of the resection, points taken as exact.

        :param looked: the frame was placed by what was recognised: then it is both.
        :param fed: (4, 4) the part of the step that only feeds a correction in: no motion [mm].
        """
        order = np.r_[3:6, 0:3]
        alone, window = resected[np.ix_(order, order)], self.map.step_covariance
        if window is None:
            covariance = alone
        else:
            covariance = window + alone if looked else window
        wrong = np.concatenate([fed[:3, 3], cv2.Rodrigues(fed[:3, :3])[0].ravel()])
        if wrong @ np.linalg.pinv(covariance, hermitian=True) @ wrong < FED_SIGMAS**2:
            return covariance  # its sigmas were measured with such corrections
        return covariance + np.outer(wrong, wrong)

    def _agreement(self, sight: Sight) -> Agreement:
        """What makes this frame's depth map agree with the map's points."""
        known, T = self.map.landmarks, self.T_cam_world
        mine = self.followed.kept(self._rigid)
        row = known.of(mine.ids)
        z = (known.places[row] @ T[:3, :3].T + T[:3, 3])[:, 2]
        seen = Seen.through(sight, mine.points, z, known.track_sigma[row])
        swaying = float(known.moving.mean()) if len(known) else 0.0
        return agree(seen, sight, self.map.log_scale, self.scope.log_focal_sigma, swaying)

    # between frames

    def _moved_to(self, adjusted: LocalMap) -> 'Odometry':
        """Take over a map, with the frames since its last keyframe; what is told does not jump."""
        if adjusted is self.map or not adjusted.keyframes:
            return replace(self, map=adjusted)
        before, after = self.map.keyframes[-1], adjusted.keyframes[-1]
        T_before, T_after = before.T_cam_world, after.T_cam_world
        T_cam_world = self.T_cam_world @ inverse(T_before) @ T_after
        T_cam_world[:3, :3] = nearest_rotation(T_cam_world[:3, :3])  # or rounding errors grow
        told = inverse(self.T_cam_world) @ self.correction
        return replace(
            self,
            map=adjusted,
            T_cam_world=T_cam_world,
            correction=T_cam_world @ told,
            log_focal=self.log_focal + after.log_focal - before.log_focal,
        )


def _faded(correction: np.ndarray, dt: float) -> np.ndarray:
    """The rest of a correction after dt seconds."""
    keep = float(np.exp(-dt / SETTLE_S))
    turn = cv2.Rodrigues(correction[:3, :3])[0].ravel()
    return motion_from_vector(keep * turn, keep * correction[:3, 3])
