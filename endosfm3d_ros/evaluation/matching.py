# SPDX-License-Identifier: Apache-2.0
"""Which frame of a run is which frame of its truth, by their stamps."""

from dataclasses import dataclass

import numpy as np

from endosfm3d_ros.bags.source import FIRST_STAMP_NS


@dataclass(frozen=True)
class Matches:
    """
    Which frame of the run is which frame of the truth.

    :param run: (M,) places in the run's stamps.
    :param truth: (M,) frame numbers of the truth, rising, none twice.
    :param unmatched: frames of the run that have no partner.
    :param how: what the two clocks were compared by, for a person.
    """

    run: np.ndarray
    truth: np.ndarray
    unmatched: int
    how: str = ''


def match(
    stamps_ns: np.ndarray, truth_stamps: np.ndarray, first_stamp_ns: int | None = None
) -> Matches:
    """
    Pair frames whose stamps differ by less than half a frame: live play may drop some in between.

    :param stamps_ns: (N,) int64, the run's.
    :param truth_stamps: (M,) the truth's [s].
    :param first_stamp_ns: the run's stamp of the truth's first frame, known to who played it;
        default: see `clock`.
    """
    if not len(stamps_ns):
        return Matches(np.empty(0, int), np.empty(0, int), 0)
    since_first = truth_stamps - truth_stamps[0]
    half_frame = float(np.median(np.diff(since_first))) / 2 if len(since_first) > 1 else 1e-3
    first, how = clock(stamps_ns, np.round(truth_stamps * 1e9).astype(np.int64), half_frame * 1e9)
    if first_stamp_ns is not None:
        first, how = first_stamp_ns, 'the stamps that the frames were sent under'
    run, numbers = pairs((stamps_ns - first) * 1e-9, since_first, half_frame)
    return Matches(run, numbers, len(stamps_ns) - len(run), how)


def pairs(
    moments: np.ndarray, targets: np.ndarray, within: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    Pair every target with the nearest of the moments that lie nearest to it.

    :param moments: (N,) times in any order.
    :param targets: (M,) times, rising, of the same unit.
    :param within: a pair is less than this apart.
    :return: places in the moments, and in the targets, rising; none twice.
    """
    if not len(targets):
        return np.empty(0, int), np.empty(0, int)
    nearest = np.searchsorted((targets[1:] + targets[:-1]) / 2, moments)
    distance = np.abs(moments - targets[nearest])
    run: list[int] = []
    numbers: list[int] = []
    for place in np.lexsort((distance, nearest)):
        if distance[place] < within and (not numbers or numbers[-1] != nearest[place]):
            run.append(int(place))
            numbers.append(int(nearest[place]))
    return np.array(run, int), np.array(numbers, int)


def clock(
    stamps_ns: np.ndarray, truth_stamps_ns: np.ndarray, half_frame: float
) -> tuple[int, str]:
    """
    The run's stamp of the truth's first frame [ns], and how it was found.

    One clock where the times overlap; else the clock of sources without one; else the first
    frames are taken for one, which is wrong where the run lost its first.

    :param half_frame: of the truth [ns].
    """
    first_truth, last_truth = int(truth_stamps_ns[0]), int(truth_stamps_ns[-1])
    half = round(half_frame)
    first, last = int(stamps_ns.min()), int(stamps_ns.max())
    if first <= last_truth + half and last >= first_truth - half:
        return first_truth, 'one clock'
    if FIRST_STAMP_NS <= first + half <= FIRST_STAMP_NS + last_truth - first_truth + half:
        return FIRST_STAMP_NS, 'the time since the first frame of the source'
    return first, "the time since the run's first frame (wrong if the very first was lost)"
