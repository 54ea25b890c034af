# SPDX-License-Identifier: Apache-2.0
"""
The window on simulated tracks through true scenes: what the estimator itself loses.

The tracks are those that the bound is reckoned with, and so is the noise: of chance, in each
picture anew, and of each point's depth. What is farther off than the bound was not in the tracks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from endosfm3d_ros.core.adjustment.reprojection import USUAL_RMS
from endosfm3d_ros.core.geometry import inverse
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.local_map import LocalMap
from endosfm3d_ros.core.window.resection import resect
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.core.window.words import Words
from training.geometry.bound import Assumed, Seen, Tracks, followed, information_bound
from training.geometry.films import Filmed
from training.geometry.runs import KEYFRAME_EVERY, rim_seen

START = 0.2  # of log focal: the first frame's error, and its sigma
TRACK_PX = 0.15  # noise of a track, of a picture 320 wide: about what films' tracks have
CENTRE_SIGMA = 0.01  # of the picture's width
ROUNDS = 3  # of adjustment after a keyframe, at most


@dataclass(frozen=True)
class Simulated:
    """
    What the window told after each keyframe.

    :param error: (K,) of log focal length; sigma: (K,) as told; bound: (K,), NaN where not asked.
    """

    error: np.ndarray
    sigma: np.ndarray
    bound: np.ndarray


def of_film(film: Filmed, moments: Sequence[int], seed: int = 0) -> Simulated:
    """
    Every third frame of a film.

    :param moments: keyframes, counted from 0, whose bound is asked for.
    """
    pick = np.arange(0, len(film.images), KEYFRAME_EVERY)
    depth = film.depth[pick].astype(np.float32)
    seen = Seen(depth, film.K[pick], film.T_world_cam[pick], pick, rim_seen(film)[pick])
    assumed = Assumed(track=TRACK_PX / 320.0, prior=START)
    return simulated(seen, followed(seen, assumed.points, seed), assumed, moments, seed)


def simulated(
    seen: Seen, tracks: Tracks, assumed: Assumed, moments: Sequence[int], seed: int = 0
) -> Simulated:
    """The window, fed with tracks that err as is assumed."""
    rng = np.random.default_rng(seed)
    height, width = seen.depth.shape[1:]
    noise = assumed.track * width
    log_f = np.log(seen.K[:, 0, 0])
    first = float(log_f[0]) + assumed.prior * rng.choice([-1.0, 1.0])
    belief = Scope.guessed(first, assumed.prior, seen.K[0, :2, 2], CENTRE_SIGMA * width)
    local_map = LocalMap((width, height), noise / USUAL_RMS, Words(belief), belief)
    X, own = _world(seen, tracks), assumed.depth * rng.standard_normal(len(tracks.depth))
    error, sigma = np.zeros((2, len(log_f)))
    for k, number in enumerate(seen.numbers):
        ids = np.flatnonzero((tracks.anchor == k) | tracks.follows[:, k])
        pixels, z = _projected(seen, k, X[ids])
        pixels += noise * rng.standard_normal(pixels.shape) * tracks.follows[ids, k, None]
        log_zoom = log_f[k] - log_f[0] + assumed.rim * rng.standard_normal()
        frame = Keyframe(
            number=int(number),
            ids=ids,
            pixels=pixels,
            log_depth=np.log(z) + own[ids] + assumed.scale * rng.standard_normal(),
            depth_sigma=np.full(len(ids), assumed.depth),
            log_zoom=float(log_zoom) if seen.rim[k] else float('nan'),
            log_zoom_sigma=assumed.rim,
            R=np.eye(3),
            t=np.zeros(3),
            log_focal=first,
            log_scale=local_map.log_scale,
        )
        local_map = _adjusted(local_map.with_keyframe(_placed(local_map, frame)))
        error[k] = local_map.scope.focal.sum() - log_f[k]
        sigma[k] = local_map.scope.log_focal_sigma
    bound = np.full(len(log_f), np.nan)
    for last in moments:
        bound[last] = information_bound(*_until(seen, tracks, last), assumed)
    return Simulated(error, sigma, bound)


def table(films: Sequence[Simulated], moments: Sequence[int]) -> str:
    """Error, told sigma and bound at some keyframes, over the films."""
    pick = list(moments)
    error, sigma, bound = (
        np.array([getattr(one, name)[pick] for one in films])
        for name in ('error', 'sigma', 'bound')
    )
    rows = [
        ('frame', [f'{KEYFRAME_EVERY * k}' for k in pick]),
        ('bound [%]', [f'{100 * x:.2f}' for x in np.median(bound, axis=0)]),
        (
            'error over bound, median',
            [f'{x:.1f}' for x in np.median(abs(error) / bound, axis=0)],
        ),
        ('root mean square of it', [f'{x:.1f}' for x in np.sqrt(((error / bound) ** 2).mean(0))]),
        ('told sigma over bound, median', [f'{x:.1f}' for x in np.median(sigma / bound, axis=0)]),
        ('squared error by variance', [f'{x:.2f}' for x in ((error / sigma) ** 2).mean(0)]),
    ]
    lines = ['| ' + ' | '.join([name, *cells]) + ' |' for name, cells in rows]
    return '\n'.join([lines[0], '|---' * (len(pick) + 1) + '|', *lines[1:]]) + '\n'


def _world(seen: Seen, tracks: Tracks) -> np.ndarray:
    """Where the points of tracks stand, (N, 3) [mm]."""
    rays = np.column_stack([tracks.pixels, np.ones(len(tracks.depth))])
    X = np.einsum('nij,nj->ni', np.linalg.inv(seen.K)[tracks.anchor], rays)
    T = seen.T_world_cam[tracks.anchor]
    return np.einsum('nij,nj->ni', T[:, :3, :3], X * tracks.depth[:, None]) + T[:, :3, 3]


def _projected(seen: Seen, k: int, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where view k sees places (N, 3): (N, 2) [px], and their depth (N,) [mm]."""
    T = inverse(seen.T_world_cam[k])
    Y = X @ T[:3, :3].T + T[:3, 3]
    return (Y @ seen.K[k].T)[:, :2] / Y[:, 2:], Y[:, 2]


def _placed(local_map: LocalMap, frame: Keyframe) -> Keyframe:
    """A keyframe where the map's points say that it was taken, as the odometry does it."""
    if not local_map.keyframes:
        return frame
    before = local_map.keyframes[-1]
    row = local_map.landmarks.of(frame.ids)
    rim = np.isfinite(frame.log_zoom)
    focal = local_map.reference + frame.log_zoom if rim else before.log_focal
    found = resect(
        local_map.landmarks.places[row[row >= 0]],
        frame.pixels[row >= 0],
        local_map.centre,
        local_map.sigma_px,
        before.T_cam_world,
        focal,
        frame.log_zoom_sigma if rim else 0.03,
        local_map.scope.distortion,
    )
    T = found.T_cam_world
    return replace(frame, R=T[:3, :3], t=T[:3, 3], log_focal=focal if rim else found.log_focal)


def _adjusted(local_map: LocalMap) -> LocalMap:
    """After a keyframe: until it has converged while the map is young, then once."""
    for _ in range(ROUNDS):
        local_map = local_map.adjusted().completed()
        if local_map.arrived:
            break
    return local_map


def _until(seen: Seen, tracks: Tracks, last: int) -> tuple[Seen, Tracks]:
    """The first views and what they see."""
    n, begun = last + 1, tracks.anchor <= last
    views = Seen(seen.depth[:n], seen.K[:n], seen.T_world_cam[:n], seen.numbers[:n], seen.rim[:n])
    follows = tracks.follows[begun][:, :n]
    return views, Tracks(tracks.anchor[begun], tracks.pixels[begun], tracks.depth[begun], follows)
