# SPDX-License-Identifier: Apache-2.0
"""
A contact sheet of the rendered worlds, to be looked at: pictures, and their depth below.

    python -m training.synthetic.sheet OUT.jpg --seed 1000000
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from training.synthetic.samples import FAMILIES, draw_pairs

NEAREST_MM, FARTHEST_MM = 4.0, 160.0  # of the colours


def contact_sheet(
    families: list[str], seed: int, worlds: int, views: int, width: int, height: int
) -> np.ndarray:
    """
    Draw worlds of each family that can be flown through.

    :param families: names of FAMILIES; seed: the first to try; worlds: of each family.
    :param views: pictures of each world, side by side; width: of one [px], height likewise.
    :return: (H, W, 3) uint8 BGR.
    """
    rows = []
    for family in families:
        found, number = 0, seed
        while found < worlds:
            try:
                pairs = list(draw_pairs(family, number, views, width, height))
            except ValueError:  # no way through this one
                number += 1
                continue
            rows.append(np.hstack([pair.images[1][..., ::-1] for pair in pairs]))
            rows.append(np.hstack([colours_of(pair.depths[1]) for pair in pairs]))
            found, number = found + 1, number + 1
    return np.vstack(rows)


def colours_of(depth: np.ndarray) -> np.ndarray:
    """Depth (H, W) [mm] as BGR: near is red, far is blue, unknown is black."""
    known = np.isfinite(depth)
    share = np.log(np.where(known, depth, 1.0).astype(np.float32) / NEAREST_MM)
    share = np.clip(share / np.log(FARTHEST_MM / NEAREST_MM), 0.0, 1.0)
    colours = cv2.applyColorMap((255 * (1 - share)).astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.where(known[..., None], colours, 0).astype(np.uint8)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='picture to write')
    parser.add_argument('--families', nargs='+', default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument('--seed', type=int, default=1_000_000)
    parser.add_argument('--worlds', type=int, default=2, help='of each family')
    parser.add_argument('--views', type=int, default=7, help='of each world')
    a = parser.parse_args()
    sheet = contact_sheet(a.families, a.seed, a.worlds, a.views, 210, 168)
    cv2.imwrite(str(a.out), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == '__main__':
    main()
