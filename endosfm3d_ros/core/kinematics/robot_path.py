# SPDX-License-Identifier: Apache-2.0
"""The robot's own word on where it holds the scope: a stream of poses, read at any time."""

from collections import deque

import numpy as np

from endosfm3d_ros.core.geometry import quaternion

HALF_AVERAGE_S = 0.05  # poses are averaged over twice this, which quiets encoders and trackers
LONGEST_GAP_S = 0.25  # nothing is said about a time inside a longer hole
LEAST_NOISE_MM = 0.02  # nobody is better than this


class RobotPath:
    """
    The last seconds of poses, `T_base_tip`: some frame fixed in the scope, in one that stands.

    :param window_s: how long a pose is kept [s].
    """

    def __init__(self, window_s: float) -> None:
        self._window_ns = round(window_s * 1e9)
        self._stamps: deque[int] = deque()
        self._poses: deque[tuple[float, ...]] = deque()  # x, y, z [mm], quaternion x, y, z, w

    def add(self, stamp_ns: int, T_base_tip: np.ndarray) -> None:
        """
        Take one pose.

        :param stamp_ns: its time [ns]; one that jumps back forgets what was there, an equal one is
            passed over.
        :param T_base_tip: (4, 4) [mm].
        """
        if self._stamps and stamp_ns < self._stamps[-1]:
            self._stamps.clear()
            self._poses.clear()
        if self._stamps and stamp_ns == self._stamps[-1]:
            return
        self._stamps.append(stamp_ns)
        self._poses.append((*T_base_tip[:3, 3].tolist(), *quaternion(T_base_tip[:3, :3])))
        while stamp_ns - self._stamps[0] > self._window_ns:
            self._stamps.popleft()
            self._poses.popleft()

    @property
    def newest_ns(self) -> int:
        """The last stamp [ns]; 0 before the first."""
        return self._stamps[-1] if self._stamps else 0

    def curve(self, origin_ns: int) -> 'RobotCurve | None':
        """The poses as a function of seconds since `origin_ns`; None while there are too few."""
        if len(self._stamps) < 5:
            return None
        times = np.array([stamp - origin_ns for stamp in self._stamps]) * 1e-9
        return RobotCurve(times, np.array(self._poses))


class RobotCurve:
    """
    Averaged poses at any time between the first and the last.

    :param times: (N,) rising [s].
    :param poses: (N, 7) position [mm] and unit quaternion (x, y, z, w).
    :ivar noise_mm: standard deviation of an averaged position, one axis [mm].
    """

    def __init__(self, times: np.ndarray, poses: np.ndarray) -> None:
        same = np.sign(np.sum(poses[1:, 3:] * poses[:-1, 3:], axis=1))
        turned = np.cumprod(np.where(same < 0, -1.0, 1.0))
        poses = poses.copy()
        poses[1:, 3:] *= turned[:, None]  # q and -q are one rotation: no jump between neighbours
        self._times = times
        gaps = np.diff(times)
        self._half = max(HALF_AVERAGE_S, float(np.median(gaps)))
        area = np.diff(times)[:, None] * (poses[1:] + poses[:-1]) / 2
        self._integral = np.vstack([np.zeros(7), np.cumsum(area, axis=0)])
        self.noise_mm = self._noise(poses[:, :3], gaps)

    def _noise(self, positions: np.ndarray, gaps: np.ndarray) -> float:
        """
        From second differences, which a smooth motion leaves small: their variance is six times
        that of one position.
        """
        even = np.abs(gaps[1:] - gaps[:-1]) < 0.5 * np.median(gaps)
        bends = (positions[2:] - 2 * positions[1:-1] + positions[:-2])[even]
        if not len(bends):
            return 1.0
        one = 1.4826 * float(np.median(np.abs(bends))) / np.sqrt(6.0)
        averaged = max(1.0, 2 * self._half / float(np.median(gaps)))
        return max(LEAST_NOISE_MM, one / float(np.sqrt(averaged)))

    def covers(self, times: np.ndarray) -> np.ndarray:
        """Whether something is known at these times, (M,) [s] -> (M,) bool."""
        after = np.searchsorted(self._times, times)
        inside = (times - self._half >= self._times[0]) & (times + self._half <= self._times[-1])
        after = np.clip(after, 1, len(self._times) - 1)
        return inside & (self._times[after] - self._times[after - 1] <= LONGEST_GAP_S)

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Averaged positions and rotations.

        :param times: (M,) that are covered [s].
        :return: (M, 3) [mm] and (M, 3, 3).
        """
        columns = self._integral.T
        ends = [
            np.stack([np.interp(times + side, self._times, one) for one in columns], axis=1)
            for side in (-self._half, self._half)
        ]
        mean = (ends[1] - ends[0]) / (2 * self._half)
        return mean[:, :3], _rotations(mean[:, 3:])


def _rotations(q: np.ndarray) -> np.ndarray:
    """Quaternions (M, 4) of any length to rotations (M, 3, 3)."""
    x, y, z, w = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
