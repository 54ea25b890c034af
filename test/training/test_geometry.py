# SPDX-License-Identifier: Apache-2.0
"""The bound on the focal length: against a definition written a second time, and its laws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from endosfm3d_ros.core.geometry import inverse, motion_from_vector
from endosfm3d_ros.core.window import zoom_steps
from training.geometry import command, tune
from training.geometry.bound import (
    Assumed,
    Seen,
    Tracks,
    focal_bound,
    followed,
    information_bound,
)
from training.geometry.command import _read
from training.geometry.runs import path_drift
from training.geometry.simulated import simulated
from training.geometry.tune import put

WIDTH, HEIGHT, FOCAL = 80, 64, 56.0
NUMBERS = np.array([0, 3, 6, 9])
NO_RIM = np.zeros(4, bool)
LITTLE = Assumed(points=40)


def tube(T_world_cam: np.ndarray, radius: float = 20.0, length: float = 80.0) -> np.ndarray:
    """z-depth of the inside of a closed tube along the world's z."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    rays = np.stack([(u - 39.5) / FOCAL, (v - 31.5) / FOCAL, np.ones_like(u)], -1)
    rays = rays @ T_world_cam[:3, :3].T
    home = T_world_cam[:3, 3]
    a = (rays[..., :2] ** 2).sum(-1)
    b = rays[..., :2] @ home[:2]
    c = home[:2] @ home[:2] - radius**2
    wall = (-b + np.sqrt(b * b - a * c)) / np.maximum(a, 1e-12)
    end = (length - home[2]) / rays[..., 2]
    return np.minimum(wall, np.where(end > 0, end, np.inf))


def seen(turn: tuple[float, ...], shift: tuple[float, ...], views: int = 4) -> Seen:
    """Some views, each a step farther on."""
    T = np.stack(
        [motion_from_vector(k * np.array(turn), k * np.array(shift)) for k in range(views)]
    )
    K = np.array([[FOCAL, 0.0, 39.5], [0.0, FOCAL, 31.5], [0.0, 0.0, 1.0]])
    depth, numbers = np.stack([tube(one) for one in T]), 3 * np.arange(views)
    return Seen(depth, np.tile(K, (views, 1, 1)), T, numbers, np.zeros(views, bool))


AHEAD = seen((0.0, 0.01, 0.0), (0.2, 0.0, 2.0))
REST = seen((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def by_differences(views: Seen, tracks: Tracks, assumed: Assumed) -> float:
    """The same bound from the plain model: all residuals, differentiated numerically."""
    N, K = len(tracks.depth), len(views.K)
    medians = np.array([np.median(depth) for depth in views.depth])
    x, y = ((tracks.pixels - [39.5, 31.5]) / 40.0).T
    relief = np.log(tracks.depth / medians[tracks.anchor])
    shapes = np.stack([x, y, x * x + y * y, relief], 1)

    def residuals(p: np.ndarray) -> np.ndarray:
        zoom, scale, bend = p[:K], p[K : 2 * K], p[2 * K : 2 * K + 4]
        pose, own = p[2 * K + 4 : 8 * K - 2].reshape(K - 1, 6), p[8 * K - 2 :]
        T = [inverse(views.T_world_cam[0])]
        for k in range(1, K):
            T.append(motion_from_vector(*np.split(pose[k - 1], 2)) @ inverse(views.T_world_cam[k]))
        out = [zoom[:1] / assumed.prior, scale / assumed.scale, bend / assumed.shape]
        out += [own / assumed.depth, np.diff(zoom) / (assumed.wander * np.diff(NUMBERS))]
        rims = zoom[views.rim]
        out += [(rims - rims.mean()) / assumed.rim] if len(rims) else []
        z = tracks.depth * np.exp(own + scale[tracks.anchor] + shapes @ bend)
        f = FOCAL * np.exp(zoom)
        for n in range(N):
            a = tracks.anchor[n]
            X = np.array([*(tracks.pixels[n] - [39.5, 31.5]) / f[a], 1.0, 1.0 / z[n]]) * z[n]
            for k in np.flatnonzero(tracks.follows[n]):
                Y = T[k] @ inverse(T[a]) @ X
                out.append(f[k] * Y[:2] / Y[2] / (assumed.track * WIDTH))
        return np.concatenate(out)

    nothing = np.zeros(8 * K - 2 + N)
    step = 1e-5 * np.eye(len(nothing))
    J = np.stack([(residuals(one) - residuals(-one)) / 2e-5 for one in step], 1)
    return float(np.sqrt(np.linalg.inv(J.T @ J)[K - 1, K - 1]))


@pytest.mark.parametrize('rim', [NO_RIM, np.array([True, True, False, True])])
def test_it_is_the_information_of_the_plain_model(rim: np.ndarray) -> None:
    views = replace(AHEAD, rim=rim)
    rng = np.random.default_rng(1)
    pixels = np.column_stack([rng.integers(20, 60, 12), rng.integers(16, 48, 12)]).astype(float)
    anchor = np.array([0] * 8 + [1] * 4)
    depth = np.array(
        [AHEAD.depth[a][int(v), int(u)] for a, (u, v) in zip(anchor, pixels, strict=True)]
    )
    follows = np.arange(4)[None, :] > anchor[:, None]
    follows[3, 3] = False  # a track that ends
    tracks = Tracks(anchor, pixels, depth, follows)
    assumed = Assumed(points=12)
    expected = by_differences(views, tracks, assumed)
    assert information_bound(views, tracks, assumed) == pytest.approx(expected, rel=1e-4)
    assert expected < 0.8 * assumed.prior  # it does tell something


def test_rest_teaches_nothing() -> None:
    told = focal_bound(REST, LITTLE)
    walked = np.hypot(LITTLE.prior, LITTLE.wander * 3 * np.sqrt(3))
    assert told == pytest.approx(walked, rel=0.01)


def test_an_advance_teaches_and_more_of_it_teaches_more() -> None:
    whole = replace(AHEAD, rim=~NO_RIM)
    first = Seen(
        *(getattr(whole, name)[:2] for name in ('depth', 'K', 'T_world_cam', 'numbers')),
        whole.rim[:2],
    )
    assumed = Assumed(rim=1e-4)
    assert focal_bound(whole, assumed) < 0.6 * focal_bound(first, assumed) < 0.6 * assumed.prior


def test_a_rim_tells_of_the_zoom_while_it_is_seen() -> None:
    blind = replace(LITTLE, track=10.0, wander=0.1)
    walked = np.hypot(blind.prior, blind.wander * 3)  # between two views
    for rim in (~NO_RIM, np.array([True, False, False, True])):  # it came back
        assert focal_bound(replace(REST, rim=rim), blind) == pytest.approx(blind.prior, rel=1e-3)
    gone = np.array([True, True, True, False])
    assert focal_bound(replace(REST, rim=gone), blind) == pytest.approx(walked, rel=1e-3)


def test_better_tracks_tell_more() -> None:
    assert focal_bound(AHEAD, replace(LITTLE, track=LITTLE.track / 3)) < focal_bound(AHEAD, LITTLE)


def test_a_constant_is_set_by_its_name_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoom_steps, 'STEADY', zoom_steps.STEADY)  # put back afterwards
    put('zoom_steps.STEADY=0.25')
    assert zoom_steps.STEADY == 0.25
    for wrong in ('STEADY=1', 'zoom_steps.STEADY', 'zoom_steps.STEDY=1', 'zoom_steps.Weighed=1'):
        with pytest.raises(ValueError, match='needed MODULE.NAME=NUMBER'):
            put(wrong)


@pytest.mark.parametrize('way', ['', '--lenses', '--simulated', 'tune'])
def test_films_too_short_to_judge_are_refused_before_one_is_rendered(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [way] if way.startswith('--') else []
    monkeypatch.setattr('sys.argv', ['it', str(tmp_path / 'out'), *words, '--seconds', '1'])
    with pytest.raises(ValueError, match=r'--seconds is 1, at least 2\.5 are needed'):
        tune.main() if way == 'tune' else command.main()
    assert not (tmp_path / 'out').exists()


def test_runs_of_an_older_version_are_refused_in_one_line() -> None:
    start = {'factor': 1.4, 'guess': True, 'refinement': 'window'}
    with pytest.raises(ValueError, match=r'of another version .*run again without --again'):
        _read({'film': 'mixed_tube_1', 'start': start, 'bound': [], 'error': []})


def test_the_drift_of_a_path_s_scale_is_what_its_steps_grew_by() -> None:
    true, told = np.tile(np.eye(4), (250, 1, 1)), np.tile(np.eye(4), (250, 1, 1))
    steps = np.random.default_rng(0).normal([0.5, 0.0, 2.0], 1.0, (250, 3))
    true[:, :3, 3] = np.cumsum(steps, axis=0)
    told[:, :3, 3] = 3.0 * np.cumsum(np.exp(np.linspace(0.0, 0.1, 250))[:, None] * steps, axis=0)
    assert path_drift(told, true) == pytest.approx(0.1 * 2 / 3, abs=0.01)
    stands = true.copy()
    stands[160:] = true[160]
    assert np.isnan(path_drift(told, stands))


def test_simulated_tracks_tell_the_window_what_the_bound_says_they_can() -> None:
    assumed = Assumed(points=300, track=0.02 / WIDTH, prior=0.2)
    ahead = seen((0.0, 0.01, 0.0), (0.3, 0.0, 2.0), 12)
    told = simulated(ahead, followed(ahead, assumed.points), assumed, [11])
    bound = information_bound(ahead, followed(ahead, assumed.points), assumed)
    assert told.bound[11] == pytest.approx(bound) and np.isnan(told.bound[:11]).all()
    assert abs(told.error[0]) == pytest.approx(assumed.prior)
    assert bound < told.sigma[11] < 0.3 * told.sigma[0]
    assert abs(told.error[11]) < 3 * told.sigma[11] < 3 * abs(told.error[0])
    rest = seen((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 12)
    told = simulated(rest, followed(rest, assumed.points), assumed, [11])
    assert told.sigma[11] > 0.5 * assumed.prior


def test_the_bound_of_some_of_the_views_is_that_of_a_shorter_film() -> None:
    assumed = Assumed(points=60)
    ahead = seen((0.0, 0.01, 0.0), (0.2, 0.0, 2.0), 6)
    told = simulated(ahead, followed(ahead, assumed.points), assumed, [3])
    assert told.bound[3] == pytest.approx(focal_bound(AHEAD, assumed), rel=1e-6)
