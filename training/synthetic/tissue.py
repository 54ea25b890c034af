# SPDX-License-Identifier: Apache-2.0
"""The look of tissue: a picture of vessels and relief that repeats, and its mip levels."""

from dataclasses import dataclass

import cv2
import numpy as np

CHANNELS = 6  # transmitted r, g, b; slope along u, v; mean squared slope

# Absorption of blood for r, g, b, relative: red passes, green and blue are stopped.
BLOOD = np.array([0.30, 1.0, 0.85], np.float32)
VENOUS = np.array([0.75, 1.0, 0.62], np.float32)


@dataclass(frozen=True)
class Tissue:
    """
    A square texture that repeats, and how glossy it is.

    :param levels: (sum of N² over the mip levels, 6) float32, level after level, row-major:
        transmittance r, g, b (multiplies the tint), slopes dh/du, dh/dv, mean squared slope.
    :param offsets: (L + 1,) int64, where each level begins in `levels`.
    :param side: N of level 0 [texels].
    :param extent: side of the tile [mm].
    :param roughness: GGX alpha of the wet film.
    :param wetness: strength of the highlights, 1 for water.
    """

    levels: np.ndarray
    offsets: np.ndarray
    side: int
    extent: float
    roughness: float
    wetness: float


def linear(*srgb: float) -> np.ndarray:
    """Turn an sRGB colour 0..255 into linear reflectance 0..1 (IEC 61966-2-1)."""
    c = np.asarray(srgb, np.float32) / 255.0
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


def make_tissue(
    rng: np.random.Generator,
    side: int = 1024,
    extent: float = 40.0,
    vessels: float = 1.0,
    relief: float = 1.0,
    roughness: float = 0.11,
    wetness: float = 1.0,
) -> Tissue:
    """
    Grow vessels, mottle and wrinkle a tile.

    :param vessels: how much blood the vessels hold; 1 is a healthy mucosa.
    :param relief: height of the fine relief; 1 is about 0.04 mm rms.
    """
    px = side / extent  # texels per mm
    deep = cv2.GaussianBlur(_tree(rng, side, 7, (0.55 * px, 0.16 * px)), (0, 0), 0.30 * px)
    large = _tree(rng, side, 9, (0.30 * px, 0.07 * px))
    fine = _tree(rng, side, 26, (0.11 * px, 0.045 * px))
    large, fine = (cv2.GaussianBlur(v, (0, 0), 0.03 * px) for v in (large, fine))
    mottle = noise(rng, side, extent, 3.0) + 0.6 * noise(rng, side, extent, 0.8)
    absorbed = np.maximum(0.10 + 0.10 * mottle, 0.0)[..., None] * BLOOD
    absorbed += vessels * 0.35 * deep[..., None] * VENOUS
    absorbed += vessels * (0.85 * large + 0.55 * fine)[..., None] * BLOOD
    colour = np.exp(-absorbed)

    height = 0.05 * noise(rng, side, extent, 3.0) + 0.010 * noise(rng, side, extent, 0.9)
    height += 0.0012 * noise(rng, side, extent, 0.3)
    height = relief * height + 0.03 * cv2.GaussianBlur(large, (0, 0), 0.12 * px)
    slope_u = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) * (0.5 * px)
    slope_v = (np.roll(height, -1, 0) - np.roll(height, 1, 0)) * (0.5 * px)
    squared = slope_u**2 + slope_v**2
    top = np.dstack([colour, slope_u, slope_v, squared]).astype(np.float32)
    levels, offsets = _mip(top)
    return Tissue(levels, offsets, side, extent, roughness, wetness)


def draw_tissue(rng: np.random.Generator, side: int, extent: tuple[float, float]) -> Tissue:
    """
    Draw any tissue that a scope may meet: bare as a phantom or full of vessels, dull or wet.

    :param side: of the tile [texels]; extent: range of its side [mm].
    """
    bare = rng.random() < 0.2
    return make_tissue(
        rng,
        side,
        extent=rng.uniform(*extent),
        vessels=rng.uniform(0.0, 0.15) if bare else rng.uniform(0.2, 2.4),
        relief=rng.uniform(0.0, 0.5) if bare else rng.uniform(0.3, 1.8),
        roughness=float(np.exp(rng.uniform(np.log(0.05), np.log(0.4)))),
        wetness=float(np.exp(rng.uniform(np.log(0.3), np.log(6.0)))),
    )


def noise(rng: np.random.Generator, side: int, extent: float, wavelength: float) -> np.ndarray:
    """
    Make tileable band-limited noise of unit variance.

    :param wavelength: of the strongest ripples [mm].
    :return: (side, side) float32.
    """
    frequency = np.fft.fftfreq(side, extent / side)
    radius = np.hypot(frequency[:, None], np.fft.rfftfreq(side, extent / side)[None, :])
    gain = np.exp(-0.5 * ((radius * wavelength - 1.0) / 0.45) ** 2)
    white = rng.standard_normal((side, side), np.float32)
    band = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(side, side))
    return (band / band.std()).astype(np.float32)


def _tree(
    rng: np.random.Generator, side: int, roots: int, width: tuple[float, float]
) -> np.ndarray:
    """
    Draw vessels that wander, taper and branch, on a canvas that wraps.

    :param width: of the root and of the thinnest twig [texels].
    :return: (side, side) float32 0..1.
    """
    canvas = np.zeros((3 * side, 3 * side), np.uint8)
    bits = 4
    step = side / 110.0
    todo = [
        (rng.uniform(1, 2, 2) * side, rng.uniform(0, 2 * np.pi), width[0]) for _ in range(roots)
    ]
    while todo:
        place, heading, thick = todo.pop()
        bend = 0.0
        for _ in range(rng.integers(25, 70)):
            bend = 0.8 * bend + 0.06 * rng.standard_normal()
            heading += bend
            ahead = place + step * np.array([np.cos(heading), np.sin(heading)])
            if np.any(ahead < 0.1 * side) or np.any(ahead > 2.9 * side):
                break
            _line(canvas, place, ahead, thick, bits)
            place = ahead
            thick *= 0.988
            if thick > width[1] and rng.random() < 0.075:
                turn = rng.choice([-1.0, 1.0]) * rng.uniform(0.45, 1.0)
                todo.append((place, heading + turn, thick * rng.uniform(0.5, 0.75)))
                heading -= 0.25 * turn
                thick *= 0.9
            if thick < width[1]:
                break
    return canvas.astype(np.float32).reshape(3, side, 3, side).max(axis=(0, 2)) / 255.0


def _line(canvas: np.ndarray, a: np.ndarray, b: np.ndarray, thick: float, bits: int) -> None:
    # OpenCV draws whole-pixel widths only: thinner strokes are drawn paler instead.
    scale = 1 << bits
    ends = [tuple(int(v) for v in np.round(p * scale)) for p in (a, b)]
    whole = max(round(thick), 1)
    ink = int(255 * min(thick / whole, 1.0))
    cv2.line(canvas, ends[0], ends[1], ink, whole, cv2.LINE_AA, bits)


def _mip(top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    levels = [top]
    while levels[-1].shape[0] > 4:
        n = levels[-1].shape[0] // 2
        levels.append(levels[-1].reshape(n, 2, n, 2, CHANNELS).mean(axis=(1, 3)))
    sizes = [level.shape[0] ** 2 for level in levels]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    flat = np.concatenate([level.reshape(-1, CHANNELS) for level in levels])
    return np.ascontiguousarray(flat, np.float32), offsets
