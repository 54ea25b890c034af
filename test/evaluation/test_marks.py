# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest

from endosfm3d_ros.evaluation.marks import read_marks, right_by_depth, right_by_rule, scores

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
