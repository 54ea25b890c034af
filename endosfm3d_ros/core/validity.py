# SPDX-License-Identifier: Apache-2.0
"""
Is this a picture that can be reconstructed at all: not black, washed out, flat, frozen, full of
smoke, nor of something else than the inside of a body.
"""

from dataclasses import dataclass

import cv2
import numpy as np

BLACK_LEVEL = 16  # grey level that 95 % of a black picture's pixels stay under
WHITE_LEVEL = 250  # grey level that half of a washed-out picture's pixels exceed
FLAT_DETAIL = 0.25  # `detail` of fog, a lens cap, a wall: nothing has an edge [grey levels]
FROZEN_CHANGE = 1e-3  # mean absolute change of tissue that was sent again [grey levels]
# Tissue is red. Three real clips and a rendered one: median saturation 0.31 to 0.52; 0.15 to 0.33
# with 30 % of a white veil before it, 0.11 to 0.22 with 50 %, 0.06 to 0.12 with 70 %.
PALE_COLOUR = 0.12  # median saturation that a third of the light from tissue leaves
VEIL_LEVEL = 60.0  # the darkest channel of all but a tenth of a veiled picture [grey levels]
VEIL_DETAIL = 1.5  # `detail` that a veil leaves at most; a room is sharper
STRIDE = 4  # every so many pixels are looked at, each way
COOL_SHARE = 0.8  # of the lit pixels are greener or bluer than red: drapes, a room, gloves
MIN_VISIBLE = 0.01  # share of the picture that must lie inside the field of view


@dataclass(frozen=True)
class Validity:
    """
    The verdict on one picture.

    :param valid: whether anything may be said from it.
    :param reason: 'black', 'washed_out', 'flat', 'frozen', 'smoke', 'out_of_body' or
        'nothing_visible'; '' when valid.
    :param repeats: how many times in a row this very picture came, this time included, less one.
    """

    valid: bool
    reason: str = ''
    repeats: int = 0


def judge(
    picture: np.ndarray,
    mask: np.ndarray,
    previous: np.ndarray | None,
    repeats: int,
    frozen_after: int,
    tissue_colour: bool = True,
    came: np.ndarray | None = None,
) -> Validity:
    """
    Judge a network picture by what is inside the field of view.

    :param picture: (h, w, 3) uint8 RGB.
    :param mask: (h, w) bool, inside the field of view.
    :param previous: the picture before, same size, or None.
    :param repeats: the previous verdict's `repeats`.
    :param frozen_after: a picture that was repeated this often is frozen; 0 never says so.
    :param tissue_colour: whether tissue is red in this video; False for narrow-band or false
        colours, which smoke and rooms then are not told from.
    :param came: the picture as it came, where something was done to it: `previous` is as it came.
    :return: the verdict, with the first reason that applies.
    """
    if mask.mean() < MIN_VISIBLE:
        return Validity(False, 'nothing_visible')
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    looked_at = mask.view(np.uint8)
    came = picture if came is None else came
    same = previous is not None and _change(came, previous, looked_at) <= FROZEN_CHANGE
    repeats = repeats + 1 if same else 0
    levels = cv2.calcHist([grey], [0], looked_at, [256], [0, 256]).ravel()
    if _quantile(levels, 0.95) < BLACK_LEVEL:
        return Validity(False, 'black', repeats)
    if _quantile(levels, 0.5) > WHITE_LEVEL:
        return Validity(False, 'washed_out', repeats)
    if frozen_after and repeats >= frozen_after:
        return Validity(False, 'frozen', repeats)
    found = detail(grey, mask)
    if found < FLAT_DETAIL:
        return Validity(False, 'flat', repeats)
    reason = _foreign(picture, mask, found) if tissue_colour else ''
    return Validity(not reason, reason, repeats)


def _foreign(picture: np.ndarray, mask: np.ndarray, found_detail: float) -> str:
    """Why a picture that has detail shows no tissue: 'smoke', 'out_of_body', or ''."""
    # a small blur takes the sensor's noise away and leaves the colours of a coarse pattern
    lit = cv2.blur(picture, (3, 3))[::STRIDE, ::STRIDE][mask[::STRIDE, ::STRIDE]]
    lit = np.ascontiguousarray(lit.T, np.float32)  # (3, N): of each channel all
    brightest, darkest = lit.max(axis=0), lit.min(axis=0)
    if np.array_equal(brightest, darkest):
        return ''  # a picture without colours, or nothing left, says nothing by them
    usual = (brightest > 30) & (brightest < 250)
    (red, green, blue), brightest, darkest = lit[:, usual], brightest[usual], darkest[usual]
    if len(red) < 100:
        return ''
    is_pale = float(np.median(1 - darkest / brightest)) < PALE_COLOUR
    if is_pale and np.percentile(darkest, 10) > VEIL_LEVEL and found_detail < VEIL_DETAIL:
        return 'smoke'
    cool = float((np.maximum(green, blue) > 1.1 * red).mean())
    return 'out_of_body' if is_pale or cool > COOL_SHARE else ''


def _change(picture: np.ndarray, previous: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute change of all channels where the mask is not 0 [grey levels]."""
    return float(np.mean(cv2.mean(cv2.absdiff(picture, previous), mask)[:3]))


def _quantile(histogram: np.ndarray, share: float) -> float:
    """A quantile of whole numbers from how often each occurs, as `np.quantile` has it."""
    counts = np.cumsum(histogram)
    place = share * (counts[-1] - 1)
    low, high = np.searchsorted(counts, (np.floor(place), np.ceil(place)), side='right')
    return float(low + (high - low) * (place - np.floor(place)))


def detail(grey: np.ndarray, mask: np.ndarray) -> float:
    """
    How much a picture has to hold on to: the 90th percentile of its absolute Laplacian, after a
    blur that takes sensor noise away (noise of 4 grey levels leaves 0.16, a smooth colon 0.6,
    tissue 2).

    :param grey: (h, w) uint8.
    :param mask: (h, w) bool, where to look.
    :return: grey levels.
    """
    laplacian = cv2.Laplacian(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 2.5), cv2.CV_32F)
    eroded = cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1) > 0
    inside = np.abs(laplacian[::2, ::2][eroded[::2, ::2]])
    if not len(inside):
        inside = np.abs(laplacian[mask])
    return float(np.percentile(inside, 90))
