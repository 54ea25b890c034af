# SPDX-License-Identifier: Apache-2.0
"""
The node's work offline: a video, a folder of pictures or a bag in, every frame's messages in a
bag out; no DDS.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rclpy.serialization import serialize_message

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.bag_frames import is_part_of
from endosfm3d_ros.bags.definitions import canonical
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.nodes import USUAL
from endosfm3d_ros.bags.recording import McapWriter, check_name
from endosfm3d_ros.bags.source import FrameSource
from endosfm3d_ros.bundle import BundleError, open_bundle
from endosfm3d_ros.camera_bag import BagCalibrations, calibrations_of
from endosfm3d_ros.core.frame import Frame
from endosfm3d_ros.core.picture.rectify import Calibration
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.engines.choose import DepthGraphs, motion_network
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.evaluation.against_truth import against_truth, read_truth
from endosfm3d_ros.evaluation.table import table_of
from endosfm3d_ros.inputs import Inputs
from endosfm3d_ros.kinematics_bag import BagKinematics
from endosfm3d_ros.messages_in import rectified
from endosfm3d_ros.metric import Metric
from endosfm3d_ros.outputs import Outputs, Traffic
from endosfm3d_ros.pictures_in import image_to_rgb
from endosfm3d_ros.report.run import read_run


@dataclass(frozen=True)
class Replayed:
    """
    What a replay did.

    :param frames: frames that became messages.
    :param refused: frames that could not be used, with the last reason.
    :param shortfall: a sentence on frames the source announced and did not give; '' when all were
        there.
    :param scale: what the scale rests on at the end, in words.
    """

    frames: int
    refused: int
    reason: str
    shortfall: str
    scale: str


def replay(
    source: FrameSource,
    out: Path,
    values: dict[str, Any],
    progress: Callable[[int], None] = lambda done: None,
    tell: Callable[[str], None] = lambda event: None,
    robot: BagKinematics | None = None,
    twice: bool = False,
    overwrite: bool = False,
    camera_info: str | None = None,
) -> Replayed:
    """
    Reconstruct every frame; equal inputs give equal message payloads.

    :param source: the frames.
    :param out: the .mcap file to write; never the one that is read.
    :param values: every parameter of the node by name.
    :param progress: called with the number of frames done.
    :param tell: called with a line for each event: a new epoch, a lost track.
    :param robot: the poses that `scale.source: kinematics` goes by.
    :param twice: a first pass learns the scope, so that the second knows its focal length from
        the first frame on.
    :param overwrite: replace a file of that name at the end, if a frame could be reconstructed.
    :param camera_info: the bag's topic for `intrinsics.source: camera_info`; None takes the one
        of that name beside the image topic.
    :raises ValueError: parameters do not fit, `out` may not be written, or no frame was taken.
    :raises BundleError, EngineError: bundle or engine do not fit.
    """
    if is_part_of(out, source.path):
        raise ValueError(f'{out}: this is what is read; choose another name for what is written')
    check_name(out, overwrite)
    calibrations = calibrations_of(source, values, camera_info)
    if calibrations and calibrations.refused:
        tell(f'{calibrations.refused} camera_info were refused: {calibrations.reason}')
    bundle = open_bundle(values['model'])
    options = parameters.engine_options(values)
    network = DepthGraphs(bundle, values['engine'], options)
    motion = motion_network(bundle, values['engine'], options)
    settings = parameters.settings(values)
    pipeline = Pipeline(network, bundle.sizes, settings, motion)
    if twice:
        learnt = _learnt_scopes(pipeline, source, Inputs(values), calibrations)
        pipeline = Pipeline(network, bundle.sizes, settings, motion, learnt)
    outputs = Outputs(values)
    done = refused = 0
    reason = ''
    inputs, metric = Inputs(values), Metric(values, pipeline, outputs)
    with McapWriter(out, overwrite=overwrite) as bag:
        for frame in source:
            try:
                outputs.check_frame_id(frame.frame_id)
                calibration = calibrations.at(frame.stamp_ns) if calibrations else None
                frame, warning = _taken(frame, inputs, calibration)
                said = pipeline.step(frame)
            except ValueError as error:
                refused, reason = refused + 1, str(error)
                continue
            except ArithmeticError as error:
                pipeline.reset('a picture failed')  # as the node does after a failure of its own
                refused, reason = refused + 1, str(error)
                continue
            done += 1
            for event in (*said.events, *filter(None, [warning])):
                tell(f'picture {done + refused}: {event}')
            metric.before(said)
            traffic = Traffic(received=done + refused)
            for topic, message in outputs.messages(said, traffic, calibration=calibration):
                name = topic if topic.startswith('/') else f'{USUAL}/{topic}'
                type_name = _type_name(message)
                raw = canonical(serialize_message(message), type_name)
                bag.write(name, type_name, raw, frame.stamp_ns, frame.stamp_ns, done)
            pipeline.settle()
            for stamp_ns, T_base_tip in robot.until(frame.stamp_ns) if robot else ():
                metric.robot(stamp_ns, T_base_tip)
            metric.after(said)
            progress(done)
        if not done:  # what is there already is worth more
            raise ValueError(f'{source.name}: all {refused} frames were refused: {reason}')
        bag.add_facts({'source': source.name, 'model': bundle.name, 'runtime': network.runtime})
    return Replayed(done, refused, reason, source.shortfall, metric.progress)


def _learnt_scopes(
    pipeline: Pipeline,
    source: FrameSource,
    inputs: Inputs,
    calibrations: BagCalibrations | None,
) -> tuple[Scope | None, ...]:
    """
    What a pass over all frames tells of the scope in each epoch; frames that can not be used are
    left out, and a failure ends it.
    """
    learnt: dict[int, Scope | None] = {}
    for frame in source:
        try:
            calibration = calibrations.at(frame.stamp_ns) if calibrations else None
            said = pipeline.step(_taken(frame, inputs, calibration)[0])
        except ValueError:
            continue
        except ArithmeticError:
            break
        pipeline.settle()
        learnt[said.epoch] = pipeline.learnt_scope
    return tuple(learnt.values())


def _taken(frame: Frame, inputs: Inputs, calibration: Calibration | None) -> tuple[Frame, str]:
    """What the pipeline sees of a frame, made as the live node makes it, and a warning or ''."""
    frame, warning = inputs.take(frame)
    if calibration:
        frame = rectified(frame, calibration)
    return frame, warning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d replay`."""
    parser.add_argument(
        'input', type=Path, help='a video file, a folder of pictures, or a rosbag2'
    )
    parser.add_argument('out', type=Path, help='the bag to write, e.g. run.mcap')
    parser.add_argument('--overwrite', action='store_true', help='replace a bag of that name')
    parser.add_argument('--topic', help="a bag's image topic; needed when it has several")
    parser.add_argument('--rate', type=float, help='frames a second of a folder of pictures [Hz]')
    parser.add_argument(
        '--truth', type=Path, help="of the input: print the errors (see 'endosfm3d evaluate')"
    )
    parser.add_argument('--frame-id', help="the camera's optical frame, instead of the input's")
    parser.add_argument(
        '--refine', choices=('full', 'online'), default='online',
        help='full: two passes, the second knows what the first learnt of the scope',
    )  # fmt: skip
    parser.add_argument(
        '--robot-pose',
        metavar='TOPIC',
        help='for --set scale.source=kinematics: PoseStamped topic of the bag',
    )
    parser.add_argument(
        '--camera-info',
        metavar='TOPIC',
        help='for --set intrinsics.source=camera_info: CameraInfo topic of the bag (default: '
        'camera_info beside the image topic)',
    )
    add_parameter_argument(parser)


def add_parameter_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that sets a parameter of the node."""
    parser.add_argument(
        '--set', action='append', default=[], metavar='NAME=VALUE', dest='parameters',
        help="a parameter of the node, e.g. --set model=photometric; repeat for more "
        "('endosfm3d parameters' lists them)",
    )  # fmt: skip


def parameters_from(texts: list[str]) -> dict[str, Any]:
    """
    Read NAME=VALUE texts over the defaults, values as a parameter file of ROS has them.

    :raises ValueError: not of that form, unknown, or out of range.
    """
    given = {}
    for text in texts:
        name, equals, value = text.partition('=')
        if not equals:
            raise ValueError(f'--set {text}: needed NAME=VALUE')
        given[name] = _value(name, value)
    return {**parameters.DEFAULTS, **parameters.checked(given)}


def _value(name: str, text: str) -> Any:
    """What a parameter file of ROS would read: YAML, whose 1e-3 is a number."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        why = getattr(error, 'problem', '') or ' '.join(str(error).split())
        raise ValueError(
            f'--set {name}={text} is no YAML ({why}); put a text into quotes: {name}={text!r}'
        ) from error
    if isinstance(value, str) and isinstance(parameters.DEFAULTS.get(name), float):
        with suppress(ValueError):  # what is no number is refused with all else that does not fit
            return float(value)
    return value


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d replay`."""
    begun = time.perf_counter()
    try:
        values = parameters_from(arguments.parameters)
        source = open_frames(
            arguments.input,
            topic=arguments.topic,
            rate=arguments.rate,
            frame_id=arguments.frame_id or values['camera_frame_id'] or None,
            decode=image_to_rgb,
        )
        known = read_truth(arguments.truth) if arguments.truth else None
        robot = _robot(arguments, values)
        show = _show_progress(source.count)
        result = replay(
            source,
            arguments.out,
            values,
            show,
            _tell,
            robot,
            twice=arguments.refine == 'full',
            overwrite=arguments.overwrite,
            camera_info=arguments.camera_info,
        )
        errors = against_truth(read_run(arguments.out), known) if known else None
    except (ValueError, OSError, BundleError, EngineError) as error:
        print(f'endosfm3d replay: {error}', file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begun
    print(
        f'{arguments.out}: {result.frames} frames in {seconds:.1f} s '
        f'({result.frames / seconds:.1f} Hz)'
    )
    if errors:
        print(table_of(errors))
    if robot:
        print(f'scale: {result.scale}')
        if robot.refused:
            print(f'{robot.refused} poses of the robot were refused', file=sys.stderr)
    if result.refused:
        print(f'{result.refused} frames were refused: {result.reason}', file=sys.stderr)
    if result.shortfall:
        print(result.shortfall, file=sys.stderr)
    return 0


def _robot(arguments: argparse.Namespace, values: dict[str, Any]) -> BagKinematics | None:
    """The robot's poses, where they are asked for."""
    if values['scale.source'] != 'kinematics':
        if arguments.robot_pose:
            raise ValueError('--robot-pose is for --set scale.source=kinematics')
        return None
    return BagKinematics(arguments.input, values, arguments.robot_pose)


def _show_progress(count: int | None) -> Callable[[int], None]:
    """A line that is written over, on a terminal only."""
    if not sys.stderr.isatty():
        return lambda done: None
    of = f' of {count}' if count else ''
    return lambda done: print(
        f'\r{done}{of} frames', end='' if done != count else '\n', file=sys.stderr, flush=True
    )


def _tell(event: str) -> None:
    start = '\r' if sys.stderr.isatty() else ''  # over the line of the progress
    print(f'{start}{event}', file=sys.stderr)


def _type_name(message: Any) -> str:
    package = type(message).__module__.split('.')[0]
    return f'{package}/msg/{type(message).__name__}'
