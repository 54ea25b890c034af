# SPDX-License-Identifier: Apache-2.0
"""
Patches: a painted wall that stands aslant is seen from two places, by the exact homography, so
where each of its points lies is known.
"""

from concurrent.futures import Future

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.geometry import inverse, motion_from_vector
from endosfm3d_ros.core.prepare import Window
from endosfm3d_ros.core.tracking.patches import Patches
from endosfm3d_ros.core.tracking.sight import Sight
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.local_map import LocalMap
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.core.window.words import Words

WIDTH, HEIGHT, FOCAL = 280, 224, 200.0
CENTRE = np.array([139.5, 111.5])
SIZE = (320, 256)  # of the input picture: the network's pixels are larger
NORMAL, DISTANCE = np.array([0.6, 0.1, -1.0]), 40.0  # n X = -DISTANCE on the wall [mm]


def wall(seed: int = 0) -> np.ndarray:
    """What the first camera sees, (h, w) uint8."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    paint = cv2.GaussianBlur(noise, (0, 0), 1.6)
    return np.clip(128 + 30 * paint / paint.std(), 0, 255).astype(np.uint8)


def depth_of_wall() -> np.ndarray:
    """(h, w) float32 [mm]."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    ray = np.stack([(u - CENTRE[0]) / FOCAL, (v - CENTRE[1]) / FOCAL, np.ones_like(u)], axis=-1)
    return (-DISTANCE / (ray @ NORMAL)).astype(np.float32)


def homography(T_now_then: np.ndarray, zoom: float) -> np.ndarray:
    """(3, 3) from pixels of the first picture to those of another one."""
    K_then, K_now = np.diag([FOCAL, FOCAL, 1.0]), np.diag([FOCAL * zoom, FOCAL * zoom, 1.0])
    K_then[:2, 2] = K_now[:2, 2] = CENTRE
    plane = T_now_then[:3, :3] - np.outer(T_now_then[:3, 3], NORMAL) / DISTANCE
    return K_now @ plane @ np.linalg.inv(K_then)


def at(H: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where points (N, 2) go."""
    return cv2.perspectiveTransform(points[:, None].astype(np.float64), H)[:, 0]


def sight(texture: np.ndarray) -> Sight:
    """A frame that shows it."""
    coming: Future[DepthMap] = Future()
    window = Window(0, 0, *SIZE, WIDTH, HEIGHT)
    return Sight(
        texture=texture,
        allowed=np.full_like(texture, 255),
        window=window,
        size=SIZE,
        coming=coming,
        log_zoom=np.nan,
        log_zoom_sigma=1.0,
        to_map=np.array([[1.0, 1.0], [0.0, 0.0]]),
        dt=0.04,
    )


class Seen:
    """The wall, patches of it, a map with their keyframe, and a camera that went elsewhere."""

    def __init__(self, shift: tuple[float, float, float], turn: float, zoom: float = 1.0) -> None:
        first = sight(wall())
        self.T_now_then = motion_from_vector(np.array([0.0, turn, 0.0]), np.array(shift))
        self.H = homography(self.T_now_then, zoom)
        u, v = np.meshgrid(np.arange(40, WIDTH - 40, 14.0), np.arange(40, HEIGHT - 40, 14.0))
        points = np.column_stack([u.ravel(), v.ravel()])
        ids = np.arange(len(points))
        self.patches = Patches.cut(first, depth_of_wall(), ids, points, 5)
        true = at(self.H, points)
        self.texture = cv2.warpPerspective(wall(), self.H, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        seen = ((true > 12) & (true < (WIDTH - 12, HEIGHT - 12))).all(axis=1)
        self.patches, self.true = self.patches.kept(seen), true[seen]
        scale = SIZE[0] / WIDTH
        focal = np.log(FOCAL * scale)
        centre = first.map_pixels(CENTRE[None])[0]
        scope = Scope.guessed(float(focal), 0.1, centre, 1.0)
        log_z = np.log(depth_of_wall()[points[:, 1].astype(int), points[:, 0].astype(int)])
        keyframe = Keyframe(
            5, ids, first.map_pixels(points), log_z, np.full(len(ids), 0.1), np.nan, 1.0,
            np.eye(3), np.zeros(3), float(focal), 0.0,
        )  # fmt: skip
        self.map = LocalMap(SIZE, 0.2, Words(scope), scope).with_keyframe(keyframe)
        self.log_focal = float(focal) + float(np.log(zoom))

    def shapes(self) -> np.ndarray:
        return self.patches.shapes(self.map, self.T_now_then, self.log_focal, sight(self.texture))

    def error(self, shapes: np.ndarray, off: float = 0.5) -> np.ndarray:
        """How far they are found from where they are [px], from a start that is `off` [px]."""
        way = np.random.default_rng(1).normal(size=self.true.shape)
        near = self.true + off * way / np.linalg.norm(way, axis=1, keepdims=True)
        found = self.patches.found(self.texture, near, shapes)
        return np.linalg.norm(found - self.true, axis=1)


ELSEWHERE = [
    ((-8.0, 0.0, 6.0), 0.35, 1.0),
    ((2.0, 1.0, -9.0), 0.0, 1.0),
    ((0.0, 0.0, 0.0), 0.1, 1.3),
]


@pytest.mark.parametrize(('shift', 'turn', 'zoom'), ELSEWHERE)
def test_the_map_says_what_became_of_a_patch(
    shift: tuple[float, float, float], turn: float, zoom: float
) -> None:
    seen = Seen(shift, turn, zoom)
    then = at(np.linalg.inv(seen.H), seen.true)
    for axis in range(2):
        step = 3.0 * np.eye(2)[axis]
        true = (at(seen.H, then + step) - at(seen.H, then - step)) / 6.0
        assert np.abs(seen.shapes()[:, :, axis] - true).max() < 0.04


@pytest.mark.parametrize(('shift', 'turn', 'zoom'), ELSEWHERE)
def test_tracks_are_put_where_their_patch_lies(
    shift: tuple[float, float, float], turn: float, zoom: float
) -> None:
    seen = Seen(shift, turn, zoom)
    assert np.median(seen.error(seen.shapes())) < 0.05
    assert np.quantile(seen.error(seen.shapes()), 0.95) < 0.15
    square = np.repeat(np.eye(2)[None], len(seen.true), axis=0)
    assert np.median(seen.error(square)) > 2 * np.median(seen.error(seen.shapes()))


def test_a_picture_that_is_brighter_as_a_whole_says_nothing() -> None:
    seen = Seen(*ELSEWHERE[0])
    before = seen.error(seen.shapes())
    seen.texture = np.clip(seen.texture.astype(int) + 25, 0, 255).astype(np.uint8)
    assert np.median(np.abs(seen.error(seen.shapes()) - before)) < 0.02


def test_what_is_not_found_near_stays_where_the_track_is() -> None:
    seen = Seen(*ELSEWHERE[1])
    assert np.allclose(seen.error(3.0 * seen.shapes()), 0.5, atol=1e-4)  # nine times as large
    elsewhere = seen.patches.found(wall(7), seen.true, seen.shapes())  # another wall
    way = np.linalg.norm(elsewhere - seen.true, axis=1)
    assert way.max() < 1.0 + 1e-4
    nothing = np.full_like(seen.texture, 90)
    assert np.isfinite(seen.patches.found(nothing, seen.true, seen.shapes())).all()


def test_patches_go_with_their_keyframe_and_their_point() -> None:
    seen = Seen(*ELSEWHERE[0])
    patches = seen.patches
    assert len(patches.known_to(seen.map).ids) == len(patches.ids)
    others = Patches.cut(
        sight(wall()), depth_of_wall(), np.array([9999]), np.array([[50.0, 50]]), 5
    )
    assert list(patches.joined(others).ids) == [*patches.ids, 9999]
    assert 9999 not in patches.joined(others).known_to(seen.map).ids  # no point of the map
    older = Patches(**{**vars(patches), 'number': np.full(len(patches.ids), 2)})
    assert not len(older.known_to(seen.map).ids)  # its keyframe is gone
    nobody = Patches.cut(sight(wall()), depth_of_wall(), patches.ids[:0], np.zeros((0, 2)), 5)
    assert nobody.found(seen.texture, np.zeros((0, 2)), np.zeros((0, 2, 2))).shape == (0, 2)
    assert nobody.shapes(seen.map, inverse(np.eye(4)), 5.0, sight(seen.texture)).shape == (0, 2, 2)


def test_no_depth_at_a_patch_is_taken_for_a_surface_that_faces_the_camera() -> None:
    depth = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    patches = Patches.cut(sight(wall()), depth, np.array([0]), np.array([[90.0, 80.0]]), 0)
    assert (patches.rises == 0).all()
