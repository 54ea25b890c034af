# SPDX-License-Identifier: Apache-2.0
"""
The points that are followed from picture to picture, and the keyframes that they are held to.

    into:             they are followed into the next picture
    recognised:       those that were lost all at once are known again by their looks
    with_lost_found:  those that something hid are looked for where they ought to be
    put_right:        each is put on the patch that it was born with
    joined, held_to:  new ones where none is, and the picture that they are held to from now on
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from endosfm3d_ros.core import tracks
from endosfm3d_ros.core.adjustment.scene import NEAREST_MM
from endosfm3d_ros.core.prepare import Window, warp_between
from endosfm3d_ros.core.tracking.anchor import Anchor
from endosfm3d_ros.core.tracking.patches import Patches
from endosfm3d_ros.core.tracking.recognition import Looked
from endosfm3d_ros.core.tracking.sight import Sight, values_at
from endosfm3d_ros.core.window.local_map import WINDOW, LocalMap

FEWEST_LOST = 8  # points of a keyframe that are worth looking for
FITTED = 2.0  # medians: a point that fitted worse was no good before it was lost


@dataclass(frozen=True)
class Followed:
    """
    :param texture: (h, w) uint8 of the last picture, None before one; window: of it.
    :param ids: (N,) of the tracks alive, rising; points (N, 2) float32 [network px].
    :param anchors: pictures of the map's keyframes, oldest first: tracks are held to the last one,
        and lost points are looked for by the others.
    :param patches: what its tracks looked like when they were first kept.
    """

    texture: np.ndarray | None = None
    window: Window | None = None
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    anchors: tuple[Anchor, ...] = ()
    patches: Patches = field(default_factory=Patches)
    next_id: int = 0

    @property
    def anchor(self) -> Anchor | None:
        """What tracks are held to: the last keyframe; None before the first."""
        return self.anchors[-1] if self.anchors else None

    def forgotten(self) -> 'Followed':
        """Nothing is followed; ids go on."""
        return Followed(next_id=self.next_id)

    def seen_in(self, sight: Sight) -> 'Followed':
        """The same in another picture, the points left where they are."""
        return replace(self, texture=sight.texture, window=sight.window)

    def kept(self, rows: np.ndarray) -> 'Followed':
        """Only some of the tracks, (N,) bool."""
        return replace(self, ids=self.ids[rows], points=self.points[rows])

    def into(self, sight: Sight) -> 'Followed':
        """Follow them into the next picture."""
        now, points = self.seen_in(sight), self.points
        if self.texture is None or self.window is None or self.anchor is None or not len(points):
            return now
        before = self.texture
        if self.window != sight.window:
            before = warp_between(before, self.window, sight.window, cv2.INTER_LINEAR)
            moved = sight.window.network_pixels(self.window.input_pixels(points))
            points = moved.astype(np.float32)
        held = self.anchor.seen_through(sight.window)
        points, ok = tracks.follow_from(
            held.texture, held.of(self.ids), before, sight.texture, points
        )
        ok &= values_at(sight.allowed, points) > 0
        return replace(now, ids=self.ids[ok], points=points[ok])

    def recognised(self, wanted: np.ndarray, looked: Looked) -> 'Followed':
        """
        With what is recognised of the keyframes in place of the tracks, some of it falsely.

        :param wanted: (M,) ids of the points that are looked for.
        """
        ids, points = looked.recognised(self.anchors, wanted)
        return replace(self, ids=ids, points=points)

    def with_lost_found(
        self, local_map: LocalMap, T_cam_world: np.ndarray, log_focal: float, sight: Sight
    ) -> 'Followed':
        """
        Take up points of the map again that were lost on the way and ought to be seen here.

        :param T_cam_world: (4, 4) of the frame [mm], and its log_focal [log px].
        """
        known = local_map.landmarks
        told = known.misfit[np.isfinite(known.misfit)]
        sure = known.misfit < FITTED * (np.median(told) if len(told) else 0.0)
        lost = np.flatnonzero(sure & ~np.isin(known.ids, self.ids) & ~known.moving)
        pixels, z = local_map.seen_from(T_cam_world, log_focal, known.places[lost])
        lost, pixels = lost[z > NEAREST_MM], pixels[z > NEAREST_MM]
        expected = sight.network_points(pixels).astype(np.float32)
        free = self._may_look_at(expected, sight)
        lost, expected = known.ids[lost[free]], expected[free]
        ids, points = [self.ids], [self.points]
        for anchor in reversed(self.anchors):
            here = np.isin(lost, anchor.ids)
            if here.sum() < FEWEST_LOST:
                continue
            both = np.isin(self.ids, anchor.ids)
            held = anchor.seen_through(sight.window)
            wanted = np.concatenate([lost[here], self.ids[both]])
            there = np.concatenate([expected[here], self.points[both]])
            alive = np.arange(len(wanted)) >= here.sum()
            found, ok = tracks.find_again(
                held.texture, held.of(wanted), sight.texture, there, alive
            )
            ids.append(wanted[ok])
            points.append(found[ok])
            lost, expected = lost[~here], expected[~here]
        order = np.argsort(np.concatenate(ids), kind='stable')
        return replace(self, ids=np.concatenate(ids)[order], points=np.concatenate(points)[order])

    def _may_look_at(self, points: np.ndarray, sight: Sight) -> np.ndarray:
        """Which of points (N, 2) lie where tissue is seen, and no track already: their places."""
        height, width = sight.texture.shape
        inside = ((points >= 0) & (points < (width, height))).all(axis=1)
        free = np.flatnonzero(inside & (values_at(sight.allowed, points) > 0))
        u, v = points[free].T
        x, y = self.points.T
        square = (u[:, None] - x) ** 2 + (v[:, None] - y) ** 2
        return free[square.min(axis=1, initial=np.inf) > (tracks.SPACING_PX / 2) ** 2]

    def put_right(
        self, local_map: LocalMap, T_cam_world: np.ndarray, log_focal: float, sight: Sight
    ) -> 'Followed':
        """
        Put tracks on the patches that they were born with, warped as the map says.

        :param T_cam_world: (4, 4) of the frame [mm], and its log_focal [log px].
        """
        patches = self.patches.known_to(local_map)
        patches = patches.kept(np.isin(patches.ids, self.ids))
        row = np.searchsorted(self.ids, patches.ids)
        shapes = patches.shapes(local_map, T_cam_world, log_focal, sight)
        points = self.points.copy()
        points[row] = patches.found(sight.texture, points[row], shapes)
        return replace(self, points=points, patches=patches)

    def joined(self, sight: Sight) -> 'Followed':
        """With new ones where none is; all of them where the network's depth map knows a depth."""
        fresh = tracks.corners(
            sight.texture, sight.allowed, self.points, tracks.WANTED - len(self.points)
        )
        everything = replace(
            self,
            ids=np.concatenate([self.ids, self.next_id + np.arange(len(fresh))]),
            points=np.concatenate([self.points, fresh]),
            next_id=self.next_id + len(fresh),
        )
        return everything.kept(np.isfinite(values_at(sight.log_depth, everything.points)))

    def held_to(self, sight: Sight, depth: np.ndarray, number: int) -> 'Followed':
        """
        Held to this picture from now on, new ones with patches of it.

        :param depth: (h, w) of its depth map [mm]; number: of the frame.
        """
        new = ~np.isin(self.ids, self.patches.ids)
        cut = Patches.cut(sight, depth, self.ids[new], self.points[new], number)
        anchor = Anchor(sight.texture, sight.window, self.ids, self.points)
        return replace(
            self, patches=self.patches.joined(cut), anchors=(*self.anchors, anchor)[-WINDOW:]
        )
