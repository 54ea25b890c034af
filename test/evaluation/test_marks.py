# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest

from endosfm3d_ros.evaluation.marks import (
    RULES,
    Marks,
    read_marks,
    right_by_depth,
    right_by_rule,
    scores,
)

SHARED = Path(__file__).parents[3] / 'shared' / 'data' / 'marks' / 'dev.json'
H, W = 40, 60


@pytest.fixture
def marks(tmp_path: Path) -> list:
    pairs = [{'near': [50, 30], 'far': [10, 5]}, {'near': [30, 35], 'far': [30, 3]}]
    path = tmp_path / 'marks.json'
    clips = {'clip': [{'frame': 7, 'width': W, 'height': H, 'pairs': pairs}]}
    path.write_text(json.dumps(clips))
    return read_marks(path)['clip']


def test_a_depth_is_right_where_the_near_point_is_nearer_in_it(marks: list) -> None:
    depth = np.broadcast_to(np.arange(H, 0, -1.0)[:, None], (H, W))
    assert right_by_depth(marks[0], depth).tolist() == [1.0, 1.0]
    assert right_by_depth(marks[0], -depth).tolist() == [0.0, 0.0]
    assert right_by_depth(marks[0], 3 * depth + 5).tolist() == [1.0, 1.0]


def test_an_unknown_depth_counts_as_half_right(marks: list) -> None:
    depth = np.broadcast_to(np.arange(H, 0, -1.0)[:, None], (H, W)).copy()
    depth[5, 10] = np.nan
    answers = right_by_depth(marks[0], depth)
    assert np.isnan(answers[0]) and answers[1] == 1.0
    assert scores({'depth': answers}) == {'depth': 0.75}


def test_the_rules_do_what_their_names_say(marks: list) -> None:
    image = np.zeros((H, W, 3), np.uint8)
    image[:, 30:] = 200
    said = right_by_rule(marks[0], image)
    assert said['lower'].tolist() == [1.0, 1.0]
    assert said['brighter'][0] == 1.0
    assert said['outer'].tolist() == [0.0, 0.0]  # (50, 30) is 23 px from the centre, (10, 5) 24


def picture_of(near: list, far: list, width: int = W) -> Marks:
    return Marks(0, (width, H), np.array(near, float), np.array(far, float))


def test_who_calls_everything_alike_gets_nothing_right() -> None:
    pair = picture_of([[10, 20]], [[49, 20]])  # both as far from the centre
    assert right_by_depth(pair, np.ones((H, W))).tolist() == [0.0]
    said = right_by_rule(pair, np.full((H, W, 3), 90, np.uint8))
    assert [said[rule].tolist() for rule in RULES] == [[0.0]] * 3


def test_outer_is_farther_from_the_middle_of_the_picture_s_pixels() -> None:
    sides = picture_of(
        [[50, 19], [9, 19], [29, 39], [29, 0]], [[10, 19], [49, 19], [29, 1], [29, 38]]
    )
    image = np.zeros((H, W, 3), np.uint8)
    assert right_by_rule(sides, image)['outer'].tolist() == [1.0] * 4
    other_way = picture_of(sides.far.tolist(), sides.near.tolist())
    assert right_by_rule(other_way, image)['outer'].tolist() == [0.0] * 4


def test_a_glint_of_one_pixel_is_not_bright() -> None:
    image = np.zeros((H, 500, 3), np.uint8)
    image[:, 250:] = 100
    image[20, 100] = 255
    glint = picture_of([[100, 20]], [[400, 20]], 500)
    assert right_by_rule(glint, image)['brighter'].tolist() == [0.0]


def test_a_point_on_the_very_edge_reads_the_last_pixel() -> None:
    depth = np.full((H, W), 9.0)
    depth[-1, -1], depth[0, 0] = 1.0, 5.0
    corners = picture_of([[W - 0.4, H - 0.4]], [[-0.6, -0.6]])
    assert right_by_depth(corners, depth).tolist() == [1.0]
    depth[0, 0] = 0.5
    assert right_by_depth(corners, depth).tolist() == [0.0]


def test_a_picture_of_another_size_and_a_file_of_no_marks_are_refused(
    marks: list, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match='marks are of a'):
        right_by_depth(marks[0], np.ones((H, W + 1)))
    wrong = tmp_path / 'wrong.json'
    wrong.write_text('{"clip": [{"frame": 1}]}')
    with pytest.raises(ValueError, match='these are no marks'):
        read_marks(wrong)


@pytest.mark.skipif(not SHARED.is_file(), reason='the marks of ../shared are not here')
def test_the_marks_in_use_are_187_pairs_on_19_frames() -> None:
    clips = read_marks(SHARED)
    assert sum(len(frames) for frames in clips.values()) == 19
    assert sum(len(marks.near) for frames in clips.values() for marks in frames) == 187
