# SPDX-License-Identifier: Apache-2.0
"""When a motion network is asked, and how far it is believed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.frame import Frame, Intrinsics
from endosfm3d_ros.core.geometry import motion_from_vector
from endosfm3d_ros.core.network_motion import K_SIGMA, NetworkMotion, network_camera, network_step
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.settings import Settings

SIZES = ((224, 280),)
FIXED = Settings('fixed', Intrinsics(280, 224, 200.0, 200.0, 139.5, 111.5), find_circle=False)
FREE = Settings(find_circle=False)
SAID = NetworkMotion(
    motion_from_vector(np.array([0.0, 0.02, 0.0]), np.array([1.0, 0.0, 2.0])),
    np.array([0.7, 0.875, 0.5, 0.5]),
)


class Network:
    """Says always the same, and remembers what it was asked."""

    def __init__(self, said: NetworkMotion = SAID) -> None:
        self.said = said
        self.asked: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, previous: np.ndarray, current: np.ndarray) -> NetworkMotion:
        self.asked.append((previous, current))
        return self.said


def flat_depth(picture: np.ndarray) -> DepthMap:
    size = picture.shape[:2]
    return DepthMap(np.full(size, 50.0, np.float32), np.full(size, 0.1, np.float32))


def texture(number: int) -> Frame:
    """A fixed texture: tracks know that nothing moved, but the light flickers."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (56, 70, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    return Frame(coarse + np.uint8(number % 2), 10**18 + number * 40_000_000, 'scope')


def sliding(number: int) -> Frame:
    """A wall that slides by, two pixels a frame."""
    coarse = np.random.default_rng(0).integers(40, 220, (40, 60, 3)).astype(np.uint8)
    large = cv2.resize(coarse, (480, 320), interpolation=cv2.INTER_CUBIC)
    image = np.ascontiguousarray(large[40:264, 2 * number : 2 * number + 280])
    return Frame(image, 10**18 + number * 40_000_000, 'scope')


def another(number: int) -> Frame:
    """Every time a new scene: nothing can be tracked."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(40, 200, (56, 70, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    return Frame(coarse, 10**18 + number * 40_000_000, 'scope')


def test_where_tracks_know_nothing_the_network_s_step_is_taken_with_a_stated_sigma() -> None:
    network = Network()
    pipeline = Pipeline(flat_depth, SIZES, FIXED, network)
    pipeline.step(another(0))
    said = pipeline.step(another(1))
    assert said.motion.known and said.motion.inliers == 0
    assert np.allclose(said.motion.T_prev_cam, SAID.T_prev_cam)
    sigma = np.sqrt(np.diag(said.motion.covariance))
    assert (sigma[:3] > 0.5 * np.hypot(1, 2) * 0.99).all() and (sigma[3:] > 0.01 * 0.99).all()
    assert len(network.asked) == 1
    assert np.array_equal(network.asked[0][0], another(0).image)
    assert np.array_equal(network.asked[0][1], another(1).image)
    without = Pipeline(flat_depth, SIZES, FIXED)
    without.step(another(0))
    assert not without.step(another(1)).motion.known


def test_where_tracks_know_the_step_the_network_is_not_even_asked() -> None:
    network = Network()
    pipeline = Pipeline(flat_depth, SIZES, FIXED, network)
    for number in range(3):
        said = pipeline.step(texture(number))
    assert said.motion.known and said.motion.inliers > 0
    assert not network.asked


def test_a_scale_stretches_the_network_s_step_as_it_stretches_depth() -> None:
    pipeline = Pipeline(flat_depth, SIZES, replace(FIXED, scale=3.0), Network())
    pipeline.step(another(0))
    said = pipeline.step(another(1))
    assert np.allclose(said.motion.T_prev_cam[:3, 3], 3 * SAID.T_prev_cam[:3, 3])


def test_the_network_s_step_is_stretched_as_its_depth_is_to_fit_the_map() -> None:
    depth = [50.0]

    def swelling(picture: np.ndarray) -> DepthMap:
        return replace(flat_depth(picture), depth=np.full((224, 280), depth[0], np.float32))

    pipeline = Pipeline(swelling, SIZES, FIXED, Network())
    for number in range(45):
        depth[0] = 50.0 * min(1.3, 1.0 + 0.02 * number)  # the map holds its first scale
        pipeline.step(sliding(number))
    said = pipeline.step(another(45))
    stretch = np.nanmedian(said.depth) / depth[0]
    assert stretch < 0.85 and said.motion.known and said.motion.inliers == 0
    assert said.motion.T_prev_cam[:3, 3] == pytest.approx(
        stretch * SAID.T_prev_cam[:3, 3], rel=0.02
    )


def test_the_network_s_k_is_one_measurement_until_the_scope_may_be_another() -> None:
    network = Network()
    pipeline = Pipeline(flat_depth, SIZES, FREE, network)
    before = pipeline.step(texture(0))
    after = pipeline.step(texture(1))
    later = pipeline.step(texture(2))
    weight = 0.35**2 / (0.35**2 + K_SIGMA**2)  # of a measurement against the prior
    wanted = (1 - weight) * np.log(before.camera.fx) + weight * np.log(0.7 * 280)
    assert np.log(after.camera.fx) == pytest.approx(wanted, abs=1e-3)
    assert after.log_focal_sigma < before.log_focal_sigma
    assert later.camera.fx == pytest.approx(after.camera.fx, rel=1e-3)
    assert len(network.asked) == 1
    pipeline.change(replace(FREE, scale=2.0))  # another epoch of the very same scope
    rescaled = [pipeline.step(texture(number)) for number in (3, 4)]
    assert rescaled[-1].epoch == 1 and len(network.asked) == 1
    pipeline.reset()
    pipeline.step(texture(5))
    pipeline.step(texture(6))
    assert len(network.asked) == 2


def test_a_given_k_is_not_changed_by_a_network() -> None:
    pipeline = Pipeline(flat_depth, SIZES, FIXED, Network())
    pipeline.step(another(0))
    assert pipeline.step(another(1)).camera == FIXED.fixed_camera


@pytest.mark.parametrize('K', [[0.01, 0.01, 0.5, 0.5], [np.nan, 1, 0.5, 0.5], [9, 9, 0.5, 0.5]])
def test_a_camera_that_can_not_exist_is_not_taken(K: list[float]) -> None:
    assert network_camera(replace(SAID, K=np.array(K)), 280, 224) is None


def test_a_step_that_is_no_number_is_not_taken() -> None:
    broken = SAID.T_prev_cam.copy()
    broken[0, 3] = np.nan
    assert network_step(replace(SAID, T_prev_cam=broken), 1.0) is None
    pipeline = Pipeline(flat_depth, SIZES, FIXED, Network(replace(SAID, T_prev_cam=broken)))
    pipeline.step(another(0))
    assert not pipeline.step(another(1)).motion.known


def test_normalised_k_becomes_pixels_whose_centres_are_integers() -> None:
    camera = SAID.camera(280, 224)
    assert (camera.fx, camera.fy) == pytest.approx((196, 196))
    assert (camera.cx, camera.cy) == (139.5, 111.5)
