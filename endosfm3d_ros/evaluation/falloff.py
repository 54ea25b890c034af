# SPDX-License-Identifier: Apache-2.0
"""Depth from light falloff: what a picture's brightness alone says, the baseline to beat."""

import cv2
import numpy as np

BORDER_LEVEL, HIGHLIGHT_LEVEL = 12 / 255, 235 / 255
BLUR_SHARE = 0.03  # sigma of the smoothing, of the picture's height
FLOOR = 1e-3  # smallest linear brightness that is believed
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709, linear


def light_falloff(image: np.ndarray) -> np.ndarray:
    """
    Light at the camera falls off with the square of the distance: depth is 1 / sqrt(brightness).

    Brightness is smoothed off the border and off wet highlights (a normalised convolution).

    :param image: (H, W, 3) uint8 RGB, sRGB.
    :return: (H, W) float32 depth of no unit; the median where nothing is lit.
    """
    unit = image.astype(np.float32) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4) @ LUMA
    usable = (unit.max(axis=2) > BORDER_LEVEL) & (unit.min(axis=2) < HIGHLIGHT_LEVEL)
    weight = usable.astype(np.float32)
    sigma = BLUR_SHARE * image.shape[0]
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    smooth = cv2.GaussianBlur((linear * weight).astype(np.float32), (0, 0), sigma)
    lit = total > 1e-3
    if not lit.any():
        return np.ones(image.shape[:2], np.float32)
    depth = 1 / np.sqrt(np.maximum(smooth / np.maximum(total, 1e-3), FLOOR))
    return np.where(lit, depth, np.median(depth[lit])).astype(np.float32)
