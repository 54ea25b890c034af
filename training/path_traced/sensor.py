# SPDX-License-Identifier: Apache-2.0
"""From radiance to a picture as a camera head makes it."""

import cv2
import numpy as np


class Sensor:
    """Auto exposure with a memory, colour balance, blur, noise and sRGB."""

    def __init__(self, seed: int) -> None:
        """Draw it."""
        self._rng = np.random.default_rng([seed, 103])
        self._level, self._gain = float(self._rng.uniform(0.13, 0.25)), 0.0
        self._balance = self._rng.uniform(0.9, 1.1, 3)
        self._blur, self._noise = self._rng.uniform(0.45, 0.8), self._rng.uniform(0.002, 0.006)

    def develop(self, radiance: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """:param seen: (H, W) inside the stop. :return: (H, W, 3) uint8 BGR, as files are."""
        light = radiance[seen] @ [0.2126, 0.7152, 0.0722]
        low, high = np.log(1e-6 / light.mean()), np.log(1e6 / light.mean())
        for _ in range(40):  # the gain at which the clipped picture has the level
            middle = 0.5 * (low + high)
            if np.minimum(light * np.exp(middle), 1.0).mean() < self._level:
                low = middle
            else:
                high = middle
        low = min(low, -np.log(np.percentile(radiance[seen].max(-1), 96.0)))  # little burns out
        self._gain = self._gain + 0.2 * (low - self._gain) if self._gain else low
        unit = cv2.GaussianBlur(radiance * self._balance * np.exp(self._gain), (0, 0), self._blur)
        grain = self._rng.standard_normal(unit.shape) * self._noise
        unit = np.clip(unit + grain * np.sqrt(0.15 + 4.0 * np.clip(unit, 0.0, 1.0)), 0.0, 1.0)
        coded = np.where(unit < 0.0031308, 12.92 * unit, 1.055 * unit ** (1.0 / 2.4) - 0.055)
        return (np.where(seen[..., None], coded, 0.0)[..., ::-1] * 255.0 + 0.5).astype(np.uint8)
