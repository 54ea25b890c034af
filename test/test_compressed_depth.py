# SPDX-License-Identifier: Apache-2.0
"""
The settings for compressedDepth hold what an endoscope sees. The formula is that of
compressed_depth_image_transport (A / z + B in 16 bits), written anew from its description.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

CONFIG = Path(__file__).parents[1] / 'config' / 'compressed_depth.yaml'
DEFAULTS = {'depth_max': 10.0, 'depth_quantization': 100.0}
RANGES = {'depth_max': (1.0, 100.0), 'depth_quantization': (1.0, 150.0), 'png_level': (0, 9)}
NEAR, FAR = 0.005, 0.300


def shipped() -> dict[str, Any]:
    words = yaml.safe_load(CONFIG.read_text())['/**']['ros__parameters']
    assert words['out_transport'] == 'compressedDepth' and words['in_transport'] == 'raw'
    return dict(words['out']['compressedDepth'])


def factors(settings: dict[str, Any]) -> tuple[np.float32, np.float32]:
    quantization = np.float32(settings['depth_quantization'])
    A = quantization * (quantization + np.float32(1))
    return A, np.float32(1) - A / np.float32(settings['depth_max'])


def through_the_wire(depth: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """Encode as a publisher does, PNG included, and decode as a subscriber does."""
    A, B = factors(settings)
    known = depth < settings['depth_max']  # NaN is not
    level = np.where(known, A / depth + B, 0.0)
    assert (level[known] < 65536).all(), 'overflow'
    how = [cv2.IMWRITE_PNG_COMPRESSION, settings.get('png_level', 3)]
    png = cv2.imencode('.png', level.astype(np.uint16), how)[1]
    read = cv2.imdecode(png, cv2.IMREAD_UNCHANGED).astype(np.float32)
    return np.where(read > 0, A / (read - B), np.nan)


def test_every_setting_is_one_that_the_plugin_takes() -> None:
    settings = shipped()
    assert settings.pop('format') == 'png' and settings.keys() == RANGES.keys()
    assert all(low <= settings[name] <= high for name, (low, high) in RANGES.items())


def test_five_to_three_hundred_millimetres_come_back_within_a_step() -> None:
    depth = np.linspace(NEAR, FAR, 200_000, dtype=np.float32).reshape(400, 500)
    back = through_the_wire(depth, shipped())
    A, _ = factors(shipped())
    assert (np.abs(back - depth) <= 1.1 * np.square(depth) / A + 1e-7).all()
    assert (np.abs(back / depth - 1) < 0.0012).all()


def test_what_is_unknown_stays_unknown() -> None:
    depth = np.array([[np.nan, 0.1, 1.5]], np.float32)
    assert np.isnan(through_the_wire(depth, shipped())).tolist() == [[True, False, True]]


def test_the_plugin_s_defaults_would_overflow() -> None:
    with pytest.raises(AssertionError, match='overflow'):
        through_the_wire(np.full((2, 2), 0.14, np.float32), DEFAULTS)
    through_the_wire(np.full((2, 2), 0.16, np.float32), DEFAULTS)
