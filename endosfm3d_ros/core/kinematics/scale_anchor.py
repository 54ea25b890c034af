# SPDX-License-Identifier: Apache-2.0
"""When the robot's word on the scale is good enough to be taken, and when it is taken anew."""

from collections import deque
from dataclasses import replace
from math import exp, hypot, log

import numpy as np

from endosfm3d_ros.core.kinematics.hand_eye import DELAYS_S, Fit, Steps
from endosfm3d_ros.core.kinematics.kinematic_scale import fit_scale
from endosfm3d_ros.core.kinematics.robot_path import RobotPath
from endosfm3d_ros.core.scale import ANOTHER_MAP, KINEMATIC, Scale

WINDOW_S = 20.0  # motion that is looked at
STEP_S = 0.12
LONGEST_STEP_S = 0.5
FIT_EVERY_S, REFIT_EVERY_S = 1.0, 3.0  # before and after the scale is anchored
LEAST_SPAN_MM = 8.0  # a robot that moves less says nothing: breath and pulse move tissue as far
LEAST_AGREEMENT = 0.5
AT_THE_END_S = 0.01  # of DELAYS_S: a delay so near it may be any longer one
FAR_LESS_KNOWN = 0.1  # log of the focal length; what was seen while it was so unsure is left out
MOVE_SIGMAS, MOVE_LEAST = 1.5, 0.05  # a later fit as far off as this moves the anchor
MOST_MAPS = 1000  # whose worlds are known: many more than could still go on


class ScaleAnchor:
    """
    Collects both motions, and anchors the scale once they tell it.

    :param lever_sigma_mm: how far the camera may sit from the robot's tip frame, one axis [mm].
    :param anchor_sigma: the scale is anchored once the standard deviation of its log is below.
    :ivar fit: the last one, good or not; taken: the last good one; None before the first.
    :ivar why: what is still missing, in words, or why the last fit was not taken; '' if it was.
    """

    def __init__(self, lever_sigma_mm: float, anchor_sigma: float) -> None:
        self.why = 'no robot poses yet'
        self.fit: Fit | None = None
        self.taken: Fit | None = None
        self._start: Fit | None = None  # where the next fit begins; None tries several
        self._lever_sigma_mm, self._anchor_sigma = lever_sigma_mm, anchor_sigma
        self._robot = RobotPath(WINDOW_S + 2.0)
        self._stamps: deque[int] = deque()
        self._places: deque[np.ndarray] = deque()
        self._joined: deque[bool] = deque()  # with the place before
        self._focal_sigmas: deque[float] = deque()
        self._worlds: deque[int] = deque()
        self._numbers: dict[tuple[int, int], int] = {}  # of the world of an epoch's map
        self._epoch, self._broken, self._fit_ns = -1, True, 0
        self._world, self._begun = -1, 0  # where we are: a world has one scale; worlds so far
        self._told, self._told_of, self._moved = Scale(), set[int](), False

    @property
    def scale(self) -> Scale:
        """The one that was told, less sure in another world than it was told of."""
        told = self._told
        if not told.anchored or self._world in self._told_of:
            return told
        return replace(told, log_sigma=hypot(told.log_sigma, ANOTHER_MAP))

    def robot(self, stamp_ns: int, T_base_tip: np.ndarray) -> None:
        """Take a pose of the robot: stamp [ns], (4, 4) [mm]."""
        self._robot.add(stamp_ns, T_base_tip)

    def enter(self, epoch: int, map_number: int) -> None:
        """
        Say in which map the next frame is, before it is told at this scale: another map has
        another scale, unless its epoch began because this one moved.
        """
        here, before = (epoch, map_number), self._world
        if here not in self._numbers:
            ours = self._moved and epoch == self._epoch + 1
            self._numbers[here] = before if ours else self._begun
            self._begun += 1
            if len(self._numbers) > MOST_MAPS:
                del self._numbers[next(iter(self._numbers))]
        self._world = self._numbers[here]
        self._broken |= self._world != before
        self._moved = False

    def camera(
        self,
        stamp_ns: int,
        T_odom_cam: np.ndarray,
        epoch: int,
        motion_known: bool,
        log_focal_sigma: float,
        map_number: int = 0,
    ) -> Scale | None:
        """
        Take the camera's place after a frame.

        :param stamp_ns: the frame's [ns].
        :param T_odom_cam: (4, 4), lengths as they came out under `scale` [mm].
        :param epoch: places of two epochs have nothing to do with each other.
        :param motion_known: whether the motion since the frame before is known.
        :param log_focal_sigma: standard deviation of the log of its focal length.
        :param map_number: see `Reconstruction`: lengths of two maps have two scales.
        :return: the scale from now on, where it changed.
        """
        before = self.scale
        self.enter(epoch, map_number)
        self._keep(stamp_ns, T_odom_cam, epoch, motion_known, log_focal_sigma)
        due = REFIT_EVERY_S if self.scale.anchored else FIT_EVERY_S
        if not 0 <= stamp_ns - self._fit_ns < due * 1e9:
            self._fit_ns = stamp_ns
            self._judge(self._try(log_focal_sigma))
        return self.scale if self.scale != before else None

    def _keep(
        self, stamp_ns: int, T_odom_cam: np.ndarray, epoch: int, known: bool, focal_sigma: float
    ) -> None:
        kept = self._stamps, self._places, self._joined, self._focal_sigmas, self._worlds
        if self._stamps and stamp_ns < self._stamps[-1]:
            for one in kept:
                one.clear()
        self._broken |= epoch != self._epoch or not known
        self._epoch = epoch
        since_s = (stamp_ns - self._stamps[-1]) * 1e-9 if self._stamps else np.inf
        if since_s < STEP_S and not self._broken:
            return
        nominal = T_odom_cam.copy()
        nominal[:3, 3] /= self.scale.factor
        self._stamps.append(stamp_ns)
        self._places.append(nominal)
        self._joined.append(not self._broken and since_s <= LONGEST_STEP_S)
        self._focal_sigmas.append(focal_sigma)
        self._worlds.append(self._world)
        self._broken = False
        while stamp_ns - self._stamps[0] > WINDOW_S * 1e9:
            for one in kept:
                one.popleft()

    def _try(self, log_focal_sigma: float) -> Fit | None:
        origin_ns = self._stamps[0]
        curve = self._robot.curve(origin_ns)
        if curve is None:
            self.why = 'no robot poses yet'
            return None
        times = np.array([stamp - origin_ns for stamp in self._stamps]) * 1e-9
        # Paths of a focal length that was still a guess are bent, not only stretched: levers and
        # scale would be fitted to the bend.
        seen = np.square(self._focal_sigmas) <= log_focal_sigma**2 + FAR_LESS_KNOWN**2
        seen &= np.array(self._worlds) == self._world
        joined = np.array(self._joined)[1:] & seen[1:] & seen[:-1]
        steps = Steps(times, np.array(self._places), joined)
        self.fit = fit_scale(steps, curve, self._lever_sigma_mm, log_focal_sigma, self._start)
        if self.fit is None:
            off_s = (self._robot.newest_ns - self._stamps[-1]) * 1e-9
            self.why = (
                f'too little time in common with the robot, whose newest stamp is {off_s:+.1f} s '
                'from the newest picture'
            )
        return self.fit

    def _judge(self, fit: Fit | None) -> None:
        if fit is None:
            return
        self.why = self._doubt(fit)
        self._start = None if self.why else fit
        if self.why:
            return
        self.taken = fit
        off = fit.log_scale - log(self._told.factor)
        far = abs(off) > max(MOVE_LEAST, MOVE_SIGMAS * fit.log_sigma)
        self._moved = far or not self._told.anchored
        self._told_of = {self._world} if self._moved else self._told_of | {self._world}
        if self._moved:
            self._told = Scale(exp(fit.log_scale), fit.log_sigma, KINEMATIC)
        else:
            self._told = Scale(self._told.factor, hypot(fit.log_sigma, off), KINEMATIC)

    def _doubt(self, fit: Fit) -> str:
        """Why a fit is not taken; '' when it is."""
        if fit.span_mm < LEAST_SPAN_MM:
            return f'the robot moved within {fit.span_mm:.0f} mm; needed {LEAST_SPAN_MM:.0f}'
        if fit.agreement < LEAST_AGREEMENT:
            return (
                f'robot and picture agree in {100 * fit.agreement:.0f} % of their motion; '
                f'needed {100 * LEAST_AGREEMENT:.0f}'
            )
        if fit.turn_agreement < LEAST_AGREEMENT:
            return 'the picture turns where the robot does not: sideways moves taken for pans?'
        early, late = DELAYS_S
        if not early + AT_THE_END_S < fit.delay_s < late - AT_THE_END_S:
            return (
                f'pictures seem {1e3 * fit.delay_s:.0f} ms late: the end of what is looked for; '
                'mend their stamps'
            )
        if fit.log_sigma > self._anchor_sigma:
            return (
                f'the scale is known to {100 * fit.log_sigma:.0f} %; '
                f'needed {100 * self._anchor_sigma:.0f} (move the scope more, not only about the '
                'trocar)'
            )
        return ''
