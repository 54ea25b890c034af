# SPDX-License-Identifier: Apache-2.0
"""How one picture as a whole became another: a smooth map of the plane, fitted to tracks."""

from dataclasses import dataclass

import numpy as np

DEGREE = 4  # of the polynomial: zoom, turn, perspective, and relief as far as it is smooth
FEWEST, FEWEST_AFFINE = 60, 6  # points that it takes, and that an affine map does; else a shift
ROUNDS = 4  # of reweighting
KERNEL = 1.5  # medians of what is left, beyond which a point loses its say (Cauchy)
STIFFNESS = 1e-3  # against bends that hardly any point tells
FARTHEST_PX = 8.0  # that `back` goes
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
        degree = DEGREE if len(points) >= FEWEST else int(len(points) >= FEWEST_AFFINE)
        still = cls.still(size)
        i, j = np.nonzero(degree >= _ORDER)
        basis, moved = still._powers(points)[:, i * (DEGREE + 1) + j], there - points
        stiff = np.diag(np.where(i + j > 1, STIFFNESS, 1e-9))
        weight = np.ones(len(points))
        found = np.zeros((len(i), 2))
        for _ in range(ROUNDS if len(points) else 0):
            weighted = (basis * weight[:, None]).T
            found = np.linalg.solve(weighted @ basis + stiff, weighted @ moved)
            off = np.hypot(*(basis @ found - moved).T)
            usual = KERNEL * float(np.median(off)) + 1e-6
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
        return self._powers(points) @ self.coefficients.reshape(-1, 2)

    def back(self, near: np.ndarray, there: np.ndarray) -> np.ndarray:
        """
        Where points of the second picture lie in the first one, to first order.

        :param near: (N, 2) places of the first picture near those; there: (N, 2) [px].
        """
        du, dv = self._slopes(near)
        off = there - self(near)
        det = du[:, 0] * dv[:, 1] - dv[:, 0] * du[:, 1]
        det = np.where(np.abs(det) < 0.05, np.inf, det)  # folded: nobody knows
        step = np.column_stack(
            [
                dv[:, 1] * off[:, 0] - dv[:, 0] * off[:, 1],
                du[:, 0] * off[:, 1] - du[:, 1] * off[:, 0],
            ]
        )
        return near + np.clip(step / det[:, None], -FARTHEST_PX, FARTHEST_PX)

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel lies in the second picture: u and v (h, w) float32, for cv2.remap."""
        width, height = self.size
        u = self._normal(np.arange(width), 0)
        v = self._normal(np.arange(height), 1)
        across, down = (_vander(x, len(self.coefficients)) for x in (u, v))
        wide = np.ascontiguousarray(across.T, np.float32)
        rows = [(down @ self.coefficients[..., axis]).astype(np.float32) for axis in range(2)]
        return rows[0] @ wide, rows[1] @ wide

    def _powers(self, points: np.ndarray) -> np.ndarray:
        """v^i u^j at points (N, 2), row i first: (N, (D + 1)^2)."""
        u, v = self._axes(points)
        return _products(v, u)

    def _slopes(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slopes by u and by v at points: (N, 2) each [px / px]."""
        u, v = self._axes(points)
        flat = self.coefficients.reshape(-1, 2) / (max(self.size) / 2)
        return _products(v, _derived(u)) @ flat, _products(_derived(v), u) @ flat

    def _axes(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Powers of u and of v at points (N, 2): (N, D + 1) each."""
        u, v = (self._normal(points[:, axis], axis) for axis in range(2))
        return _vander(u, len(self.coefficients)), _vander(v, len(self.coefficients))

    def _normal(self, pixels: np.ndarray, axis: int) -> np.ndarray:
        return (pixels - self.size[axis] / 2) / (max(self.size) / 2)


def _vander(x: np.ndarray, count: int) -> np.ndarray:
    """Powers 0 to count - 1 of x (N,): (N, count)."""
    powers = np.ones((len(x), count))
    for k in range(1, count):
        powers[:, k] = powers[:, k - 1] * x
    return powers


def _derived(powers: np.ndarray) -> np.ndarray:
    """Derivatives of powers (N, count) of x by x."""
    found = np.zeros_like(powers)
    found[:, 1:] = powers[:, :-1] * np.arange(1, powers.shape[1])
    return found


def _products(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Each of rows (N, R) times each of columns (N, C): (N, R C)."""
    both = rows[:, :, None] * columns[:, None, :]
    return both.reshape(len(rows), rows.shape[1] * columns.shape[1])
