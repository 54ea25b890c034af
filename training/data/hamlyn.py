# SPDX-License-Identifier: Apache-2.0
"""
Hamlyn, rectified (Recasens et al. 2021): CLIP/image01/%010d.jpg, depth01/%010d.png (16 bits
[mm], 0 unknown, 1 to 300 mm) and intrinsics.txt with a 3x3 or 3x4 camera matrix.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

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

LAYOUT = 'CLIP/image01/*.jpg with depth01/*.png and intrinsics.txt, as Hamlyn is rectified'
PARTS = ('image01', 'depth01', 'intrinsics.txt')
FARTHEST_MM = 300.0


def hamlyn(root: Path) -> list[RawClip]:
    """Find the clips of a folder, or the one clip that it is."""
    needed_folder(root, LAYOUT)
    folders = sorted(path.parent for path in root.rglob('image01') if path.is_dir())
    if not folders:
        raise ValueError(f'{root}: no folder image01 found; need {LAYOUT}')
    return [
        RawClip(
            folder.name if folder == root else str(folder.relative_to(root)),
            f'{folder} {files_in(*(folder / part for part in PARTS))}',
            partial(_frames, folder),
        )
        for folder in folders
    ]


def _frames(folder: Path) -> Iterator[RawFrame]:
    K = _matrix(folder / 'intrinsics.txt')
    pictures = sorted(
        (path for path in (folder / 'image01').iterdir() if path.stem.isdigit()),
        key=lambda path: int(path.stem),
    )
    for path in pictures:
        image = read_picture(path)
        depth_path = folder / 'depth01' / f'{path.stem}.png'
        depth = None
        if depth_path.is_file():
            stored = read_grey(depth_path).astype(np.float32)
            known = (stored >= 1) & (stored <= FARTHEST_MM)
            depth = np.where(known, stored, np.float32(np.nan))
        height, width = image.shape[:2]
        with named(str(folder / 'intrinsics.txt')):
            camera = None if K is None else Intrinsics.from_matrix(K, width, height)
        yield RawFrame(int(path.stem), image, camera, depth)


def _matrix(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    with named(str(path)):
        values = [float(word) for word in path.read_text().replace(',', ' ').split()]
    if len(values) not in (9, 12):
        raise ValueError(f'{path}: need a 3x3 or 3x4 matrix, found {len(values)} numbers')
    return np.array(values).reshape(3, -1)[:, :3]
