# SPDX-License-Identifier: Apache-2.0
"""The window on the rendered clip that ships: beside the truth, and beside the way without it."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.core.frame import Frame, Reconstruction
from endosfm3d_ros.core.lens import undistorted
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.settings import Settings
from endosfm3d_ros.core.windowed import Windowed
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.evaluation.trajectory import trajectory_errors
from endosfm3d_ros.evaluation.truth import Truth, read_truth_folder

CLIP = Path(__file__).parents[1] / 'endosfm3d_ros' / 'demo_clip'
FRAMES = 150  # six seconds: an advance, a zoom by 1.6, a rest
SECOND = 25


@dataclass(frozen=True)
class Ran:
    """What was said of each frame, and the pipeline afterwards."""

    said: list[Reconstruction]
    pipeline: Pipeline


@pytest.fixture(scope='module')
def truth() -> Truth:
    return read_truth_folder(CLIP)


@pytest.fixture(scope='module')
def frames() -> list[Frame]:
    return list(open_frames(CLIP / 'clip.mp4'))[:FRAMES]


@pytest.fixture(scope='module')
def network() -> DepthGraphs:
    return DepthGraphs(open_bundle('compact'), 'openvino')


def run(network: DepthGraphs, frames: list[Frame], **settings: object) -> Ran:
    pipeline = Pipeline(network, open_bundle('compact').sizes, Settings(**settings))
    return Ran([pipeline.step(frame) for frame in frames], pipeline)


@pytest.fixture(scope='module')
def window(network: DepthGraphs, frames: list[Frame]) -> Ran:
    return run(network, frames, prior_field_of_view_deg=100.0)  # begins 40 % too short


@pytest.fixture(scope='module')
def pairs(network: DepthGraphs, frames: list[Frame]) -> Ran:
    return run(network, frames, refinement='none')


def focal_errors(ran: Ran, truth: Truth) -> np.ndarray:
    focal = np.array([said.input_camera.fx for said in ran.said])
    return np.log(focal / truth.K[: len(focal), 0, 0])


def path_error(ran: Ran, truth: Truth) -> float:
    """ATE after Sim(3) as a share of the path."""
    T_odom_cam = np.stack([said.T_odom_cam for said in ran.said])
    T_world_cam = truth.T_world_cam[: len(T_odom_cam)]
    length = np.linalg.norm(np.diff(T_world_cam[:, :3, 3], axis=0), axis=1).sum()
    return trajectory_errors(T_odom_cam, T_world_cam).ate_sim3 / float(length)


def test_the_focal_length_is_found_in_a_second_and_kept_through_a_zoom(
    window: Ran, truth: Truth
) -> None:
    errors = focal_errors(window, truth)
    assert abs(errors[0]) > 0.15  # the start is wrong
    assert np.abs(errors[2 * SECOND :]).max() < 0.045
    assert np.median(np.abs(errors[SECOND:])) < 0.02


def test_its_sigma_tells_how_far_it_is_off(window: Ran, truth: Truth) -> None:
    sigmas = np.array([said.log_focal_sigma for said in window.said])
    assert sigmas[0] > 0.15 and sigmas[-1] < 0.02
    surprise = (focal_errors(window, truth) / sigmas)[SECOND:] ** 2
    assert np.mean(surprise) < 3.0


def test_the_path_holds_together(window: Ran, pairs: Ran, truth: Truth) -> None:
    assert path_error(window, truth) < 0.015
    assert path_error(window, truth) < 0.5 * path_error(pairs, truth)


def test_odometry_never_jumps(window: Ran, truth: Truth) -> None:
    """Corrections are fed in smoothly: no step is far longer than the true one."""
    places = np.stack([said.T_odom_cam[:3, 3] for said in window.said])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    true = np.linalg.norm(np.diff(truth.T_world_cam[:FRAMES, :3, 3], axis=0), axis=1)
    assert steps[SECOND:].max() < 4.0 * true.max()


def test_depth_maps_agree_with_each_other(window: Ran, pairs: Ran, truth: Truth) -> None:
    """How much the maps' scale wanders from frame to frame, against maps left alone."""

    def wander(ran: Ran) -> float:
        ratios = []
        for number in sorted(truth.depth_frames):
            if SECOND <= number < FRAMES:
                said = ran.said[number]
                depth = truth.read_depth(number).depth
                ratios.append(np.nanmedian(said.depth) / np.nanmedian(depth))
        return float(np.std(np.diff(np.log(ratios))))

    assert wander(window) < 0.8 * wander(pairs)


def test_black_pictures_are_outlived(network: DepthGraphs, frames: list[Frame]) -> None:
    """Two seconds of black, then another place: it says so meanwhile, and goes on."""
    black = np.zeros_like(frames[0].image)
    seen = frames[:60]
    for number in range(20, 30):
        seen[number] = Frame(black, seen[number].stamp_ns, seen[number].frame_id)
    ran = run(network, seen)
    assert not any(said.valid or said.motion.known for said in ran.said[20:30])
    assert all(said.valid for said in ran.said[30:])
    assert all(said.motion.known for said in ran.said[33:])
    held = {tuple(said.T_odom_cam[:3, 3]) for said in ran.said[20:30]}
    assert len(held) == 1


def test_a_second_pass_knows_the_scope_from_the_first_frame(
    network: DepthGraphs, frames: list[Frame], window: Ran, truth: Truth
) -> None:
    pipeline = Pipeline(
        network,
        open_bundle('compact').sizes,
        Settings(prior_field_of_view_deg=100.0),
        learnt=[window.pipeline.learnt_scope],
    )
    said = [pipeline.step(frame) for frame in frames[:5]]
    errors = focal_errors(Ran(said, pipeline), truth)
    assert np.abs(errors).max() < 0.03


def test_an_electronic_stop_that_stands_still_does_not_hide_the_zoom_from_the_tracks(
    network: DepthGraphs, frames: list[Frame], truth: Truth
) -> None:
    """Whoever says that the rim does not tell the zoom is not held to it."""
    errors = focal_errors(run(network, frames, zoom_by_rim=False), truth)
    assert np.log(truth.K[FRAMES - 1, 0, 0] / truth.K[0, 0, 0]) > 0.4  # what was missed
    assert np.abs(errors[SECOND:]).max() < 0.2 and abs(errors[-1]) < 0.06


def test_points_behind_something_that_went_by_are_the_same_points_again(
    frames: list[Frame], network: DepthGraphs
) -> None:
    pipeline, known = run(network, frames[:30]).pipeline, None
    for number, frame in enumerate(frames[30:46]):
        if number < 8:
            image = frame.image.copy()
            image[:, : image.shape[1] // 2] = 90
            frame = replace(frame, image=image)
        if number == 0:
            known = pipeline._state.mover
        pipeline.step(frame)
    assert isinstance(known, Windowed) and known.odometry
    before = known.odometry.followed
    assert before.window
    left = before.points[:, 0] < before.window.network_width / 2 - 10
    now = pipeline._state.mover
    assert isinstance(now, Windowed) and now.odometry
    again = np.isin(before.ids[left], now.odometry.followed.ids)
    assert left.sum() > 60 and again.mean() > 0.2


BARREL = -0.25  # three quarters of a fisheye


def through_a_barrel(frame: Frame, K: np.ndarray) -> Frame:
    """The picture as a lens with this distortion would have shown it."""
    height, width = frame.image.shape[:2]
    centre, focal = K[[0, 1], 2], K[[0, 1], [0, 1]]
    v, u = np.mgrid[:height, :width]
    ray = undistorted((np.stack([u, v], axis=-1) - centre) / focal, BARREL)
    there = (ray * focal + centre).astype(np.float32)
    image = cv2.remap(frame.image, there[..., 0], there[..., 1], cv2.INTER_LINEAR)
    return replace(frame, image=image)


def test_a_lens_that_bends_lines_is_found_and_undone(
    network: DepthGraphs, frames: list[Frame], truth: Truth
) -> None:
    """The clip through a barrel: distortion and focal length within seconds, pictures straight."""
    seen = [through_a_barrel(frame, K) for frame, K in zip(frames, truth.K, strict=False)]
    found = run(network, seen)
    taken = run(network, seen, lens='straight')
    last = found.said[-1]
    assert last.distortion == pytest.approx(BARREL, abs=0.05)
    assert abs(last.distortion - BARREL) < 4 * last.distortion_sigma
    bent = [bool(said.distortion) for said in found.said]
    told = [any('the lens' in event for event in said.events) for said in found.said]
    assert np.array_equal(told, np.diff(bent, prepend=False)) and any(told)
    late = slice(3 * SECOND, None)
    assert np.abs(focal_errors(found, truth)[late]).mean() < 0.03
    assert np.abs(focal_errors(taken, truth)[late]).mean() > 0.15
    assert path_error(found, truth) < 0.5 * path_error(taken, truth)
    straight = run(network, frames).said[-1]  # the picture that never went through the lens
    seen_again, off = beside(last, straight)
    assert seen_again > 0.9 and off < 0.5 * beside(taken.said[-1], straight)[1]


def beside(one: Reconstruction, straight: Reconstruction) -> tuple[float, float]:
    """How much of a straight picture is in another one, and by how many grey levels it is off."""
    grid = one.camera.matrix @ np.linalg.inv(straight.camera.matrix)
    again = cv2.warpAffine(
        one.image,
        grid[:2],
        one.image.shape[1::-1],
        flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR,
    )
    known = np.isfinite(straight.depth) & again.all(axis=-1)
    off = np.abs(again.astype(int) - straight.image)[known]
    return float(known.mean()), float(off.mean())


def test_a_pinhole_is_told_no_distortion(window: Ran) -> None:
    assert not any(said.distortion for said in window.said)
    assert window.said[-1].distortion_sigma < 0.03


def mixed(frames: list[Frame], share: float) -> list[Frame]:
    """The same video from a camera whose noise reduction mixes in the picture before."""
    sent, kept = [], frames[0].image.astype(np.float32)
    for frame in frames:
        kept = (1 - share) * frame.image + share * kept
        sent.append(replace(frame, image=np.rint(kept).astype(np.uint8)))
    return sent


def test_a_camera_s_noise_reduction_is_undone_and_misleads_no_more(
    network: DepthGraphs, frames: list[Frame], truth: Truth
):
    sent = mixed(frames[:100], 0.5)

    def off(ran: Ran) -> float:
        found = np.array([one.input_camera.fx for one in ran.said[SECOND:]])
        return float(np.median(np.abs(np.log(found / truth.K[SECOND : len(ran.said), 0, 0]))))

    undone = run(network, sent, prior_field_of_view_deg=100.0)
    left = run(network, sent, prior_field_of_view_deg=100.0, undo_noise_reduction=False)
    shares = [one.mixed for one in undone.said]
    assert shares[-1] == pytest.approx(0.5, abs=0.06) and shares[0] == 0
    assert not any(one.mixed for one in left.said)
    events = [event for one in undone.said for event in one.events]
    assert len([event for event in events if 'noise reduction' in event]) == 1
    assert not any('tracks were lost' in event for event in events)
    assert undone.said[-1].map_number == 1  # places were told by other pictures: another scale
    assert off(undone) < 0.005 and 2 * off(undone) < off(left)


def test_a_picture_that_comes_twice_is_answered_as_before_under_noise_reduction(
    network: DepthGraphs, frames: list[Frame]
):
    sent = [replace(one, stamp_ns=2 * one.stamp_ns) for one in mixed(frames[:30], 0.5)]
    twice = [replace(one, stamp_ns=one.stamp_ns + 40_000_000) for one in sent]
    pipeline = Pipeline(network, open_bundle('compact').sizes, Settings())
    for one, again in zip(sent, twice, strict=True):
        said, repeated = pipeline.step(one), pipeline.step(again)
        assert repeated.repeats == 1 and np.array_equal(said.image, repeated.image)
    assert said.mixed == pytest.approx(0.5, abs=0.1)
    pipeline.change(Settings(undo_noise_reduction=False))
    assert pipeline.step(replace(sent[0], stamp_ns=10**12)).mixed == 0


def test_a_map_s_number_stays_until_the_next_begins_though_nothing_is_seen_meanwhile(
    network: DepthGraphs, frames: list[Frame]
):
    sent = mixed(frames[:16], 0.5)
    black = replace(sent[13], image=np.zeros_like(sent[13].image))
    pipeline = Pipeline(network, open_bundle('compact').sizes, Settings())
    numbers = [pipeline.step(one).map_number for one in sent[:12]]
    pipeline.change(Settings(undo_noise_reduction=False))
    numbers += [pipeline.step(one).map_number for one in (sent[12], black, *sent[14:])]
    assert numbers[-5:] == [1, 1, 1, 2, 2] and numbers == sorted(numbers)


@pytest.mark.parametrize('other', ['size', 'name'])
def test_another_camera_s_pictures_after_a_reset_are_left_as_they_come(
    network: DepthGraphs, frames: list[Frame], other: str
):
    sent = mixed(frames[:12], 0.5)
    pipeline = Pipeline(network, open_bundle('compact').sizes, Settings())
    for one in sent[:10]:
        pipeline.step(one)
    pipeline.reset()
    assert pipeline.step(sent[10]).mixed > 0  # it is the same camera
    pipeline.reset()
    if other == 'size':
        said = pipeline.step(replace(sent[11], image=sent[11].image[8:-8, 10:-10].copy()))
    else:
        said = pipeline.step(replace(sent[11], frame_id='another scope'))
    assert said.mixed == 0 and said.epoch == 2


@pytest.mark.parametrize(('level', 'reason'), [(0, 'black'), (255, 'washed_out')])
def test_nothing_is_made_of_a_picture_that_is_only_what_the_camera_kept_of_the_one_before(
    network: DepthGraphs, frames: list[Frame], level: int, reason: str
):
    lit = [
        *frames[:14],
        *(replace(one, image=np.full_like(one.image, level)) for one in frames[14:17]),
    ]
    pipeline = Pipeline(network, open_bundle('compact').sizes, Settings())
    said = [pipeline.step(one) for one in mixed([*lit, frames[17]], 0.5)]
    assert said[13].valid and said[13].mixed > 0.4
    assert [one.reason for one in said[14:17]] == 3 * [reason]
    assert said[17].valid and said[17].map_number == said[13].map_number
