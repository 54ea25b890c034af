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
        basis, moved = still._powers(points)[:, i, j], there - points
        stiff = np.diag(np.where(i + j > 1, STIFFNESS, 1e-9))
        weight = np.ones(len(points))
        found = np.zeros((len(i), 2))
        for _ in range(ROUNDS if len(points) else 0):
            weighted = (basis * weight[:, None]).T
            found = np.linalg.solve(weighted @ basis + stiff, weighted @ moved)
            off = np.linalg.norm(basis @ found - moved, axis=1)
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
        return np.einsum('nij,ijc->nc', self._powers(points), self.coefficients)

    def back(self, near: np.ndarray, there: np.ndarray) -> np.ndarray:
        """
        Where points of the second picture lie in the first one, to first order.

        :param near: (N, 2) places of the first picture near those; there: (N, 2) [px].
        """
        du, dv = (self._slopes(near, axis) for axis in range(2))
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
        at = [down @ self.coefficients[..., axis] @ across.T for axis in range(2)]
        return at[0].astype(np.float32), at[1].astype(np.float32)

    def _powers(self, points: np.ndarray) -> np.ndarray:
        """v^i u^j at points (N, 2): (N, D + 1, D + 1)."""
        count = len(self.coefficients)
        u, v = (_vander(self._normal(points[:, axis], axis), count) for axis in range(2))
        return v[:, :, None] * u[:, None, :]

    def _slopes(self, points: np.ndarray, axis: int) -> np.ndarray:
        """Slope by u (axis 0) or v at points: (N, 2) [px / px]."""
        count = len(self.coefficients)
        powers = [_vander(self._normal(points[:, one], one), count) for one in range(2)]
        lower = np.roll(powers[axis], 1, axis=1)
        lower[:, 0] = 0.0
        powers[axis] = lower * np.arange(count) / (max(self.size) / 2)
        return np.einsum('ni,nj,ijc->nc', powers[1], powers[0], self.coefficients)

    def _normal(self, pixels: np.ndarray, axis: int) -> np.ndarray:
        return (pixels - self.size[axis] / 2) / (max(self.size) / 2)


def _vander(x: np.ndarray, count: int) -> np.ndarray:
    """Powers 0 to count - 1 of x (N,): (N, count)."""
    return np.vander(x.astype(np.float64), count, increasing=True)
