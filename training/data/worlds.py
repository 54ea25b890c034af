# SPDX-License-Identifier: Apache-2.0
"""Rendered worlds as clips, made when they are needed: all is known of them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from training.data.raw import LeftOutError, RawClip, RawFrame
from training.synthetic.camera import Flight, Scope, fly
from training.synthetic.instrument import draw_instrument, lay_over
from training.synthetic.light import Light
from training.synthetic.render import render
from training.synthetic.samples import FAMILIES, SIDE
from training.synthetic.sensor import Sensor
from training.synthetic.tube import make_tube
from training.synthetic.world import World

LOOKS = ('albedo', 'light', 'camera')
LIGHT_AIM = 0.25  # mean brightness of a clip's first frame in the look `light`
COLON = partial(make_tube, length=220.0, cell=1.0, side=SIDE)
KINDS = {'colon': COLON, **FAMILIES}  # a healthy one has room to fly
START_MM = 12.0
SWAY_MM = 1.5  # of an instrument before the camera
ORBITS_MM = (4.0, 2.0, 1.0, 0.3)


def worlds(
    family: str,
    seeds: range,
    frames: int,
    size: tuple[int, int],
    look: str,
    focal: float,
    speed: float,
    zoom: float = 1.0,
    stop: float = 0.9,
    instrument: bool = False,
) -> list[RawClip]:
    """
    One clip of each seed.

    :param family: of KINDS.
    :param size: height, width [px].
    :param look: `albedo`: colours without light, the same from everywhere; `light`: lamps at the
        camera, fixed exposure; `camera`: a sensor's pictures too, with exposure control and noise.
    :param focal: of the scope [widths].
    :param speed: of the hand [mm / s], at 25 frames a second.
    :param zoom: the scope zooms up to it in the clip's middle.
    :param stop: radius of the field stop at the widest [widths]; 0.9 is beyond the picture.
    :param instrument: one sways before the camera.
    """
    if family not in KINDS:
        raise ValueError(f'no family {family!r} of worlds; there are {", ".join(sorted(KINDS))}')
    if look not in LOOKS:
        raise ValueError(f'no look {look!r} of worlds; there are {", ".join(LOOKS)}')
    settings = (frames, size, look, focal, speed, zoom, stop, instrument)
    return [
        RawClip(f'{family}_{seed}_{look}', f'{family} {seed} {settings}',
                partial(_frames, family, seed, *settings))
        for seed in seeds
    ]  # fmt: skip


def _frames(
    family: str, seed: int, frames: int, size: tuple[int, int], look: str, focal: float,
    speed: float, zoom: float, stop: float, instrument: bool,
) -> Iterator[RawFrame]:  # fmt: skip
    height, width = size
    world = KINDS[family](seed)
    flight = _flight(world, seed, frames, speed, zoom)
    scope = Scope(focal=focal, centre=(0.5, 0.5), stop_radius=stop)
    light = replace(Light.pair(), focus=2.0)
    sensor, gain = Sensor(), None
    rng, tool = np.random.default_rng([seed, 4]), None
    for number in range(frames):
        camera = scope.camera(flight.T_world_cam[number], flight.zoom[number], width, height)
        view = render(world, light, camera)
        if instrument and tool is None and np.isfinite(view.depth).any():
            tool = draw_instrument(rng, view, camera)
        if tool is not None:
            sway = np.eye(4)
            sway[:2, 3] = SWAY_MM * np.sin(0.15 * number + np.arange(2))
            view = lay_over(view, camera, light, tool.moved(sway))
        if look == 'albedo':
            image = _srgb(view.albedo)
        elif look == 'light':
            gain = LIGHT_AIM / float(view.radiance.mean()) if gain is None else gain
            image = _srgb(view.radiance * gain)
        else:
            wanted = sensor.gain_for(view.radiance)
            gain = wanted if gain is None else sensor.follow(gain, wanted, 0.04)
            image = sensor.expose(
                view.radiance, camera, gain, np.random.default_rng([seed, 3, number])
            )
        yield RawFrame(
            number, image, Intrinsics.from_matrix(camera.K, width, height), view.depth,
            camera.T_world_cam,
        )  # fmt: skip


def _flight(world: World, seed: int, frames: int, speed: float, zoom: float) -> Flight:
    """As fast as asked, or as the world has room for."""
    length = float(np.linalg.norm(np.diff(world.guide, axis=0), axis=1).sum())
    seconds = frames / 25.0
    fitting = min(speed, 0.95 * (length - START_MM) / seconds)
    zooms = ((0.0, 1.0), (0.5 * seconds, zoom), (seconds, 1.0))
    for orbit in ORBITS_MM:  # narrower where there is no room
        try:
            return fly(
                world, seed, frames, speed=fitting, start=START_MM, zooms=zooms, orbit=orbit
            )
        except ValueError as error:
            reason = error
    raise LeftOutError(f'{world.name} is left out: there is no way through it ({reason})')


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light 0..1 as a picture, uint8."""
    x = np.clip(linear, 0.0, 1.0)
    bent = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)
    return (255.0 * bent + 0.5).astype(np.uint8)
