# SPDX-License-Identifier: Apache-2.0
"""Films through lenses that bend lines: the lens, and how clouds are judged beside the truth."""

from types import SimpleNamespace

import numpy as np
import pytest

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.lens import distorted
from training.geometry.films import Filmed
from training.geometry.lenses import Outcome, cloud_error, table
from training.synthetic.camera import MOST_BENT, Camera, barrel
from training.synthetic.instrument import Instrument, lay_over
from training.synthetic.light import Light
from training.synthetic.render import View, render
from training.synthetic.samples import draw_pairs
from training.synthetic.tube import make_tube

WIDTH, HEIGHT = 160, 128
K = np.array([[120.0, 0, 81.0], [0, 120.0, 62.0], [0, 0, 1]])


def test_a_whole_barrel_is_an_f_theta_fisheye() -> None:
    a, b = barrel(1.0, 0.7)
    image = np.linspace(0.01, 0.7, 20)
    assert image / (1 + a * image**2 + b * image**4) == pytest.approx(np.tan(image), rel=1e-3)
    assert barrel(0.0, 2.0) == (0.0, 0.0)
    a, b = barrel(1.0, 2.0)
    assert 1 + a * 2.0**2 + b * 2.0**4 == pytest.approx(1 - MOST_BENT)


def test_the_renderer_sees_through_the_lens_what_a_pinhole_sees_elsewhere() -> None:
    world, light = make_tube(3), Light.pair()
    T = np.eye(4)
    T[:3, 3] = world.guide[40]
    circle = np.array([81.0, 62.0, 200.0])
    bend = -0.3
    straight = render(world, light, Camera(WIDTH, HEIGHT, K, T, circle)).depth
    bent = render(world, light, Camera(WIDTH, HEIGHT, K, T, circle, (bend, 0.0))).depth
    v, u = np.mgrid[20:110:7, 20:140:7].reshape(2, -1)
    ray = (np.column_stack([u, v]) - [81.0, 62.0]) / 120.0
    column, row = np.rint(distorted(ray, bend) * 120.0 + [81.0, 62.0]).astype(int).T
    there = np.nanmedian(np.abs(np.log(bent[row, column] / straight[v, u])))
    here = np.nanmedian(np.abs(np.log(bent[v, u] / straight[v, u])))
    assert there < 0.5 * here and there < 0.01  # half a pixel of a tube's wall


def test_an_instrument_is_seen_through_the_lens_of_its_scene() -> None:
    rod = Instrument(
        np.array([[[-90.0, 12.0, 30.0], [90.0, 12.0, 30.0]]]), np.ones(1), np.ones((1, 3)), 20.0
    )  # straight, level and well off the axis
    nothing = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    empty = View(nothing, np.full((HEIGHT, WIDTH), 500.0, np.float32), nothing)
    bend = -0.3
    camera = Camera(WIDTH, HEIGHT, K, np.eye(4), np.array([81.0, 62.0, 200.0]), (bend, 0.0))
    depth = lay_over(empty, camera, Light.pair(), rod).depth
    v = np.indices(depth.shape)[0]
    column = np.arange(5, WIDTH, 15)
    middle = [v[:, c][depth[:, c] < 100.0].mean() for c in column]
    x = np.linspace(-3.0, 3.0, 4001)
    image = distorted(np.column_stack([x, np.full_like(x, 12.0 / 30.0)]), bend)
    u, row = 120.0 * image.T + [[81.0], [62.0]]
    assert middle == pytest.approx(np.interp(column, u, row), abs=1)
    assert np.ptp(middle) > 5.0  # a pinhole would see a straight rod


def test_training_draws_lenses_of_all_kinds_and_nothing_else_changes() -> None:
    straight = list(draw_pairs('cavity', 3, 3, 70, 56, bent=0.0))
    bent = list(draw_pairs('cavity', 3, 3, 70, 56, bent=1.0))
    for one, other in zip(straight, bent, strict=True):
        assert np.array_equal(one.cameras, other.cameras)
        assert np.array_equal(one.T_prev_cam, other.T_prev_cam)
        assert not np.array_equal(one.depths, other.depths)


def wall(bend: float) -> Filmed:
    """One picture of a slanted wall."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    image = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]], axis=-1)
    ray = image / (1.0 + bend * (image**2).sum(-1, keepdims=True))
    z = 30.0 / (1.0 - 0.3 * ray[..., 0])
    return Filmed(
        'advance_wall_0', np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), z[None].astype(np.float32),
        K[None], np.eye(4)[None], np.zeros(1), np.array([bend, 0.0]),
    )  # fmt: skip


def test_a_cloud_by_the_true_lens_is_right_and_one_by_a_pinhole_is_not() -> None:
    film = wall(-0.3)
    camera = Intrinsics.from_matrix(K, WIDTH, HEIGHT)
    ray_x = (np.arange(WIDTH) - K[0, 2]) / K[0, 0] + np.zeros((HEIGHT, 1))
    straight = SimpleNamespace(
        depth=(7.0 / (1.0 - 0.3 * ray_x)).astype(np.float32),
        camera=camera, input_camera=camera, distortion=-0.3,
    )  # fmt: skip
    cloud, depth = cloud_error(film, straight, 0)
    assert cloud < 5e-3 and depth < 5e-3  # half a pixel's
    as_seen = SimpleNamespace(
        depth=film.depth[0], camera=camera, input_camera=camera, distortion=0.0
    )
    cloud, depth = cloud_error(film, as_seen, 0)
    assert cloud > 0.03 and depth < 1e-6


def test_the_table_has_both_lenses_of_each_film() -> None:
    good = Outcome(0.01, 0.02, 0.5, 0.003, 0.04, 0.03, 0.005)
    bad = Outcome(0.3, 0.25, 9.0, 0.05, 0.2, 0.1, 0.16)
    told = table([('advance', 0.5, 'auto', good), ('advance', 0.5, 'straight', bad)])
    assert '| advance | 0.5 | 1 | 30.0 / 1.0 | 25.0 / 2.0 | 9.0 / 0.5 | 5.0 / 0.3 ' in told
    assert told.count('\n') == 3
