# SPDX-License-Identifier: Apache-2.0
"""
What a lens that bends lines does to a cloud: the input, what is published, and a cut through it.

    python -m training.geometry.lens_picture FILM.npz OUT.jpg
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.core.lens import distorted
from endosfm3d_ros.engines.choose import DepthGraphs
from training.geometry.films import Filmed
from training.geometry.runs import Remembered, Start, played
from training.synthetic.camera import unbent

HEIGHT = 336  # of the panels [px]
TRUE, FOUND, TAKEN = (60, 60, 60), (60, 150, 30), (30, 30, 220)  # BGR


def picture(film: Filmed, found: Reconstruction, taken: Reconstruction, number: int) -> np.ndarray:
    """
    Three panels: the input, the published depth over the picture, and the cloud from above.

    :param found: the frame through the lens that was found; taken: as a pinhole's.
    :return: (HEIGHT, W, 3) uint8 BGR.
    """
    panels = [_fitted(film.images[number][..., ::-1]), _fitted(_depth(found)[..., ::-1])]
    return np.hstack([*panels, _from_above(film, found, taken, number)])


def _fitted(image: np.ndarray) -> np.ndarray:
    width = round(image.shape[1] * HEIGHT / image.shape[0])
    return cv2.resize(np.ascontiguousarray(image), (width, HEIGHT), interpolation=cv2.INTER_AREA)


def _depth(one: Reconstruction) -> np.ndarray:
    low, high = np.nanpercentile(one.depth, [2, 98])
    near = np.clip(1 - (np.nan_to_num(one.depth, nan=high) - low) / (high - low), 0, 1)
    colour = cv2.applyColorMap((255 * near).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    known = np.isfinite(one.depth)[..., None]
    return np.where(known, (0.55 * colour + 0.45 * one.image).astype(np.uint8), 0)


def _from_above(
    film: Filmed, found: Reconstruction, taken: Reconstruction, number: int
) -> np.ndarray:
    """The middle row's points in the plane of x and z [mm], each scaled to the truth."""
    K, z = film.K[number], film.depth[number].astype(float)
    row = round(K[1, 2])
    x = (np.arange(z.shape[1]) - K[0, 2]) / K[0, 0]
    image = np.column_stack([x, np.zeros(len(x))])
    ray = (image * unbent(image, film.distortion))[:, 0]
    true = np.column_stack([ray * z[row], z[row]])
    cuts = [(true, TRUE, 'truth')]
    for one, colour, name in ((taken, TAKEN, 'as a pinhole'), (found, FOUND, 'found')):
        cuts.append((_cut(film, one, number), colour, name))
    inside = np.concatenate([points[np.isfinite(points).all(1)] for points, _, _ in cuts])
    half, far = np.abs(inside[:, 0]).max() * 1.1, inside[:, 1].max() * 1.08
    scale = (HEIGHT - 20) / max(far, 2 * half * HEIGHT / 448)
    panel = np.full((HEIGHT, 448, 3), 255, np.uint8)
    for n, (points, colour, name) in enumerate(cuts):
        for px, pz in points[np.isfinite(points).all(1)]:
            at = round(224 + px * scale), round(HEIGHT - 10 - pz * scale)
            cv2.circle(panel, at, 2, colour, -1, cv2.LINE_AA)
        cv2.putText(panel, name, (12, 24 + 22 * n), cv2.FONT_HERSHEY_SIMPLEX, 0.55, colour, 1,
                    cv2.LINE_AA)  # fmt: skip
    return panel


def _cut(film: Filmed, one: Reconstruction, number: int) -> np.ndarray:
    """(N, 2) x and z of a told cloud's middle row, its scale that of the truth."""
    camera, theirs = one.camera, one.input_camera
    z = one.depth[round(camera.cy)].astype(float)
    x = (np.arange(len(z)) - camera.cx) / camera.fx
    image = distorted(np.column_stack([x, np.zeros(len(x))]), one.distortion)[:, 0]
    column = np.rint(image * theirs.fx + theirs.cx).astype(int)
    height, width = film.depth[number].shape
    seen = (column >= 0) & (column < width)
    row = np.clip(round(theirs.cy), 0, height - 1)
    true = np.where(seen, film.depth[number][row, np.clip(column, 0, width - 1)], np.nan)
    scale = float(np.nanmedian(true / z))
    return np.column_stack([x * z * scale, z * scale])


def main() -> int:
    """:return: process exit status."""
    path, out = Path(sys.argv[1]), sys.argv[2]
    with np.load(path) as kept:
        film = Filmed(path.stem, **kept)
    opened = open_bundle('compact')
    network = Remembered(DepthGraphs(opened, 'auto'))
    number = len(film.images) - 1
    said = {
        lens: played(film, network, opened.sizes, Start(1.4, True, 'window', lens))[0][number]
        for lens in ('auto', 'straight')
    }
    cv2.imwrite(out, picture(film, said['auto'], said['straight'], number))
    return 0


if __name__ == '__main__':
    sys.exit(main())
