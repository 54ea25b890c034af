# SPDX-License-Identifier: Apache-2.0
"""How a scene moves by a step: its slope, and how far it stays in the bas-relief valley."""

import numpy as np
import pytest

from endosfm3d_ros.core.adjustment.scene import (
    CENTRE,
    DISTORTION,
    FOCAL,
    PER_VIEW,
    REFERENCE,
    SHARED,
    Scene,
)
from endosfm3d_ros.core.adjustment.scene_step import (
    _rotation,
    _rotation_vector,
    points_moved,
    scene_moved,
)
from endosfm3d_ros.core.geometry import rotation_vectors, rotations

FOCAL_PX, DEPTH_MM = 200.0, 40.0
K, N = 6, 200


def sliding(rng: np.random.Generator, tilts: float = 0.005, rolls: float = 0.03) -> Scene:
    """A camera that slides before a bumpy wall and turns, about no axis of the world."""
    turn = rotations(0.3 * rng.standard_normal((1, 3)))[0]
    k = np.arange(K)
    turns = np.stack([0.6 * tilts * k, -tilts * k, rolls * k], axis=1)
    centres = np.stack([1.2 * k, -0.5 * k, 0.1 * k], axis=1)
    R = rotations(turns)
    t = -(R @ centres[..., None])[..., 0]
    z = DEPTH_MM * np.exp(0.15 * rng.standard_normal(N))
    points = np.column_stack([rng.uniform(-0.5, 0.5, (N, 2)) * z[:, None], z])
    away = rng.standard_normal(3)  # the world's origin is not the first camera
    return Scene(
        R=R @ turn,
        t=t + (R @ turn @ away),
        log_focal=np.full(K, np.log(FOCAL_PX)),
        log_scale=np.zeros(K),
        shared=np.zeros(SHARED),
        points=(points @ turn) - away,
    )


def pictures(scene: Scene) -> np.ndarray:
    """(K, N, 2) pixels."""
    X = np.einsum('kij,nj->kni', scene.R, scene.points) + scene.t[:, None]
    image = np.exp(scene.log_focal)[:, None, None] * X[..., :2] / X[..., 2:]
    return scene.shared[CENTRE] + image


def along_the_valley(scene: Scene, zoomed: float) -> tuple[np.ndarray, np.ndarray]:
    """Bas-relief to first order: a longer lens, less way across, less turning."""
    first = scene.R[0]
    turned = scene.R @ first.T
    turn, way = rotation_vectors(turned), scene.t - turned @ scene.t[0]
    across = np.array([1.0, 1.0, 0.0])
    by_turn = -zoomed * across * turn  # the turns are small here
    step = np.zeros(PER_VIEW * K + SHARED)
    views = step[: PER_VIEW * K].reshape(K, PER_VIEW)
    views[:, 0:3] = by_turn
    views[:, 3:6] = -zoomed * across * way + np.cross(way, by_turn)
    views[:, FOCAL] = zoomed
    step[PER_VIEW * K + REFERENCE] = zoomed
    X = scene.points @ first.T + scene.t[0]
    return step, (-zoomed * across * X) @ first


def test_rotations_and_their_vectors_go_to_and_fro() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 3)) * 0.8
    vectors[0], vectors[1] = 0.0, [1e-9, 0.0, 0.0]
    matrices = rotations(vectors)
    assert matrices @ np.swapaxes(matrices, 1, 2) == pytest.approx(np.tile(np.eye(3), (50, 1, 1)))
    assert np.linalg.det(matrices) == pytest.approx(np.ones(50))
    assert rotation_vectors(matrices) == pytest.approx(vectors, abs=1e-9)
    quarter = rotations(np.array([[0.0, 0.0, np.pi / 2]]))[0]
    assert quarter @ [1.0, 0.0, 0.0] == pytest.approx([0.0, 1.0, 0.0])


def test_the_compiled_turns_are_those_of_the_geometry() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((40, 3)) * np.geomspace(1e-9, 1.0, 40)[:, None]
    for vector, matrix in zip(vectors, rotations(vectors), strict=True):
        assert _rotation(vector) == pytest.approx(matrix, abs=1e-14)
        assert _rotation_vector(matrix) == pytest.approx(vector, abs=1e-12)


def test_a_small_step_moves_cameras_as_it_says_whatever_the_zoom() -> None:
    """Turned and shifted in their own frames: the normal equations are written for that."""
    rng = np.random.default_rng(1)
    scene, anchor = sliding(rng, tilts=0.06, rolls=0.24), np.zeros(N, int)
    step = np.zeros(PER_VIEW * K + SHARED)
    views = step[: PER_VIEW * K].reshape(K, PER_VIEW)
    views[1:, 0:6] = rng.standard_normal((K - 1, 6))
    views[:, FOCAL] = 0.7
    errors = []
    for share in (1e-3, 1e-4):
        moved = scene_moved(scene, share * step, np.zeros_like(scene.points), anchor)
        turned = rotations(share * views[:, 0:3])
        R = turned @ scene.R
        t = (turned @ scene.t[..., None])[..., 0] + share * views[:, 3:6]
        assert moved.R[0] == pytest.approx(scene.R[0]) and moved.t[0] == pytest.approx(scene.t[0])
        errors.append(max(np.abs(moved.R - R).max(), np.abs(moved.t - t).max()) / share)
    assert errors[0] < 2e-2 and errors[1] < 0.15 * errors[0]  # what is left is of second order


@pytest.mark.parametrize('share', [-0.3, 0.3])
def test_points_that_move_alone_leave_the_cameras_where_they_are(share: float) -> None:
    """A third deeper, each on the ray on which the first camera sees it."""
    scene, anchor = sliding(np.random.default_rng(5)), np.zeros(N, int)
    first = scene.points @ scene.R[0].T + scene.t[0]
    moved = points_moved(scene, share * first @ scene.R[0], anchor)
    assert moved.R is scene.R and moved.t is scene.t
    after = moved.points @ scene.R[0].T + scene.t[0]
    assert after == pytest.approx(np.exp(share) * first)


@pytest.mark.parametrize('zoomed', [-0.4, 0.4])
def test_a_long_step_stays_in_the_valley_where_a_straight_one_leaves_it(zoomed: float) -> None:
    """A flat scene and a long lens make the pictures of a deep one and a short, or nearly."""
    scene, anchor = sliding(np.random.default_rng(2)), np.zeros(N, int)
    before = pictures(scene)
    step, of_points = along_the_valley(scene, zoomed)
    off = np.abs(pictures(scene_moved(scene, step, of_points, anchor)) - before)
    poses = step.copy()
    poses[: PER_VIEW * K].reshape(K, PER_VIEW)[:, FOCAL] = 0.0
    straight = scene_moved(scene, poses, np.zeros_like(scene.points), anchor)
    longer = scene_moved(scene, step, of_points, anchor)
    straight = longer._replace(R=straight.R, t=straight.t)
    off_straight = np.abs(pictures(straight) - before)
    assert np.median(off[1:]) < 0.5 * np.median(off_straight[1:])
    assert off[0] == pytest.approx(np.zeros((N, 2)), abs=1e-6)
    assert longer.shared[DISTORTION] == 0.0


@pytest.mark.parametrize('zoomed', [-0.3, 0.3])
def test_a_scene_that_comes_nearer_as_the_lens_gets_shorter_stays_in_its_pictures(
    zoomed: float,
) -> None:
    """The ways across stay as they are, those in change as the depth does."""
    scene, anchor = sliding(np.random.default_rng(3), tilts=0.0), np.zeros(N, int)
    before = pictures(scene)
    first = scene.R[0]
    way = scene.t - scene.R @ first.T @ scene.t[0]
    step = np.zeros(PER_VIEW * K + SHARED)
    views = step[: PER_VIEW * K].reshape(K, PER_VIEW)
    views[:, FOCAL] = zoomed
    views[:, 5] = zoomed * way[:, 2]
    X = scene.points @ first.T + scene.t[0]
    off = pictures(scene_moved(scene, step, zoomed * X * [0.0, 0.0, 1.0] @ first, anchor)) - before
    assert np.abs(pictures(scene)[1:] - before[0]).max() > 20.0
    assert np.median(np.abs(off[1:])) < 0.05
