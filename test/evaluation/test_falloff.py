# SPDX-License-Identifier: Apache-2.0
"""Depth by how the light of the scope falls off."""

import cv2
import numpy as np
import pytest

from endosfm3d_ros.evaluation.falloff import light_falloff


def srgb(linear: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of linear brightness (H, W), 0..1."""
    grey = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.repeat(np.uint8(np.rint(255 * np.clip(grey, 0, 1)))[..., None], 3, axis=2)


def slanted() -> np.ndarray:
    return np.broadcast_to(np.linspace(20.0, 60.0, 160)[None, :], (120, 160))


def off_by(said: np.ndarray, depth: np.ndarray, where: slice = slice(8, -8)) -> float:
    ratio = (said / depth)[:, where]
    return float(np.abs(ratio / np.median(ratio) - 1).max())


def test_a_matte_wall_s_depth_is_read_off_its_brightness() -> None:
    said = light_falloff(srgb(0.7 * (20.0 / slanted()) ** 2))
    assert off_by(said, slanted()) < 0.04


@pytest.mark.parametrize(
    'colour', [(255, 120, 100), (40, 6, 4), (90, 200, 30), (20, 60, 220), (210, 190, 185)]
)
def test_a_colour_s_depth_is_of_its_luminance_though_one_channel_be_full_or_black(
    colour: tuple[int, int, int],
) -> None:
    image = np.full((40, 50, 3), colour, np.uint8)
    lightness = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0, 0, 0]
    luminance = ((lightness + 16) / 116) ** 3 if lightness > 8 else lightness / 903.3
    assert light_falloff(image) == pytest.approx(luminance**-0.5, rel=0.005)


def test_wet_highlights_and_the_black_border_are_no_brightness_of_tissue() -> None:
    image = srgb(0.7 * (20.0 / slanted()) ** 2)
    plain = light_falloff(image)
    image[50:53, 40:43] = image[80:82, 100:103] = 255
    image[:20] = 10
    said = light_falloff(image)
    assert said[20:] == pytest.approx(plain[20:], rel=0.06)


def test_where_nothing_is_lit_depth_is_like_the_rest_or_one() -> None:
    assert (light_falloff(np.zeros((120, 160, 3), np.uint8)) == 1.0).all()
    image = srgb(0.7 * (20.0 / slanted()) ** 2)
    image[:, 80:] = 0
    said = light_falloff(image)
    assert (said[:, 110:] == said[0, -1]).all()
    assert said[:, :80].min() < said[0, -1] < said[:, :80].max()
