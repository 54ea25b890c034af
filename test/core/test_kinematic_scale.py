# SPDX-License-Identifier: Apache-2.0
"""
A robot moves a scope of which nobody knows where its camera sits, nor how late its pictures are:
the scale comes out, with an uncertainty that can be believed.
"""

import sys
from dataclasses import dataclass

import numpy as np
import pytest

from endosfm3d_ros.core.geometry import inverse, motion_from_vector
from endosfm3d_ros.core.kinematics.robot_path import RobotPath
from endosfm3d_ros.core.kinematics.scale_anchor import LEAST_SPAN_MM, MOST_MAPS, ScaleAnchor
from endosfm3d_ros.core.scale import ANOTHER_MAP

FIRST_NS = 1_700_000_000_000_000_000
SECONDS, DELAY_S, NOISE_MM, TRUE_SCALE = 12.0, 0.08, 1.0, 1.7
LEVER_SIGMA_MM, ANCHOR_SIGMA, FOCAL_SIGMA = 30.0, 0.04, 0.35
ROBOT_HZ, CAMERA_HZ = 50, 25


def wander(rng: np.random.Generator, rms: float) -> np.ndarray:
    """Amplitudes, frequencies [Hz] and phases of a smooth motion along three axes."""
    waves = np.stack([rng.normal(size=(6, 3)), np.zeros((6, 3)), rng.uniform(0, 6.28, (6, 3))])
    waves[0] *= rms / np.sqrt(3.0)
    waves[1] = rng.uniform(0.05, 0.3, (6, 1))
    return waves


def at(waves: np.ndarray, time: float) -> np.ndarray:
    size, frequency, phase = waves
    return np.sum(size * np.sin(2 * np.pi * frequency * time + phase), axis=0)


@dataclass(frozen=True)
class Scene:
    """A robot, its scope, and what the camera's odometry says of it."""

    places: np.ndarray
    turns: np.ndarray
    T_tip_cam: np.ndarray
    rng: np.random.Generator
    pivot_mm: float = 0.0

    def T_base_tip(self, time: float) -> np.ndarray:
        turn = motion_from_vector(at(self.turns, time), np.zeros(3))
        place = at(self.places, time) + turn[:3, :3] @ [0.0, 0.0, self.pivot_mm]
        return motion_from_vector(at(self.turns, time), place)

    def T_base_cam(self, time: float) -> np.ndarray:
        return self.T_base_tip(time) @ self.T_tip_cam

    def noisy(self, time: float) -> np.ndarray:
        T = self.T_base_tip(time)
        T[:3, 3] += self.rng.normal(size=3) * NOISE_MM
        return T


def scene(
    seed: int, moves_mm: float = 6.0, turns_rad: float = 0.08, pivot_mm: float = 0.0
) -> Scene:
    """Hand-eye is 20 mm and 5 degrees off."""
    rng = np.random.default_rng(seed)
    axis, lever = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    T_tip_cam = motion_from_vector(np.radians(5.0) * axis, 20.0 * lever)
    return Scene(wander(rng, moves_mm), wander(rng, turns_rad), T_tip_cam, rng, pivot_mm)


def watch(
    scene: Scene,
    anchor: ScaleAnchor,
    seconds: float = SECONDS,
    still_camera: bool = False,
    until_anchored: bool = False,
) -> float:
    """
    Let the anchor see both, as a node does.

    :return: the camera's true path [mm] until the scale was anchored first; inf if it never was.
    """
    T_odom_cam, path, anchored_at = np.eye(4), 0.0, float('inf')
    robot_time = -1.0
    before = scene.T_base_cam(-DELAY_S)
    for number in range(round(seconds * CAMERA_HZ)):
        time = number / CAMERA_HZ  # of the picture's stamp: what it shows is older
        while robot_time < time:
            robot_time += 1 / ROBOT_HZ
            anchor.robot(FIRST_NS + round(robot_time * 1e9), scene.noisy(robot_time))
        now = scene.T_base_cam(time - DELAY_S)
        step = inverse(before) @ now
        path += float(np.linalg.norm(step[:3, 3]))
        step[:3, 3] *= 0.0 if still_camera else 1 / TRUE_SCALE
        step[:3, 3] *= 1 + scene.rng.normal(size=3) * 0.05
        T_odom_cam, before = T_odom_cam @ step, now
        shown = T_odom_cam.copy()
        shown[:3, 3] *= anchor.scale.factor
        anchor.camera(FIRST_NS + round(time * 1e9), shown, 0, True, FOCAL_SIGMA)
        if anchor.scale.anchored:
            anchored_at = min(anchored_at, path)
            if until_anchored:
                break
    return anchored_at


def error(anchor: ScaleAnchor) -> float:
    return float(np.log(anchor.scale.factor / TRUE_SCALE))


@pytest.mark.parametrize('seed', range(6))
def test_a_scope_that_moves_freely_tells_its_scale_lever_and_delay(seed: int) -> None:
    one, anchor = scene(seed), ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    assert watch(one, anchor) < 60.0
    assert abs(error(anchor)) < 0.05
    assert abs(error(anchor)) < 3.5 * anchor.scale.log_sigma
    assert anchor.fit is not None and anchor.fit.delay_s == pytest.approx(DELAY_S, abs=0.03)
    assert np.linalg.norm(anchor.fit.t_tip_cam - one.T_tip_cam[:3, 3]) < 5.0


@pytest.mark.parametrize('delay_s', [0.5, 0.7])
@pytest.mark.parametrize('seed', range(4))
def test_pictures_that_are_later_than_is_looked_for_tell_no_scale_and_it_is_said_why(
    seed: int, delay_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], 'DELAY_S', delay_s)
    anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    assert watch(scene(seed), anchor) == float('inf') and not anchor.scale.anchored
    assert 'pictures seem 400 ms late' in anchor.why


def test_scales_are_as_good_as_they_say_over_many_scopes() -> None:
    scores = []
    for seed in range(10, 22):
        anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
        watch(scene(seed), anchor, seconds=6.0)
        if anchor.scale.anchored:
            scores.append(error(anchor) / anchor.scale.log_sigma)
    assert len(scores) >= 8
    assert 0.2 < float(np.sqrt(np.mean(np.square(scores)))) < 2.0


def test_an_anchored_scale_keeps_its_fit_when_the_robot_is_another_one() -> None:
    """The arm that is published now is not the one that holds the scope."""
    anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    one, other = scene(5), scene(3)
    watch(one, anchor, seconds=6.0)
    taken, told = anchor.taken, anchor.scale
    assert taken is not None and told.anchored and not anchor.why
    for number in range(round(6.0 * CAMERA_HZ), round(20.0 * CAMERA_HZ)):
        time, stamp_ns = number / CAMERA_HZ, FIRST_NS + round(1e9 * number / CAMERA_HZ)
        place = one.T_base_cam(time)
        place[:3, 3] *= anchor.scale.factor / TRUE_SCALE
        anchor.robot(stamp_ns, other.noisy(time))
        anchor.camera(stamp_ns, place, 0, True, FOCAL_SIGMA)
    assert 'agree in' in anchor.why and anchor.fit is not taken
    assert anchor.taken is taken and anchor.scale == told


def test_a_still_robot_says_nothing_whatever_the_picture_does() -> None:
    still = scene(0, moves_mm=0.0, turns_rad=0.0)
    moving, anchor = scene(0), ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    seen = Scene(moving.places, moving.turns, moving.T_tip_cam, moving.rng)
    for number in range(200):  # tissue moves: the camera's odometry says that the camera does
        time = number / CAMERA_HZ
        anchor.robot(FIRST_NS + round(time * 1e9), still.noisy(time))
        anchor.camera(FIRST_NS + round(time * 1e9), seen.T_base_cam(time), 0, True, FOCAL_SIGMA)
    assert not anchor.scale.anchored
    assert f'mm; needed {LEAST_SPAN_MM:.0f}' in anchor.why


def test_a_picture_that_stands_still_while_the_robot_moves_says_nothing() -> None:
    anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    assert watch(scene(1), anchor, still_camera=True) == float('inf')


def test_motions_that_have_nothing_to_do_with_each_other_say_nothing() -> None:
    anchor, robot, camera = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA), scene(2), scene(3)
    for number in range(300):
        time = number / CAMERA_HZ
        anchor.robot(FIRST_NS + round(time * 1e9), robot.noisy(time))
        anchor.camera(FIRST_NS + round(time * 1e9), camera.T_base_cam(time), 0, True, FOCAL_SIGMA)
    assert not anchor.scale.anchored and 'agree in' in anchor.why


def test_a_camera_that_takes_sideways_moves_for_pans_is_not_believed() -> None:
    robot = scene(8, turns_rad=0.0)
    anchor, T_odom_cam = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA), np.eye(4)
    for number in range(300):
        time = number / CAMERA_HZ
        stamp_ns = FIRST_NS + round(time * 1e9)
        T = inverse(robot.T_base_cam(0.0)) @ robot.T_base_cam(time)
        x, y, z = T[:3, 3]
        T_odom_cam = motion_from_vector([-y / 80.0, x / 80.0, 0.0], [0.4 * x, 0.4 * y, z])
        anchor.robot(stamp_ns, robot.noisy(time))
        anchor.camera(stamp_ns, T_odom_cam, 0, True, 0.0)
    assert not anchor.scale.anchored and 'taken for pans' in anchor.why


def test_a_scope_that_only_pivots_says_how_little_it_knows() -> None:
    pivoting = scene(4, moves_mm=0.0, turns_rad=0.04, pivot_mm=120.0)
    anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    assert watch(pivoting, anchor) == float('inf')
    assert 'not only about the trocar' in anchor.why
    assert anchor.fit is not None and anchor.fit.log_sigma > 0.1  # 30 mm of 120
    assert abs(anchor.fit.log_scale - np.log(TRUE_SCALE)) < 3 * anchor.fit.log_sigma


def test_lengths_of_the_odometry_may_come_under_the_anchored_scale_already() -> None:
    anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    watch(scene(5), anchor)
    first = anchor.scale.factor
    assert anchor.scale.anchored and first == pytest.approx(TRUE_SCALE, rel=0.06)
    assert anchor.fit is not None  # the last one saw places of the scaled odometry too
    assert np.exp(anchor.fit.log_scale) == pytest.approx(TRUE_SCALE, rel=0.05)


def test_stamps_of_another_clock_are_named() -> None:
    one, anchor = scene(6), ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    for number in range(60):
        time = number / CAMERA_HZ
        anchor.robot(FIRST_NS + round((time + 1000.0) * 1e9), one.noisy(time))
        anchor.camera(FIRST_NS + round(time * 1e9), one.T_base_cam(time), 0, True, FOCAL_SIGMA)
    assert 'newest stamp is +1000.' in anchor.why


def test_steps_over_an_epoch_an_unknown_motion_or_a_gap_are_not_used() -> None:
    anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    told = [(0.0, 0, True), (0.2, 0, True), (0.4, 1, True), (0.6, 1, False), (0.8, 1, True)]
    for time, epoch, known in (*told, (2.0, 1, True)):
        anchor.camera(FIRST_NS + round(time * 1e9), np.eye(4), epoch, known, FOCAL_SIGMA)
    assert list(anchor._joined) == [False, True, False, False, True, False]


def test_a_day_of_lost_maps_does_not_grow_and_a_recent_one_is_still_known() -> None:
    anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    watch(scene(5), anchor, until_anchored=True)
    for number in range(1, 3 * MOST_MAPS):
        anchor.enter(0, number)
    assert len(anchor._numbers) == MOST_MAPS
    worlds = set()
    for number in range(3 * MOST_MAPS - 250, 3 * MOST_MAPS):
        anchor.enter(0, number)
        worlds.add(anchor._world)
    assert len(worlds) == 250 and anchor.scale.log_sigma > ANOTHER_MAP


@pytest.mark.parametrize(('epoch', 'sure'), [(1, True), (2, False)])
def test_only_the_epoch_that_the_anchor_opened_is_of_the_same_scale(
    epoch: int, sure: bool
) -> None:
    one, anchor = scene(5), ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    anchored_at = watch(one, anchor, seconds=SECONDS, until_anchored=True)
    assert anchored_at < float('inf')
    anchor.enter(epoch, 0)
    assert (anchor.scale.log_sigma < ANOTHER_MAP) == sure


@pytest.mark.parametrize('longer', [0.8, 1.3])
def test_another_map_has_another_scale_until_the_robot_says_so(longer: float) -> None:
    """For three seconds a new map is in use, then the old one again, then another for long."""
    one, anchor = scene(5), ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    T_odom_cam, before, epoch, factor = np.eye(4), one.T_base_cam(-DELAY_S), 0, 1.0
    told = []
    for number in range(900):
        time = number / CAMERA_HZ
        map_number = 0 if time < 12.0 or 13.0 <= time < 14.0 else 1 if time < 13.0 else 2
        stamp_ns = FIRST_NS + round(time * 1e9)
        now = one.T_base_cam(time - DELAY_S)
        step, before = inverse(before) @ now, now
        step[:3, 3] *= (longer if map_number else 1.0) / TRUE_SCALE
        if anchor.scale.factor != factor:  # as the pipeline does
            T_odom_cam, epoch, factor = np.eye(4), epoch + 1, anchor.scale.factor
        T_odom_cam = T_odom_cam @ step
        shown = T_odom_cam.copy()
        shown[:3, 3] *= factor
        anchor.robot(stamp_ns, one.noisy(time))
        which = map_number if epoch < 2 else 0  # a new epoch counts from nought
        anchor.camera(stamp_ns, shown, epoch, True, 0.02, which)
        told.append((time, anchor.scale))
    at_s = {round(time, 2): scale for time, scale in told}
    sure = at_s[11.96]
    assert sure.factor == pytest.approx(TRUE_SCALE, rel=0.05) and sure.log_sigma < 0.05
    assert at_s[12.0].factor == sure.factor and at_s[12.0].log_sigma > ANOTHER_MAP
    assert at_s[13.0].log_sigma < 0.05  # the old map goes on
    assert at_s[14.0].log_sigma > ANOTHER_MAP
    last = told[-1][1]
    assert last.factor == pytest.approx(TRUE_SCALE / longer, rel=0.05) and last.log_sigma < 0.05


def test_what_was_seen_while_the_focal_length_was_a_guess_is_left_out_once_it_is_known() -> None:
    one, anchor = scene(9), ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    T_odom_cam, before = np.eye(4), one.T_base_cam(0.0)
    for number in range(300):
        time, guess = number / CAMERA_HZ, number < 75
        now = one.T_base_cam(time)
        step, before = inverse(before) @ now, now
        step[:3, 3] *= [0.6, 0.6, 1.0] if guess else [1.0, 1.0, 1.0]  # a path that is bent
        T_odom_cam = T_odom_cam @ step
        shown = T_odom_cam.copy()
        shown[:3, 3] *= anchor.scale.factor
        stamp_ns = FIRST_NS + round(time * 1e9)
        anchor.robot(stamp_ns, one.noisy(time))
        anchor.camera(stamp_ns, shown, 0, True, FOCAL_SIGMA if guess else 0.02)
    assert anchor.fit is not None
    assert np.exp(anchor.fit.log_scale) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize('camera', ['still', 'straight', 'turning'])
@pytest.mark.parametrize('robot', ['still', 'straight', 'repeating'])
def test_motion_that_leaves_everything_open_ends_in_a_word_and_not_in_an_error(
    camera: str, robot: str
) -> None:
    anchor = ScaleAnchor(LEVER_SIGMA_MM, ANCHOR_SIGMA)
    for number in range(200):
        time, stamp_ns = number / CAMERA_HZ, FIRST_NS + number * 40_000_000
        T_base_tip, T_odom_cam = np.eye(4), np.eye(4)
        T_base_tip[0, 3] = {'still': 0.0, 'straight': 4.0 * time, 'repeating': 1e6}[robot]
        T_odom_cam[2, 3] = 4.0 * time if camera == 'straight' else 0.0
        if camera == 'turning':
            T_odom_cam = motion_from_vector([0.0, 0.0, 0.1 * time], np.zeros(3))
        anchor.robot(stamp_ns, T_base_tip)
        anchor.camera(stamp_ns, T_odom_cam, 0, True, 0.0)
    if camera != 'straight' or robot != 'straight':
        assert not anchor.scale.anchored and anchor.why


# the robot's path


def test_a_path_is_read_between_its_poses_and_not_beyond_nor_in_a_hole() -> None:
    path = RobotPath(60.0)
    for number in (*range(100), *range(150, 200)):
        time = number * 0.02
        T = motion_from_vector([0.0, 0.0, 0.5 * time], [10.0 * time, 0.0, 0.0])
        path.add(FIRST_NS + round(time * 1e9), T)
    curve = path.curve(FIRST_NS)
    assert curve is not None
    assert curve.covers(np.array([-0.1, 0.5, 2.5, 3.5, 3.97])).tolist() == [
        False, True, False, True, False,
    ]  # fmt: skip
    places, rotations = curve.at(np.array([1.003]))
    np.testing.assert_allclose(places[0], [10.03, 0.0, 0.0], atol=1e-6)
    turn = motion_from_vector([0.0, 0.0, 0.5015], np.zeros(3))
    np.testing.assert_allclose(rotations[0], turn[:3, :3], atol=1e-5)


def test_the_noise_of_a_path_is_found_in_its_own_tremble() -> None:
    path, moving = RobotPath(60.0), scene(7)
    for number in range(500):
        path.add(FIRST_NS + number * 20_000_000, moving.noisy(number * 0.02))
    curve = path.curve(FIRST_NS)
    assert curve is not None
    five_poses = NOISE_MM / np.sqrt(5.0)
    assert curve.noise_mm == pytest.approx(five_poses, rel=0.2)


def test_a_robot_whose_clock_jumps_back_begins_anew() -> None:
    path = RobotPath(60.0)
    for number in range(10):
        path.add(FIRST_NS + number * 20_000_000, np.eye(4))
    path.add(FIRST_NS - 5_000_000_000, np.eye(4))
    assert path.newest_ns == FIRST_NS - 5_000_000_000 and path.curve(FIRST_NS) is None
