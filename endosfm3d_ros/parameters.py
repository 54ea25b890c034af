# SPDX-License-Identifier: Apache-2.0
"""
Every parameter once: meaning, unit, range, default. The node declares this table; config/ and
docs are checked against it.
"""

import argparse
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.picture.overlays import boxes_from
from endosfm3d_ros.core.scale import CONSTANT, Scale
from endosfm3d_ros.core.settings import Settings
from endosfm3d_ros.engines.loading import Options

Value = bool | int | float | str | list[float]


@dataclass(frozen=True)
class Parameter:
    """
    One parameter of the node.

    :param name: as in YAML and `ros2 param`.
    :param default: its type is the parameter's type.
    :param text: meaning and unit, one sentence.
    :param choices: allowed words of a text parameter; empty means free text.
    :param low: smallest allowed number.
    :param high: largest allowed number.
    :param check: raises ValueError with what is wrong with a text that has a form.
    :param live: may change while the node is configured; the next picture goes by it.
    """

    name: str
    default: Value
    text: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    live: bool = False
    check: Callable[[str], Any] | None = None


PARAMETERS = (
    Parameter('autostart', True, 'Configure and activate at start; false waits for a lifecycle manager.'),
    Parameter('model', 'compact', 'Model bundle: the name of a shipped one, or a folder with model.json.'),
    Parameter('engine', 'auto', 'Runtime of the networks; auto takes the fastest that runs here and says why.', ('auto', 'tensorrt', 'onnxruntime', 'openvino')),
    Parameter('engine_threads', 0, 'CPU threads of the runtime; 0 lets it choose.', low=0, high=256),
    Parameter('engine_cache', '', "Folder of compiled engines; empty looks for TensorRT's in the user's cache and keeps none of OpenVINO."),
    Parameter('engine_auto_compile', False, 'Compile for TensorRT at configure where no plan fits; takes minutes.'),
    Parameter('image_transport', 'raw', "Input: 'raw' takes image, 'compressed' takes image/compressed.", ('raw', 'compressed')),
    Parameter('camera_frame_id', '', "Optical frame of the camera, used instead of the input's frame_id; empty keeps the input's."),
    Parameter('odom_frame_id', 'odom', 'Frame that the motion is told in: x along the first view, z up; not the camera frame.'),
    Parameter('tf.mode', 'child', 'TF: child sends odom -> camera, inverse camera -> odom, none sends nothing.', ('child', 'inverse', 'none')),
    Parameter('intrinsics.source', 'estimated', 'Where K comes from: estimated here, the camera_info topic, or fixed.', ('estimated', 'camera_info', 'fixed')),
    Parameter('intrinsics.fixed', [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 'For fixed: width, height, fx, fy, cx, cy of the input picture [px].'),
    Parameter('intrinsics.prior_field_of_view', 75.0, "Scope's full field of view across the round picture, else across the diagonal [deg].", low=10.0, high=170.0),
    Parameter('intrinsics.prior_sigma', 0.35, 'Standard deviation of the log of the focal length that follows from it.', low=0.001, high=1.0),
    Parameter('intrinsics.zoom_agility', 0.8, 'How fast zoom may start to change: small is smooth, large follows at once [1/s^1.5].', low=0.01, high=20.0, live=True),
    Parameter('intrinsics.lens', 'auto', 'Whether the lens bends straight lines: auto finds it out and straightens every output; straight: the video is rectified already, and of a camera_info P is taken, not K and D.', ('auto', 'straight')),
    Parameter('refinement', 'window', 'What tells motion, focal length and depth scale: a window of keyframes, or none: frame to frame.', ('window', 'none')),
    Parameter('scale.source', 'none', 'What makes metres metric: nothing, a constant factor, or the motion of the robot that holds the scope.', ('none', 'constant', 'kinematics')),
    Parameter('scale.constant', 1.0, 'For constant: factor on depth and translation.', low=1e-4, high=1e4, live=True),
    Parameter('scale.base_frame_id', '', 'For kinematics from TF: the standing frame; where it and tip_frame_id are empty, the topic robot_pose is taken.'),
    Parameter('scale.tip_frame_id', '', 'For kinematics from TF: a frame fixed in the scope, not moved by this node; set both or neither.'),
    Parameter('scale.hand_eye_sigma', 0.03, 'For kinematics: how far the camera may sit from that frame, standard deviation of one axis [m].', low=0.001, high=0.5),
    Parameter('scale.anchor_sigma', 0.04, "For kinematics: the scale is anchored once the standard deviation of its log is below.", low=0.005, high=0.5),
    Parameter('require_metric', False, 'Withhold all lengths (depth, points, odometry, path, TF) while scale is not anchored.', live=True),
    Parameter('field_of_view', 'auto', 'auto looks for the round field stop, whose radius is the zoom; mask only leaves out what lies outside it (digital zoom inside a fixed stop); full takes the whole picture.', ('auto', 'mask', 'full'), live=True),
    Parameter('overlays', '', "Rectangles burnt into the picture, left top right bottom of each, split by ';' [px]: nothing is said there.", live=True, check=boxes_from),
    Parameter('deinterlace', 'none', 'Interlaced video: the field that is kept; vertical resolution is halved.', ('none', 'top', 'bottom'), live=True),
    Parameter('undo_noise_reduction', True, "A camera's temporal noise reduction, which drags tracks along, is looked for and undone; it is better switched off in the camera.", live=True),
    Parameter('validity.frozen_after', 5, 'A picture repeated this often in a row is frozen; 0 never says so [frames].', low=0, high=1000, live=True),
    Parameter('validity.tissue_colour', True, 'Tissue is red here: smoke and pictures from outside the body are told by their colours; false for narrow-band or false colours, and white joints.', live=True),
    Parameter('epoch.gap', 2.0, 'A longer gap between stamps opens a new epoch [s].', low=0.05, high=3600.0, live=True),
    Parameter('path.rate', 2.0, 'Poses a second in the path topic [Hz].', low=0.01, high=2.0, live=True),
    Parameter('path.length', 600, 'Poses kept in the path topic; many cost latency.', low=1, high=2000, live=True),
)  # fmt: skip

DEFAULTS: Mapping[str, Value] = {parameter.name: parameter.default for parameter in PARAMETERS}
LIVE = frozenset(parameter.name for parameter in PARAMETERS if parameter.live)
_TABLE = {parameter.name: parameter for parameter in PARAMETERS}


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check values against the table.

    :param values: by parameter name; names that are left out keep their defaults.
    :return: the same values; integers are floats where a float is meant.
    :raises ValueError: an unknown name, a wrong type, or a value out of range, with what is
        allowed.
    """
    if unknown := sorted(set(values) - set(_TABLE)):
        raise ValueError(f'unknown parameter {unknown[0]!r}; known: {", ".join(sorted(_TABLE))}')
    fitting = {name: widened(name, value) for name, value in values.items()}
    for name, value in fitting.items():
        _check_one(_TABLE[name], value)
    return fitting


def widened(name: str, value: Any) -> Any:
    """
    Read 75 as 75.0 where a float is meant, alone or in a list.

    :param name: of a parameter; a value of an unknown one is left as it is.
    :return: the float; what is no integer (True is none) is left as it is.
    """
    default = _TABLE[name].default if name in _TABLE else None
    if isinstance(default, float) and _is_number(value):
        return float(value)
    if isinstance(default, list) and _is_list(value) and all(_is_number(one) for one in value):
        return [float(one) for one in value]
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | array) and not isinstance(value, str | bytes)


def _check_one(parameter: Parameter, value: Any) -> None:
    name, default, low, high = parameter.name, parameter.default, parameter.low, parameter.high
    if isinstance(default, list):
        if not _is_list(value) or len(value) != len(default) or not _all_finite(value):
            raise ValueError(
                f'{name}: {value!r} is not a list of {len(default)} finite numbers like {default!r}'
            )
    elif type(value) is not type(default):
        raise ValueError(f'{name}: {value!r} is not {type(default).__name__} like {default!r}')
    if parameter.choices and value not in parameter.choices:
        raise ValueError(f'{name}: {value!r} is none of {", ".join(parameter.choices)}')
    if parameter.check:
        parameter.check(value)
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f'{name}: {value!r} is not within {low:g} to {high:g}')


def _all_finite(values: Sequence[Any]) -> bool:
    return all(_is_number(value) and isfinite(value) for value in values)


def settings(values: Mapping[str, Any]) -> Settings:
    """
    Turn checked parameters into the pipeline's settings.

    :param values: every parameter by name.
    :raises ValueError: intrinsics.source is fixed and intrinsics.fixed is not a camera, or
        scale.source is kinematics and only one frame of TF is set.
    """
    if values['scale.source'] == 'kinematics':
        robot_frames(values)
    fixed = None
    if values['intrinsics.source'] == 'fixed':
        width, height, *focal_and_centre = values['intrinsics.fixed']
        try:
            fixed = Intrinsics(
                int(width), int(height), *(float(value) for value in focal_and_centre)
            )
        except ValueError as error:
            raise ValueError(
                f'intrinsics.fixed (width, height, fx, fy, cx, cy): {error}'
            ) from error
    return Settings(
        intrinsics_source=values['intrinsics.source'],
        fixed_camera=fixed,
        prior_field_of_view_deg=values['intrinsics.prior_field_of_view'],
        lens=values['intrinsics.lens'],
        prior_focal_sigma=values['intrinsics.prior_sigma'],
        zoom_agility=values['intrinsics.zoom_agility'],
        scale=values['scale.constant'] if values['scale.source'] == 'constant' else None,
        find_circle=values['field_of_view'] != 'full',
        zoom_by_rim=values['field_of_view'] == 'auto',
        frozen_after=values['validity.frozen_after'],
        tissue_colour=values['validity.tissue_colour'],
        gap_s=values['epoch.gap'],
        undo_noise_reduction=values['undo_noise_reduction'],
        refinement=values['refinement'],
    )


def engine_options(values: Mapping[str, Any]) -> Options:
    """How engines are made, from checked parameters."""
    return Options(values['engine_threads'], values['engine_cache'], values['engine_auto_compile'])


def scale_of(values: Mapping[str, Any]) -> Scale:
    """The scale that checked parameters state; what the robot's motion says comes later."""
    if values['scale.source'] == 'constant':
        return Scale(values['scale.constant'], state=CONSTANT)
    return Scale()


def robot_frames(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """
    Where TF tells the robot's motion, for scale.source kinematics.

    :return: frame ids of base and tip without leading slashes, which tf2 does not know; None where
        neither is set: the topic robot_pose tells it.
    :raises ValueError: one is set and the other is not.
    """
    names = 'scale.base_frame_id', 'scale.tip_frame_id'
    base, tip = (values[name].lstrip('/') for name in names)
    if bool(base) != bool(tip):
        there, missing = names if base else names[::-1]
        raise ValueError(
            f'{there} is {values[there]!r} and {missing} is {values[missing]!r}; needed both, or '
            f'neither to take the topic robot_pose: set {missing}, or empty {there}'
        )
    return (base, tip) if base else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`endosfm3d parameters` takes none."""


def run(arguments: argparse.Namespace) -> int:
    """List the table, as YAML with the meaning behind each."""
    for parameter in PARAMETERS:
        limits = ' | '.join(parameter.choices) or (
            f'{parameter.low:g} to {parameter.high:g}' if parameter.high else ''
        )
        print(
            f'{parameter.name}: {parameter.default!r}\n    {parameter.text}{f" [{limits}]" if limits else ""}'
        )
    return 0
