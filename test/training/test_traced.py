# SPDX-License-Identifier: Apache-2.0
"""Films of another renderer, read from where it left them and judged."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.frame import Intrinsics
from training.geometry.traced import outcome, read_films, table
from training.path_traced.command import write_depth

WIDTH, HEIGHT, COUNT, FOCAL = 40, 30, 30, 32.0


def written(folder: Path, rendered: int = COUNT) -> Path:
    """A film of a wall that is approached under a zoom, as `training path-trace` writes it."""
    T_world_cam = np.tile(np.eye(4), (COUNT, 1, 1))
    T_world_cam[:, 2, 3] = 0.5 * np.arange(COUNT)
    K = np.tile(np.array([[FOCAL, 0, 19.5], [0, FOCAL, 14.5], [0, 0, 1.0]]), (COUNT, 1, 1))
    K[:, [0, 1], [0, 1]] *= np.exp(0.01 * np.arange(COUNT))[:, None]
    for part in ('frames', 'depth'):
        (folder / part).mkdir(parents=True)
    np.savez(folder / 'truth.npz', stamps=np.arange(COUNT) / 25, K=K, T_world_cam=T_world_cam)
    for n in range(rendered):
        picture = np.full((HEIGHT, WIDTH, 3), (10, 20, n), np.uint8)
        cv2.imwrite(str(folder / 'frames' / f'{n:04d}.png'), picture)
        write_depth(folder / 'depth' / f'{n:04d}.png', np.full((HEIGHT, WIDTH), 50.0 - 0.5 * n))
    return folder


def test_a_film_is_read_as_it_was_written(tmp_path: Path) -> None:
    written(tmp_path / 'wall')
    ((film, rim),) = read_films(tmp_path)
    assert film.name == 'wall' and not rim and film.images.shape == (COUNT, HEIGHT, WIDTH, 3)
    assert film.images[7, 0, 0].tolist() == [7, 20, 10]  # RGB
    assert film.depth[7] == pytest.approx(46.5, abs=0.01)
    assert film.T_world_cam[7, 2, 3] == 3.5


def test_what_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='training path-trace'):
        list(read_films(tmp_path))
    written(tmp_path / 'wall', rendered=12)
    with pytest.raises(ValueError, match=r'frame 12 of 30 was not rendered'):
        list(read_films(tmp_path))


def test_an_outcome_is_what_a_ruler_says(tmp_path: Path) -> None:
    written(tmp_path / 'wall')
    ((film, rim),) = read_films(tmp_path)
    said = []
    for n in range(COUNT):
        off = 0.10 if n < 20 else -0.04
        focal = float(film.K[n, 0, 0] * np.exp(off))
        T = film.T_world_cam[n].copy()
        T[:3, 3] *= 3.0  # another scale is no error
        depth = np.full((HEIGHT, WIDTH), 7.0, np.float32)
        depth[:, ::2] *= 1.1  # half of the picture 10 % deeper: 0 and 9.1 % about the upper median
        camera = Intrinsics(WIDTH, HEIGHT, focal, focal, 19.5, 14.5)
        said.append(SimpleNamespace(
            input_camera=camera, camera=camera, distortion=0.0, depth=depth, T_odom_cam=T,
            log_focal_sigma=0.02, refinement='window' if n > 5 else 'none',
            zoom=float(np.exp(0.01 * n + (0.03 if n else 0.0))),
        ))  # fmt: skip
    one = outcome(film, said)  # type: ignore[arg-type]
    assert one.first == pytest.approx(-0.04) and one.last == pytest.approx(-0.04)
    assert one.surest == pytest.approx(5.0)  # 10 % at a stated 2, before the first second too
    assert one.zoom == pytest.approx(0.03) and one.path == pytest.approx(0.0, abs=1e-9)
    assert 0.03 < one.depth < 0.06
    row = table([(film.name, rim, [one, one])]).splitlines()[-1]
    assert row.startswith(
        '| wall | no | 4.0 / 4.0 | 2.0 / 2.0 | 4.0 / 4.0 | 2.0 / 2.0 | 5.0 / 5.0'
    )
