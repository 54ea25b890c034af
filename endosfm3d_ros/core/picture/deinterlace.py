# SPDX-License-Identifier: Apache-2.0
"""
Interlaced video (1080i, PAL, NTSC): one picture woven from two fields, half a period apart.

One field is kept and the lines between its own are interpolated, so that every line shows one
moment. Vertical resolution is that of a field, half the picture's: the networks, which see a few
hundred lines, lose nothing of 1080i, and a quarter or so of PAL.
"""

import cv2
import numpy as np

FIELDS = {'top': 0, 'bottom': 1}
COMB_LEVEL = 10  # a tooth of a comb stands out from both neighbours by more, grey levels
COMB_SHARE = 0.01  # of the pixels, beyond twice what the field alone would show
COLUMN_STRIDE = 4  # columns that are looked at
LEAST_LINES = 8


def one_field(image: np.ndarray, field: str) -> np.ndarray:
    """
    Keep one field and interpolate the other's lines from the lines above and below.

    :param image: (H, W, 3) uint8.
    :param field: 'top' keeps lines 0, 2, 4 ..., 'bottom' lines 1, 3, 5 ...
    :return: (H, W, 3) uint8 of the same size; nothing moves: each line stays where it was.
    """
    first = FIELDS[field]
    if image.shape[0] < LEAST_LINES:
        return image
    kept = image[first::2]
    out = np.empty_like(image)
    out[first::2] = kept
    between = cv2.addWeighted(kept[:-1], 0.5, kept[1:], 0.5, 0.0)
    start = first + 1
    out[start : start + 2 * len(between) : 2] = between
    out[:first] = kept[0]
    out[first + 2 * len(kept) - 1 :] = kept[-1]
    return out


def is_interlaced(image: np.ndarray) -> bool:
    """
    Say whether a picture shows combs: lines that stand out from both their neighbours, while they
    do not from the lines of their own field.

    :param image: (H, W, 3) uint8; a still interlaced picture has no combs and needs no care.
    """
    if image.shape[0] < LEAST_LINES:
        return False
    green = image[:, ::COLUMN_STRIDE, 1].astype(np.int16)
    woven = _teeth(green[2:-2], green[1:-3], green[3:-1])
    own = _teeth(green[2:-2], green[:-4], green[4:])
    return woven > 2 * own + COMB_SHARE


def _teeth(line: np.ndarray, above: np.ndarray, below: np.ndarray) -> float:
    """Share of the pixels that stand out from both neighbours to one side."""
    high = (line > above + COMB_LEVEL) & (line > below + COMB_LEVEL)
    low = (line < above - COMB_LEVEL) & (line < below - COMB_LEVEL)
    return float((high | low).mean())
