# SPDX-License-Identifier: Apache-2.0
"""
Films: worlds seen by one scope that moves in one way for some seconds, with everything known.

What tells a focal length is the motion; so each kind of motion has a name, and estimators are
judged kind by kind.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from training.synthetic.camera import Flight, Scope, fly
from training.synthetic.clip import Shot, shoot
from training.synthetic.light import Light
from training.synthetic.render import render
from training.synthetic.samples import FAMILIES, MOST_ZOOM, draw_light, draw_scope, draw_sensor
from training.synthetic.things import turned
from training.synthetic.world import World

MOVES = ('advance', 'orbit', 'sideways', 'pan', 'rest', 'zoom', 'mixed', 'creep')
ZOOMS_TOO = ('zoom', 'mixed')  # but for 'creep' the others keep their focal length
CREEP = (0.05, 0.12)  # log zoom of a 'creep', which advances and shows no rim [1/s]
MARGIN_MM = 2.0
TREMOR_MM, TREMOR_RAD = 0.035, 0.0016
LITTLE = (80, 64)  # size of the glance that finds how far the scene is [px]


class Film(NamedTuple):
    """
    What is filmed, before it is.

    :param distance: to what lies in the picture's middle at the start [mm].
    """

    world: World
    flight: Flight
    scope: Scope
    distance: float


def draw_film(
    family: str,
    seed: int,
    move: str,
    seconds: float,
    rate: float = 25.0,
    rim: bool | None = None,
    electronic: bool = False,
) -> Film:
    """
    Draw a world, a scope and a hand; equal arguments give equal films.

    :param family: one of FAMILIES; move: one of MOVES.
    :param rim: whether the scope's field stop is seen; None leaves it to chance.
    :param electronic: see `Scope`.
    :raises ValueError: there is no room for the motion in this world; try another seed.
    """
    if move not in MOVES:
        raise ValueError(f'unknown move {move!r}; known: {", ".join(MOVES)}')
    rng = np.random.default_rng([seed, 21, MOVES.index(move), list(FAMILIES).index(family)])
    world, scope = FAMILIES[family](seed), draw_scope(rng)
    rim = False if move == 'creep' else rim
    if rim is not None:
        radius = float(rng.uniform(0.37, 0.40)) if rim else 0.9
        scope = replace(scope, stop_radius=radius)
    scope = replace(scope, electronic=electronic)
    frames = round(seconds * rate)
    zooms = _zooms(rng, seconds) if move in ZOOMS_TOO else ((0.0, 1.0),)
    if move in ('advance', 'mixed', 'creep'):
        flight, distance = _along(world, scope, rng, seed, frames, rate, move == 'mixed')
    else:
        flight, distance = _about(world, scope, rng, seed, frames, rate, move)
    stamps = np.arange(frames) / rate
    zoom = _creep(rng, stamps) if move == 'creep' else _ramp(stamps, zooms)
    return Film(world, replace(flight, zoom=zoom), scope, distance)


def shots_of(film: Film, width: int, height: int, seed: int) -> Iterator[Shot]:
    """Film it with a light and a sensor of its own, (H, W, 3) pictures of this size."""
    rng = np.random.default_rng([seed, 22])
    light, sensor = draw_light(rng), draw_sensor(rng)
    return shoot(film.world, film.flight, film.scope, light, sensor, width, height, seed)


def _along(
    world: World,
    scope: Scope,
    rng: np.random.Generator,
    seed: int,
    frames: int,
    rate: float,
    swaying: bool,
) -> tuple[Flight, float]:
    """Along the world's own guide, as fast as its length and the distance allow."""
    length = float(np.linalg.norm(np.diff(world.guide, axis=0), axis=1).sum())
    start = float(rng.uniform(0.05, 0.25)) * length
    distance = _distance(world, scope, fly(world, seed, 2, start=start).T_world_cam[0])
    speed = min(rng.uniform(0.3, 0.6) * distance, 0.9 * (length - start) * rate / frames)
    orbit = float(rng.uniform(2.0, 7.0) if swaying else rng.uniform(0.0, 2.0))
    pauses = ((0.4 * frames / rate, 0.55 * frames / rate),) if swaying else ()
    return fly(
        world, seed, frames, rate=rate, speed=speed, start=start, orbit=orbit, pauses=pauses
    ), distance


def _about(
    world: World,
    scope: Scope,
    rng: np.random.Generator,
    seed: int,
    frames: int,
    rate: float,
    move: str,
) -> tuple[Flight, float]:
    """About one place: orbiting what it looks at, sliding sideways, panning, or at rest."""
    length = float(np.linalg.norm(np.diff(world.guide, axis=0), axis=1).sum())
    start = float(rng.uniform(0.2, 0.7)) * length
    T_world_home = fly(world, seed, 2, start=start, orbit=0.0).T_world_cam[0]
    distance = _distance(world, scope, T_world_home)
    stamps = np.arange(frames) / rate
    heading = rng.uniform(0.0, 2.0 * np.pi)
    aside = np.array([np.cos(heading), np.sin(heading), 0.0])
    about = np.array([-aside[1], aside[0], 0.0])
    swing = np.sin(2.0 * np.pi * stamps / rng.uniform(3.0, 5.0))
    tremor = _tremor(rng, stamps)
    for shrink in 0.85 ** np.arange(20):
        T_home_cam = np.tile(np.eye(4), (frames, 1, 1))
        for n in range(frames):
            T_home_cam[n] = _placed(move, shrink * swing[n], distance, aside, about)
            T_home_cam[n, :3, 3] += TREMOR_MM * tremor[n, :3]
            T_home_cam[n, :3, :3] = T_home_cam[n, :3, :3] @ turned(TREMOR_RAD * tremor[n, 3:])
        T_world_cam = T_world_home @ T_home_cam
        if world.field.room(T_world_cam[:, :3, 3]).min() >= MARGIN_MM:
            return Flight(T_world_cam, np.ones(frames), stamps), distance
    raise ValueError(f'{world.name}: no room to {move}; try a new seed')


def _placed(
    move: str, swing: float, distance: float, aside: np.ndarray, about: np.ndarray
) -> np.ndarray:
    """T_home_cam of a swing within -1 .. 1."""
    T = np.eye(4)
    if move == 'orbit':  # about a point ahead, always looking at it
        angle = 0.5 * swing
        T[:3, :3] = turned(angle * about)
        ahead = np.array([0.0, 0.0, distance])
        T[:3, 3] = ahead - T[:3, :3] @ ahead
    elif move == 'sideways':
        T[:3, 3] = 0.35 * distance * swing * aside
    elif move == 'pan':
        T[:3, :3] = turned(0.35 * swing * about)
    return T


def _distance(world: World, scope: Scope, T_world_cam: np.ndarray) -> float:
    """Median z-depth of a glance [mm]."""
    glance = render(world, Light.pair(), scope.camera(T_world_cam, 1.0, *LITTLE))
    if not np.isfinite(glance.depth).any():
        raise ValueError(f'{world.name}: nothing to see at the start; try a new seed')
    return float(np.nanmedian(glance.depth))


def _tremor(rng: np.random.Generator, stamps: np.ndarray) -> np.ndarray:
    """Physiological tremor, 6 to 11 Hz, of about unit variance: (N, 6)."""
    frequency, phase = rng.uniform(6.0, 11.0, (3, 6)), rng.uniform(0.0, 2.0 * np.pi, (3, 6))
    return np.sin(2.0 * np.pi * frequency * stamps[:, None, None] + phase).sum(1) / np.sqrt(1.5)


def _zooms(rng: np.random.Generator, seconds: float) -> tuple[tuple[float, float], ...]:
    """In and out at up to half the focal length a second, resting between."""
    knots, time, zoom = [(0.0, 1.0)], float(rng.uniform(0.2, 0.5)), 1.0
    knots.append((time, zoom))
    while time < seconds:
        target = float(rng.uniform(1.25, MOST_ZOOM)) if zoom < 1.15 else 1.0
        time += 1.5 * abs(target - zoom) / rng.uniform(0.3, 0.5)
        knots.append((time, target))
        time += float(rng.uniform(0.2, 0.8))
        knots.append((time, target))
        zoom = target
    return tuple(knots)


def _creep(rng: np.random.Generator, stamps: np.ndarray) -> np.ndarray:
    """Zoom at each stamp, in or out at one slow rate; 1 is its widest."""
    log_zoom = rng.uniform(*CREEP) * stamps
    return np.exp(log_zoom if rng.random() < 0.5 else log_zoom[::-1])


def _ramp(stamps: np.ndarray, knots: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Zoom at each stamp, smooth between the knots."""
    out = np.full_like(stamps, knots[0][1])
    for (t0, z0), (t1, z1) in pairwise(knots):
        x = np.clip((stamps - t0) / max(t1 - t0, 1e-9), 0.0, 1.0)
        out += (z1 - z0) * x * x * (3.0 - 2.0 * x)
    return out
