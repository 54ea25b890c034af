# SPDX-License-Identifier: Apache-2.0
"""
Training samples: pairs of network pictures with everything known, from worlds, scopes and hands
drawn at random.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from training.synthetic.bed import make_bed
from training.synthetic.belly import make_belly
from training.synthetic.camera import Camera, Flight, Scope, fly
from training.synthetic.cavern import make_cavern
from training.synthetic.cavity import make_cavity
from training.synthetic.chambers import make_chambers
from training.synthetic.dome import make_dome
from training.synthetic.fork import make_fork
from training.synthetic.heap import make_heap
from training.synthetic.instrument import draw_instrument, lay_over
from training.synthetic.light import Light
from training.synthetic.render import render
from training.synthetic.sensor import Sensor
from training.synthetic.things import turned
from training.synthetic.tube import make_tube
from training.synthetic.world import World

SIDE = 512  # of the textures: the pictures are small [texels]
FAMILIES: dict[str, Callable[[int], World]] = {
    'tube': partial(make_tube, length=220.0, cell=1.0, side=SIDE, any_tube=True),
    'cavity': partial(make_cavity, side=SIDE),
    'bed': partial(make_bed, side=SIDE),
    'fork': partial(make_fork, side=SIDE),
    'belly': partial(make_belly, side=SIDE),
    'chambers': partial(make_chambers, side=SIDE),
    'heap': partial(make_heap, side=SIDE),
    'cavern': partial(make_cavern, side=SIDE),
    'dome': partial(make_dome, side=SIDE),
}
HELD_OUT_FAMILIES = ('fork',)  # never trained on
INSTRUMENTS = {  # share of pairs with one in view
    'cavity': 0.35,
    'bed': 0.3,
    'belly': 0.3,
    'tube': 0.08,
    'chambers': 0.1,
    'heap': 0.2,
    'cavern': 0.15,
    'dome': 0.3,
}
RATE = 25.0  # frames a second of the imagined video
FOCALS = (0.35, 1.6)  # of the picture's width
ZOOM_RATE = 0.5  # of a scope's zoom, a second at most
MOST_ZOOM = 1.7
ELECTRONIC = 0.15  # share of pairs whose stop is painted by the camera and does not zoom
BENT = 0.5  # share of pairs whose lens bends straight lines
PATHS = 12  # that light is followed on where it is


@dataclass(frozen=True)
class Pair:
    """
    Two pictures of one scope, the second a little later.

    :param images: (2, H, W, 3) uint8 RGB, the previous and the current one.
    :param depths: (2, H, W) float16 z-depth [mm]; NaN outside the field stop.
    :param T_prev_cam: (4, 4) float32 [mm].
    :param cameras: (2, 4) float32 fx/W, fy/H, n_x, n_y of each.
    """

    images: np.ndarray
    depths: np.ndarray
    T_prev_cam: np.ndarray
    cameras: np.ndarray


def draw_pairs(
    family: str,
    seed: int,
    count: int,
    width: int,
    height: int,
    bent: float = BENT,
    bounced: float = 0.0,
) -> Iterator[Pair]:
    """
    Draw pairs from one world; equal seeds give equal pairs.

    :param family: one of FAMILIES.
    :param seed: the world; its scope, light, sensor and hand follow from it.
    :param count: pairs from this world.
    :param width: of the pictures [px]; height likewise.
    :param bent: share of pairs whose lens bends straight lines, up to a fisheye's.
    :param bounced: share of pairs in which the light that tissue throws to and fro is followed.
    """
    kind = list(FAMILIES).index(family)
    rng = np.random.default_rng([seed, 11, kind])
    world = FAMILIES[family](seed)
    flight = _draw_flight(world, rng, seed)
    for number in range(count):
        gap = int(rng.integers(1, 4))
        first = int(rng.integers(0, len(flight.stamps) - gap))
        chance = INSTRUMENTS.get(family, 0.0)
        own = [seed, number, kind]
        yield _take(
            world, flight, (first, first + gap), (width, height), chance, bent, bounced, own
        )


def _take(
    world: World,
    flight: Flight,
    when: tuple[int, int],
    size: tuple[int, int],
    instrument_chance: float,
    bent: float,
    bounced: float,
    seed: list[int],
) -> Pair:
    """Take one pair with a scope, light and sensor of its own."""
    rng = np.random.default_rng([*seed, 12])
    scope, light, sensor = draw_scope(rng), draw_light(rng), draw_sensor(rng)
    painted = bool(np.random.default_rng([*seed, 13]).random() < ELECTRONIC)
    chance, share = np.random.default_rng([*seed, 14]).random(2)
    scope = replace(scope, electronic=painted)
    if chance < bent:
        scope = scope.bent(float(share), *size)
    glance = np.eye(4)  # the hand does not always look along the way
    glance[:3, :3] = turned(np.array([*(0.18 * rng.standard_normal(2)), 0.0]))
    cameras = [scope.camera(flight.T_world_cam[n] @ glance, flight.zoom[n], *size) for n in when]
    follows = np.random.default_rng([*seed, 15])
    if follows.random() < bounced:
        light = replace(light, paths=PATHS)
    views = [
        render(world, light, camera, seed=int(follows.integers(1 << 31))) for camera in cameras
    ]
    T_prev_cam = np.linalg.inv(cameras[0].T_world_cam) @ cameras[1].T_world_cam
    if rng.random() < instrument_chance and np.isfinite(views[0].depth).any():
        tool = draw_instrument(rng, views[0], cameras[0])
        travel = np.linalg.inv(T_prev_cam)
        travel[:3, 3] += 0.02 * np.nanmedian(views[0].depth) * rng.standard_normal(3)
        views[0] = lay_over(views[0], cameras[0], light, tool)
        views[1] = lay_over(views[1], cameras[1], light, tool.moved(travel))
    gain = sensor.gain_for(views[0].radiance) * np.exp(0.15 * rng.standard_normal())
    drift = np.exp(0.03 * rng.standard_normal())
    images = [
        sensor.expose(view.radiance, camera, gain * drift**n, rng)
        for n, (view, camera) in enumerate(zip(views, cameras, strict=True))
    ]
    return Pair(
        images=_grade(np.stack(images), rng),
        depths=np.stack([view.depth for view in views]).astype(np.float16),
        T_prev_cam=T_prev_cam.astype(np.float32),
        cameras=np.stack([_normalised(camera) for camera in cameras]),
    )


def _normalised(camera: Camera) -> np.ndarray:
    """fx/W, fy/H, n_x, n_y: (4,) float32."""
    K, width, height = camera.K, camera.width, camera.height
    n_x, n_y = (K[0, 2] + 0.5) / width, (K[1, 2] + 0.5) / height
    return np.array([K[0, 0] / width, K[1, 1] / height, n_x, n_y], np.float32)


def draw_scope(rng: np.random.Generator) -> Scope:
    """
    Any focal length of the range; the stop round and whole, cut by the picture, or beyond it.
    """
    radius = rng.choice(
        [rng.uniform(0.36, 0.41), rng.uniform(0.41, 0.60), 0.9], p=[0.35, 0.4, 0.25]
    )
    return Scope(
        focal=float(np.exp(rng.uniform(*np.log(FOCALS)))),
        centre=(float(rng.normal(0.5, 0.02)), float(rng.normal(0.5, 0.02))),
        stop_radius=float(radius),
        stop_offset=(float(rng.normal(0, 0.01)), float(rng.normal(0, 0.01))),
    )


def draw_light(rng: np.random.Generator) -> Light:
    light = Light.pair(apart=float(rng.uniform(0.5, 6.0)), lift=float(rng.uniform(-2.0, 2.5)))
    if rng.random() < 0.3:
        light = Light(light.positions[:1])  # one fibre end, to a side
    return replace(
        light, focus=float(rng.uniform(0.5, 4.0)), indirect=float(rng.uniform(0.05, 0.4))
    )


def draw_sensor(rng: np.random.Generator) -> Sensor:
    return Sensor(
        blur=float(rng.uniform(0.0, 1.6)),
        glare=float(rng.uniform(0.0, 0.08)),
        vignetting=float(rng.uniform(0.0, 0.6)),
        read_noise=float(np.exp(rng.uniform(np.log(3e-4), np.log(8e-3)))),
        shot_noise=float(rng.uniform(0.0, 0.02)),
        shoulder=float(rng.uniform(0.4, 0.95)),
        aim=float(np.exp(rng.uniform(np.log(0.08), np.log(0.4)))),
    )


def _draw_flight(world: World, rng: np.random.Generator, seed: int) -> Flight:
    """As long as the world has guide for; zooming in and out half of the time."""
    length = float(np.linalg.norm(np.diff(world.guide, axis=0), axis=1).sum())
    speed = float(np.exp(rng.uniform(np.log(3.0), np.log(25.0))))
    start = float(rng.uniform(2.0, 0.3 * length))
    seconds = min(0.9 * (length - start) / speed, 12.0)
    zooms = [(0.0, float(rng.uniform(1.0, MOST_ZOOM)) if rng.random() < 0.5 else 1.0)]
    while zooms[-1][0] < seconds and rng.random() < 0.8:
        time, zoom = zooms[-1]
        wait = float(rng.uniform(0.4, 2.0))
        reach = ZOOM_RATE * wait / 1.5  # a smooth ramp is 1.5 times as steep in its middle
        zooms.append(
            (time + wait, float(np.clip(zoom + rng.uniform(-reach, reach), 1.0, MOST_ZOOM)))
        )
    return fly(
        world,
        seed,
        max(int(seconds * RATE), 8),
        rate=RATE,
        speed=speed,
        zooms=zooms,
        start=start,
        orbit=float(rng.uniform(0.0, 7.0)),
    )


def _grade(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One draw for the pair: white balance, gamma, saturation, jpeg."""
    x = images.astype(np.float32) / 255.0
    balance = np.exp(0.12 * rng.standard_normal(3)).astype(np.float32)
    x = np.clip(x * balance / balance.mean(), 0.0, 1.0) ** np.float32(
        np.exp(0.18 * rng.standard_normal())
    )
    if rng.random() < 0.12:  # smoke, or a fogged lens
        haze = np.float32(rng.uniform(0.05, 0.35))
        x = x + haze * (np.float32(rng.uniform(0.4, 0.9)) - x) * (
            x.max(axis=-1, keepdims=True) > 0.02
        )
    grey = x.mean(axis=-1, keepdims=True)
    x = np.clip(grey + (x - grey) * np.float32(rng.uniform(0.6, 1.3)), 0.0, 1.0)
    graded = (x * 255.0 + 0.5).astype(np.uint8)
    if rng.random() < 0.6:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 96))]
        graded = np.stack(
            [cv2.imdecode(cv2.imencode('.jpg', one, quality)[1], 1) for one in graded]
        )
    return graded
