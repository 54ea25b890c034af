# SPDX-License-Identifier: Apache-2.0
"""
C3VD (Bobrow et al. 2023): a colonoscope's fisheye pictures, undistorted to a pinhole.

N_color.png, NNNN_depth.tiff or .png (16 bits, 65535 = 100 mm; 0 and 65535 are unknown; published
colours are numbered 0, 1, 2 and their depths 0000, 0001, 0002), pose.txt with a 4x4
camera-to-world a line, row by row and transposed [mm], and the omnidirectional calibration
(Scaramuzza et al. 2006) in a file of `name value` lines: width, height, cx, cy, a0..a4, c, d, e.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from training.data.raw import (
    RawClip,
    RawFrame,
    files_in,
    named,
    needed_folder,
    read_grey,
    read_picture,
)

FULL_SCALE_MM, FULL_SCALE = 100.0, 65535
WIDEST = 1.3  # tangent of the angle off the axis that the pinhole shows at the side's middle
CALIBRATION = 'camera_intrinsics.txt'
LAYOUT = 'CLIP/N_color.png with NNNN_depth.tiff and pose.txt, as C3VD is published'


@dataclass(frozen=True)
class Fisheye:
    """
    Scaramuzza's camera: with rho the distance of a pixel from the centre, its ray is
    (u', v', a0 + a1 rho + ... + a4 rho^4).

    :param centre: (2,) cx, cy [px].
    :param polynomial: (5,) a0..a4.
    :param stretch: (2, 2) c, d; e, 1: from u', v' to pixels off the centre.
    """

    width: int
    height: int
    centre: np.ndarray
    polynomial: np.ndarray
    stretch: np.ndarray

    def pixels(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Where rays (x, y, 1) are seen, (..., 2) u, v [px]; the polynomial is inverted."""
        rho = np.linspace(0.0, np.hypot(self.width, self.height), 20_000)
        z = np.polynomial.polynomial.polyval(rho, self.polynomial)
        forward = np.maximum.accumulate(z <= 1e-6 * abs(self.polynomial[0]))
        rho, z = rho[~forward], z[~forward]  # up to a right angle off the axis
        tangent = rho / z
        rising = np.concatenate([[True], np.diff(np.maximum.accumulate(tangent)) > 0])
        r = np.hypot(x, y)
        stretch = np.interp(r, tangent[rising], rho[rising]) / np.where(r > 0, r, 1)
        ideal = np.stack([x * stretch, y * stretch], -1)
        return ideal @ self.stretch.T + self.centre

    def pinhole(self) -> Intrinsics:
        """An ideal camera of the same picture size that keeps what is within WIDEST."""
        f = self.width / 2 / WIDEST
        return Intrinsics(
            self.width, self.height, f, f, (self.width - 1) / 2, (self.height - 1) / 2
        )


def c3vd(root: Path, calibration: Path | None = None) -> list[RawClip]:
    """
    Find the clips of a folder, or the one clip that it is.

    :param calibration: default: camera_intrinsics.txt in the clip's folder or above it.
    """
    needed_folder(root, LAYOUT)
    folders = sorted({file.parent for file in root.rglob('*_color.png')})
    if not folders:
        raise ValueError(f'{root}: no pictures found; need {LAYOUT}')
    clips = []
    for folder in folders:
        path = calibration or _calibration(folder, root)
        name = folder.name if folder == root else str(folder.relative_to(root))
        facts = f'{folder} {files_in(folder)} {path.read_text()} {WIDEST}'
        clips.append(RawClip(name, facts, partial(_frames, folder, path)))
    return clips


def read_fisheye(path: Path) -> Fisheye:
    """Read a calibration."""
    words = re.findall(r'([A-Za-z]\w*)\s*[:=,\s]\s*(-?[\d.]+(?:[eE][+-]?\d+)?)', path.read_text())
    values = {name.lower(): float(value) for name, value in words}
    needed = ('width', 'height', 'cx', 'cy', 'a0', 'a1', 'a2', 'a3', 'a4', 'c', 'd', 'e')
    if missing := [name for name in needed if name not in values]:
        raise ValueError(
            f'{path}: {missing[0]} is missing; need lines of a name and a value: '
            f'{", ".join(needed)}'
        )
    polynomial = np.array([values[f'a{n}'] for n in range(5)])
    return Fisheye(
        int(values['width']),
        int(values['height']),
        np.array([values['cx'], values['cy']]),
        polynomial if polynomial[0] > 0 else -polynomial,  # z forward
        np.array([[values['c'], values['d']], [values['e'], 1.0]]),
    )


def _calibration(folder: Path, root: Path) -> Path:
    for place in (folder, *folder.parents):
        if (place / CALIBRATION).is_file():
            return place / CALIBRATION
        if place == root.parent:
            break
    raise ValueError(
        f'{folder}: no {CALIBRATION} here or above; it comes with C3VD, or set calibration: FILE'
    )


def _frames(folder: Path, calibration: Path) -> Iterator[RawFrame]:
    fisheye = read_fisheye(calibration)
    camera = fisheye.pinhole()
    v, u = np.mgrid[: camera.height, : camera.width]
    places = fisheye.pixels((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy)
    grid = places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
    poses = _poses(folder / 'pose.txt')
    depths = _numbered(folder, 'depth')
    for number, path in sorted(_numbered(folder, 'color').items()):
        image = read_picture(path)
        if image.shape[:2] != (fisheye.height, fisheye.width):
            raise ValueError(
                f'{path}: {image.shape[1]}x{image.shape[0]}, its calibration is of '
                f'{fisheye.width}x{fisheye.height}'
            )
        depth = _depth(depths[number]) if number in depths else None
        yield RawFrame(
            number,
            cv2.remap(image, *grid, cv2.INTER_LINEAR),
            camera,
            None
            if depth is None
            else cv2.remap(depth, *grid, cv2.INTER_NEAREST, None, cv2.BORDER_CONSTANT, np.nan),
            poses[number] if poses is not None and number < len(poses) else None,
        )


def _numbered(folder: Path, kind: str) -> dict[int, Path]:
    """Pictures of a kind by number, however many zeros stand before it; a .tiff before a .png."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):
        if match := re.fullmatch(rf'(\d+)_{kind}\.(?:png|tiff?)', path.name):
            found.setdefault(int(match[1]), path)
    return found


def _depth(path: Path) -> np.ndarray:
    stored = read_grey(path)
    known = (stored > 0) & (stored < FULL_SCALE)
    depth = stored.astype(np.float32) * np.float32(FULL_SCALE_MM / FULL_SCALE)
    return np.where(known, depth, np.float32(np.nan))


def _poses(path: Path) -> np.ndarray | None:
    """T_world_cam (N, 4, 4) [mm]."""
    if not path.is_file():
        return None
    rows = [re.split(r'[,\s]+', line.strip()) for line in path.read_text().split('\n')]
    values = [row for row in rows if row != ['']]
    if wrong := [n for n, row in enumerate(values, 1) if len(row) != 16]:
        raise ValueError(
            f'{path}, line {wrong[0]}: need 16 numbers, found {len(values[wrong[0] - 1])}'
        )
    with named(str(path)):
        return np.array(values, float).reshape(-1, 4, 4).transpose(0, 2, 1)
