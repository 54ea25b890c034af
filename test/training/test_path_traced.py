# SPDX-License-Identifier: Apache-2.0
"""Laws of the path-traced films that need no path tracer: worlds, cameras and what is written."""

import sys
from pathlib import Path

import numpy as np
import pytest

from endosfm3d_ros.evaluation.truth import STEPS_PER_MM, read_truth_folder
from training.path_traced import cameras as scopes
from training.path_traced import command, renderer, worlds
from training.path_traced.cameras import Cameras, draw_cameras, seen_through
from training.path_traced.command import write_depth, write_truth
from training.path_traced.renderer import smoothed
from training.path_traced.sensor import Sensor
from training.path_traced.surfaces import ball
from training.path_traced.worlds import make_world

SIZE = (320, 256)
SEED = 1


@pytest.fixture(scope='module', params=worlds.SCENES)
def world(request):
    return make_world(request.param, SEED, detail=0.12)


def test_equal_seeds_give_equal_worlds_and_other_seeds_others():
    one, same, other = (make_world('tube', seed, detail=0.05) for seed in (3, 3, 4))
    assert np.array_equal(one.vertices, same.vertices)
    assert np.array_equal(one.colours, same.colours)
    assert not np.allclose(one.vertices, other.vertices)


def test_a_mesh_is_whole(world):
    assert np.isfinite(world.vertices).all()
    assert world.faces.min() == 0 and world.faces.max() == len(world.vertices) - 1
    corners = world.vertices[world.faces]
    doubled = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    assert (doubled > 0.0).mean() > 0.999
    assert np.allclose(np.linalg.norm(world.normals, axis=1), 1.0, atol=1e-6)
    assert world.colours.min() > 0.0 and world.colours.max() < 1.0


def test_a_ball_is_closed_every_edge_belongs_to_two_triangles():
    directions, faces = ball(6)
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert len(directions) == 6 * 6**2 + 2


def test_the_camera_advances_half_a_millimetre_a_frame_turns_little_and_has_room(world):
    cameras = draw_cameras(world, SEED, 75, SIZE)
    T = cameras.T_world_cam
    R = T[:, :3, :3]
    assert np.allclose(R @ R.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(R), 1.0)
    steps = np.diff(T[:, :3, 3], axis=0)
    forward = (steps * R[:-1, :, 2]).sum(1)
    assert np.median(forward) == pytest.approx(scopes.ADVANCE, rel=0.1)
    turns = np.degrees(np.arccos(np.clip((np.einsum('nij,nij->n', R[1:], R[:-1]) - 1) / 2, -1, 1)))
    assert turns.max() < 3.0
    nearest = np.linalg.norm(world.vertices - T[40, :3, 3], axis=1).min()
    assert nearest > scopes.ROOM_MM - 1.0


def test_zoom_starts_at_one_and_stays_within_its_bounds(world):
    for seed in range(8):
        try:
            K = draw_cameras(world, seed, 75, SIZE).K
        except ValueError:  # this seed's sway has no room in the world of another
            continue
        zoom = K[:, 0, 0] / K[0, 0, 0]
        assert zoom.min() >= 1.0 and 1.3 < zoom.max() <= scopes.MOST_ZOOM + 1e-9
        assert 0.4 * SIZE[0] <= K[0, 0, 0] <= 1.2 * SIZE[0]
        assert np.array_equal(K[:, 0, 0], K[:, 1, 1])


def test_a_way_too_short_for_its_frames_is_refused(world):
    with pytest.raises(ValueError, match='mm of way, found'):
        draw_cameras(world, SEED, 1000, SIZE)


def test_what_is_written_reads_back_as_a_truth(tmp_path: Path):
    K = np.tile(np.diag([200.0, 200.0, 1.0]), (3, 1, 1))
    circle = np.tile([159.5, 127.5, 120.0], (3, 1))
    (tmp_path / 'depth').mkdir()
    write_truth(tmp_path, Cameras(K, np.tile(np.eye(4), (3, 1, 1)), circle))
    depth = np.array([[10.1234, np.nan], [255.9, 300.0]])
    write_depth(tmp_path / 'depth' / '0002.png', depth)
    truth = read_truth_folder(tmp_path)
    assert np.allclose(np.diff(truth.stamps), 1.0 / scopes.RATE)
    assert np.array_equal(truth.K, K) and np.array_equal(truth.circle, circle)
    assert truth.depth_frames == {2}
    read = truth.read_depth(2).depth
    assert np.allclose(read[[0, 1], [0, 0]], [10.1234, 255.9], atol=0.5 / STEPS_PER_MM + 1e-6)
    assert np.isnan(read[[0, 1], [1, 1]]).all()


def test_the_steps_of_depth_are_those_that_the_evaluation_reads():
    assert command.STEPS_PER_MM == STEPS_PER_MM


def test_smoothing_calms_bounced_light_and_keeps_an_edge():
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:40, :60].astype(float)
    depth = np.where(u < 30, 20.0, 60.0)
    places = np.stack([u * depth / 60, v * depth / 60, depth], -1)
    normals = np.broadcast_to([0.0, 0.0, -1.0], (40, 60, 3))
    clean = np.where(u < 30, 1.0, 0.2)[..., None] * np.ones(3)
    calm = smoothed(clean * rng.uniform(0.5, 1.5, clean.shape), places, normals, depth)
    assert np.abs(calm / clean - 1.0).mean() < 0.05
    assert calm[:, 28].mean() == pytest.approx(1.0, abs=0.06)
    assert calm[:, 31].mean() == pytest.approx(0.2, abs=0.02)


def test_exposure_does_not_depend_on_how_bright_the_lamp_is():
    rng = np.random.default_rng(0)
    radiance = rng.uniform(0.1, 1.0, (64, 80, 3))
    seen = seen_through(np.array([39.5, 31.5, 30.0]), (80, 64))
    dim, bright = (Sensor(5).develop(radiance * lamp, seen) for lamp in (1e-4, 1e2))
    assert np.abs(dim.astype(int) - bright).max() <= 1
    assert (dim[~seen] == 0).all() and 60 < dim[seen].mean() < 200


def test_without_mitsuba_or_its_compiler_one_line_says_how_to_install_it(monkeypatch, world):
    monkeypatch.setenv(renderer.LLVM, 'somewhere')
    monkeypatch.setitem(sys.modules, 'mitsuba', None)
    with pytest.raises(ValueError, match='pip install mitsuba'):
        renderer.Renderer(world, SEED, SIZE, 2)
    monkeypatch.delenv(renderer.LLVM)
    monkeypatch.setattr(Path, 'glob', lambda *_: iter(()))
    with pytest.raises(ValueError, match='apt-get install libllvm19'):
        renderer.Renderer(world, SEED, SIZE, 2)
