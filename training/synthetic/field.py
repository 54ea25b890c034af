# SPDX-License-Identifier: Apache-2.0
"""
The shape of a world: a signed field on a grid, its cubic spline, and rays that meet it exactly.

The surface *is* the zero set of the cubic B-spline through the samples, so depth, normals and
pictures all belong to one smooth surface, whatever family of world made the samples. A second,
coarser grid holds a safe distance to that surface: rays leap over empty space with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from training.synthetic.kernels import kernel, parallel_kernel

MISS = -1.0


@dataclass(frozen=True)
class Field:
    """
    A signed field, positive in free space, negative in tissue.

    :param coefficients: (Z, Y, X) float32 cubic B-spline coefficients.
    :param clearance: (Z/2, Y/2, X/2) float32, no surface is nearer than this [mm]; 0 near it.
    :param steepness: (Z/2, Y/2, X/2) float32, the field changes at most this much per mm nearby.
    :param origin: (3,) float64 x, y, z of sample (0, 0, 0), world frame [mm].
    :param cell: distance of neighbouring samples [mm].
    """

    coefficients: np.ndarray
    clearance: np.ndarray
    steepness: np.ndarray
    origin: np.ndarray
    cell: float

    @staticmethod
    def from_samples(samples: np.ndarray, origin: np.ndarray, cell: float) -> 'Field':
        """
        Make the field from samples of any implicit function of the surface.

        :param samples: (Z, Y, X) float32, positive in free space; smooth over a few cells, and
            at least as steep as a distance, near the surface.
        """
        slopes = _slope_lengths(samples, cell)
        steepness = ndimage.maximum_filter(_blocks(slopes).max(axis=(1, 3, 5)), 3)
        return Field(
            coefficients=_spline_coefficients(samples),
            clearance=_clearance(samples / slopes, cell),
            steepness=np.ascontiguousarray(steepness),
            origin=np.asarray(origin, np.float64),
            cell=float(cell),
        )

    @staticmethod
    def from_function(
        function: Callable[[np.ndarray], np.ndarray],
        lower: tuple[float, float, float],
        upper: tuple[float, float, float],
        cell: float,
    ) -> 'Field':
        """
        Sample a function of points, for small worlds and for tests.

        :param function: (..., 3) points [mm] -> (...) values [mm], positive in free space.
        """
        axes = [np.arange(a, b + cell, cell) for a, b in zip(lower, upper, strict=True)]
        z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing='ij')
        samples = function(np.stack([x, y, z], axis=-1)).astype(np.float32)
        return Field.from_samples(samples, np.array(lower), cell)

    def room(self, points: np.ndarray) -> np.ndarray:
        """
        Bound the distance to the surface from below, by two to three cells too careful.

        :param points: (N, 3) world points [mm].
        :return: (N,) float32 [mm], 0 outside the grid.
        """
        block = ((points - self.origin) / (2.0 * self.cell)).astype(int)
        inside = np.all((block >= 0) & (block < self.clearance.shape[::-1]), axis=1)
        x, y, z = np.where(inside[:, None], block, 0).T
        return np.where(inside, self.clearance[z, y, x], np.float32(0.0))


@parallel_kernel
def _slope_lengths(samples: np.ndarray, cell: float) -> np.ndarray:
    """Length of the gradient, at least 1 (a tube's axis is flat, and is no surface)."""
    depth, height, width = samples.shape
    out = np.empty_like(samples)
    for z in numba.prange(depth):
        z0, z1 = max(z - 1, 0), min(z + 1, depth - 1)
        for y in range(height):
            y0, y1 = max(y - 1, 0), min(y + 1, height - 1)
            for x in range(width):
                x0, x1 = max(x - 1, 0), min(x + 1, width - 1)
                dx = (samples[z, y, x1] - samples[z, y, x0]) / ((x1 - x0) * cell)
                dy = (samples[z, y1, x] - samples[z, y0, x]) / ((y1 - y0) * cell)
                dz = (samples[z1, y, x] - samples[z0, y, x]) / ((z1 - z0) * cell)
                slope = np.sqrt(dx * dx + dy * dy + dz * dz)
                out[z, y, x] = max(slope, 1.0)
    return out


def _spline_coefficients(values: np.ndarray) -> np.ndarray:
    """Quasi-interpolate: c = f - second difference / 6 on each axis; fourth-order accurate."""
    out = values.astype(np.float32)
    for axis in range(3):
        f = np.moveaxis(out, axis, 0)
        c = f.copy()
        c[1:-1] -= (f[2:] - 2.0 * f[1:-1] + f[:-2]) / np.float32(6.0)
        out = np.moveaxis(c, 0, axis)
    return np.ascontiguousarray(out)


def _blocks(values: np.ndarray) -> np.ndarray:
    """Group samples by 2×2×2: (Z, Y, X) -> (Z/2, 2, Y/2, 2, X/2, 2)."""
    padded = np.pad(values, [(0, n % 2) for n in values.shape], mode='edge')
    z, y, x = (n // 2 for n in padded.shape)
    return padded.reshape(z, 2, y, 2, x, 2)


def _clearance(distances: np.ndarray, cell: float) -> np.ndarray:
    """Distance from every 2×2×2 block to the nearest block that the surface may touch."""
    near = _blocks(distances).min(axis=(1, 3, 5)) < cell  # tissue counts as near: rays stop there
    block = 2.0 * cell
    gap = ndimage.distance_transform_edt(~near, sampling=block) - np.sqrt(3.0) * block
    return np.maximum(gap, 0.0).astype(np.float32)


@kernel
def _weights(f: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    one, sixth = np.float32(1.0), np.float32(1.0 / 6.0)
    g = one - f
    a, d = g * g * g * sixth, f * f * f * sixth
    b = np.float32(2.0 / 3.0) - f * f * (one - np.float32(0.5) * f)
    return a, b, one - a - b - d, d


@kernel
def _slopes(f: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    half = np.float32(0.5)
    g = np.float32(1.0) - f
    a, d = -half * g * g, half * f * f
    b = f * (np.float32(1.5) * f - np.float32(2.0))
    return a, b, -a - b - d, d


@kernel
def spline_value(c: np.ndarray, x: float, y: float, z: float) -> float:
    """
    Evaluate the spline at grid coordinates.

    :return: [mm]; −1 outside the grid, which counts as tissue.
    """
    if not (
        1.0 <= x < c.shape[2] - 2.0 and 1.0 <= y < c.shape[1] - 2.0 and 1.0 <= z < c.shape[0] - 2.0
    ):
        return -1.0
    # Unsigned indices spare the test for negative ones, single precision half the time; the
    # values near the surface are below a millimetre, so 1e-6 mm of it is left.
    i, j, k = np.uint32(x), np.uint32(y), np.uint32(z)
    wx, wy = _weights(np.float32(x - i)), _weights(np.float32(y - j))
    wz = _weights(np.float32(z - k))
    one, two = np.uint32(1), np.uint32(2)
    total = np.float32(0.0)
    for dz in range(4):
        n = np.uint32(k + np.uint32(dz) - one)
        plane = np.float32(0.0)
        for dy in range(4):
            m = np.uint32(j + np.uint32(dy) - one)
            line = wx[0] * c[n, m, i - one] + wx[1] * c[n, m, i]
            plane += wy[dy] * (line + wx[2] * c[n, m, i + one] + wx[3] * c[n, m, i + two])
        total += wz[dz] * plane
    return float(total)


@kernel
def spline_normal(c: np.ndarray, x: float, y: float, z: float) -> tuple[float, float, float]:
    """
    Evaluate the unit gradient at grid coordinates inside the grid: it points into free space.

    :return: unit vector, world frame.
    """
    i = np.uint32(min(max(int(x), 1), c.shape[2] - 3))
    j = np.uint32(min(max(int(y), 1), c.shape[1] - 3))
    k = np.uint32(min(max(int(z), 1), c.shape[0] - 3))
    fx, fy, fz = np.float32(x - i), np.float32(y - j), np.float32(z - k)
    wx, wy, wz = _weights(fx), _weights(fy), _weights(fz)
    sx, sy, sz = _slopes(fx), _slopes(fy), _slopes(fz)
    one, two = np.uint32(1), np.uint32(2)
    gx, gy, gz = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for dz in range(4):
        n = np.uint32(k + np.uint32(dz) - one)
        ax, ay, az = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for dy in range(4):
            m = np.uint32(j + np.uint32(dy) - one)
            p, q, r, s = c[n, m, i - one], c[n, m, i], c[n, m, i + one], c[n, m, i + two]
            value = wx[0] * p + wx[1] * q + wx[2] * r + wx[3] * s
            ax += wy[dy] * (sx[0] * p + sx[1] * q + sx[2] * r + sx[3] * s)
            ay += sy[dy] * value
            az += wy[dy] * value
        gx += wz[dz] * ax
        gy += wz[dz] * ay
        gz += sz[dz] * az
    length = np.sqrt(gx * gx + gy * gy + gz * gz) + np.float32(1e-12)
    return gx / length, gy / length, gz / length


@kernel
def spline_linear(c: np.ndarray, x: float, y: float, z: float) -> float:
    """Read the coefficients trilinearly: the spline's rough and fast neighbour."""
    if not (
        1.0 <= x < c.shape[2] - 2.0 and 1.0 <= y < c.shape[1] - 2.0 and 1.0 <= z < c.shape[0] - 2.0
    ):
        return -1.0
    i, j, k, one = np.uint32(x), np.uint32(y), np.uint32(z), np.uint32(1)
    u, v, w = np.float32(x - i), np.float32(y - j), np.float32(z - k)
    a = c[k, j, i] + u * (c[k, j, i + one] - c[k, j, i])
    b = c[k, j + one, i] + u * (c[k, j + one, i + one] - c[k, j + one, i])
    d = c[k + one, j, i] + u * (c[k + one, j, i + one] - c[k + one, j, i])
    e = c[k + one, j + one, i] + u * (c[k + one, j + one, i + one] - c[k + one, j + one, i])
    near, far = a + v * (b - a), d + v * (e - d)
    return near + w * (far - near)


@kernel
def _block(clearance: np.ndarray, x: float, y: float, z: float) -> tuple[int, int, int]:
    """Find the 2×2×2 block of a point in grid coordinates; (−1, 0, 0) outside."""
    if x < 0.0 or y < 0.0 or z < 0.0:
        return -1, 0, 0
    i, j, k = int(0.5 * x), int(0.5 * y), int(0.5 * z)
    if i >= clearance.shape[2] or j >= clearance.shape[1] or k >= clearance.shape[0]:
        return -1, 0, 0
    return i, j, k


@kernel
def cast(
    c: np.ndarray,
    clearance: np.ndarray,
    steepness: np.ndarray,
    cell: float,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    t_max: float,
    beside: float,
) -> tuple[float, bool]:
    """
    Find where a ray first meets the surface.

    Leap by the clearance, walk by the trilinear field, and close to the surface walk by the
    spline itself until it changes sign; then close in on the root.

    On its way the ray learns how wide its surroundings are free. A light so far `beside` its start
    sees the hit along a line that is (1 - t / hit) times as far beside the ray; where the
    surroundings are wider all the way, that line is taken to be free, too, and spared a walk of
    its own. Widths are read off the trilinear field, so slivers of shadow at edges go amiss: one
    shadowed pixel in twenty.

    :param ox: (and oy, oz) start [grid coordinates].
    :param dx: (and dy, dz) unit direction / cell [grid cells per mm].
    :param t_max: where to give up [mm].
    :param beside: distance of the farthest light from the start [mm].
    :return: distance of the hit [mm], or MISS; and whether lights are taken to see it.
    """
    t, before, f_before = 0.0, 0.0, -1.0
    lit = 2.0 * t_max  # a hit that is nearer than this is taken to be lit
    room_before, went = 0.0, 0.0
    for _ in range(600):
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        i, j, k = _block(clearance, x, y, z)
        if i < 0 or t > t_max:
            return MISS, False
        leap, f = clearance[k, j, i], 1.0
        pace = 1.0 / steepness[k, j, i]
        room = leap
        if leap < 1.2 * beside:  # and the clearance is some cells too careful
            most = leap + cell if leap > 0.0 else 2.0 * cell
            room = max(leap, min(spline_linear(c, x, y, z) * pace, most))
        if leap > 0.0:
            step = max(leap, 0.5 * cell)
        elif room > 0.15 * cell:
            step = room
        else:
            f = spline_value(c, x, y, z)
            room = f * pace
            step = max(room, 0.06 * cell)
        if f > 0.0 and went > 0.0 and min(room, room_before) < 1.2 * beside:
            lit = min(lit, _lit_until(t, went, room_before, room, beside, cell))
        if f > 0.0:
            if leap == 0.0 and room <= 0.15 * cell:
                before, f_before = t, f
            room_before, went = room, step
            t += step
            continue
        if f_before <= 0.0 or t - before > 2.0 * cell:
            before = max(t - 0.5 * cell, 0.0)
            f_before = spline_value(c, ox + before * dx, oy + before * dy, oz + before * dz)
        if f_before <= 0.0:
            return before, False
        hit = _close_in(c, ox, oy, oz, dx, dy, dz, before, f_before, t, f)
        return hit, hit < lit
    return MISS, False


@kernel
def _lit_until(
    t: float, went: float, room_before: float, room: float, beside: float, cell: float
) -> float:
    """
    Up to which hit the light's line stays in the two free balls about a ray's last places.

    :param t: of the second place, went from the first [mm]; room: of each, the balls' radii [mm].
    """
    meet = (room_before * room_before - room * room + went * went) / (2.0 * went)
    meet = min(max(meet, 0.0), went)  # from the first place: there the balls are narrowest
    wide = np.sqrt(max(room_before * room_before - meet * meet, 0.0))
    wide += 0.05 * cell if room < 0.06 * cell else 0.0  # the surface itself is no shadow on it
    return (t - went + meet) * beside / (beside - wide) if wide < beside else 1e9


@kernel
def _close_in(
    c: np.ndarray,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    a: float,
    fa: float,
    b: float,
    fb: float,
) -> float:
    """Shrink the bracket from free space a to tissue b by Illinois' regula falsi, to 1e-5 mm."""
    side = 0
    t = b
    for _ in range(20):
        t = (a * fb - b * fa) / (fb - fa)
        f = spline_value(c, ox + t * dx, oy + t * dy, oz + t * dz)
        if abs(f) < 1e-5:
            break
        if f > 0.0:
            a, fa = t, f
            fb *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            b, fb = t, f
            fa *= 0.5 if side == -1 else 1.0
            side = -1
    return t


@kernel
def occluded(
    c: np.ndarray,
    clearance: np.ndarray,
    steepness: np.ndarray,
    cell: float,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    t_max: float,
) -> bool:
    """Say whether anything lies between a point and t_max: `cast` at the trilinear field only."""
    t = 0.0
    for _ in range(300):
        if t >= t_max:
            return False
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        i, j, k = _block(clearance, x, y, z)
        if i < 0:
            return False
        leap = clearance[k, j, i]
        if leap > 0.0:
            t += max(leap, cell)
            continue
        f = spline_linear(c, x, y, z)
        if f < -0.05 * cell:
            return True
        t += min(max(f / steepness[k, j, i], 0.4 * cell), 2.0 * cell)
    return False
