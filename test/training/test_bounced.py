# SPDX-License-Identifier: Apache-2.0
"""Light that tissue throws to and fro, where one can say what it must be."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('numba', reason='numba compiles the renderer: make setup-training')
pytest.importorskip('scipy', reason='scipy measures free space: make setup-training')

from test.training.test_synthetic import HEIGHT, LAMP, SCOPE, WIDTH, at, plain_world
from training.synthetic.bounced import BOUNCES, bounced
from training.synthetic.field import Field
from training.synthetic.light import make_scene
from training.synthetic.render import render
from training.synthetic.samples import draw_pairs

FOLLOWED = replace(LAMP, paths=16)


@pytest.mark.parametrize('albedo', [0.3, 0.7])
def test_inside_a_ball_every_bounce_brings_what_is_left_of_the_one_before(albedo: float) -> None:
    """From a lamp in its middle all is lit alike, so the sum is a geometric series."""
    ball = Field.from_function(
        lambda p: 20.0 - np.linalg.norm(p, axis=-1), (-23, -23, -23), (23, 23, 23), 1.0
    )
    world, camera = plain_world(ball, albedo), SCOPE.camera(np.eye(4), 1.0, WIDTH, HEIGHT)
    direct, followed = render(world, LAMP, camera), render(world, FOLLOWED, camera)
    inside = np.isfinite(direct.depth)
    share = followed.radiance[inside] / direct.radiance[inside]
    assert np.allclose(share, sum(albedo**bounce for bounce in range(BOUNCES + 1)), rtol=0.01)
    assert np.array_equal(direct.depth, followed.depth, equal_nan=True)


def test_a_hollow_fills_itself_with_light_and_a_dome_does_not() -> None:
    """The very same curvature, to the lamp and away from it."""
    shares = {}
    for name, side in (('hollow', -1.0), ('dome', 1.0)):

        def bowl(p: np.ndarray, side: float = side) -> np.ndarray:
            bend = 10.0 - np.hypot(p[..., 0], p[..., 1]) ** 2 / 40.0
            return np.asarray(30.0 - p[..., 2] - side * bend)

        field = Field.from_function(bowl, (-40, -40, -10), (40, 40, 60), 1.0)
        world, camera = plain_world(field, 0.7), SCOPE.camera(np.eye(4), 1.0, WIDTH, HEIGHT)
        light = bounced(
            make_scene(world, LAMP, camera.T_world_cam),
            np.array([camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2], 0.0, 0.0]),
            camera.T_world_cam,
            camera.circle,
            render(world, LAMP, camera).depth,
            64,
            0,
        )
        middle = (
            slice(HEIGHT // 2 - 10, HEIGHT // 2 + 10),
            slice(WIDTH // 2 - 10, WIDTH // 2 + 10),
        )
        shares[name] = light[middle].mean() / render(world, LAMP, camera).radiance[middle].mean()
    assert shares['dome'] == 0.0
    assert shares['hollow'] > 0.1


def test_few_paths_tell_what_many_do() -> None:
    """A place asks its neighbours, so twelve are enough: noise of a few per cent."""
    box = Field.from_function(
        lambda p: np.minimum(15.0 - np.abs(p[..., 0] + 0.3 * p[..., 2]), 18.0 - np.abs(p[..., 2])),
        (-25, -25, -21), (25, 25, 21), 1.0,
    )  # fmt: skip
    world, camera = plain_world(box, 0.7), SCOPE.camera(at(2.0, 0.0, -8.0), 1.0, WIDTH, HEIGHT)
    direct = render(world, LAMP, camera).radiance
    few, many = (
        render(world, replace(LAMP, paths=paths), camera, seed=1).radiance - direct
        for paths in (12, 400)
    )
    lit = many[..., 0] > 0.02
    assert lit.sum() > 5000
    assert np.median(np.abs(few[lit] / many[lit] - 1.0)) < 0.06
    assert abs(float(few[lit].mean() / many[lit].mean()) - 1.0) < 0.02


def test_pairs_with_it_have_the_same_truth_and_redder_pictures() -> None:
    plain, followed, again = (
        next(draw_pairs('heap', 1, 1, 140, 112, bounced=share)) for share in (0.0, 1.0, 1.0)
    )
    assert np.array_equal(plain.depths, followed.depths, equal_nan=True)
    assert np.array_equal(plain.T_prev_cam, followed.T_prev_cam)
    assert np.array_equal(followed.images, again.images)
    assert np.abs(plain.images.astype(int) - followed.images).mean() > 1.0
