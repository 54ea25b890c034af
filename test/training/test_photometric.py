# SPDX-License-Identifier: Apache-2.0
"""The bundle without weights says what physics says."""

from pathlib import Path

import numpy as np
import pytest

from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.engines.choose import DepthGraphs

pytest.importorskip('onnx', reason='building graphs needs onnx: make setup-test')
from training.photometric import SRGB, write_bundle

H, W = 224, 280


def srgb(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, linear [0, 1] -> uint8."""
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def test_the_shipped_graphs_are_what_the_builder_builds(tmp_path: Path) -> None:
    write_bundle(tmp_path / 'photometric')
    shipped = open_bundle('photometric').folder
    for path in sorted((tmp_path / 'photometric').iterdir()):
        assert path.read_bytes() == (shipped / path.name).read_bytes(), path.name


def test_the_cubic_is_srgb_within_two_thousandths() -> None:
    x = np.linspace(0, 1, 256)
    exact = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    assert np.abs(SRGB[0] * x + SRGB[1] * x**2 + SRGB[2] * x**3 - exact).max() < 2e-3


def test_a_ramp_lit_by_its_own_lamp_comes_back_as_its_distance() -> None:
    distance = np.broadcast_to(np.linspace(30, 90, W), (H, W))
    picture = np.repeat(srgb((25.0 / distance) ** 2)[..., None], 3, 2)
    said = DepthGraphs(open_bundle('photometric'))(picture).depth
    ratio = (said / distance)[:, 20:-20]
    assert ratio.std() / ratio.mean() < 0.03


def test_a_glint_leaves_no_spike_and_the_border_does_not_bleed_in() -> None:
    network = DepthGraphs(open_bundle('photometric'))
    picture = np.full((H, W, 3), 120, np.uint8)
    plain = network(picture).depth[100, 140]
    glint = picture.copy()
    glint[95:105, 135:145] = 255
    assert network(glint).depth[90:110, 130:150] == pytest.approx(plain, rel=0.02)
    border = picture.copy()
    border[:, :60] = 0
    assert network(border).depth[:, 64:] == pytest.approx(plain, rel=0.02)


def test_where_nothing_is_lit_it_says_that_it_knows_less() -> None:
    picture = np.full((H, W, 3), 120, np.uint8)
    picture[:, :140] = 3
    said = DepthGraphs(open_bundle('photometric'))(picture)
    assert said.log_sigma[112, 20] > 1.5 * said.log_sigma[112, 260]
