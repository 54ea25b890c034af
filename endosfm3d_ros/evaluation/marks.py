# SPDX-License-Identifier: Apache-2.0
"""
Pairs of points on real clips whose order in distance an expert eye does not doubt.

Which depth gets them right? The naive rules stand beside every score: a depth that does not beat
"brighter is nearer" has learnt nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

RULES = ('brighter', 'lower', 'outer')
BRIGHTNESS_SHARE = 0.012  # the brightness around a point is blurred with this sigma, of the width


@dataclass(frozen=True)
class Marks:
    """
    The marked pairs of one frame.

    :param frame: 0-based number in the clip.
    :param size: width, height of the picture that was marked [px].
    :param near: (N, 2) points u, v [px].
    :param far: (N, 2) the point of each pair that is farther [px].
    """

    frame: int
    size: tuple[int, int]
    near: np.ndarray
    far: np.ndarray


def read_marks(path: Path) -> dict[str, list[Marks]]:
    """
    Read a file of marks: {clip: [{frame, width, height, pairs: [{near, far, ...}], ...}]}.

    :raises ValueError: it is no such file.
    """
    try:
        clips = json.loads(path.read_text(encoding='utf-8'))
        return {
            clip: [
                Marks(
                    int(one['frame']),
                    (int(one['width']), int(one['height'])),
                    np.array([pair['near'] for pair in one['pairs']], float),
                    np.array([pair['far'] for pair in one['pairs']], float),
                )
                for one in frames
                if one['pairs']
            ]
            for clip, frames in clips.items()
        }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: these are no marks ({error!r})') from error


def right_by_depth(marks: Marks, depth: np.ndarray) -> np.ndarray:
    """
    Ask a depth image.

    :param marks: of this frame.
    :param depth: (H, W) z-depth at the marked picture's size, any unit; NaN where unknown.
    :return: (N,) float: 1 right, 0 wrong, NaN where either depth is unknown.
    """
    near, far = (_at(depth, marks, points) for points in (marks.near, marks.far))
    return np.where(np.isfinite(near) & np.isfinite(far), (near < far).astype(float), np.nan)


def right_by_rule(marks: Marks, image: np.ndarray) -> dict[str, np.ndarray]:
    """
    Ask the naive rules, named for what they think is nearer: brighter, lower, outer.

    :param image: (H, W, 3) uint8 RGB, the marked picture.
    :return: by rule (N,) float, 1 right, 0 wrong.
    """
    width, height = marks.size
    sharp = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.GaussianBlur(sharp, (0, 0), BRIGHTNESS_SHARE * width)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    bright = _at(grey, marks, marks.near) > _at(grey, marks, marks.far)
    lower = marks.near[:, 1] > marks.far[:, 1]
    near_radius, far_radius = (np.linalg.norm(p - centre, axis=1) for p in (marks.near, marks.far))
    answers = (bright, lower, near_radius > far_radius)
    return {rule: answer.astype(float) for rule, answer in zip(RULES, answers, strict=True)}


def scores(answers: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Share of right answers by name; an unknown answer counts as half."""
    return {name: float(np.nan_to_num(a, nan=0.5).mean()) for name, a in answers.items() if len(a)}


def _at(picture: np.ndarray, marks: Marks, points: np.ndarray) -> np.ndarray:
    if picture.shape[:2] != (marks.size[1], marks.size[0]):
        raise ValueError(
            f'marks are of a {marks.size} picture, this one is {picture.shape[1::-1]}'
        )
    u = np.clip(np.rint(points[:, 0]).astype(int), 0, marks.size[0] - 1)
    v = np.clip(np.rint(points[:, 1]).astype(int), 0, marks.size[1] - 1)
    return np.asarray(picture[v, u], float)
