# SPDX-License-Identifier: Apache-2.0
"""Which pixels tell of tissue: not the field stop's border, wet highlights or instruments."""

import cv2
import numpy as np

DARK = 8  # brighter than this in some channel is no border, grey levels
HIGHLIGHT = 235  # as bright in every channel is a highlight
AROUND_HIGHLIGHT = 0.01  # its halo, of the picture's width
METAL_SATURATION = 45  # instruments are greyer than wet tissue (0..255) ...
METAL_VALUE = 40  # ... and not black
METAL_SHARE = 0.001  # smaller grey spots are no instrument, of the picture's area
METAL_OPENING = 0.012  # nor thinner ones, of its width


def field_stop(image: np.ndarray) -> np.ndarray:
    """Pixels that are lit at all, (H, W) bool, a little inside of the rim; image uint8 RGB."""
    lit = (image.max(axis=2) > DARK).astype(np.uint8)
    return cv2.erode(lit, np.ones((3, 3), np.uint8), borderValue=1).astype(bool)


def highlights(image: np.ndarray) -> np.ndarray:
    """Wet highlights and their halo, (H, W) bool."""
    glint = (image.min(axis=2) >= HIGHLIGHT).astype(np.uint8)
    reach = max(round(AROUND_HIGHLIGHT * image.shape[1]), 1)
    return cv2.dilate(glint, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).astype(bool)


def tools(image: np.ndarray) -> np.ndarray:
    """
    What is grey over a large and compact area, (H, W) bool: metal shafts and jaws.

    A rule of thumb: pale fat and smoke are grey too, and coloured plastic is not; a mask that
    comes with the data is better.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    grey = ((hsv[..., 1] < METAL_SATURATION) & (hsv[..., 2] > METAL_VALUE)).astype(np.uint8)
    thick = max(round(METAL_OPENING * image.shape[1]), 2)
    grey = cv2.morphologyEx(grey, cv2.MORPH_OPEN, np.ones((thick, thick), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(grey)
    least = METAL_SHARE * grey.size
    large = [one for one in range(1, count) if stats[one, cv2.CC_STAT_AREA] >= least]
    return np.isin(labels, large)


def usable(
    image: np.ndarray,
    without_highlights: bool = True,
    without_tools: bool = True,
    without_border: bool = True,
) -> np.ndarray:
    """
    Pixels that a photometric loss may count.

    :param image: (H, W, 3) uint8 RGB.
    :return: (H, W) bool.
    """
    kept = np.ones(image.shape[:2], bool)
    if without_border:
        kept &= field_stop(image)
    if without_highlights:
        kept &= ~highlights(image)
    if without_tools:
        kept &= ~tools(image)
    return kept
