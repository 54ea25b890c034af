# SPDX-License-Identifier: Apache-2.0
"""
Motion on a rendered wall of known relief and texture: the answer is known to the hundredth of a
millimetre.
"""

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core import tracks
from endosfm3d_ros.core.frame import Intrinsics, Motion
from endosfm3d_ros.core.geometry import inverse, motion_from_vector, unproject_pixels
from endosfm3d_ros.core.picture.inside import Inside

CAMERA = Intrinsics(280, 224, 200.0, 200.0, 140.0, 112.0)
STEP = motion_from_vector(np.array([0.004, -0.006, 0.01]), np.array([0.3, -0.2, 0.7]))


def texture() -> np.ndarray:
    rng = np.random.default_rng(3)
    layers = [
        cv2.resize(rng.uniform(0, 1, (n, n)), (1600, 1600), interpolation=cv2.INTER_CUBIC)
        for n in (40, 120, 400)
    ]
    return np.clip(120 * sum(layers) / 3 + 50, 0, 255).astype(np.float32)


def wall(T_wall_cam: np.ndarray, camera: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """
    Render the plane z = 40 + 0.3 x mm of the wall frame by intersecting every ray; returns grey
    and z-depth.
    """
    v, u = np.indices((camera.height, camera.width))
    pixels = np.column_stack([u.ravel(), v.ravel()])
    rays = unproject_pixels(pixels, np.ones(len(pixels)), camera).reshape(*u.shape, 3)
    rays = rays @ T_wall_cam[:3, :3].T
    normal, offset = np.array([-0.3, 0.0, 1.0]), 40.0
    depth = (offset - normal @ T_wall_cam[:3, 3]) / (rays @ normal)
    points = T_wall_cam[:3, 3] + rays * depth[..., None]
    u, v = (
        (points[..., 0] * 20 + 800).astype(np.float32),
        (points[..., 1] * 20 + 800).astype(np.float32),
    )
    return cv2.remap(texture(), u, v, cv2.INTER_CUBIC).astype(np.uint8), depth.astype(np.float32)


def move(now: Intrinsics, T_prev_cam: np.ndarray, depth_factor: float = 1.0) -> Motion:
    before, depth = wall(np.eye(4), CAMERA)
    after, _ = wall(T_prev_cam, now)
    points = tracks.refill(
        before, np.full(before.shape, 255, np.uint8), np.zeros((0, 2), np.float32)
    )
    there, ok = tracks.follow(before, after, points)
    return tracks.motion_from_tracks(
        points[ok], there[ok], depth * depth_factor, CAMERA, now, 0.04
    )[0]


def test_a_known_step_is_found_to_a_few_hundredths_of_a_millimetre() -> None:
    found = move(CAMERA, STEP)
    error = inverse(STEP) @ found.T_prev_cam
    assert found.known and found.inliers > 200
    assert np.linalg.norm(error[:3, 3]) < 0.03
    assert np.linalg.norm(cv2.Rodrigues(error[:3, :3])[0]) < 1e-3


def test_under_zoom_the_step_is_found_with_both_cameras_and_not_with_one() -> None:
    zoomed = CAMERA.zoomed(1.05)
    found = move(zoomed, STEP)
    assert np.linalg.norm((inverse(STEP) @ found.T_prev_cam)[:3, 3]) < 0.05
    before, depth = wall(np.eye(4), CAMERA)
    after, _ = wall(STEP, zoomed)
    points = tracks.refill(
        before, np.full(before.shape, 255, np.uint8), np.zeros((0, 2), np.float32)
    )
    there, ok = tracks.follow(before, after, points)
    ignorant, _ = tracks.motion_from_tracks(points[ok], there[ok], depth, CAMERA, CAMERA, 0.04)
    assert np.linalg.norm((inverse(STEP) @ ignorant.T_prev_cam)[:3, 3]) > 0.5


def test_the_step_has_the_depth_s_unit() -> None:
    assert np.allclose(move(CAMERA, STEP, 2.0).T_prev_cam[:3, 3], 2 * STEP[:3, 3], atol=0.06)


def test_the_error_lies_within_what_the_covariance_says() -> None:
    squares = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        T = motion_from_vector(rng.normal(0, 0.005, 3), rng.normal(0, 0.4, 3))
        found = move(CAMERA, T)
        error = inverse(found.T_prev_cam) @ T
        vector = np.concatenate([error[:3, 3], cv2.Rodrigues(error[:3, :3])[0].ravel()])
        squares.append(vector @ np.linalg.solve(found.covariance, vector) / 6)
    assert 0.02 < np.mean(squares) < 2.0


def test_nothing_to_hold_on_to_is_an_unknown_step() -> None:
    depth, points = np.full((224, 280), np.nan, np.float32), np.full((50, 2), 100, np.float32)
    motion, agree = tracks.motion_from_tracks(points, points, depth, CAMERA, CAMERA, 0.04)
    assert not motion.known and not agree.any()
    assert np.array_equal(motion.T_prev_cam, np.eye(4)) and motion.covariance[0, 0] >= 1.0


def test_tracks_that_go_their_own_way_are_left_out() -> None:
    before, depth = wall(np.eye(4), CAMERA)
    after, _ = wall(STEP, CAMERA)
    points = tracks.refill(
        before, np.full(before.shape, 255, np.uint8), np.zeros((0, 2), np.float32)
    )
    there, ok = tracks.follow(before, after, points)
    points, there = points[ok], there[ok].copy()
    wild = np.arange(0, len(points), 3)
    there[wild] += np.random.default_rng(0).uniform(5, 20, (len(wild), 2)).astype(np.float32)
    motion, agree = tracks.motion_from_tracks(points, there, depth, CAMERA, CAMERA, 0.04)
    assert not agree[wild].any()
    assert np.linalg.norm((inverse(STEP) @ motion.T_prev_cam)[:3, 3]) < 0.05


def advance(steps: int) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """Textures as a camera advances by 1 mm a frame, tracks in the first, and their truth."""
    rng, everywhere = np.random.default_rng(0), np.full((CAMERA.height, CAMERA.width), True)
    pictures, truth, X = [], [], np.zeros((0, 3))
    for step in range(steps + 1):
        T_wall_cam = motion_from_vector(np.zeros(3), np.array([0.1 * step, 0.0, step]))
        grey, depth = wall(T_wall_cam, CAMERA)
        noisy = np.clip(grey + rng.normal(0, 2, grey.shape), 0, 255).astype(np.uint8)
        pictures.append(tracks.texture(noisy, Inside(everywhere)))
        if not step:
            allowed = np.full(grey.shape, 255, np.uint8)
            points = tracks.corners(pictures[0], allowed, np.zeros((0, 2), np.float32), 300)
            z = cv2.remap(depth, points[:, 0], points[:, 1], cv2.INTER_LINEAR).ravel()
            X = unproject_pixels(points, z.astype(np.float64), CAMERA)
        seen = X - T_wall_cam[:3, 3]
        focal, centre = [CAMERA.fx, CAMERA.fy], [CAMERA.cx, CAMERA.cy]
        truth.append(seen[:, :2] / seen[:, 2:] * focal + centre)
    return pictures, points, truth


def test_a_track_held_to_its_anchor_stays_on_its_patch_where_a_chain_slides_off() -> None:
    pictures, start, truth = advance(16)
    chained, held = start, start
    anchor, anchored = pictures[0], start
    alive = np.ones(len(start), bool)
    for k in range(1, len(pictures)):
        before, now = pictures[k - 1], pictures[k]
        chained, ok = tracks.follow(before, now, chained)
        held, fits = tracks.follow_from(anchor, anchored, before, now, held)
        inside = (truth[k] > 10).all(1) & (truth[k] < [CAMERA.width - 11, CAMERA.height - 11]).all(
            1
        )
        alive &= ok & fits & inside
        if k % 4 == 0:
            anchor, anchored = now, held
    slid, stayed = (np.median(np.abs(there - truth[-1])[alive]) for there in (chained, held))
    assert alive.sum() > 40
    assert stayed < 0.25 and stayed < 0.6 * slid


def test_a_track_whose_patch_is_covered_is_not_held_to_be_followed() -> None:
    pictures, start, _ = advance(2)
    covered = pictures[2].copy()
    covered[:, :70] = tracks.texture(
        cv2.resize(texture()[:56, :35], (70, 224)).astype(np.uint8),
        Inside(np.full((224, 70), True)),
    )
    there, ok = tracks.follow(pictures[0], pictures[1], start)
    start, there = start[ok], there[ok]
    _, fits = tracks.follow_from(pictures[0], start, pictures[1], covered, there)
    left = there[:, 0] < 55
    assert fits[left].mean() < 0.1 and fits[there[:, 0] > 85].mean() > 0.9


def test_lost_points_are_found_again_where_they_should_be_and_only_there() -> None:
    pictures, start, truth = advance(8)
    now, seen = pictures[8], ((truth[8] > 12) & (truth[8] < (267, 211))).all(axis=1)
    start, there = start[seen], truth[8][seen]
    alive = there[:, 0] > 160
    off = np.random.default_rng(0).uniform(-1.0, 1.0, there.shape)
    expected = np.where(alive[:, None], there, there + off).astype(np.float32)
    found, ok = tracks.find_again(pictures[0], start, now, expected, alive)
    assert ok[~alive].mean() > 0.8 and not ok[alive].any()
    assert np.median(np.linalg.norm(found - there, axis=1)[ok]) < 0.3
    covered = now.copy()
    covered[:, :160] = now[:, 279:119:-1]  # another thing lies there
    assert tracks.find_again(pictures[0], start, covered, expected, alive)[1].mean() < 0.03
    blurred = cv2.GaussianBlur(now, (0, 0), 4.0)
    assert not tracks.find_again(pictures[0], start, blurred, expected, alive)[1].any()
    nobody = np.zeros(len(start), bool)  # nothing tells how well patches fit
    assert not tracks.find_again(pictures[0], start, now, expected, nobody)[1].any()


def test_no_tracks_and_one_track_are_followed_like_many() -> None:
    pictures, start, truth = advance(1)
    for count in (0, 1, 3):
        few = start[100 : 100 + count]
        there, ok = tracks.follow_from(pictures[0], few, pictures[0], pictures[1], few)
        assert there.shape == (count, 2) and ok.all()
        assert np.allclose(there, truth[1][100 : 100 + count], atol=0.5)


def test_a_picture_that_comes_twice_costs_no_track() -> None:
    """60 Hz of a 30 Hz video: only the mask's edge moves, as the rim is measured anew."""
    pictures, start, _ = advance(0)
    again = pictures[0].copy()
    again[:40] = np.clip(again[:40].astype(int) + np.eye(40, 280, dtype=int) * 3, 0, 255)
    there, ok = tracks.follow_from(pictures[0], start, pictures[0], again, start)
    assert ok.all() and np.allclose(there, start, atol=0.05)


@pytest.mark.parametrize('where', ['rim', 'highlight'])
def test_corners_keep_off_the_rim_and_off_highlights(where: str) -> None:
    picture, mask = np.full((224, 280, 3), 100, np.uint8), np.ones((224, 280), bool)
    if where == 'rim':
        mask[:, :50] = False
        assert not tracks.trackable(picture, Inside(mask))[:, : 50 + tracks.RIM_PX - 2].any()
    else:
        picture[100:104, 100:104] = 255
        assert not tracks.trackable(picture, Inside(mask))[99:105, 99:105].any()
    assert tracks.trackable(picture, Inside(mask))[60:80, 150:200].all()
