# SPDX-License-Identifier: Apache-2.0
"""
What part of an endoscope's picture is picture: a round stop, black bars, or all of it.

The radius of the round stop is also the direct measurement of optical zoom, dr / r = df / f, and
its centre follows the optical axis. Here one picture is measured, with an honest sigma; smoothing
over time is the zoom filter's work.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from endosfm3d_ros.core.picture.circle import Circle, consensus
from endosfm3d_ros.core.picture.rim import Border, Box, Rim, brightness, measure_rim

COARSE_WIDTH = 320  # the search over the whole picture runs at about this width [px]
DARKEST_PICTURE = 48  # a border is darker than this, grey levels
SMALLEST = 32  # a smaller picture is not searched [px]
SEARCHED = 5  # pictures: of so many one is searched for bars, and for a rim where there is none
LIT = 0.02  # of a picture is brighter than its border, or it shows nothing


@dataclass(frozen=True)
class FieldOfView:
    """
    The visible part of a picture.

    :param width: width of the picture it belongs to [px].
    :param height: height of that picture [px].
    :param opening: left, top, right, bottom of what black bars leave open, half-open [px].
    :param circle: u, v, r of the round stop [px], or None; the rim is where brightness is half way
        between border and picture.
    :param circle_sigma: 1 sigma of u, v, r [px], from the spread of the rim points around it.
    :param rim_blur: softness of the rim, as the sigma of a Gaussian [px].
    :param rim_points: rim points that agree with the circle.
    :param rms_px: their root mean square distance from it [px].
    :param rests: pictures after this one that are not searched for bars, nor for a rim where it
        has none.
    """

    width: int
    height: int
    opening: Box
    circle: Circle | None = None
    circle_sigma: tuple[float, float, float] | None = None
    rim_blur: float = 0.0
    rim_points: int = 0
    rms_px: float = 0.0
    rests: int = field(default=0, compare=False)

    @property
    def box(self) -> Box:
        """Bounding box of everything visible: left, top, right, bottom, half-open [px]."""
        left, top, right, bottom = self.opening
        if self.circle is None:
            return self.opening
        u, v, r = self.circle
        return (
            max(left, int(np.ceil(u - r))),
            max(top, int(np.ceil(v - r))),
            min(right, int(np.floor(u + r)) + 1),
            min(bottom, int(np.floor(v + r)) + 1),
        )

    @property
    def left(self) -> int:
        """First visible column [px]."""
        return self.box[0]

    @property
    def top(self) -> int:
        """First visible row [px]."""
        return self.box[1]

    @property
    def right(self) -> int:
        """Column after the last visible one [px]."""
        return self.box[2]

    @property
    def bottom(self) -> int:
        """Row after the last visible one [px]."""
        return self.box[3]

    @property
    def radius(self) -> float:
        """Of the round stop, else half the diagonal of what bars leave open [px]."""
        if self.circle:
            return self.circle[2]
        return float(np.hypot(self.right - self.left, self.bottom - self.top)) / 2

    @property
    def centre(self) -> tuple[float, float]:
        """(u, v) of the round stop, else of what bars leave open [px]."""
        if self.circle:
            return self.circle[:2]
        return (self.left + self.right - 1) / 2, (self.top + self.bottom - 1) / 2

    def mask(self) -> np.ndarray:
        """Which pixels are picture, (H, W) bool; pixels blurred with the border are not."""
        return self.mask_in((0, 0, self.width, self.height), self.width, self.height)

    def mask_in(self, window: Box, width: int, height: int) -> np.ndarray:
        """
        Which pixels are picture after a window was cut out and resized, each axis by its own
        factor.

        :param window: left, top, width, height of the window [px of the picture]; where it reaches
            beyond the picture there is none.
        :param width: width of the resized window [px].
        :param height: height of the resized window [px].
        :return: (height, width) bool; a pixel is picture only if all that was averaged into it is.
        """
        if min(*window[2:], width, height) < 1:
            sizes = f'{window[2]}x{window[3]} to {width}x{height}'
            raise ValueError(f'a window needs a size, found {sizes}')
        step_u, step_v = window[2] / width, window[3] / height
        u = window[0] + (np.arange(width) + 0.5) * step_u - 0.5
        v = window[1] + (np.arange(height) + 0.5) * step_v - 0.5
        across = _in_opening(u, step_u, self.opening[0], self.opening[2], self.width)
        down = _in_opening(v, step_v, self.opening[1], self.opening[3], self.height)
        inside = down[:, None] & across[None, :]
        if self.circle is None:
            return inside
        # the farthest corner of the pixel's footprint must lie within the rim
        away_u = np.abs(u - self.circle[0]) + max(step_u, 1.0) / 2
        away_v = np.abs(v - self.circle[1]) + max(step_v, 1.0) / 2
        radius = max(0.0, self.circle[2] - 2.0 * self.rim_blur - 1.0)
        return inside & (np.square(away_v)[:, None] + np.square(away_u)[None, :] <= radius**2)


def find_field_of_view(image_rgb: np.ndarray, previous: FieldOfView | None = None) -> FieldOfView:
    """
    Measure the visible part of one picture.

    :param image_rgb: (H, W, 3) uint8.
    :param previous: what the picture before gave: its circle is then refined, cheaper than the
        search over the whole picture, which follows by itself where the refinement fails; where
        that found nothing, one picture of SEARCHED is searched, and so it is for bars about a
        circle.
    :return: a circle only where a sharp rim against a dark, flat border is seen; all is visible
        where nothing says otherwise.
    """
    image = np.ascontiguousarray(image_rgb)
    height, width = image.shape[:2]
    everything = (0, 0, width, height)
    border = _border(image)
    if border is None:
        return FieldOfView(width, height, everything)
    rim = None
    if previous and (previous.width, previous.height) != (width, height):
        previous = None
    if previous and previous.rests and not previous.circle:
        opening = _opening(image, border, None)
        return FieldOfView(width, height, opening, rests=previous.rests - 1)
    if previous and previous.circle:
        rim = measure_rim(image, previous.circle, previous.opening, border, previous.rim_blur)
        if rim and previous.rests:
            return _seen(rim, width, height, previous.opening, rests=previous.rests - 1)
    if rim is None:
        opening = _opening(image, border, None)
        guess = _coarse_circle(image, opening, border)
        rim = measure_rim(image, guess, opening, border) if guess else None
        if rim is None:
            return FieldOfView(
                width, height, opening, rests=SEARCHED - 1 if _lit(image, border) else 0
            )
    opening = _opening(image, border, rim.circle)
    return _seen(rim, width, height, opening, rests=SEARCHED - 1)


def _seen(rim: Rim, width: int, height: int, opening: Box, rests: int) -> FieldOfView:
    """A picture of this size within a rim."""
    found = (rim.circle, rim.sigma, rim.blur, rim.points, rim.rms)
    return FieldOfView(width, height, opening, *found, rests)


def _lit(image: np.ndarray, border: Border) -> bool:
    """Whether a picture shows something: one that comes out of the black is searched at once."""
    return float(np.mean(image[::16, ::16].max(2) > border.area_limit)) > LIT


def _in_opening(centre: np.ndarray, step: float, low: int, high: int, size: int) -> np.ndarray:
    """Which pixels of this step lie in low..high [px], but not in the blurred end of a bar."""
    first = low - 0.5 + (2 if low > 0 else 0)
    last = high - 0.5 - (2 if high < size else 0)
    return (centre - step / 2 >= first - 1e-6) & (centre + step / 2 <= last + 1e-6)


def _border(image: np.ndarray) -> Border | None:
    """
    Look for a dark, flat border in the corners.

    A disc and a rectangle are convex: where they leave a part of the picture out, they leave out
    one of its corners.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        return None
    size = max(4, width // 128)
    first, last = slice(0, size), slice(-size, None)
    corners = [(first, first), (first, last), (last, first), (last, last)]
    patches = np.array([image[corner] for corner in corners]).max(3).reshape(4, -1)
    levels = np.median(patches, axis=1)
    noises = 1.4826 * np.median(np.abs(patches - levels[:, None]), axis=1)
    dark = (levels < DARKEST_PICTURE) & (noises < 12)
    if not dark.any():
        return None
    # the border has one level; dark tissue may lie in another corner
    dark &= levels <= levels[dark].min() + 8
    level, noise = float(np.median(levels[dark])), float(np.median(noises[dark]))
    a, b, c, d = (bool(corner) for corner in dark)
    return Border(level, noise, (a, b, c, d))


def _coarse_circle(image: np.ndarray, opening: Box, border: Border) -> Circle | None:
    """Find the circle that the outline of everything bright follows, to a few pixels."""
    stride = max(1, round(image.shape[1] / COARSE_WIDTH))
    small = cv2.medianBlur(brightness(np.ascontiguousarray(image[::stride, ::stride])), 5)
    bright = (small > border.area_limit).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright)
    area = stats[1:, cv2.CC_STAT_AREA]
    if len(area) == 0 or area.max() < LIT * bright.size:
        return None
    large = np.concatenate([[False], area > 0.1 * area.max()])  # text and logos are small
    contours, _ = cv2.findContours(
        large[labels].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    points = np.concatenate(contours)[:, 0]
    first, last = np.array(opening[:2]) / stride + 2, np.array(opening[2:]) / stride - 3
    points = points[((points > first) & (points < last)).all(1)]
    if len(points) < 12:
        return None
    points = points[:: max(1, len(points) // 400)].astype(np.float64)
    circle = consensus(points, 1.5, 400, (bright.shape[1], bright.shape[0]))
    if circle is None:
        return None
    # a sample lies on the pixel it was taken from, and the outline half a sample within the rim
    return circle[0] * stride, circle[1] * stride, (circle[2] + 0.5) * stride


def _opening(image: np.ndarray, border: Border, circle: Circle | None) -> Box:
    """Find what black bars leave open: a bar covers two corners and ends straight and sharp."""
    height, width = image.shape[:2]
    u, v, r = circle or ((width - 1) / 2, (height - 1) / 2, float(width + height))
    columns, rows = _across(u, r, width), _across(v, r, height)
    turned = image.swapaxes(0, 1)
    # each side seen so that its bar lies on top: picture, lines down, their distance from the
    # circle's centre, and how deep that lies
    sides = (
        (turned, rows, rows - v, u),
        (image, columns, columns - u, v),
        (turned[::-1], rows, rows - v, width - 1 - u),
        (image[::-1], columns, columns - u, height - 1 - v),
    )
    top_left, top_right, bottom_left, bottom_right = border.corners
    covered = (
        top_left and bottom_left,
        top_left and top_right,
        top_right and bottom_right,
        bottom_left and bottom_right,
    )
    left, top, right, bottom = (
        _bar(*side, r, border) if bar else 0 for side, bar in zip(sides, covered, strict=True)
    )
    return left, top, width - right, height - bottom


def _across(centre: float, radius: float, size: int) -> np.ndarray:
    """Pick up to 24 pixels across the middle of the circle, (N,) int [px]."""
    low, high = max(0.0, centre - 0.5 * radius), min(size - 1.0, centre + 0.5 * radius)
    return np.unique(np.linspace(low, max(low, high), 24).astype(int))


def _bar(
    picture: np.ndarray,
    lines: np.ndarray,
    across: np.ndarray,
    depth: float,
    radius: float,
    border: Border,
) -> int:
    """
    Measure a bar on top of a picture; it ends where brightness is half that of the picture below.

    :param picture: (M, *, 3) uint8.
    :param lines: (N,) columns that are looked at, from row 0 down.
    :param across: (N,) distance of each from the circle's centre [px].
    :param depth: row of the circle's centre [px].
    :param radius: radius of the circle [px].
    :param border: the black of the bar.
    :return: rows that the bar covers, 0 where none ends sharply; at most half the picture.
    """
    half_chord = np.square(max(0.0, radius - 3)) - np.square(across)
    enter = np.where(half_chord > 0, depth - np.sqrt(np.maximum(half_chord, 0)), np.inf)  # (N,)
    start = max(0.0, np.sort(enter)[3 * len(enter) // 10])  # three lines in ten are in the circle
    if start >= len(picture) // 2:
        return 0
    start = int(np.ceil(start))
    for end in (start + 16, len(picture) // 2):  # mostly there is no bar: that is seen at once
        strip = np.ascontiguousarray(picture[start : end + 6, lines])
        level = brightness(strip).astype(np.float32)
        lit = level[:-6] > np.maximum(border.pixel_limit, level[6:] / 2)
        in_circle = np.arange(start, start + len(lit))[:, None] >= enter
        share = (lit & in_circle).sum(1) / np.maximum(in_circle.sum(1), 1)
        found = np.flatnonzero(share > 0.3)
        if len(found) and found[0] + 3 < len(share):
            first = int(found[0])
            before, after = max(first - 3, 0), first + 3
            if first == 0 or share[after] - share[before] < 0.3:
                return 0
            dark, bright = (level[[before, after]][:, lit[after]] - border.level).mean(1)
            return start + first if dark < 0.3 * bright else 0
    return 0
