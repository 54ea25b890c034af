# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.picture.field_of_view import FieldOfView
from endosfm3d_ros.core.prepare import Window, choose_window, prepare

SIZES = ((224, 280), (224, 392))


def whole(width: int, height: int) -> FieldOfView:
    return FieldOfView(width, height, (0, 0, width, height))


@pytest.mark.parametrize(
    ('window', 'soft_px'),
    [
        (Window(140, 20, 1000, 640, 250, 160), 0),  # halved twice
        (Window(61, 3, 1134, 701, 336, 224), 2),  # halved, of an odd height, with a rest
        (Window(140, 20, 500, 430, 280, 224), 0),  # less than half: not halved
    ],
)
def test_a_mark_lies_in_the_network_picture_where_the_map_and_the_camera_say(
    window: Window, soft_px: float
) -> None:
    image = np.zeros((720, 1280, 3), np.uint8)
    image[300:316, 500:524] = 255
    if soft_px:
        image = cv2.GaussianBlur(image, (0, 0), soft_px)
    small = prepare(image, window)[..., 0].astype(float)
    v, u = (np.indices(small.shape) * small).sum((1, 2)) / small.sum()
    centre = np.array([[511.5, 307.5]])
    assert np.allclose(window.network_pixels(centre)[0], [u, v], atol=0.02)
    camera = Intrinsics(1280, 720, 900.0, 905.0, 640.0, 350.0)
    seen = window.network_camera(camera).matrix @ [(511.5 - 640) / 900, (307.5 - 350) / 905, 1.0]
    assert np.allclose(seen[:2], [u, v], atol=0.02)


def test_the_map_and_the_camera_come_back() -> None:
    window = Window(61, 3, 1134, 700, 336, 224)
    pixels = np.array([[0.0, 0.0], [700.25, 431.5]])
    assert np.allclose(window.input_pixels(window.network_pixels(pixels)), pixels)
    camera = Intrinsics(1280, 720, 810.0, 800.0, 627.0, 399.0)
    back = window.input_camera(window.network_camera(camera), 1280, 720)
    assert np.allclose(back.matrix, camera.matrix) and (back.width, back.height) == (1280, 720)


def test_a_full_picture_is_kept_whole_at_the_size_of_the_nearest_aspect() -> None:
    assert choose_window(whole(1280, 1024), SIZES) == Window(0, 0, 1280, 1024, 280, 224)
    assert choose_window(whole(1920, 1080), SIZES) == Window(0, 0, 1920, 1080, 392, 224)


def test_a_round_picture_is_cut_to_its_box_grown_to_the_size_s_aspect() -> None:
    field = FieldOfView(1920, 1080, (0, 0, 1920, 1080), (960.0, 540.0, 400.0), (0.1, 0.1, 0.1))
    window = choose_window(field, SIZES)
    assert window.left <= field.left and window.left + window.width >= field.right
    assert window.width / window.height == pytest.approx(280 / 224, rel=0.01)


def test_the_window_keeps_still_for_a_small_move_and_follows_a_large_one() -> None:
    def at(u: float, r: float) -> FieldOfView:
        return FieldOfView(1920, 1080, (0, 0, 1920, 1080), (u, 540.0, r), (0.1, 0.1, 0.1))

    first = choose_window(at(960, 400), SIZES)
    assert choose_window(at(966, 402), SIZES, first) == first
    assert choose_window(at(960, 480), SIZES, first) != first
    assert choose_window(at(960, 250), SIZES, first) != first


def test_a_smallest_and_a_huge_picture_are_prepared_too() -> None:
    for height, width in ((1, 1), (3, 5), (4320, 7680)):
        window = choose_window(whole(width, height), SIZES)
        picture = prepare(np.full((height, width, 3), 7, np.uint8), window)
        assert (
            picture.shape == (window.network_height, window.network_width, 3)
            and (picture == 7).all()
        )


def test_outside_the_round_stop_no_pixel_of_the_network_picture_is_inside() -> None:
    field = FieldOfView(640, 512, (0, 0, 640, 512), (320.0, 256.0, 200.0), (0.1, 0.1, 0.1))
    window = choose_window(field, SIZES)
    mask = field.mask_in((window.left, window.top, window.width, window.height), 280, 224)
    v, u = np.indices(mask.shape)
    there = window.input_pixels(np.stack([u.ravel(), v.ravel()], 1).astype(float))
    radius = np.hypot(there[:, 0] - 320, there[:, 1] - 256).reshape(mask.shape)
    assert not mask[radius > 200].any() and mask[radius < 190].all()
