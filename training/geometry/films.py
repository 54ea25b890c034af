# SPDX-License-Identifier: Apache-2.0
"""Films of one kind of motion each, rendered once and kept in a folder with all that is true."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    :param distortion: (2,) of the lens, see `training.synthetic.camera.Camera`.
    """

    name: str
    images: np.ndarray
    depth: np.ndarray
    K: np.ndarray
    T_world_cam: np.ndarray
    stamps: np.ndarray
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(2))

    @property
    def move(self) -> str:
        """Kind of motion."""
        return self.name.split('_')[0]


def films(
    folder: Path, moves: Sequence[str], seeds: Sequence[int], seconds: float, bent: float = 0.0
) -> Iterator[Filmed]:
    """
    One film of each move and seed, the families taking turns; what the folder has at this length
    is not rendered again.

    :param bent: share of a fisheye's distortion that its lens has, see `barrel`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for move in moves:
        for seed in seeds:
            family = FAMILIES[(seed + MOVES.index(move)) % len(FAMILIES)]
            lens = f'_bent{100 * bent:.0f}' if bent else ''
            path = folder / f'{move}_{family}_{seed}{lens}.npz'
            if not lasts(path, seconds):
                _render(path, family, move, seed, seconds, bent)
            with np.load(path) as kept:
                yield Filmed(path.stem, **kept)


def lasts(path: Path, seconds: float) -> bool:
    """Whether a film is there and so long: its name does not tell."""
    if not path.exists():
        return False
    with np.load(path) as kept:
        return len(kept['stamps']) == round(seconds * RATE)


def _render(path: Path, family: str, move: str, seed: int, seconds: float, bent: float) -> None:
    for again in range(TRIES):
        try:
            film = draw_film(family, UNSEEN + seed + 1000 * again, move, seconds, RATE)
            break
        except ValueError as error:
            if again == TRIES - 1:
                raise ValueError(f'{path.name}: {error}') from error
    scope = film.scope.bent(bent, WIDTH, HEIGHT)
    shots = list(shots_of(film._replace(scope=scope), WIDTH, HEIGHT, UNSEEN + seed))
    part = path.with_suffix('.part.npz')
    np.savez(
        part,
        images=np.stack([shot.image for shot in shots]),
        depth=np.stack([shot.view.depth.astype(np.float16) for shot in shots]),
        K=np.stack([shot.camera.K for shot in shots]),
        T_world_cam=np.stack([shot.camera.T_world_cam for shot in shots]),
        stamps=film.flight.stamps,
        distortion=np.array(scope.distortion),
    )
    part.rename(path)
