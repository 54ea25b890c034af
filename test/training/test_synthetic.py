# SPDX-License-Identifier: Apache-2.0
"""Laws of the rendered worlds: exact depth, motion that fits it, light that falls off."""

from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest

pytest.importorskip('numba', reason='numba compiles the renderer: make setup-training')
pytest.importorskip('scipy', reason='scipy measures free space: make setup-training')

from training.synthetic import render as rendering
from training.synthetic.bed import make_bed
from training.synthetic.camera import Camera, Flight, Scope, fly
from training.synthetic.cavern import make_cavern
from training.synthetic.cavity import make_cavity
from training.synthetic.chambers import make_chambers
from training.synthetic.clip import RATE, read_depth, shoot
from training.synthetic.dome import make_dome
from training.synthetic.field import Field
from training.synthetic.fork import make_fork
from training.synthetic.heap import make_heap
from training.synthetic.instrument import Instrument, draw_instrument, lay_over
from training.synthetic.light import Light, Scene, make_scene
from training.synthetic.render import View, render
from training.synthetic.sensor import Sensor
from training.synthetic.tissue import make_tissue
from training.synthetic.tube import make_tube
from training.synthetic.world import World

WIDTH, HEIGHT = 160, 128
LAMP = Light(np.zeros((1, 3)), focus=0.0, indirect=0.0, shadows=False)  # at the camera, bare
SCOPE = Scope()


def plain_world(field: Field, colour: float = 0.5) -> World:
    """A shape of one dull colour, without vessels, relief or gloss."""
    tissue = make_tissue(np.random.default_rng(0), side=64, vessels=0.0, relief=0.0, wetness=0.0)
    tissue.levels[:] = 1.0, 1.0, 1.0, 0.0, 0.0, 0.0
    tint = np.full((2, 2, 2, 3), colour, np.float32)
    nowhere = np.zeros((2, 3))
    return World('plain', field, tissue, np.eye(3), tint, 1e3, nowhere, nowhere)


def at(x: float, y: float, z: float, *, turned: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    c, s = np.cos(turned), np.sin(turned)
    T[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    T[:3, 3] = x, y, z
    return T


def rays(camera: Camera) -> np.ndarray:
    """(H, W, 3) directions in the world frame with z-depth 1."""
    v, u = np.mgrid[: camera.height, : camera.width].astype(float)
    local = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.K).T
    return local @ camera.T_world_cam[:3, :3].T


def lift(view: View, camera: Camera) -> np.ndarray:
    """(H, W, 3) world points [mm]."""
    return camera.T_world_cam[:3, 3] + rays(camera) * view.depth[..., None]


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    T_cam_world = np.linalg.inv(camera.T_world_cam)
    local = points @ T_cam_world[:3, :3].T + T_cam_world[:3, 3]
    pixels = local @ camera.K.T
    return pixels[..., 0] / local[..., 2], pixels[..., 1] / local[..., 2], local[..., 2]


def read(picture: np.ndarray, u: np.ndarray, v: np.ndarray, how: int) -> np.ndarray:
    return cv2.remap(
        picture, u.astype(np.float32), v.astype(np.float32), how, None, cv2.BORDER_CONSTANT, np.nan
    )


@pytest.fixture(scope='module')
def tube() -> World:
    return make_tube(4, length=110.0, cell=1.0)


@pytest.fixture(scope='module')
def flight(tube: World) -> Flight:
    return fly(tube, 4, 40, zooms=((0.0, 1.0), (1.6, 1.6)))


@pytest.fixture(
    scope='module', params=['tube', 'cavity', 'bed', 'fork', 'chambers', 'heap', 'cavern', 'dome']
)
def pair(request, tube: World, flight: Flight) -> list[tuple[View, Camera]]:
    """Two neighbouring frames of each family, the camera moving, turning and zooming."""
    world, path = tube, flight
    if request.param != 'tube':
        make, start = {
            'cavity': (partial(make_cavity, 5, cell=1.4), 10.0),
            'bed': (partial(make_bed, 5, cell=1.4), 10.0),
            'fork': (partial(make_fork, 5, cell=1.4), 10.0),
            'chambers': (partial(make_chambers, 5, cell=1.0), 10.0),
            'heap': (partial(make_heap, 1, cell=1.1), 1.0),
            'cavern': (partial(make_cavern, 5), 1.0),
            'dome': (partial(make_dome, 5), 1.0),
        }[request.param]
        world = make(side=512)
        path = fly(world, 2, 40, speed=6.0, zooms=((0.0, 1.0), (1.6, 1.6)), start=start)
    cameras = [SCOPE.camera(path.T_world_cam[n], path.zoom[n], WIDTH, HEIGHT) for n in (20, 21)]
    return [(render(world, Light.pair(), c, everywhere=True), c) for c in cameras]


def test_depth_inside_a_sphere_is_right_to_a_micrometre():
    ball = Field.from_function(
        lambda p: 20.0 - np.linalg.norm(p, axis=-1), (-23, -23, -23), (23, 23, 23), 1.0
    )
    camera = SCOPE.camera(at(3.0, -2.0, 1.0, turned=0.4), 1.2, WIDTH, HEIGHT)
    depth = render(plain_world(ball), LAMP, camera).depth
    d, o = rays(camera), camera.T_world_cam[:3, 3]
    a, b, c = (d * d).sum(-1), d @ o, o @ o - 20.0**2
    truth = (-b + np.sqrt(b * b - a * c)) / a
    seen = np.isfinite(depth)
    assert seen.sum() > 10_000
    assert np.abs(depth - truth)[seen].max() < 1e-3


def test_depth_of_a_cylinder_seen_from_outside_is_right_to_a_micrometre():
    rod = Field.from_function(
        lambda p: np.hypot(p[..., 0], p[..., 2]) - 6.0, (-25, -25, -9), (25, 25, 25), 0.75
    )
    camera = SCOPE.camera(at(0.0, 0.0, 24.0, turned=np.pi), 1.0, WIDTH, HEIGHT)
    depth = render(plain_world(rod), LAMP, camera).depth
    d, o = rays(camera), camera.T_world_cam[:3, 3]
    a = d[..., 0] ** 2 + d[..., 2] ** 2
    b = d[..., 0] * o[0] + d[..., 2] * o[2]
    room = b * b - a * (o[0] ** 2 + o[2] ** 2 - 36.0)
    truth = (-b - np.sqrt(np.maximum(room, 0.0))) / a
    seen = (room > 1.0) & np.isfinite(depth)
    assert seen.sum() > 3_000
    assert np.abs(depth - truth)[seen].max() < 1e-3
    assert np.isnan(depth[room < -1.0]).all()  # beside it nothing is seen


def test_points_of_one_frame_land_on_the_depth_of_the_next(pair):
    (first, a), (second, b) = pair
    u, v, z = project(lift(first, a), b)
    there = read(second.depth, u, v, cv2.INTER_LINEAR)
    gap = np.abs(there - z) / z
    gap = gap[np.isfinite(gap)]
    assert gap.size > 8_000
    assert np.median(gap) < 2e-4
    assert np.mean(gap < 0.01) > 0.95  # the rest lies at occluding edges


def warp_error(pair, change) -> float:
    """Median difference of albedo after warping frame two onto one with a changed camera two."""
    (first, a), (second, b) = pair
    u, v, z = project(lift(first, a), change(b))
    there = read(second.albedo, u, v, cv2.INTER_CUBIC)
    same = np.abs(read(second.depth, u, v, cv2.INTER_LINEAR) - z) < 0.02 * z
    inside = np.hypot(u - b.circle[0], v - b.circle[1]) < b.circle[2] - 3.0
    gap = np.abs(there - first.albedo)[same & inside]
    return float(np.nanmedian(gap))


def test_albedo_warps_onto_the_neighbour_and_not_with_a_wrong_sign(pair):
    (_, a), _ = pair
    T_a = a.T_world_cam

    def backwards(b: Camera) -> Camera:
        return replace(b, T_world_cam=T_a @ np.linalg.inv(b.T_world_cam) @ T_a)

    def going_the_other_way(b: Camera) -> Camera:
        T_a_b = np.linalg.inv(T_a) @ b.T_world_cam
        T_a_b[:3, 3] *= -1.0
        return replace(b, T_world_cam=T_a @ T_a_b)

    def unzoomed(b: Camera) -> Camera:
        return replace(b, K=a.K)

    true = warp_error(pair, lambda b: b)
    assert true < 0.002
    for wrong in (backwards, going_the_other_way, unzoomed):
        assert warp_error(pair, wrong) > 1.5 * true


def test_radiance_falls_with_the_square_of_the_distance():
    wall = plain_world(
        Field.from_function(lambda p: 70.0 - p[..., 2], (-4, -4, 0), (4, 4, 75), 1.0)
    )
    centre = HEIGHT // 2, WIDTH // 2
    values = {}
    for distance in (10.0, 20.0, 40.0):
        camera = SCOPE.camera(at(0.0, 0.0, 70.0 - distance), 6.0, WIDTH, HEIGHT)
        view = render(wall, LAMP, camera)
        assert view.depth[centre] == pytest.approx(distance, abs=1e-3)
        values[distance] = view.radiance[(*centre, 1)]
    assert values[20.0] == pytest.approx(0.5, rel=1e-3)  # the albedo, at REFERENCE_DISTANCE
    assert values[10.0] / values[20.0] == pytest.approx(4.0, rel=1e-3)
    assert values[20.0] / values[40.0] == pytest.approx(4.0, rel=1e-3)


def test_light_falls_off_axis_by_its_focus():
    """Inside a ball around the lamp all walls are as far and face it: only the focus is left."""
    ball = plain_world(
        Field.from_function(
            lambda p: 20.0 - np.linalg.norm(p, axis=-1), (-23, -23, -23), (23, 23, 23), 1.0
        )
    )
    camera = SCOPE.camera(np.eye(4), 1.0, WIDTH, HEIGHT)
    view = render(ball, replace(LAMP, focus=3.0), camera)
    cosine = 1.0 / np.linalg.norm(rays(camera), axis=-1)
    inner = np.hypot(*(np.indices(cosine.shape) - [[[HEIGHT / 2]], [[WIDTH / 2]]])) < 50
    assert view.radiance[..., 0][inner] == pytest.approx(0.5 * cosine[inner] ** 3, rel=2e-3)


def test_an_instrument_hides_what_is_behind_it_and_nothing_else(tube, flight):
    camera = SCOPE.camera(flight.T_world_cam[0], 1.0, WIDTH, HEIGHT)
    view = render(tube, LAMP, camera)
    z = 0.5 * np.nanmin(view.depth)  # a rod across the picture, before everything
    rod = Instrument(
        np.array([[[-90.0, 0.0, z], [90.0, 0.0, z]]]), np.array([0.1 * z]), np.ones((1, 3)), 20.0
    )
    over = lay_over(view, camera, LAMP, rod)
    v = np.indices(view.depth.shape)[0]
    y = np.abs(v - camera.K[1, 2]) / camera.K[1, 1]
    seen = np.isfinite(view.depth)
    reach = np.tan(np.arcsin(0.1))  # where rays just touch the rod
    on, off = seen & (y < reach - 0.01), seen & (y > reach + 0.01)
    truth = (z - np.sqrt(np.maximum((1 + y**2) * (0.1 * z) ** 2 - (y * z) ** 2, 0.0))) / (1 + y**2)
    assert over.depth[on] == pytest.approx(truth[on], rel=1e-5)
    assert np.array_equal(over.depth[off], view.depth[off])
    assert np.array_equal(over.radiance[off & (y > reach + 0.02)],
                          view.radiance[off & (y > reach + 0.02)])  # fmt: skip
    assert not np.isfinite(over.depth[~seen]).any()


def test_a_drawn_instrument_stands_before_the_scene(tube, flight):
    camera = SCOPE.camera(flight.T_world_cam[0], 1.0, WIDTH, HEIGHT)
    view = render(tube, LAMP, camera)
    for seed in range(5):
        tool = draw_instrument(np.random.default_rng(seed), view, camera)
        over = lay_over(view, camera, LAMP, tool)
        nearer = over.depth < view.depth
        assert 10 < nearer.sum() < 0.6 * nearer.size
        assert (over.depth[nearer] > 0.0).all()


def test_rooms_have_a_horizon_and_tubes_have_none(tube):
    bed = make_bed(3, cell=2.0, side=64)
    rolls = []
    for seed in range(30):
        R = fly(bed, seed, 8).T_world_cam[0, :3, :3]
        rolls.append(np.arctan2(R[1, 0], R[1, 1]))  # world's y is down
    assert np.std(rolls) == pytest.approx(bed.horizon, rel=0.5)
    assert tube.horizon is None


def test_the_field_stop_scales_with_the_focal_length(tube, flight):
    wide, narrow = (SCOPE.camera(flight.T_world_cam[0], z, WIDTH, HEIGHT) for z in (1.0, 1.37))
    ratio = narrow.K[0, 0] / wide.K[0, 0]
    assert narrow.circle[2] / wide.circle[2] == pytest.approx(ratio, rel=1e-12)
    view = render(tube, LAMP, wide)
    v, u = np.indices(view.depth.shape)
    inside = np.hypot(u - wide.circle[0], v - wide.circle[1]) <= wide.circle[2]
    assert np.array_equal(np.isfinite(view.depth), inside)
    assert not view.radiance[~inside & (np.hypot(u - 79.5, v - 63.5) > wide.circle[2] + 1)].any()


def test_a_smaller_picture_has_the_same_camera():
    large, small = (SCOPE.camera(np.eye(4), 1.3, w, h) for w, h in ((640, 512), (320, 256)))
    assert small.K[0, 0] == pytest.approx(0.5 * large.K[0, 0])
    for axis in range(2):
        assert small.K[axis, 2] == pytest.approx((large.K[axis, 2] + 0.5) * 0.5 - 0.5)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tube, flight):
    def film(world: World, seed: int) -> bytes:
        few = Flight(flight.T_world_cam[:2], flight.zoom[:2], flight.stamps[:2])
        shots = shoot(world, few, SCOPE, Light.pair(), Sensor(), WIDTH, HEIGHT, seed)
        return b''.join(s.image.tobytes() + s.view.depth.tobytes() for s in shots)

    assert film(make_tube(4, length=110.0, cell=1.0), 7) == film(tube, 7)
    assert film(tube, 8) != film(tube, 7)
    assert not np.array_equal(make_tube(5, length=110.0, cell=1.0).guide[0], tube.guide[0])


def test_a_flight_keeps_clear_rests_in_a_pause_and_zooms_within_half_a_second(tube):
    path = fly(tube, 4, 100, zooms=((0.5, 1.0), (2.7, 1.6)), pauses=((1.0, 2.0),))
    places = path.T_world_cam[:, :3, 3]
    assert tube.field.room(places).min() >= 2.0
    step = np.linalg.norm(np.diff(places, axis=0), axis=1)
    resting = (path.stamps[:-1] >= 1.0) & (path.stamps[1:] <= 2.0)
    moving = (path.stamps[1:] <= 0.6) | (path.stamps[:-1] >= 2.4)
    assert np.median(step[moving]) == pytest.approx(0.5, abs=0.1)
    assert step[resting].max() < 0.2  # tremor alone
    assert np.abs(np.diff(path.zoom)).max() * RATE <= 0.5
    R = path.T_world_cam[:, :3, :3]
    assert np.allclose(R @ R.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(R), 1.0)


def test_a_flight_longer_than_its_world_says_what_it_needs(tube):
    with pytest.raises(ValueError, match='fewer frames'):
        fly(tube, 4, 1000)


def test_the_picture_inverts_to_the_radiance():
    """Without blur, glare, noise and vignetting, sRGB decoded is gain × radiance."""
    sensor = Sensor(blur=0.0, glare=0.0, vignetting=0.0, read_noise=0.0, shot_noise=0.0)
    camera = SCOPE.camera(np.eye(4), 3.0, WIDTH, HEIGHT)
    ramp = np.linspace(0.0, 0.3, WIDTH, dtype=np.float32)
    radiance = np.broadcast_to(ramp[None, :, None], (HEIGHT, WIDTH, 3)).copy()
    image = sensor.expose(radiance, camera, 2.0, np.random.default_rng(0)) / 255.0
    decoded = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    assert decoded == pytest.approx(2.0 * radiance, abs=0.005)


def test_a_missing_depth_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match='16-bit'):
        read_depth(tmp_path / '0000.png')


def test_what_is_taken_for_lit_is_lit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ray spares most points the question whether a light sees them; who asks all, agrees."""

    def posts_before_a_wall(points: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(points, -1, 0)
        posts = [np.hypot(x - at, z - 35.0) - 2.5 for at in (-12.0, 1.0, 11.0)]
        return np.minimum.reduce([60.0 - z + 2.0 * np.sin(y / 4.0), *posts])

    world = plain_world(
        Field.from_function(posts_before_a_wall, (-50.0, -40.0, -6.0), (50.0, 40.0, 70.0), 1.0)
    )
    light, camera = Light.pair(apart=6.0), SCOPE.camera(np.eye(4), 1.0, WIDTH, HEIGHT)
    spared = render(world, light, camera).radiance
    unlit = render(world, replace(light, shadows=False), camera).radiance

    def asking_everywhere(*given: object) -> Scene:
        return make_scene(*given)._replace(spread=1e9)  # so far beside is nothing ever free

    monkeypatch.setattr(rendering, 'make_scene', asking_everywhere)
    asked = render(world, light, camera).radiance
    dark = (unlit - asked).max(axis=-1) > 0.02 * unlit.max(axis=-1) + 1e-6
    assert dark.mean() > 0.01
    missed = dark & (np.abs(spared - asked).max(axis=-1) > 0.02 * unlit.max(axis=-1))
    assert missed.sum() < 0.05 * dark.sum()
    assert spared[~dark] == pytest.approx(asked[~dark], abs=1e-6)
