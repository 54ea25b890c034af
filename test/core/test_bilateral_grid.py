# SPDX-License-Identifier: Apache-2.0
"""Values on a few nodes and layers: does each pixel read those of its place and depth?"""

import numpy as np
import pytest

from endosfm3d_ros.core.bilateral_grid import BilateralGrid

HEIGHT, WIDTH, FIRST, STEP = 60, 80, 3.0, 0.25
V, U = np.mgrid[:HEIGHT, :WIDTH]
LOG_DEPTH = (3.1 + 0.005 * U + 0.003 * V).astype(np.float32)


def grid_of(rows: int, columns: int, layers: int) -> BilateralGrid:
    v, u = np.linspace(0, HEIGHT - 1, rows), np.linspace(0, WIDTH - 1, columns)
    z = FIRST + STEP * np.arange(layers)
    values = 2.0 * u[None, :, None] - 3.0 * v[:, None, None] + 40.0 * z[None, None, :]
    return BilateralGrid(values.astype(np.float32), FIRST, STEP)


@pytest.mark.parametrize('shape', [(2, 2, 4), (7, 9, 12)])
def test_what_is_linear_in_place_and_depth_is_read_as_it_is(shape: tuple[int, int, int]) -> None:
    read = grid_of(*shape).over(LOG_DEPTH)
    assert read == pytest.approx(2.0 * U - 3.0 * V + 40.0 * LOG_DEPTH, abs=1e-3)


def test_beyond_the_layers_the_nearest_one_is_read_and_nothing_where_depth_is_unknown() -> None:
    grid, guide = grid_of(5, 6, 4), LOG_DEPTH.copy()
    guide[:10], guide[10:20], guide[20:30] = 0.0, np.nan, 9.0
    read, last = grid.over(guide), FIRST + 3 * STEP
    flat = 2.0 * U - 3.0 * V
    assert read[:10] == pytest.approx((flat + 40.0 * FIRST)[:10], abs=1e-3)
    assert not read[10:20].any()
    assert read[20:30] == pytest.approx((flat + 40.0 * last)[20:30], abs=1e-3)
