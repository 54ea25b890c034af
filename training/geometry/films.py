# SPDX-License-Identifier: Apache-2.0
"""Films of one kind of motion each, rendered once and kept in a folder with all that is true."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.synthetic.film import MOVES, draw_film, shots_of

WIDTH, HEIGHT, RATE = 320, 256, 25.0
FAMILIES = ('tube', 'cavity', 'bed', 'fork')
UNSEEN = 2_000_000  # added to a seed: worlds, scopes and lights that nothing was trained on
TRIES = 5  # not every world has room for every motion


@dataclass(frozen=True)
class Filmed:
    """
    A film with its truth.

    :param name: move_family_seed.
    :param images: (N, H, W, 3) uint8 RGB.
    :param depth: (N, H, W) float16 z-depth [mm], NaN where nothing is seen.
    :param K: (N, 3, 3) [px]; T_world_cam: (N, 4, 4) [mm]; stamps: (N,) [s].
    """

    name: str
    images: np.ndarray
    depth: np.ndarray
    K: np.ndarray
    T_world_cam: np.ndarray
    stamps: np.ndarray

    @property
    def move(self) -> str:
        """Kind of motion."""
        return self.name.split('_')[0]


def films(
    folder: Path, moves: Sequence[str], seeds: Sequence[int], seconds: float
) -> Iterator[Filmed]:
    """
    One film of each move and seed, the families taking turns; what the folder has is not rendered
    again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for move in moves:
        for seed in seeds:
            family = FAMILIES[(seed + MOVES.index(move)) % len(FAMILIES)]
            path = folder / f'{move}_{family}_{seed}.npz'
            if not path.exists():
                _render(path, family, move, seed, seconds)
            with np.load(path) as kept:
                yield Filmed(path.stem, *(kept[key] for key in _KEYS))


_KEYS = ('images', 'depth', 'K', 'T_world_cam', 'stamps')


def _render(path: Path, family: str, move: str, seed: int, seconds: float) -> None:
    for again in range(TRIES):
        try:
            film = draw_film(family, UNSEEN + seed + 1000 * again, move, seconds, RATE)
            break
        except ValueError as error:
            if again == TRIES - 1:
                raise ValueError(f'{path.name}: {error}') from error
    shots = list(shots_of(film, WIDTH, HEIGHT, UNSEEN + seed))
    made = (
        np.stack([shot.image for shot in shots]),
        np.stack([shot.view.depth.astype(np.float16) for shot in shots]),
        np.stack([shot.camera.K for shot in shots]),
        np.stack([shot.camera.T_world_cam for shot in shots]),
        film.flight.stamps,
    )
    part = path.with_suffix('.part.npz')
    images, depth, K, T_world_cam, stamps = made
    np.savez(part, images=images, depth=depth, K=K, T_world_cam=T_world_cam, stamps=stamps)
    part.rename(path)
