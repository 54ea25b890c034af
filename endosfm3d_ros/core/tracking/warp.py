# SPDX-License-Identifier: Apache-2.0
"""How one picture as a whole became another: a smooth map of the plane, fitted to tracks."""

from dataclasses import dataclass

import numpy as np

from endosfm3d_ros.core.kernel import kernel

DEGREE = 4  # of the polynomial: zoom, turn, perspective, and relief as far as it is smooth
FEWEST, FEWEST_AFFINE = 60, 6  # points that it takes, and that an affine map does; else a shift
ROUNDS = 4  # of reweighting
KERNEL = 1.5  # medians of what is left, beyond which a point loses its say (Cauchy)
STIFFNESS = 1e-3  # against bends that hardly any point tells
FARTHEST_PX = 8.0  # that `back` goes
LEAST_DET = 0.05  # of the slopes: less is a fold
_ORDER = np.add.outer(np.arange(DEGREE + 1), np.arange(DEGREE + 1))


@dataclass(frozen=True)
class Warp:
    """
    A polynomial map of pixels to pixels.

    :param coefficients: (D + 1, D + 1, 2), of v^i u^j [px], u and v from the middle of the picture
        in halves of its longer side.
    :param size: (width, height) of both pictures [px].
    """

    coefficients: np.ndarray
    size: tuple[int, int]

    @classmethod
    def fitted(cls, points: np.ndarray, there: np.ndarray, size: tuple[int, int]) -> 'Warp':
        """
        Fit it robustly, with reweighting.

        :param points: (N, 2) in the first picture; there: (N, 2) in the second one [px].
        """
        still = cls.still(size)
        if not len(points):
            return still
        degree = DEGREE if len(points) >= FEWEST else int(len(points) >= FEWEST_AFFINE)
        i, j = np.nonzero(degree >= _ORDER)
        stiff = np.diag(np.where(i + j > 1, STIFFNESS, 1e-9))
        points = _exactly(points)
        basis, moved = _powers(points, degree, *still._frame), _exactly(there) - points
        weight = np.ones(len(points))
        for _ in range(ROUNDS):
            weighted = (basis * weight[:, None]).T
            found = np.linalg.solve(weighted @ basis + stiff, weighted @ moved)
            off = _left(basis, moved, found)
            usual = KERNEL * float(np.partition(off, len(off) // 2)[len(off) // 2]) + 1e-6
            weight = 1.0 / (1.0 + (off / usual) ** 2)
        still.coefficients[i, j] += found
        return still

    @classmethod
    def still(cls, size: tuple[int, int]) -> 'Warp':
        """Nothing moved."""
        coefficients = np.zeros((DEGREE + 1, DEGREE + 1, 2))
        coefficients[0, 0] = np.array(size) / 2
        coefficients[0, 1, 0] = coefficients[1, 0, 1] = max(size) / 2
        return cls(coefficients, size)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Where points (N, 2) of the first picture lie in the second one [px]."""
        return _mapped(_exactly(points), self.coefficients, *self._frame)

    def back(self, near: np.ndarray, there: np.ndarray) -> np.ndarray:
        """
        Where points of the second picture lie in the first one, to first order.

        :param near: (N, 2) places of the first picture near those; there: (N, 2) [px].
        """
        return _led_back(_exactly(near), _exactly(there), self.coefficients, *self._frame)

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel lies in the second picture: u and v (h, w) float32, for cv2.remap."""
        width, height = self.size
        u0, v0, half = self._frame
        across = np.vander((np.arange(width) - u0) / half, DEGREE + 1, increasing=True)
        down = np.vander((np.arange(height) - v0) / half, DEGREE + 1, increasing=True)
        wide = np.ascontiguousarray(across.T, np.float32)
        rows = [(down @ self.coefficients[..., axis]).astype(np.float32) for axis in range(2)]
        return rows[0] @ wide, rows[1] @ wide

    @property
    def _frame(self) -> tuple[float, float, float]:
        """The middle of the picture, u and v, and half of its longer side [px]."""
        width, height = self.size
        return width / 2, height / 2, max(width, height) / 2


def _exactly(points: np.ndarray) -> np.ndarray:
    """As compiled loops take them."""
    return np.ascontiguousarray(points, np.float64)


@kernel
def _powers(points: np.ndarray, degree: int, u0: float, v0: float, half: float) -> np.ndarray:
    """v^i u^j at points (N, 2), i + j up to a degree, rising i first: (N, T)."""
    out = np.empty((len(points), (degree + 1) * (degree + 2) // 2))
    for n in range(len(points)):
        u, v = (points[n, 0] - u0) / half, (points[n, 1] - v0) / half
        t, of_v = 0, 1.0
        for i in range(degree + 1):
            both = of_v
            for _ in range(degree + 1 - i):
                out[n, t] = both
                both *= u
                t += 1
            of_v *= v
    return out


@kernel
def _left(basis: np.ndarray, moved: np.ndarray, found: np.ndarray) -> np.ndarray:
    """How far points are moved otherwise than a fit (T, 2) says: (N,)."""
    out = np.empty(len(basis))
    for n in range(len(basis)):
        u, v = -moved[n, 0], -moved[n, 1]
        for t in range(len(found)):
            u += basis[n, t] * found[t, 0]
            v += basis[n, t] * found[t, 1]
        out[n] = np.sqrt(u * u + v * v)
    return out


@kernel
def _mapped(
    points: np.ndarray, coefficients: np.ndarray, u0: float, v0: float, half: float
) -> np.ndarray:
    """Where a polynomial leads points (N, 2): (N, 2), by Horner's rule."""
    out = np.empty(points.shape)
    top = len(coefficients) - 1
    for n in range(len(points)):
        u, v = (points[n, 0] - u0) / half, (points[n, 1] - v0) / half
        for axis in range(2):
            value = 0.0
            for i in range(top, -1, -1):
                row = 0.0
                for j in range(top, -1, -1):
                    row = row * u + coefficients[i, j, axis]
                value = value * v + row
            out[n, axis] = value
    return out


@kernel
def _led_back(
    near: np.ndarray,
    there: np.ndarray,
    coefficients: np.ndarray,
    u0: float,
    v0: float,
    half: float,
) -> np.ndarray:
    """A Newton step from `near` towards what is mapped to `there`: (N, 2), see `Warp.back`."""
    out = np.empty(near.shape)
    top = len(coefficients) - 1
    for n in range(len(near)):
        u, v = (near[n, 0] - u0) / half, (near[n, 1] - v0) / half
        off, by_u, by_v = np.empty(2), np.empty(2), np.empty(2)
        for axis in range(2):
            value = slope_u = slope_v = 0.0
            for i in range(top, -1, -1):
                row = row_u = 0.0
                for j in range(top, -1, -1):
                    row_u = row_u * u + row
                    row = row * u + coefficients[i, j, axis]
                slope_v = slope_v * v + value
                slope_u = slope_u * v + row_u
                value = value * v + row
            off[axis], by_u[axis], by_v[axis] = there[n, axis] - value, slope_u, slope_v
        det = (by_u[0] * by_v[1] - by_v[0] * by_u[1]) / half
        if abs(det) < LEAST_DET * half:  # folded: nobody knows
            det = np.inf
        step_u = (by_v[1] * off[0] - by_v[0] * off[1]) / det
        step_v = (by_u[0] * off[1] - by_u[1] * off[0]) / det
        out[n, 0] = near[n, 0] + min(max(step_u, -FARTHEST_PX), FARTHEST_PX)
        out[n, 1] = near[n, 1] + min(max(step_v, -FARTHEST_PX), FARTHEST_PX)
    return out
