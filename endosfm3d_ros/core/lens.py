# SPDX-License-Identifier: Apache-2.0
"""
A lens that bends straight lines: the division model, one coefficient for a whole scope.

ray = image / (1 + c r^2), image and r in focal lengths; c < 0 is a barrel, near the axis c is the
k1 of the polynomial models (Fitzgibbon 2001, "Simultaneous linear estimation of multiple view
geometry and lens distortion"; for endoscopes Barreto et al. 2009, "Automatic camera calibration
applied to medical endoscopy"). An optical or digital zoom magnifies what the scope's lenses made,
so in focal lengths the coefficient stays as it is.
"""

import numpy as np

LEAST = 0.05  # of 1 + c r^2 and 1 - 4 c r^2: beyond, the model images nothing


def undistorted(image: np.ndarray, coefficient: float) -> np.ndarray:
    """Where straight lines stay straight: (..., 2) x/z, y/z of what is imaged at (..., 2)."""
    if not coefficient:
        return image
    return image / bent_by((image * image).sum(-1, keepdims=True), coefficient)


def bent_by(squared: np.ndarray, coefficient: float) -> np.ndarray:
    """How much farther from the axis something is imaged, at r^2 of its image, than a ray goes."""
    return np.maximum(1.0 + coefficient * squared, LEAST)


def distorted(rays: np.ndarray, coefficient: float) -> np.ndarray:
    """Where the lens images rays (..., 2) x/z, y/z: (..., 2) in focal lengths."""
    if not coefficient:
        return rays
    return rays * magnified((rays * rays).sum(-1, keepdims=True), coefficient)[0]


def magnified(
    squared: np.ndarray, coefficient: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    How much farther from the axis the lens images a ray than a pinhole would.

    :param squared: (...) r^2 of rays x/z, y/z.
    :return: that factor, and its slopes by r^2 and by the coefficient, each (...).
    """
    root = np.sqrt(np.maximum(1.0 - 4.0 * coefficient * squared, LEAST))
    factor = 2.0 / (1.0 + root)
    slope = factor * factor / root
    return factor, coefficient * slope, squared * slope


def rational_polynomial(coefficient: float) -> list[float]:
    """
    The same lens by OpenCV's k1, k2, p1, p2, k3, k4, k5, k6.

    With x = c r^2 its factor 2 / (1 + sqrt(1 - 4 x)) is the continued fraction 1 / (1 - x / (1 - x
    / ...)); broken off here it is right to 1e-4 up to x = -0.7, to a hundredth up to x = -2.
    """
    c = coefficient
    return [-5 * c, 6 * c**2, 0.0, 0.0, -(c**3), -6 * c, 10 * c**2, -4 * c**3]
