# SPDX-License-Identifier: Apache-2.0
"""Tracks are lost, and the map's points are recognised: place and scale go on as they were."""

from concurrent.futures import Future
from dataclasses import replace

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core import tracks
from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.core.picture.inside import Inside
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.prepare import Window
from endosfm3d_ros.core.tracking.anchor import Anchor
from endosfm3d_ros.core.tracking.recognition import LOOKED_AT, SCALES, Looked, Looks
from endosfm3d_ros.core.tracking.sight import Sight
from endosfm3d_ros.core.window.placed import LOST, RECOGNISED, RETURNED
from test.core.test_pipeline import DISTANCE, FIXED, SIZES, flat_depth, frame, wall

MM_PER_PX = DISTANCE / 200.0
STEADY = 14  # frames until a map is adjusted
WHOLE = Window(0, 0, 280, 224, 280, 224)


class Fickle:
    """A depth network that changes its mind about the scale of the same wall."""

    def __init__(self) -> None:
        self.factor = 1.0

    def __call__(self, picture: np.ndarray) -> DepthMap:
        said = flat_depth(picture)
        return replace(said, depth=np.float32(self.factor) * said.depth)


def seen(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texture and corners of a picture."""
    mask = np.ones(picture.shape[:2], bool)
    texture = tracks.texture(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), Inside(mask))
    allowed = tracks.trackable(picture, Inside(mask))
    return texture, tracks.corners(texture, allowed, np.zeros((0, 2), np.float32), 300)


def blurred(picture: np.ndarray) -> np.ndarray:
    return cv2.blur(picture, (21, 5))


def played(
    pictures: list[np.ndarray], fickle_from: int, factor: float = 1.3
) -> list[Reconstruction]:
    """What is said of pictures, the network's scale another from one of them on."""
    network = Fickle()
    pipeline, said = Pipeline(network, SIZES, FIXED), []
    for number, picture in enumerate(pictures):
        network.factor = factor if number >= fickle_from else 1.0
        said.append(pipeline.step(frame(number, picture)))
    return said


def sliding(numbers: range, more_px: float = 0.0) -> list[np.ndarray]:
    return [wall(2.0 * number + more_px) for number in numbers]


def right_mm(one: Reconstruction) -> float:
    """How far to the right the camera is told to be [mm]."""
    return -float(one.T_odom_cam[1, 3])


@pytest.mark.parametrize('zoom', [1.0, 1.2, 0.85])
def test_corners_are_recognised_farther_off_than_any_track_follows(zoom: float) -> None:
    texture, corners = seen(wall(0))
    turn = cv2.getRotationMatrix2D((139.5, 111.5), 4.0, zoom)
    turn[:, 2] += (-60.0, 8.0)
    moved = cv2.warpAffine(wall(0), turn, (280, 224), flags=cv2.INTER_CUBIC)
    there, others = seen(moved)
    mine, theirs = Looks.of(texture, corners).recognised_in(Looks.of(there, others, SCALES))
    off = corners[mine] @ turn[:, :2].T + turn[:, 2] - others[theirs]
    right = np.linalg.norm(off, axis=1) < 2.0
    assert right.sum() >= 40 and right.mean() > 0.6


def test_hardly_anything_of_another_wall_is_recognised() -> None:
    texture, corners = seen(wall(0))
    there, others = seen(wall(0, seed=7))
    mine, _ = Looks.of(texture, corners).recognised_in(Looks.of(there, others, SCALES))
    assert len(mine) < 0.15 * len(corners)
    nothing = Looks.of(there, others[:0], SCALES)
    assert not len(Looks.of(texture, corners).recognised_in(nothing)[0])
    assert not len(nothing.recognised_in(Looks.of(texture, corners))[0])


def test_a_blurred_picture_is_not_asked() -> None:
    texture, corners = seen(wall(0))
    anchor = Anchor(texture, WHOLE, np.arange(len(corners)), corners)
    assert anchor.as_sharp_as(*seen(wall(30.0)))
    assert not anchor.as_sharp_as(*seen(blurred(wall(0))))
    assert not anchor.as_sharp_as(texture, corners[:0])


def test_after_a_jump_place_and_scale_go_on_at_once() -> None:
    later = sliding(range(STEADY, STEADY + 12), 60.0)
    said = played([*sliding(range(STEADY)), *later], fickle_from=STEADY)
    assert RECOGNISED in said[STEADY].events
    assert said[STEADY].rigid_share < 0.8  # the tracks themselves were lost, and that is told
    for number, one in enumerate(said[STEADY:], STEADY):
        assert LOST not in one.events and one.motion.known
        assert right_mm(one) == pytest.approx((2.0 * number + 60.0) * MM_PER_PX, abs=0.4)
        assert float(np.median(one.depth)) == pytest.approx(DISTANCE, rel=0.03)


def test_what_is_sharp_again_after_a_blur_is_recognised_by_what_was_sharp_before() -> None:
    smeared = [blurred(wall(2.0 * STEADY + 9.0 * k)) for k in range(5)]
    later = sliding(range(STEADY, STEADY + 25), 60.0)
    said = played([*sliding(range(STEADY)), *smeared, *later], fickle_from=STEADY)
    assert {RECOGNISED, RETURNED} & set(said[STEADY + 5].events)
    assert not any(one.events for one in said[STEADY + 6 :])
    end = (2.0 * (STEADY + 24) + 60.0) * MM_PER_PX
    assert right_mm(said[-1]) == pytest.approx(end, abs=0.4)
    assert float(np.median(said[-1].depth)) == pytest.approx(DISTANCE, rel=0.03)


def test_a_recognised_step_is_less_sure_than_a_tracked_one() -> None:
    said = played([*sliding(range(STEADY)), wall(2.0 * STEADY + 60.0)], fickle_from=99)
    tracked, looked = said[-2].motion.covariance, said[-1].motion.covariance
    assert (np.diag(looked) > np.diag(tracked)).all()


def test_a_map_that_was_left_goes_on_once_it_is_recognised() -> None:
    away = [wall(3.0 * k, seed=7) for k in range(9)]
    later = sliding(range(STEADY, STEADY + 25), 20.0)
    said = played([*sliding(range(STEADY)), *away, *later], fickle_from=STEADY)
    begun, back = STEADY, STEADY + len(away)
    assert LOST in said[begun].events and not said[begun].motion.known
    assert RETURNED in said[back].events and not said[back].motion.known
    assert [said[n].map_number for n in (begun - 1, begun, back - 1, back)] == [0, 1, 1, 0]
    assert abs(right_mm(said[back]) - right_mm(said[back - 1])) < 1.0  # no jump of what is told
    for one in said[back + 1 :]:  # steps that feed the rest in are known to be no motion
        sigma_mm = np.sqrt(one.motion.covariance[0, 0])
        assert abs(one.motion.T_prev_cam[0, 3] - 2.0 * MM_PER_PX) < 3.0 * sigma_mm
    assert [event for one in said[back + 1 :] for event in one.events] == []
    end = (2.0 * (STEADY + 24) + 20.0) * MM_PER_PX
    assert right_mm(said[-1]) == pytest.approx(end, abs=0.4)
    assert float(np.median(said[-1].depth)) == pytest.approx(DISTANCE, rel=0.03)


def test_recognition_in_a_young_map_while_another_was_left() -> None:
    """Both maps are asked in one frame, by tracks that the newest keyframe may not have."""
    away = [wall(3.0 * k, seed=7) for k in range(6)]
    jumped = [wall(60.0 + 3.0 * k, seed=7) for k in range(6, 12)]
    said = played([*sliding(range(STEADY)), *away, *jumped], fickle_from=99)
    assert [event for one in said[STEADY + 1 :] for event in one.events] == [RECOGNISED]
    assert said[-1].map_number == 1


def test_points_that_another_window_does_not_see_are_not_looked_at() -> None:
    texture, corners = seen(wall(0))
    there, _ = seen(wall(30.0))
    anchor = Anchor(texture, WHOLE, np.arange(len(corners)), corners)
    moved = anchor.seen_through(Window(40, 200, 280, 224, 280, 224))
    assert 0 < moved.inside.sum() < 0.3 * len(corners)
    sight = Sight(there, np.full(there.shape, 255, np.uint8), moved.window, (280, 224), Future(),
                  0.0, 1.0, np.array([[1.0, 1.0], [0.0, 0.0]]), 0.04)  # fmt: skip
    ids, points = Looked(sight).recognised([anchor], anchor.ids)
    assert set(ids) <= set(anchor.ids[moved.inside])
    whole = replace(sight, window=WHOLE)
    twins = [anchor, replace(anchor, ids=anchor.ids + 1000)]
    ids, points = Looked(whole).recognised(twins, np.arange(2000))
    assert len(ids) > 100 and len(np.unique(points, axis=0)) == len(ids)  # a corner counts once


def test_points_are_looked_for_in_the_newest_sharp_keyframes_and_each_is_found_once() -> None:
    texture, corners = seen(wall(0))
    there, _ = seen(wall(30.0))
    sight = Sight(there, np.full(there.shape, 255, np.uint8), WHOLE, (280, 224), Future(),
                  0.0, 1.0, np.array([[1.0, 1.0], [0.0, 0.0]]), 0.04)  # fmt: skip
    here = Anchor(texture, WHOLE, np.arange(len(corners)), corners)
    elsewhere = Anchor(*seen(wall(0, seed=7))[:1], WHOLE, np.arange(len(corners)) + 1000, corners)
    smeared = replace(here, texture=seen(blurred(wall(0)))[0])
    everything = np.arange(2000)
    ids, points = Looked(sight).recognised([*[elsewhere] * LOOKED_AT, here], everything)
    assert (ids < 1000).sum() > 100 and (np.diff(ids) > 0).all()
    right = corners[ids[ids < 1000]] - points[ids < 1000]
    assert np.median(np.linalg.norm(right - (30.0, 0.0), axis=1)) < 1.0
    some = Looked(sight).recognised([here, replace(here, ids=here.ids[::-1])], ids[::2])[0]
    assert set(some) <= set(ids[::2]) and (np.diff(some) > 0).all()
    assert not len(Looked(sight).recognised([smeared], everything)[0])
    hidden = Looked(sight).recognised([here, *[elsewhere] * LOOKED_AT], everything)[0]
    assert not (hidden < 1000).any()  # too old to be asked


def test_another_place_is_never_taken_for_the_one_before() -> None:
    away = [wall(3.0 * k, seed=7) for k in range(40)]
    said = played([*sliding(range(STEADY)), *away], fickle_from=99)
    events = [event for one in said for event in one.events]
    assert events == [LOST] and said[-1].map_number == 1
