# SPDX-License-Identifier: Apache-2.0
"""What else may come in, over real DDS: calibrations, compressed pictures, every way to give K."""

from array import array
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from robot import HEIGHT, WIDTH, RobotWithNode, wall
from sensor_msgs.msg import CameraInfo, CompressedImage

pytestmark = pytest.mark.ros
Make = Callable[..., RobotWithNode]
K = [300.0, 0.0, 155.0, 0.0, 305.0, 118.0, 0.0, 0.0, 1.0]


def calibration(width: int = WIDTH) -> CameraInfo:
    return CameraInfo(
        width=width,
        height=HEIGHT,
        distortion_model='plumb_bob',
        d=[-0.2, 0.05, 0.0, 0.0, 0.0],
        k=K,
    )


def calibrated(with_node: Make, info: CameraInfo, *parameters: str) -> RobotWithNode:
    """A robot whose driver has sent its calibration."""
    robot = with_node('intrinsics.source:=camera_info', *parameters)
    tell(robot, info)
    return robot


def tell(robot: RobotWithNode, *infos: CameraInfo) -> None:
    """Send calibrations as a driver does, and wait until the node has them."""
    driver = robot.node.create_publisher(CameraInfo, 'camera_info', 5)
    robot.wait(lambda: driver.get_subscription_count() == 1, 'a listener of camera_info')
    for info in infos:
        driver.publish(info)
    robot.wait(lambda: len(robot.scope._calibrations._told) == len(infos), 'the calibrations')


def compressed(with_node: Make) -> tuple[RobotWithNode, Publisher]:
    """A robot whose driver sends compressed pictures."""
    robot = with_node('image_transport:=compressed', start=False)
    driver = robot.node.create_publisher(CompressedImage, 'image/compressed', 5)
    assert robot.scope.start()
    robot.ready(driver)
    return robot, driver


def test_a_calibration_is_believed_and_its_distortion_is_told_of_the_input_only(
    with_node: Make,
) -> None:
    robot = calibrated(with_node, calibration())
    status = robot.answer_to(robot.message(wall(0)))
    assert float(status['k_trust']) == 1.0 and status['camera_model'] == 'given'
    info = robot.seen['input/camera_info'][-1]
    assert info.k.tolist() == K and info.distortion_model == 'plumb_bob'
    assert list(info.d) == list(calibration().d)
    network, depth = robot.seen['depth/camera_info'][-1], robot.seen['depth/image'][-1]
    assert network.k[0] / network.width == pytest.approx(K[0] / WIDTH)
    assert (network.width, network.height) == (depth.width, depth.height)
    assert not np.any(network.d) and not np.any(robot.seen['rgb/camera_info'][-1].d)


def test_a_calibration_holds_for_its_own_picture_though_the_next_one_s_came_before_that(
    with_node: Make,
) -> None:
    robot = with_node('intrinsics.source:=camera_info')
    pictures = [robot.message(wall(2.0 * number)) for number in range(3)]
    infos = [calibration() for _ in pictures]
    for number, (picture, info) in enumerate(zip(pictures, infos, strict=True)):
        info.header, info.d = picture.header, []
        info.k = [300.0 + 10 * number, *K[1:]]
    tell(robot, *infos)
    for picture, info in zip(pictures, infos, strict=True):
        robot.answer_to(picture)
        assert robot.seen['input/camera_info'][-1].k[0] == info.k[0]


def test_a_rectified_topic_is_not_rectified_again_and_has_the_camera_of_p(with_node: Make) -> None:
    info = calibration()
    info.p = [280.0, 0.0, 150.0, 0.0, 0.0, 285.0, 121.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    robot = calibrated(with_node, info, 'intrinsics.lens:=straight')
    robot.answer_to(robot.message(wall(0)))
    told = robot.seen['input/camera_info'][-1]
    assert told.k.tolist() == [280.0, 0.0, 150.0, 0.0, 285.0, 121.0, 0.0, 0.0, 1.0]
    assert not np.any(told.d) and told.p.tolist() == info.p.tolist()
    network = robot.seen['depth/camera_info'][-1]
    assert network.k[0] / network.width == pytest.approx(280.0 / WIDTH)


def test_a_calibration_of_another_size_or_none_refuses_pictures_with_the_reason(
    with_node: Make,
) -> None:
    robot = calibrated(with_node, calibration(width=WIDTH * 2))
    robot.camera.publish(robot.message(wall(0)))
    robot.wait_for_log(f'camera_info is of a {WIDTH * 2}x{HEIGHT} picture')


def test_without_the_calibration_that_was_asked_for_nothing_is_guessed(with_node: Make) -> None:
    robot = with_node('intrinsics.source:=camera_info')
    robot.camera.publish(robot.message(wall(0)))
    robot.wait_for_log(
        "'camera_info' and no calibration came with the picture: nothing on /camera_info; "
        "publishers: none; remap camera_info to the driver's"
    )
    assert not robot.seen['depth/image']


def test_pictures_without_a_calibration_are_refused_for_what_is_wrong_with_it(
    with_node: Make,
) -> None:
    robot = with_node('intrinsics.source:=camera_info')
    driver = robot.node.create_publisher(CameraInfo, 'camera_info', 5)
    robot.wait(lambda: driver.get_subscription_count() == 1, 'a listener of camera_info')
    driver.publish(CameraInfo(width=WIDTH, height=HEIGHT))
    robot.wait_for_log('camera_info refused')
    robot.camera.publish(robot.message(wall(0)))
    robot.wait_for_log('came with the picture: camera_info has no calibration (fx or fy of K is')


def test_a_fixed_camera_comes_out_as_it_was_given(with_node: Make) -> None:
    fixed = f'[{WIDTH}.0, {HEIGHT}.0, 300.0, 305.0, 155.0, 118.0]'
    robot = with_node('intrinsics.source:=fixed', f'intrinsics.fixed:={fixed}')
    assert float(robot.answer_to(robot.message(wall(0)))['k_trust']) == 1.0
    assert robot.seen['input/camera_info'][-1].k.tolist() == K


def test_an_overlay_named_while_it_runs_is_left_out_of_the_next_depth(with_node: Make) -> None:
    robot = with_node('field_of_view:=full')
    robot.answer_to(robot.message(wall(0), frame_id='/scope_optical'))
    assert robot.seen['depth/image'][-1].header.frame_id == 'scope_optical'  # tf2 knows no slash
    for value, share in (('0 0 160 240', 0.5), ('', 0.0)):
        wanted = Parameter('overlays', value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[wanted])
        done = robot.call(SetParameters, '/endosfm3d/set_parameters', request)
        assert done.results[0].successful
        robot.answer_to(robot.message(wall(0)))
        depth = np.frombuffer(robot.seen['depth/image'][-1].data, np.float32)
        assert np.isnan(depth).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_compressed_pictures_are_answered_like_raw_ones(with_node: Make, kind: str) -> None:
    robot, driver = compressed(with_node)
    raw = robot.message(wall(0))
    data = array('B', cv2.imencode(f'.{kind}', wall(0)[..., ::-1])[1].tobytes())
    driver.publish(CompressedImage(header=raw.header, format=kind, data=data))
    robot.wait(lambda: bool(robot.seen['rgb/image']), 'an answer')
    answer = robot.seen['rgb/image'][-1]
    assert answer.header.stamp == raw.header.stamp
    seen = np.frombuffer(answer.data, np.uint8).reshape(answer.height, answer.width, 3)
    small = cv2.resize(wall(0), (answer.width, answer.height), interpolation=cv2.INTER_AREA)
    assert np.abs(seen.astype(int) - small).mean() < 6


def test_a_compressed_picture_cut_short_is_refused_and_the_next_one_answered(
    with_node: Make,
) -> None:
    robot, driver = compressed(with_node)
    whole = cv2.imencode('.png', wall(0))[1].tobytes()
    for data in (whole[:40], whole):
        header = robot.message(wall(0)).header
        driver.publish(CompressedImage(header=header, format='png', data=array('B', data)))
        if data is not whole:
            robot.wait_for_log('can not be decoded')
    robot.wait(lambda: bool(robot.seen['rgb/image']), 'an answer')
