# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.geometry import motion_from_vector
from endosfm3d_ros.evaluation.sampling import DepthTruth
from endosfm3d_ros.evaluation.truth_topics import Stream, TruthTopics, poses_at

MS = 1_000_000
START = 1_700_000_000_000_000_000
CAMERA = Intrinsics(320, 256, 200.0, 210.0, 150.0, 120.0)
TURN = np.array([0.3, -0.6, 0.2])
AT_START = motion_from_vector(np.array([1.0, 0.2, -0.4]), np.array([5.0, 6.0, 7.0]))


def turning(seconds):
    """A camera that turns about one axis of its own and goes straight ahead at constant rates."""
    T = np.stack([motion_from_vector(TURN * s, np.zeros(3)) for s in seconds])
    T = AT_START @ T
    T[:, :3, 3] = AT_START[:3, 3] + np.outer(seconds, [10.0, -20.0, 30.0])
    return T


def test_between_two_poses_it_turns_and_goes_at_constant_rates():
    stamps = START + np.array([0, 40, 130]) * MS
    moments = START + np.array([0, 10, 39, 40, 85, 130]) * MS
    T, _, gaps, known = poses_at(stamps, turning([0.0, 0.04, 0.13]), np.zeros(3, int), moments)
    np.testing.assert_allclose(T, turning([0.0, 0.01, 0.039, 0.04, 0.085, 0.13]), atol=1e-12)
    assert known.all() and (gaps / MS).tolist() == [0, 40, 0, 0, 90, 0]


def test_of_a_hole_and_of_what_lies_outside_nothing_is_known_but_at_a_pose_itself():
    stamps = START + np.array([0, 100, 201]) * MS
    moments = START + np.array([-2, -1, 50, 101, 102, 200, 202, 203]) * MS
    T, _, gaps, known = poses_at(stamps, turning([0.0, 0.1, 0.201]), np.zeros(3, int), moments)
    assert known.tolist() == [False, True, True, True, False, True, True, False]
    assert (gaps[known] / MS).tolist() == [0, 100, 0, 0, 0]
    np.testing.assert_allclose(T[[1, 6]], turning([0.0, 0.201]), atol=1e-12)


def test_a_single_pose_is_that_of_its_moment():
    moments = START + np.array([-5, 0, 5]) * MS
    T, _, _, known = poses_at(np.array([START]), turning([0.0]), np.zeros(1, int), moments)
    assert known.tolist() == [False, True, False]
    np.testing.assert_allclose(T[1], AT_START, atol=1e-12)


def test_between_two_epochs_nothing_is_known():
    stamps, poses = START + np.array([0, 40]) * MS, turning([0.0, 0.04])
    moments = START + np.array([0, 1, 2, 39, 40]) * MS
    T, epochs, _, known = poses_at(stamps, poses, np.array([3, 4]), moments)
    assert known.tolist() == [True, True, False, True, True]
    assert epochs[known].tolist() == [3, 3, 4, 4]
    np.testing.assert_allclose(T[known], poses[[0, 0, 1, 1]], atol=1e-12)


def test_a_stream_tells_what_is_of_the_moment_else_what_holds():
    stream = Stream({100 * MS: 'first', 140 * MS: 'second'})
    at = {0: 'first', 100: 'first', 120: 'first', 129: 'first', 131: 'second', 900: 'second'}
    assert {ms: stream.at(ms * MS) for ms in at} == at


def topics(pose_ms, depth_ms, start=START):
    stamps, depth = start + np.array(pose_ms) * MS, start + np.array(depth_ms, int) * MS
    return TruthTopics(
        stamps,
        turning((stamps - start) * 1e-9),
        np.zeros(len(stamps), int),
        Stream({start: CAMERA}),
        depth,
        lambda stamp, camera: DepthTruth(np.full((2, 2), (stamp - start) / MS, np.float32)),
        {},
    )


def of_pictures(truth, picture_ms, start=START):
    pictures = start + np.array(picture_ms) * MS
    return truth.of_pictures(pictures, (CAMERA,) * len(pictures))


def test_a_depth_image_is_of_one_picture_and_of_two_the_nearer_is_taken():
    truth = of_pictures(topics(range(0, 200, 10), [3, 36, 46, 98]), [0, 40, 90, 104, 150])
    read = {frame: truth.read_depth(frame).depth[0, 0] for frame in truth.depth_frames}
    assert read == {0: 3.0, 1: 36.0, 3: 98.0}
    placed = truth.placed
    assert (placed.depth_met, placed.depth_images, placed.depth_off_ms) == (3, 4, 6.0)


def test_pictures_of_a_looped_clip_count_once_and_rise():
    truth = of_pictures(topics(range(0, 200, 10), []), [80, 120, 40, 80, 120])
    assert truth.stamps == pytest.approx(START * 1e-9 + np.array([0.04, 0.08, 0.12]), abs=1e-6)
    assert truth.numbers.tolist() == [0, 1, 2]


def test_a_step_of_usual_length_is_one_frame_with_jitter_too():
    truth = of_pictures(topics(range(0, 900, 10), []), [0, 33, 80, 115, 240, 280, 291, 330, 370])
    assert truth.numbers.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 10]


def test_pictures_of_another_clock_are_placed_since_their_first():
    truth = of_pictures(topics([0, 40, 80], []), [0, 20], start=5 * START)
    np.testing.assert_allclose(truth.T_world_cam, turning([0.0, 0.02]), atol=1e-12)
    assert truth.placed.how.startswith("the time since the run's first frame")
    assert truth.placed.how.endswith('taken for the moment of the first pose')
