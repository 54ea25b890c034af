# SPDX-License-Identifier: Apache-2.0
"""Text, clocks and inset pictures that a video processor burns into the picture."""

import numpy as np

Box = tuple[int, int, int, int]
"""left, top, right, bottom, half-open [px of the input picture]."""


def boxes_from(text: str) -> tuple[Box, ...]:
    """
    Read rectangles.

    :param text: 'left top right bottom' of each, split by ';'; '' for none.
    :raises ValueError: it is not of that form, or a rectangle has no inside.
    """
    boxes = []
    for part in filter(None, (part.strip() for part in text.split(';'))):
        try:
            left, top, right, bottom = (int(word) for word in part.replace(',', ' ').split())
        except ValueError:
            raise ValueError(
                f'overlays: {part!r}; needed left top right bottom in whole pixels, rectangles '
                "split by ';'"
            ) from None
        if not 0 <= left < right or not 0 <= top < bottom:
            raise ValueError(f'overlays: {part!r}; needed 0 <= left < right and 0 <= top < bottom')
        boxes.append((left, top, right, bottom))
    return tuple(boxes)


def uncovered(
    boxes: tuple[Box, ...], window: tuple[int, int, int, int], width: int, height: int
) -> np.ndarray:
    """
    Which pixels of a resized window no rectangle touches.

    :param boxes: the rectangles [input px].
    :param window: left, top, width, height of the window [input px].
    :param width: columns of the resized window [px].
    :param height: rows of the resized window [px].
    :return: (height, width) bool; a pixel into which one covered pixel was averaged is covered.
    """
    free = np.ones((height, width), bool)
    per_u, per_v = width / window[2], height / window[3]
    for left, top, right, bottom in boxes:
        columns = _span((left - window[0]) * per_u, (right - window[0]) * per_u, width)
        rows = _span((top - window[1]) * per_v, (bottom - window[1]) * per_v, height)
        free[rows, columns] = False
    return free


def _span(low: float, high: float, size: int) -> slice:
    first = min(max(int(np.floor(low + 1e-6)), 0), size)
    return slice(first, min(max(int(np.ceil(high - 1e-6)), first), size))
