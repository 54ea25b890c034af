# SPDX-License-Identifier: Apache-2.0
"""Lens blur, vignetting, noise, exposure and response: from radiance to an sRGB picture."""

from dataclasses import dataclass

import cv2
import numba
import numpy as np

from training.synthetic.camera import Camera
from training.synthetic.kernels import parallel_kernel

RESPONSE_STEPS = 4096


@dataclass(frozen=True)
class Sensor:
    """
    How the camera head turns radiance into numbers.

    :param blur: standard deviation of the lens blur [px at a width of 640].
    :param glare: share of the light that the lens scatters widely.
    :param vignetting: loss of light at the rim of the field stop, 0..1.
    :param read_noise: standard deviation in the dark [of full scale, linear].
    :param shot_noise: standard deviation at full scale [of full scale, linear].
    :param shoulder: linear value above which highlights are compressed, 0..1.
    :param aim: mean linear brightness that the exposure aims at.
    :param inertia: time constant of the exposure [s].
    """

    blur: float = 0.6
    glare: float = 0.03
    vignetting: float = 0.25
    read_noise: float = 0.0015
    shot_noise: float = 0.008
    shoulder: float = 0.65
    aim: float = 0.20
    inertia: float = 0.6

    def gain_for(self, radiance: np.ndarray) -> float:
        """Measure the exposure that this view wants; highlights count only up to white."""
        inside = radiance.max(axis=2) > 0.0
        if not inside.any():
            return 1.0
        values = radiance[inside].mean(axis=1)
        gain = 1.0
        for _ in range(8):
            gain *= self.aim / max(float(np.minimum(values * gain, 1.0).mean()), 1e-6)
        return gain

    def follow(self, gain: float, wanted: float, seconds: float) -> float:
        """Move the exposure towards what is wanted, on a logarithmic scale."""
        pull = 1.0 - np.exp(-seconds / self.inertia)
        return float(gain * (wanted / gain) ** pull)

    def expose(
        self, radiance: np.ndarray, camera: Camera, gain: float, rng: np.random.Generator
    ) -> np.ndarray:
        """
        Take the picture.

        :param radiance: (H, W, 3) float32 linear RGB.
        :return: (H, W, 3) uint8 sRGB, RGB order.
        """
        light = radiance * np.float32(gain)
        sigma = self.blur * camera.width / 640.0
        if sigma > 0.0:
            light = np.asarray(cv2.GaussianBlur(light, (0, 0), sigma), np.float32)
        if self.glare > 0.0:
            light = np.asarray(light + self.glare * (_scatter(light) - light), np.float32)
        noise = rng.standard_normal(light.shape, np.float32)
        settings = np.array(
            [self.vignetting, self.read_noise, self.shot_noise, *camera.circle], np.float32
        )
        return _develop(light, noise, settings, _response(self.shoulder))


def _scatter(light: np.ndarray) -> np.ndarray:
    """Blur widely by way of a small picture; what leaves the stop is lost in the black border."""
    height, width = light.shape[:2]
    small = cv2.resize(np.minimum(light, 4.0), (width // 8, height // 8), None, 0, 0, 3)
    small = cv2.GaussianBlur(small, (0, 0), width / 8 * 0.05)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _response(shoulder: float) -> np.ndarray:
    """
    Tabulate linear 0..2 -> sRGB 0..255 with a soft shoulder below white.

    :return: (RESPONSE_STEPS + 1,) float32.
    """
    x = np.linspace(0.0, 2.0, RESPONSE_STEPS + 1)
    room = max(1.0 - shoulder, 1e-6)
    y = np.where(x < shoulder, x, shoulder + room * (1.0 - np.exp(-(x - shoulder) / room)))
    srgb = np.where(y <= 0.0031308, 12.92 * y, 1.055 * np.maximum(y, 1e-9) ** (1 / 2.4) - 0.055)
    return (255.0 * srgb).astype(np.float32)


@parallel_kernel
def _develop(
    light: np.ndarray, noise: np.ndarray, settings: np.ndarray, response: np.ndarray
) -> np.ndarray:
    height, width, _ = light.shape
    vignetting, read, shot, cu, cv, radius = settings
    out = np.empty((height, width, 3), np.uint8)
    steps = len(response) - 1
    for v in numba.prange(height):
        for u in range(width):
            away = np.sqrt((u - cu) ** 2 + (v - cv) ** 2)
            rim = min(max(radius + 2.5 - away, 0.0), 1.0)  # the stop holds the glare back
            fade = rim * max(1.0 - vignetting * (away / radius) ** 4, 0.0)
            for c in range(3):
                x = max(light[v, u, c] * fade, 0.0)
                x += noise[v, u, c] * np.sqrt(read * read + shot * shot * min(x, 1.0))
                place = min(max(x * 0.5 * steps, 0.0), steps - 1e-3)
                i = int(place)
                value = response[i] + (place - i) * (response[i + 1] - response[i])
                out[v, u, c] = np.uint8(value + 0.5)
    return out
