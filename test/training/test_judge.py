# SPDX-License-Identifier: Apache-2.0
"""What bundles are judged by: every mark and every world counts, or it is said which does not."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from endosfm3d_ros.core.depth_map import DepthMap
from training import judge

HEIGHT, WIDTH = 56, 70
OFF = 0.1  # of log focal, at a stated 0.2


def downwards(scale: float = 1.0) -> np.ndarray:
    """(H, W) depth that grows from the top to the bottom [mm]."""
    return scale * np.linspace(20.0, 60.0, HEIGHT)[:, None] * np.ones((1, WIDTH))


class Knowing:
    """A network that is right but for its scale."""

    def __init__(self, _: object) -> None:
        pass

    def __call__(self, picture: np.ndarray) -> DepthMap:
        depth = downwards(3.0).astype(np.float32)
        return DepthMap(depth, np.zeros_like(depth), np.log(0.8) + OFF, 0.2)


@pytest.fixture(autouse=True)
def knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, 'DepthGraphs', Knowing)
    monkeypatch.setattr(
        judge, 'open_bundle', lambda name: SimpleNamespace(sizes=((HEIGHT, WIDTH),))
    )


def test_worlds_are_judged_by_the_figures_computed_by_hand(tmp_path: Path) -> None:
    images = np.full((2, 2, HEIGHT, WIDTH, 3), 90, np.uint8)
    depths = np.tile(downwards(), (2, 2, 1, 1)).astype(np.float16)
    cameras = np.tile([0.8, 1.0, 0.5, 0.5], (2, 2, 1)).astype(np.float32)
    np.savez(tmp_path / 'tube_1000000.npz', images=images, depths=depths, cameras=cameras)
    told = judge.on_worlds('knowing', tmp_path)['tube']
    true = downwards()
    wall = np.abs(np.median(true) / true - 1.0).mean()
    assert told['pictures'] == 4 and told['abs_rel'] < 1e-3
    assert told['constant'] == pytest.approx(wall, rel=1e-2)
    assert told['falloff'] == pytest.approx(wall, rel=1e-2)  # of one brightness: a wall
    assert told['focal'] == pytest.approx(np.expm1(OFF), rel=1e-3)
    assert told['focal_nse'] == pytest.approx((OFF / 0.2) ** 2, rel=1e-3)


def marked(folder: Path, frames: list[int], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Marks of these frames of a clip of five: the first pair of each is told right, no other."""
    right = {'near': [30, 10], 'far': [30, 40]}
    wrong = {'near': [30, 40], 'far': [30, 10]}
    ones = [
        {'frame': frame, 'width': WIDTH, 'height': HEIGHT, 'pairs': [right if n == 0 else wrong]}
        for n, frame in enumerate(frames)
    ]
    path = folder / 'marks.json'
    path.write_text(json.dumps({'clip': ones}))
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    monkeypatch.setattr(judge, 'VideoFrames', lambda _: [SimpleNamespace(image=image)] * 5)
    return path


def test_a_frame_that_was_marked_twice_counts_with_all_of_its_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = marked(tmp_path, [2, 2, 4, 4], monkeypatch)
    assert judge.on_marks(['knowing'], marks, tmp_path)['all']['knowing'] == 0.25


def test_marks_beyond_a_clip_s_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = marked(tmp_path, [2, 7], monkeypatch)
    with pytest.raises(ValueError, match=r'has 5 frames, needed frame 7'):
        judge.on_marks(['knowing'], marks, tmp_path)


def test_nothing_to_judge_by_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r'no pairs; run: python -m training synthesize'):
        judge.on_worlds('knowing', tmp_path)
    monkeypatch.setattr('sys.argv', ['judge', 'knowing'])
    with pytest.raises(SystemExit):
        judge.main()
