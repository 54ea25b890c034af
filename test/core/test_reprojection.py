# SPDX-License-Identifier: Apache-2.0
"""The compiled loops against plain formulas, and against a compiler that would make them wait."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from endosfm3d_ros.core.adjustment import reprojection
from endosfm3d_ros.core.adjustment.bundle_adjustment import ALIKE
from endosfm3d_ros.core.adjustment.normal_equations import NormalEquations
from endosfm3d_ros.core.adjustment.reprojection import Measured
from endosfm3d_ros.core.adjustment.scene import DISTORTION, PER_VIEW, SHARED, Scene, Views
from test.core.bumpy_wall import built

Window = tuple[Views, Scene]


@pytest.fixture
def window() -> Window:
    """Through a barrel, with a point that nobody knows the depth of, not yet adjusted."""
    local_map = built('orbit', 200.0, 1.1, distortion=-0.2)
    picked = local_map._picked()[::4]
    scene = local_map._scene(picked)
    scene.shared[DISTORTION] = -0.15
    views = local_map._views(picked)
    views.log_depth[3] = np.nan
    return views, scene


def weighted(window: Window) -> tuple[Measured, np.ndarray, np.ndarray]:
    views, scene = window
    measured = Measured.of(views)
    residuals = reprojection.residuals_of(measured, scene)
    return measured, residuals, reprojection.weights_of(measured, residuals, ALIKE)


def unknowns(scene: Scene) -> Iterator[Scene]:
    """The scene after a small step of each: of the cameras', then of the points' in the world."""
    step, K = 1e-6, len(scene.t)
    for k in range(K):
        for axis in np.eye(3):
            turn = np.eye(3) + step * np.cross(np.eye(3), axis)
            R, t = scene.R.copy(), scene.t.copy()
            R[k], t[k] = turn @ R[k], turn @ t[k]
            yield scene._replace(R=R, t=t)
        for axis in np.eye(3):
            t = scene.t.copy()
            t[k] += step * axis
            yield scene._replace(t=t)
        one = step * (np.arange(K) == k)
        yield scene._replace(log_focal=scene.log_focal + one)
        yield scene._replace(log_scale=scene.log_scale + one)
    for axis in np.eye(SHARED):
        yield scene._replace(shared=scene.shared + step * axis)
    for axis in np.eye(scene.points.size):
        yield scene._replace(points=scene.points + step * axis.reshape(scene.points.shape))


def test_the_normal_equations_are_those_of_the_residuals_slopes(window: Window) -> None:
    """All of them: by finite differences in every unknown."""
    _, scene = window
    measured, residuals, weights = weighted(window)
    root = np.sqrt(weights)[:, [0, 0, 1]]
    J = np.stack(
        [
            (root * (reprojection.residuals_of(measured, moved) - residuals)).ravel() / 1e-6
            for moved in unknowns(scene)
        ],
        axis=1,
    )
    H, b, W, H_points, b_points = reprojection.normal_equations_of(
        measured, scene, residuals, weights
    )
    C, N = len(b), len(scene.points)
    assert PER_VIEW * len(scene.t) + SHARED == C
    size = np.maximum(np.linalg.norm(J, axis=0), 1e-9)  # the reference has a prior only
    whole, slope = J.T @ J / np.outer(size, size), (root * residuals).ravel() @ J / size
    cameras, points = size[:C], size[C:].reshape(N, 3)
    assert H / np.outer(cameras, cameras) == pytest.approx(whole[:C, :C], abs=1e-4)
    coupling = W / points[..., None] / cameras
    assert coupling.reshape(3 * N, C) == pytest.approx(whole[C:, :C], abs=1e-4)
    blocks = whole[C:, C:].reshape(N, 3, N, 3)[np.arange(N), :, np.arange(N)]
    assert H_points / points[..., None] / points[:, None] == pytest.approx(blocks, abs=1e-4)
    assert np.append(b, b_points) / size == pytest.approx(slope, abs=1e-3)
    alone = reprojection.points_alone(measured, scene, residuals, weights, 3)
    assert alone[0] == pytest.approx(H_points) and alone[1] == pytest.approx(b_points)


def test_weights_are_the_slopes_of_the_cost(window: Window) -> None:
    measured, residuals, weights = weighted(window)
    assert (residuals[measured.n == 3, 2] == 0.0).all() and not weights[measured.n == 3, 1].any()
    for m, row in ((0, 0), (7, 1), (40, 2), (91, 2)):
        costs = []
        for way in (1e-5, -1e-5):
            moved = residuals.copy()
            moved[m, row] += way
            costs.append(reprojection.cost_of(measured, moved, ALIKE))
        slope = (costs[0] - costs[1]) / 2e-5
        assert slope == pytest.approx(2.0 * weights[m, row // 2] * residuals[m, row], rel=1e-4)


def test_eliminating_the_points_leaves_the_step_of_all_unknowns(window: Window) -> None:
    _, scene = window
    measured, residuals, weights = weighted(window)
    H, b, W, H_points, b_points = reprojection.normal_equations_of(
        measured, scene, residuals, weights
    )
    H = H + 10.0 * np.eye(len(H))  # what is believed
    step, of_points = NormalEquations(H, b, W, H_points, b_points).solved(0.0)
    C, N = len(b), len(b_points)
    whole = np.zeros((C + 3 * N, C + 3 * N))
    whole[:C, :C], whole[C:, :C], whole[:C, C:] = H, W.reshape(-1, C), W.reshape(-1, C).T
    for n in range(N):
        whole[C + 3 * n : C + 3 * n + 3, C + 3 * n : C + 3 * n + 3] = H_points[n]
    expected = -np.linalg.solve(whole, np.append(b, b_points))
    assert step == pytest.approx(expected[:C], rel=1e-5, abs=1e-7)
    assert of_points.ravel() == pytest.approx(expected[C:], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize('wrong', [-1.0, np.nan])
def test_a_point_that_stands_nowhere_is_an_error_that_a_window_survives(
    window: Window, wrong: float
) -> None:
    measured, residuals, weights = weighted(window)
    system = NormalEquations(
        *reprojection.normal_equations_of(measured, window[1], residuals, weights)
    )
    system.H_points[5, 1, 1] = wrong
    with pytest.raises(np.linalg.LinAlgError, match='stands nowhere'):
        system.reduced(1e-5)


DRIVES = """
import numpy as np
from endosfm3d_ros.core.picture import circle
from endosfm3d_ros.core.adjustment import normal_equations, reprojection, scene_step
from endosfm3d_ros.core.window import parallax
from endosfm3d_ros.core import bilateral_grid, ready
from endosfm3d_ros.core.picture.circle import consensus

ready.get_ready()
rooms = bilateral_grid, circle, normal_equations, parallax, reprojection, scene_step
loops = {
    f'{room.__name__}.{name}': one
    for room in rooms
    for name, one in vars(room).items()
    if hasattr(one, 'nopython_signatures')
}
before = {name: list(one.signatures) for name, one in loops.items()}
from bumpy_wall import adjusted, built  # places by resection

for kind, distortion in (('advance', 0.0), ('orbit', -0.3), ('rest', 0.0)):
    local_map = built(kind, 200.0, 1.2, distortion=distortion, believed_bend=(-0.12, 0.12))
    for _ in range(4):
        local_map = adjusted(local_map)
    local_map.completed().forgotten()
consensus(np.random.default_rng(0).uniform(0, 100, (50, 2)).astype(np.float32), 1, 9, (100, 90))
grid = bilateral_grid.BilateralGrid(np.zeros((9, 8, 7), np.float32), np.float64(3.0), 0.1)
grid.over(np.zeros((60, 50), np.float32))
assert any(before.values())
print({name for name, one in loops.items() if list(one.signatures) != before[name]})
"""


def test_once_ready_no_window_waits_for_the_compiler() -> None:
    """Each loop is compiled for one kind of arguments, and that is the one the window has."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, '-c', DRIVES],
        env={**os.environ, 'PYTHONPATH': f'{here}:{here.parents[1]}'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == 'set()'
