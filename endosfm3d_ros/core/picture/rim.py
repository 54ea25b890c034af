# SPDX-License-Identifier: Apache-2.0
"""
The rim of a round picture, measured to a fraction of a pixel.

The rim is where the brightness along a radius is half way between the border's level just outside
and the picture's level just inside. Both are taken beyond the rim's own blur, and the picture's is
carried to the rim by its slope. A symmetric blur leaves that place where it is, and so does the
overshoot of a camera's sharpening. Brightness is the largest of the three channels: red tissue
stands out from black there.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from endosfm3d_ros.core.picture.circle import Circle, consensus, fit_circle, spread

Box = tuple[int, int, int, int]  # left, top, right, bottom [px], half-open

RAYS = 160  # radii that the rim is measured on
SEARCH_RAYS = 80  # radii that it is looked for on
ANGLES = np.linspace(0, 2 * np.pi, 2048, endpoint=False)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
REACH = 0.02  # how far beside the expected rim it is looked for, in picture widths
MAX_BLUR = 0.008  # a softer edge is vignetting, not a stop, in picture widths (10 px at 1280)
MAX_SIGMA = 0.01  # of the radius: what is known worse than this is not a circle
BEND = 0.05  # what uneven light and an imperfect stop move the rim by, times (1 + blur) [px]
STRETCHES = 8  # how many stretches of the rim they move independently
WINDOW = 6  # samples that tell the level on either side of the rim
GAUSS_SLOPE = 2.5066  # sqrt(2 pi): a step blurred by sigma falls by 1 / (2.5 sigma) a pixel


@dataclass(frozen=True)
class Border:
    """
    What the black around a picture looks like.

    :param level: its brightness, grey levels.
    :param noise: 1 sigma of its pixels, grey levels.
    :param corners: which corners of the picture lie in it: top left, top right, bottom left,
        bottom right.
    """

    level: float
    noise: float
    corners: tuple[bool, bool, bool, bool]

    @property
    def pixel_limit(self) -> float:
        """A single pixel above this is not border, grey levels."""
        return self.level + max(12.0, 4.0 * self.noise)

    @property
    def area_limit(self) -> float:
        """A mean or median of a dozen pixels above this is not border, grey levels."""
        return self.level + max(10.0, 1.5 * self.noise)


@dataclass(frozen=True)
class Rim:
    """
    A circle fitted to the rim.

    :param circle: u, v, r [px].
    :param sigma: 1 sigma of u, v, r [px].
    :param blur: softness of the rim, as the sigma of a Gaussian [px].
    :param points: rim points that agree with the circle.
    :param rms: their root mean square distance from it [px].
    """

    circle: Circle
    sigma: tuple[float, float, float]
    blur: float
    points: int
    rms: float


def brightness(image: np.ndarray) -> np.ndarray:
    """Take the largest channel, (H, W, 3) uint8 -> (H, W) uint8."""
    red, green, blue = cv2.split(image)
    return cv2.max(cv2.max(red, green), blue)


def measure_rim(
    image: np.ndarray, guess: Circle, opening: Box, border: Border, blur: float | None = None
) -> Rim | None:
    """
    Fit a circle to the rim seen near a guess.

    :param image: (H, W, 3) uint8, contiguous.
    :param guess: u, v, r [px], wrong by less than REACH picture widths.
    :param opening: the part of the picture that no black bar covers; the rim is looked for in it.
    :param border: the black around the picture.
    :param blur: softness of the rim in the picture before, sigma [px]; None where unknown.
    :return: the fit, or None where no rim of a round stop can be seen or is known well enough.
    """
    if blur is not None:  # mostly it is where it was
        rim = _refined(image, guess, opening, border, blur)
        if rim is not None:
            return rim
    width = image.shape[1]
    reach = max(10.0, REACH * width)
    rays = _Rays.cast(image, guess, opening, reach, reach, SEARCH_RAYS)
    if rays is None:
        return None
    points = rays.steepest_falls(border)
    size = (width, image.shape[0])
    circle = consensus(points, 1.5 + 0.001 * width, 48, size) if len(points) >= 12 else None
    if circle is None or abs(circle[2] - guess[2]) > 2 * reach:
        return None
    circle, _ = fit_circle(points, circle, steps=4)
    return _refined(image, circle, opening, border, reach / 6 if blur is None else blur)


def _refined(
    image: np.ndarray, circle: Circle, opening: Box, border: Border, blur: float
) -> Rim | None:
    """
    Fit a circle to the rim's half-level crossings about an expected one, until both agree.

    :param circle: expected u, v, r [px]; blur: expected softness, sigma [px].
    :return: None where the rim is not there, too soft, or not known well enough.
    """
    rim = None
    for _ in range(6):
        margin = 2.5 * blur + 1.5
        rays = _Rays.cast(image, circle, opening, margin + WINDOW, margin, RAYS)
        rim = rays.rim(border, margin, blur) if rays else None
        if rim is None or rim.blur > max(2.5, MAX_BLUR * image.shape[1]):
            return None
        moved = max(abs(new - old) for new, old in zip(rim.circle, circle, strict=True))
        if moved < 0.5 + 0.15 * blur and abs(rim.blur - blur) < 0.15 * blur:
            return rim
        circle, blur = rim.circle, rim.blur
    return rim


@dataclass(frozen=True)
class _Rays:
    """
    Brightness along radii that cross an expected rim inside the picture.

    :param profile: (N, M) float32 grey levels, from inside to outside, a pixel apart.
    :param seen: (N, M) bool, the sample lies in the opening.
    :param offset: (M,) distance from the expected rim, outside positive [px].
    :param direction: (N, 2) unit vectors of the radii, in order around the rim.
    :param circle: the expected rim [px].
    """

    profile: np.ndarray
    seen: np.ndarray
    offset: np.ndarray
    direction: np.ndarray
    circle: Circle

    @classmethod
    def cast(
        cls, image: np.ndarray, circle: Circle, opening: Box, reach: float, room: float, count: int
    ) -> '_Rays | None':
        """
        Sample radii across the circle where it lies in the opening.

        :param reach: how far to either side of the circle [px].
        :param room: how much of the outside should lie in the opening [px]; half of it must.
        :param count: how many radii, fewer where that would be more than one a pixel.
        :return: None where hardly any of the circle can be seen.
        """
        u, v, r = circle
        if r < reach + 4:
            return None
        left, top, right, bottom = opening
        seen = np.full(len(ANGLES), True)
        for radius in (r, r + room / 2):
            at_u, at_v = u + radius * COS, v + radius * SIN
            seen &= (at_u >= left) & (at_u <= right - 1) & (at_v >= top) & (at_v <= bottom - 1)
        visible = np.flatnonzero(seen)
        length = len(visible) * 2 * np.pi * r / len(ANGLES)
        if length < 32:
            return None
        count = int(min(count, length, len(visible)))
        chosen = visible[(2 * np.arange(count) + 1) * len(visible) // (2 * count)]
        direction = np.column_stack([COS[chosen], SIN[chosen]])
        offset = np.arange(-np.ceil(reach), np.ceil(reach) + 1)
        map_u = (u + direction[:, :1] * (r + offset)).astype(np.float32)
        map_v = (v + direction[:, 1:] * (r + offset)).astype(np.float32)
        inside = (map_u >= left) & (map_u <= right - 1) & (map_v >= top) & (map_v <= bottom - 1)
        samples = cv2.remap(image, map_u, map_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        profile = brightness(samples).astype(np.float32)
        return cls(profile, inside, offset, direction, circle)

    def points(self, rows: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Where these radii are at these distances from the expected rim, (N, 2) u, v [px]."""
        u, v, r = self.circle
        return np.array([u, v]) + self.direction[rows] * (r + offset)[:, None]

    def steepest_falls(self, border: Border) -> np.ndarray:
        """On each radius, the steepest fall that ends in the border, (N, 2) u, v [px]."""
        half = WINDOW
        mean = cv2.boxFilter(self.profile, -1, (half, 1), borderType=cv2.BORDER_REPLICATE)
        # OpenCV's box spans [-half/2, half/2) of its sample, so that these two touch
        inner, outer = mean[:, :-half], mean[:, half:]
        fall = inner - outer
        fall[(outer > border.area_limit) | ~self.seen[:, half:] | ~self.seen[:, :-half]] = 0
        i, best = np.arange(len(fall)), np.argmax(fall, axis=1)
        contrast = np.maximum(fall[i, best], 1)
        normalised = (self.profile - outer[i, best, None]) / contrast[:, None]
        expected = self.offset[best] + half / 2 - 0.5
        crossing, found = _half_crossing(normalised, self.offset, expected)
        found &= fall[i, best] > border.area_limit - border.level
        found &= np.abs(crossing - expected) < half
        return self.points(np.flatnonzero(found), crossing[found])

    def rim(self, border: Border, margin: float, blur: float) -> Rim | None:
        """
        Fit the circle to the half-level crossings.

        :param margin: the levels of either side are taken beyond this distance from the rim [px].
        :param blur: softness of the rim that was expected, sigma [px].
        """
        inside, outside = self.offset <= -margin, self.offset >= margin
        outer_seen = self.seen & outside
        outer = (self.profile * outer_seen).sum(1) / np.maximum(outer_seen.sum(1), 1)
        outer[~outer_seen.any(1)] = border.level
        inner = self.profile[:, inside].mean(1)
        contrast = inner - outer
        dark_outside = outer <= border.area_limit
        step = contrast > border.area_limit - border.level
        clear = dark_outside & step & self.seen[:, inside].all(1)
        if clear.sum() < 12 or (~dark_outside).sum() > 0.25 * len(clear):
            return None
        rows = np.flatnonzero(clear)
        normalised = (self.profile[rows] - outer[rows, None]) / contrast[rows, None]
        typical = np.median(normalised, axis=0)
        softness = 1 / (GAUSS_SLOPE * max(float(np.max(typical[:-2] - typical[2:])) / 2, 1e-3))
        # light falls off towards the rim: carry the picture's level there by its slope inside
        middle = self.offset[inside].mean()
        lever = self.offset[inside] - middle
        slope = (lever @ typical[inside]) / (lever @ lever)
        normalised /= np.clip(1 - slope * middle, 0.5, 1.5)
        smooth = cv2.GaussianBlur(normalised, (0, 0), sigmaX=max(0.5, 0.5 * blur), sigmaY=1e-3)
        crossing, found = _half_crossing(smooth, self.offset, np.zeros(len(rows)))
        rows, crossing = rows[found], crossing[found]
        if len(rows) < 12:
            return None
        circle, residual = fit_circle(self.points(rows, crossing), self.circle)
        return self._judge(circle, residual, rows, softness)

    def _judge(
        self, circle: Circle, residual: np.ndarray, rows: np.ndarray, blur: float
    ) -> Rim | None:
        """Keep the fit if enough of the rim agrees with it, and say how well it is known."""
        agrees = np.abs(residual) < 4 * spread(residual)
        count = int(agrees.sum())
        rms = float(np.sqrt(np.mean(np.square(residual[agrees]))))
        near = float(np.mean(np.abs(residual) < 1.5 + 0.5 * blur))
        if count < max(12, 0.2 * len(self.profile)) or near < 0.6 or rms > 1.0 + 0.3 * blur:
            return None
        jacobian = np.column_stack([self.direction[rows[agrees]], np.ones(count)])
        unit = np.diag(np.linalg.inv(jacobian.T @ jacobian + 1e-9 * np.eye(3)))
        bend = (BEND * (1 + blur)) ** 2 * count / STRETCHES
        u, v, r = np.sqrt(unit * (rms**2 * _repetition(residual[agrees]) + bend))
        if max(u, v, r) > MAX_SIGMA * circle[2]:
            return None
        return Rim(circle, (float(u), float(v), float(r)), blur, count, rms)


def _half_crossing(
    profile: np.ndarray, offset: np.ndarray, expected: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Find where each profile falls through one half, nearest to where it should.

    Taking the nearest, not the first, noise pulls neither way.

    :param profile: (N, M), about 1 inside (first) and 0 outside.
    :param offset: (M,) where the samples are, ascending by one [px].
    :param expected: (N,) where the fall should be [px].
    :return: (N,) the crossing [px]; (N,) bool, there is one.
    """
    above = profile > 0.5
    falls = above[:, :-1] & ~above[:, 1:]  # (N, M - 1)
    distance = np.abs(offset[:-1] + 0.5 - expected[:, None])
    distance[~falls] = np.inf
    i, j = np.arange(len(profile)), np.argmin(distance, axis=1)
    high, low, found = profile[i, j], profile[i, j + 1], falls[i, j]
    return offset[j] + np.where(found, (high - 0.5) / np.where(found, high - low, 1), 0), found


def _repetition(residual: np.ndarray) -> float:
    """How many neighbouring residuals say the same thing, >= 1, from their autocorrelation."""
    variance = float(np.mean(np.square(residual)))
    if variance == 0:
        return 1.0
    total = 1.0
    for lag in range(1, min(9, len(residual) // 4)):
        correlation = float(np.mean(residual[lag:] * residual[:-lag])) / variance
        if correlation < 0.1:
            break
        total += 2 * correlation
    return total
