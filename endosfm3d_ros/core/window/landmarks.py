# SPDX-License-Identifier: Apache-2.0
"""The points of a map: where they stand, and what is known of each."""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Landmarks:
    """
    Points that keyframes share, one row each.

    :param ids: (M,) rising.
    :param places: (M, 3) in the world [mm].
    :param track_sigma: (M,) of their log depth by tracks alone, as poor as each fits; infinite
        where they were not adjusted.
    :param misfit: (M,) of each, see `Solution`; NaN where it was not told.
    :param moving: (M,) bool, not of the rigid majority.
    """

    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    places: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    track_sigma: np.ndarray = field(default_factory=lambda: np.zeros(0))
    misfit: np.ndarray = field(default_factory=lambda: np.zeros(0))
    moving: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Which row belongs to each of ids (N,): (N,), -1 where none does."""
        if not len(self):
            return np.full(len(ids), -1)
        row = np.clip(np.searchsorted(self.ids, ids), 0, len(self) - 1)
        return np.where(self.ids[row] == ids, row, -1)

    def moving_of(self, ids: np.ndarray) -> np.ndarray:
        """Whether points of ids (N,) move on their own: (N,) bool, False where it is none."""
        row = self.of(ids)
        return self.moving[row] & (row >= 0) if len(self) else np.zeros(len(ids), bool)

    def kept(self, rows: np.ndarray) -> 'Landmarks':
        """Some of them, (K,) rows or (M,) bool."""
        return Landmarks(
            self.ids[rows],
            self.places[rows],
            self.track_sigma[rows],
            self.misfit[rows],
            self.moving[rows],
        )

    def joined(self, ids: np.ndarray, places: np.ndarray) -> 'Landmarks':
        """With new ones, (N,) and (N, 3) [mm], of which nothing else is known yet."""
        both = np.concatenate([self.ids, ids])
        unknown = np.full(len(ids), np.inf)
        everything = Landmarks(
            both,
            np.concatenate([self.places, places]),
            np.concatenate([self.track_sigma, unknown]),
            np.concatenate([self.misfit, np.nan * unknown]),
            np.concatenate([self.moving, np.zeros(len(ids), bool)]),
        )
        return everything.kept(np.argsort(both, kind='stable'))

    def placed(
        self, rows: np.ndarray, places: np.ndarray, track_sigma: np.ndarray, misfit: np.ndarray
    ) -> 'Landmarks':
        """After some of them, (K,) rows, were placed anew."""
        out = replace(
            self,
            places=self.places.copy(),
            track_sigma=self.track_sigma.copy(),
            misfit=self.misfit.copy(),
        )
        out.places[rows], out.track_sigma[rows], out.misfit[rows] = places, track_sigma, misfit
        return out
