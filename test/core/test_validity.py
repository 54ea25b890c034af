# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from endosfm3d_ros.core.validity import Validity, judge

SIZE = (224, 280)
EVERYWHERE = np.ones(SIZE, bool)


def tissue(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (28, 35, 3)).astype(np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


def verdict(picture: np.ndarray, previous: np.ndarray | None = None, repeats: int = 0) -> Validity:
    return judge(picture, EVERYWHERE, previous, repeats, frozen_after=5)


def test_a_textured_picture_is_valid() -> None:
    assert verdict(tissue()) == Validity(True, '', 0)


@pytest.mark.parametrize('level', [0, 5, 12])
def test_a_black_picture_with_sensor_noise_is_black(level: int) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (*SIZE, 3))
    assert verdict(np.clip(level + noise, 0, 255).astype(np.uint8)).reason == 'black'


def test_a_washed_out_picture_and_a_wall_of_fog_are_refused_with_their_names() -> None:
    assert verdict(np.full((*SIZE, 3), 255, np.uint8)).reason == 'washed_out'
    fog = np.clip(150 + np.random.default_rng(0).normal(0, 2, (*SIZE, 3)), 0, 255).astype(np.uint8)
    assert verdict(fog).reason == 'flat'


def test_a_picture_sent_again_and_again_is_frozen_and_one_repeat_is_not() -> None:
    picture, repeats, reasons = tissue(), 0, []
    for _ in range(7):
        said = verdict(picture, picture, repeats)
        repeats = said.repeats
        reasons.append(said.reason)
    assert reasons == ['', '', '', '', 'frozen', 'frozen', 'frozen']
    assert verdict(tissue(1), picture, repeats) == Validity(True, '', 0)


def test_a_clock_that_ticks_in_the_border_does_not_thaw_a_frozen_picture() -> None:
    mask = np.zeros(SIZE, bool)
    mask[:, 40:240] = True
    repeats, before = 0, tissue()
    for tick in range(8):
        picture = tissue()
        picture[10:30, 5:25] = 30 * tick
        said = judge(picture, mask, before, repeats, frozen_after=5)
        repeats, before = said.repeats, picture
    assert said.reason == 'frozen'


def test_a_picture_without_a_visible_part_is_refused() -> None:
    assert judge(tissue(), np.zeros(SIZE, bool), None, 0, 5).reason == 'nothing_visible'


def test_the_border_does_not_count_as_black() -> None:
    picture, mask = tissue(), np.zeros(SIZE, bool)
    mask[60:160, 80:200] = True
    picture[~mask] = 0
    assert judge(picture, mask, None, 0, 5).valid
