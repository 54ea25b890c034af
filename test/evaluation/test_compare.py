# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.evaluation.compare import Estimate, compare
from endosfm3d_ros.evaluation.matching import match
from endosfm3d_ros.evaluation.sampling import DepthTruth, truth_on_picture
from endosfm3d_ros.evaluation.scoring import DepthPicture
from endosfm3d_ros.evaluation.table import table_of
from endosfm3d_ros.evaluation.truth import read_depth_picture
from endosfm3d_ros.evaluation.truth import read_truth_folder as read_truth

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
    assert found.depth.coverage == pytest.approx(2 / 3)
    assert found.depth.abs_rel < 0.004
    assert '1 images say nothing' in table_of(found)
    nothing = compare(perfect(truth, list(range(30))), [blank], truth)
    assert (nothing.depth, nothing.depth_silent) == (None, 1)
    assert '1 images say nothing' in table_of(nothing)


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
    numbered = np.arange(240 * 320, dtype=np.float32).reshape(240, 320)  # the input at half size
    camera = INPUT.cropped(200, 120, 80, 60).resized(40, 10)  # 2 and 6 input pixels a pixel
    seen = truth_on_picture(DepthTruth(numbered), camera, INPUT)
    assert seen.shape == (10, 40)
    assert seen[0, 0] == numbered[(120 + 3) // 2, (200 + 1) // 2]
    assert seen[9, 39] == numbered[(120 + 54 + 3) // 2, (200 + 78 + 1) // 2]


def test_outside_of_the_input_there_is_no_truth():
    camera = INPUT.cropped(-64, 0, 640, 480)  # a crop that pads to the left
    seen = truth_on_picture(DepthTruth(np.ones((480, 640), np.float32)), camera, INPUT)
    assert np.isnan(seen[:, :64]).all()
    assert (seen[:, 64:] == 1).all()


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
