# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from endosfm3d_ros.bags.source import FIRST_STAMP_NS
from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.geometry import motion_from_vector
from endosfm3d_ros.evaluation.compare import Estimate, compare
from endosfm3d_ros.evaluation.intrinsics import relative_errors
from endosfm3d_ros.evaluation.matching import match
from endosfm3d_ros.evaluation.protocols import PROTOCOLS
from endosfm3d_ros.evaluation.sampling import DepthTruth, picture_on_truth, truth_on_picture
from endosfm3d_ros.evaluation.scoring import DepthPicture
from endosfm3d_ros.evaluation.table import table_of
from endosfm3d_ros.evaluation.truth import read_depth_picture
from endosfm3d_ros.evaluation.truth import read_truth_folder as read_truth
from endosfm3d_ros.evaluation.videos import over_all

START_NS = 1_700_000_000_000_000_000
INPUT = Intrinsics(640, 480, 500.0, 480.0, 330.0, 236.0)


def write_truth(folder, count=30, size=(480, 640)):
    """A camera that goes ahead and zooms before a slanted wall; depth of every 5th frame."""
    (folder / 'depth').mkdir()
    stamps = np.arange(count) / 25
    zoom = 1 + 0.3 * np.sin(stamps * 3)
    K = np.stack([INPUT.zoomed(factor).matrix for factor in zoom])
    T_world_cam = np.tile(np.eye(4), (count, 1, 1))
    T_world_cam[:, :3, 3] = np.stack([np.sin(stamps * 4), np.cos(stamps * 2), 20 * stamps], axis=1)
    np.savez(folder / 'truth.npz', K=K, T_world_cam=T_world_cam, stamps=stamps)
    for number in range(0, count, 5):
        wall = (
            np.linspace(20, 90, size[1])[None, :]
            + np.linspace(0, 30, size[0])[:, None]
            - number / 10
        )
        cv2.imwrite(
            str(folder / 'depth' / f'{number:04d}.png'), (wall * 256).round().astype(np.uint16)
        )
    return folder


def network_picture(truth, number, left, top, width, height, size):
    """
    The truth itself as a run's depth: a crop of the input, resized without keeping its shape.
    """
    whole = cv2.resize(truth.read_depth(number).depth, (640, 480), interpolation=cv2.INTER_NEAREST)
    input_camera = Intrinsics.from_matrix(truth.K[number], 640, 480)
    camera = input_camera.cropped(left, top, width, height).resized(*size)
    depth = cv2.resize(
        whole[top : top + height, left : left + width], size, interpolation=cv2.INTER_LINEAR
    )
    return DepthPicture(START_NS + int(number * 4e7), depth / 7, camera, input_camera)


def perfect(truth, frames):
    """A run that is right up to scale and world, of these frames."""
    T_odom_cam = truth.T_world_cam[frames].copy()
    T_odom_cam[:, :3, 3] /= 7
    cameras = tuple(Intrinsics.from_matrix(K, 640, 480) for K in truth.K[frames])
    return Estimate(
        START_NS + (np.array(frames) * 4e7).astype(np.int64),
        cameras,
        T_odom_cam,
        np.zeros(len(frames), int),
    )


@pytest.mark.parametrize('size', [(480, 640), (240, 320)])
def test_a_perfect_run_has_no_error_whatever_its_crop_and_size(tmp_path, size):
    truth = read_truth(write_truth(tmp_path, size=size))
    pictures = [
        network_picture(truth, number, 100, 40, 420, 380, (160, 96)) for number in range(0, 30, 5)
    ]
    found = compare(perfect(truth, list(range(30))), pictures, truth)
    assert found.depth.frames == 6
    assert found.depth.abs_rel < 0.004  # half a pixel of the wall's slant
    assert found.depth.coverage == 1.0
    assert found.depth.scale == pytest.approx(7.0, rel=0.01)
    assert found.depth_constant.abs_rel > 0.1
    assert found.trajectory.ate_sim3 == pytest.approx(0, abs=1e-9)
    assert found.intrinsics.fx == 0.0
    assert found.intrinsics_calibrated_once.fx > 0.05
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))['matched'] == 30


def test_a_depth_image_that_says_nothing_counts_in_coverage_and_in_no_error(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    whole = [network_picture(truth, n, 100, 40, 420, 380, (160, 96)) for n in (0, 5, 10)]
    blank = replace(whole[1], depth=np.full_like(whole[1].depth, np.nan))
    found = compare(perfect(truth, list(range(30))), [whole[0], blank, whole[2]], truth)
    assert (found.depth.frames, found.depth_silent) == (2, 1)
    assert found.depth.coverage == found.depth_unscaled.coverage == pytest.approx(2 / 3)
    assert found.depth.abs_rel < 0.004
    assert '1 images say nothing' in table_of(found)
    nothing = compare(perfect(truth, list(range(30))), [blank], truth)
    assert (nothing.depth, nothing.depth_silent) == (None, 1)
    assert '1 images say nothing' in table_of(nothing)


def test_a_figure_that_one_video_lacks_is_summed_up_over_the_others(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    run = perfect(truth, list(range(30)))
    picture = network_picture(truth, 5, 100, 40, 420, 380, (160, 96))
    found = over_all([compare(run, [picture], truth), compare(run, [], truth)])
    assert found['fx']['per_video']['count'] == 2
    assert found['abs_rel']['per_video']['count'] == 1
    assert found['abs_rel']['per_video']['low'] is None


def test_a_frame_of_a_looped_clip_is_scored_once(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    pictures = [network_picture(truth, n, 100, 40, 420, 380, (160, 96)) for n in (0, 5)]
    found = compare(perfect(truth, list(range(30))), [*pictures, *pictures], truth)
    assert found.depth.frames == 2 and len(found.per_frame['abs_rel']) == 2


def test_places_that_were_withheld_are_no_path(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    run = perfect(truth, list(range(30)))
    run.T_odom_cam[:20] = np.nan
    found = compare(run, [], truth)
    assert found.trajectory.frames == 10 and found.trajectory.ate_sim3 == pytest.approx(
        0, abs=1e-9
    )
    run.T_odom_cam[:] = np.nan
    found = compare(run, [], truth)
    assert found.trajectory is None and found.intrinsics.fx == 0.0 and found.series.path == []


def test_a_pixel_of_the_network_picture_reads_its_own_place_in_the_truth():
    numbered = np.arange(160 * 320, dtype=np.float32).reshape(160, 320)  # 640x480, a third as high
    camera = INPUT.cropped(200, 120, 80, 60).resized(40, 10)  # 2 and 6 input pixels a pixel
    seen = truth_on_picture(DepthTruth(numbered), camera, INPUT)
    assert seen.shape == (10, 40)
    assert seen[0, 0] == numbered[(120 + 3) // 3, (200 + 1) // 2]
    assert seen[9, 39] == numbered[(120 + 54 + 3) // 3, (200 + 78 + 1) // 2]


def test_outside_of_the_input_there_is_no_truth():
    camera = INPUT.cropped(-64, 0, 640, 480)  # a crop that pads to the left
    seen = truth_on_picture(DepthTruth(np.ones((480, 640), np.float32)), camera, INPUT)
    assert np.isnan(seen[:, :64]).all()
    assert (seen[:, 64:] == 1).all()


def on_truth(depth, truth_size, camera=None):
    """A run's depth image of all of the input, or of a part of it, on the truth's pixels."""
    depth = np.array(depth, np.float32)
    camera = camera or INPUT.resized(*depth.shape[::-1])
    return picture_on_truth(depth, camera, INPUT, DepthTruth(np.ones(truth_size, np.float32)))


def test_between_two_pixels_the_mean_of_their_disparities_is_read():
    found = on_truth([[10.0, 30.0]], (1, 4))
    assert found[0] == pytest.approx(
        [10, 1 / (0.75 / 10 + 0.25 / 30), 1 / (0.25 / 10 + 0.75 / 30), 30]
    )


@pytest.mark.parametrize('nothing', [np.nan, 0.0, -5.0])
def test_beside_a_pixel_that_says_nothing_the_other_one_is_read(nothing):
    found = on_truth([[10.0, nothing]], (1, 4))
    assert found[0, :2].tolist() == [10.0, 10.0] and np.isnan(found[0, 2:]).all()


def test_of_the_truth_outside_of_the_network_s_picture_nothing_is_said():
    camera = INPUT.cropped(160, 120, 320, 240).resized(4, 3)
    found = on_truth(np.full((3, 4), 20.0), (48, 64), camera)
    inside = np.zeros((48, 64), bool)
    inside[12:36, 16:48] = True
    assert np.array_equal(np.isfinite(found), inside) and found[inside] == pytest.approx(20.0)


def with_picture(one):
    """Dark where its depth is large, as light falls off."""
    grey = np.uint8(255 * (3 / one.depth) ** (2 / 2.2))
    return replace(one, image=np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize('name', ['worlds', 'scared'])
def test_lazy_answers_are_asked_where_the_run_speaks_on_the_protocol_s_pixels(tmp_path, name):
    truth = read_truth(write_truth(tmp_path))
    pictures = [network_picture(truth, n, 100, 40, 420, 380, (160, 96)) for n in (10, 0, 5)]
    pictures = [with_picture(one) for one in pictures]
    for one in pictures:
        one.depth[:, 60:] = np.nan
    run = perfect(truth, list(range(30)))
    found = compare(run, pictures, truth, None, PROTOCOLS[name])
    assert found.depth.frames == 3 and 0.1 < found.depth.coverage < 0.4
    for lazy in (found.depth_constant, found.depth_light):
        assert lazy.coverage == pytest.approx(found.depth.coverage)
    assert found.depth_light.abs_rel < 0.7 * found.depth_constant.abs_rel
    assert np.diff(found.series.depth_stamps_ns).tolist() == [200_000_000, 200_000_000]
    unknown = DepthTruth(np.full((480, 640), np.nan, np.float32))
    blind = replace(truth, read_depth=lambda _: unknown)
    assert compare(run, pictures, blind, None, PROTOCOLS[name]).depth_silent == 0  # nobody asked


def test_curves_are_those_of_the_truth_and_the_path_stands_as_the_run_s(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    run = perfect(truth, list(range(30)))
    R = motion_from_vector(np.array([0.0, np.pi / 2, 0.0]), np.zeros(3))[:3, :3]
    run.T_odom_cam[:, :3] = R @ run.T_odom_cam[:, :3]
    run.T_odom_cam[4, 0, 3] = np.nan  # one was withheld
    found = compare(run, [], truth)
    series = found.series
    assert series.fy == truth.K[:, 1, 1].tolist() and series.fx != series.fy
    assert series.zoom == pytest.approx(truth.K[:, 0, 0] / truth.K[0, 0, 0])
    assert series.path == pytest.approx(np.array(series.path_true))
    assert series.path_rotation == pytest.approx(R)
    assert series.path_stamps_ns == [s for s in series.stamps_ns if s != run.stamps_ns[4]]
    assert len(series.path_stamps_ns) == 29 and found.trajectory.frames == 29
    held = relative_errors(np.broadcast_to(truth.K[0], truth.K.shape), truth.K)['fx'].mean()
    assert found.intrinsics_first_held.fx == pytest.approx(held)
    two = compare(perfect(truth, [3, 4]), [], truth, first_stamp_ns=START_NS)
    assert (two.trajectory, two.trajectory_still) == (None, None)


def test_a_crop_is_no_error_on_the_truth_s_pixels_either(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    picture = network_picture(truth, 5, 100, 40, 420, 380, (160, 96))
    found = compare(perfect(truth, list(range(30))), [picture], truth, None, PROTOCOLS['scared'])
    assert found.depth.abs_rel < 0.002
    assert found.depth.coverage == pytest.approx(420 * 380 / (640 * 480), rel=0.02)


def test_a_run_s_first_K_is_held_as_the_run_told_it(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    run = perfect(truth, list(range(30)))
    cameras = tuple(camera.zoomed(1.1) for camera in run.cameras)
    found = compare(replace(run, cameras=cameras), [], truth)
    fx = truth.K[:, 0, 0]
    assert found.intrinsics_first_held.fx == pytest.approx(np.abs(1.1 * fx[0] / fx - 1).mean())
    assert found.intrinsics_calibrated_once.fx == pytest.approx(np.abs(fx[0] / fx - 1).mean())


def test_three_places_are_a_path_and_straight_ahead_goes_by_the_frame_numbers(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    truth.T_world_cam[:, :2, 3] = 0.0
    found = compare(perfect(truth, [3, 4, 9]), [], truth, START_NS)
    assert found.trajectory.frames == 3
    assert found.trajectory_forward.ate_sim3 == pytest.approx(0, abs=1e-9)
    assert found.trajectory_still.ate_sim3 > 1.0


def test_a_lag_is_in_seconds_where_frames_are_missing(tmp_path):
    truth = read_truth(write_truth(tmp_path, 100))
    frames = list(range(2, 100, 2))
    cameras = tuple(Intrinsics.from_matrix(truth.K[n - 2], 640, 480) for n in frames)
    found = compare(replace(perfect(truth, frames), cameras=cameras), [], truth, START_NS)
    assert found.intrinsics.zoom_lag == pytest.approx(0.08, abs=0.005)


def test_snippets_are_told_by_the_field_s_number_and_by_the_true_one(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    run = perfect(truth, list(range(30)))
    run.T_odom_cam[1::2, 0, 3] += 0.1
    found = compare(run, [], truth)
    for name in ('snippet_ate', 'snippet_rmse'):
        mean = np.mean(found.per_frame[name])
        assert mean == pytest.approx(getattr(found.trajectory, name)) and mean > 0.0


def test_frames_are_matched_to_half_a_frame_and_no_farther():
    truth = np.r_[np.arange(5), np.arange(100, 105)] / 25  # a pause amid it
    ms = np.array([0, 40, 80, 120, 190, 250, 3970, 4040, 4175])
    found = match(START_NS + ms * 1_000_000, truth)
    assert found.truth.tolist() == [0, 1, 2, 3, 6, 9]
    assert ms[found.run].tolist() == [0, 40, 80, 120, 4040, 4175]
    assert found.unmatched == 3


def test_the_first_of_a_run_is_its_earliest_and_the_nearer_of_two_may_come_later():
    found = match(START_NS + np.array([80, 35, 0, 41]) * 1_000_000, np.arange(5) / 25)
    assert found.run.tolist() == [2, 3, 0] and found.truth.tolist() == [0, 1, 2]


def test_a_run_of_a_source_without_a_clock_that_lost_its_first_frames_is_not_shifted():
    found = match(FIRST_STAMP_NS + np.array([3, 4, 6]) * 40_000_000, np.arange(30) / 25)
    assert found.truth.tolist() == [3, 4, 6]


def test_one_clock_is_one_clock_to_half_a_frame():
    truth = 1_700_000_000.0 + np.arange(5) / 25
    for frame, off_ms in ((0, -15), (4, 15)):
        stamp = START_NS + frame * 40_000_000 + off_ms * 1_000_000
        found = match(np.array([stamp]), truth)
        assert (found.how, found.truth.tolist()) == ('one clock', [frame])
    for frame, off_ms in ((0, -25), (4, 25)):
        stamp = START_NS + frame * 40_000_000 + off_ms * 1_000_000
        assert match(np.array([stamp]), truth).how.startswith("the time since the run's first")


def test_a_source_without_a_clock_may_begin_half_a_frame_early_or_with_its_last_frame():
    for frame, off_ms in ((0, -15), (4, 0)):
        stamp = FIRST_STAMP_NS + frame * 40_000_000 + off_ms * 1_000_000
        found = match(np.array([stamp]), np.arange(5) / 25)
        assert 'of the source' in found.how and found.truth.tolist() == [frame]


def test_a_truth_of_one_frame_is_met_to_a_millisecond():
    for off_ns, met in ((900_000, [0]), (1_100_000, [])):
        found = match(np.array([START_NS + off_ns]), np.array([0.0]), START_NS)
        assert found.truth.tolist() == met


def test_dropped_frames_meet_their_own_truth_and_strangers_none():
    stamps_ns = START_NS + np.array([0, 1, 3, 7, 29, 31, 60]) * 40_000_000 + 3_000_000
    stamps_ns[0] -= 3_000_000
    found = match(stamps_ns, np.arange(30) / 25)
    assert found.truth.tolist() == [0, 1, 3, 7, 29]
    assert found.run.tolist() == [0, 1, 2, 3, 4]
    assert found.unmatched == 2


def test_of_two_frames_that_claim_one_truth_the_nearer_gets_it():
    found = match(START_NS + np.array([0, 40_000_000, 45_000_000]), np.arange(5) / 25)
    assert found.run.tolist() == [0, 1]
    assert found.unmatched == 1


def test_a_lost_first_frame_does_not_shift_the_rest_when_the_player_tells_its_stamp(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    found = compare(perfect(truth, list(range(3, 30))), [], truth, first_stamp_ns=START_NS)
    assert found.intrinsics.fx == 0.0
    assert compare(perfect(truth, list(range(3, 30))), [], truth).intrinsics.fx > 0.0


def test_only_the_longest_epoch_is_one_path(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    run = perfect(truth, list(range(30)))
    run.T_odom_cam[:10, :3, 3] += 100.0  # its own odom
    run.epochs[10:] = 1
    found = compare(run, [], truth)
    assert found.trajectory.frames == 20
    assert found.trajectory.ate_sim3 == pytest.approx(0, abs=1e-9)


def test_a_run_of_another_time_is_refused(tmp_path):
    truth = read_truth(write_truth(tmp_path))
    with pytest.raises(ValueError, match='no frame of the run'):
        compare(perfect(truth, [0, 1, 2]), [], truth, first_stamp_ns=0)


def test_a_folder_without_truth_and_a_truth_without_K_are_named(tmp_path):
    with pytest.raises(ValueError, match=r'no truth\.npz'):
        read_truth(tmp_path)
    np.savez(tmp_path / 'truth.npz', stamps=np.arange(3), T_world_cam=np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match='K is missing'):
        read_truth(tmp_path)


def test_depth_of_zero_is_unknown(tmp_path):
    stored = np.zeros((4, 4), np.uint16)
    stored[1, 2] = 256 * 30
    cv2.imwrite(str(tmp_path / '0000.png'), stored)
    depth = read_depth_picture(tmp_path / '0000.png')
    assert np.isnan(depth).sum() == 15
    assert depth[1, 2] == 30.0
