# SPDX-License-Identifier: Apache-2.0
"""
Points recognised by their looks, when tracks were lost: after a blur, a tool, a cut.

A track follows a patch from picture to picture; where the pictures between show nothing, only what
a patch looks like tells it from others. Looks are binary descriptors (ORB, Rublee et al. 2011),
not turned, for within seconds a scope hardly rolls, and at three scales of the new picture, for it
may have moved on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from endosfm3d_ros.core import tracks
from endosfm3d_ros.core.tracking.anchor import Anchor
from endosfm3d_ros.core.tracking.sight import Sight

LOOKED_AT = 3  # keyframes, the newest that are as sharp as the picture
SCALES = (0.8, 1.0, 1.25)  # of the new picture
PATCH_PX = 31
DISTINCT = 0.85  # of the next best's distance: what is not nearer than this might be either
BITS = 256
_ORB = cv2.ORB_create(edgeThreshold=0, patchSize=PATCH_PX)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Looks:
    """
    What N corners of a picture look like.

    :param signs: (S, N, BITS) float32 of their descriptors at S scales, one or minus one; zero
        where a corner has none, which is as far from any as chance would have it.
    """

    signs: np.ndarray

    @classmethod
    def of(
        cls, texture: np.ndarray, corners: np.ndarray, scales: Sequence[float] = (1.0,)
    ) -> 'Looks':
        """
        Describe corners (N, 2) [px] of a texture (h, w) uint8, all of them inside.

        :param scales: by which it is resized before.
        """
        signs = np.zeros((len(scales), len(corners), BITS), np.float32)
        for level, scale in zip(signs, scales, strict=True):
            seen = texture
            if scale != 1.0:
                seen = cv2.resize(
                    texture, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR
                )
            upright = [
                cv2.KeyPoint(float(u), float(v), PATCH_PX, 0.0, 0.0, 0, row)
                for row, (u, v) in enumerate((corners + 0.5) * scale - 0.5)
            ]
            kept, bits = _ORB.compute(seen, upright)
            if len(kept):
                rows = [one.class_id for one in kept]
                level[rows] = 2.0 * np.unpackbits(bits, axis=1).astype(np.float32) - 1.0
        return cls(signs)

    def kept(self, rows: np.ndarray) -> 'Looks':
        """Those of some corners, (K,) rows."""
        return Looks(self.signs[:, rows])

    def recognised_in(self, others: 'Looks') -> tuple[np.ndarray, np.ndarray]:
        """
        Which of these corners are which of the others: (K,) rows of both.

        Each is the other's nearest, and the next one is much farther.
        """
        if not self.signs.shape[1] or not others.signs.shape[1]:
            return np.zeros(0, int), np.zeros(0, int)
        alike = [mine @ theirs.T for mine in self.signs for theirs in others.signs]
        distance = (BITS - np.max(alike, axis=0)) / 2.0
        mine = np.arange(len(distance))
        theirs = distance.argmin(axis=1)
        best = distance[mine, theirs]
        mutual = distance.argmin(axis=0)[theirs] == mine
        distance[mine, theirs] = BITS / 2.0
        told = np.flatnonzero(mutual & (best < DISTINCT * distance.min(axis=1)))
        return told, theirs[told]


@dataclass(frozen=True)
class Looked:
    """What a frame's corners look like; nothing is looked at before it is asked."""

    sight: Sight

    @cached_property
    def corners(self) -> np.ndarray:
        """(N, 2) float32 [network px]."""
        nobody = np.zeros((0, 2), np.float32)
        return tracks.corners(self.sight.texture, self.sight.allowed, nobody, tracks.WANTED)

    @cached_property
    def looks(self) -> Looks:
        """Of the corners."""
        return Looks.of(self.sight.texture, self.corners, SCALES)

    def recognised(
        self, anchors: Sequence[Anchor], wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Points of keyframes that are recognised in the frame; some of them falsely.

        :param anchors: of the keyframes, oldest first.
        :param wanted: (M,) ids of the points that are looked for.
        :return: (N,) their ids, rising, and (N, 2) float32 where they are [network px].
        """
        sight, corners = self.sight, self.corners
        held = (anchor.seen_through(sight.window) for anchor in reversed(anchors))
        alike = [one for one in held if one.as_sharp_as(sight.texture, corners)][:LOOKED_AT]
        ids, points = np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
        if not alike:
            return ids, points
        free = np.arange(len(corners))
        for one in alike:
            new = np.isin(one.ids, wanted) & ~np.isin(one.ids, ids) & one.inside
            there = Looks.of(one.texture, one.points[new])
            mine, theirs = there.recognised_in(self.looks.kept(free))
            ids = np.concatenate([ids, one.ids[new][mine]])
            points = np.concatenate([points, corners[free[theirs]]])
            free = np.delete(free, theirs)  # what is lost and taken up again has two ids
        order = np.argsort(ids)
        return ids[order], points[order]
