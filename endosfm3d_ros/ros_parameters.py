# SPDX-License-Identifier: Apache-2.0
"""The table of parameters as rclpy wants it: declared with ranges, and read from the overrides."""

from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from endosfm3d_ros import parameters

QOS_OVERRIDES = 'qos_overrides.'  # rclpy declares these itself, with the topics


def declare(node: Node, overrides: Mapping[str, RosParameter]) -> None:
    """
    Declare the whole table.

    :param node: what ROS itself declares for it (use_sim_time, ...) is there already.
    :param overrides: what the command line and parameter files say.
    :raises ValueError: one line on a name that is not known, or a value that does not fit.
    """
    given = {
        name: override.value
        for name, override in overrides.items()
        if not node.has_parameter(name) and not name.startswith(QOS_OVERRIDES)
    }
    values = {**parameters.DEFAULTS, **parameters.checked(given)}
    for parameter in parameters.PARAMETERS:
        # the overrides are in the value: rclpy would refuse an integer where a float is meant
        node.declare_parameter(
            parameter.name, values[parameter.name], _descriptor(parameter), ignore_override=True
        )


def widened(changes: list[RosParameter]) -> list[RosParameter]:
    """Changes of parameters, with integers made floats where a float is meant."""
    return [
        RosParameter(change.name, value=parameters.widened(change.name, change.value))
        for change in changes
    ]


def _descriptor(parameter: parameters.Parameter) -> ParameterDescriptor:
    choices = f' One of: {", ".join(parameter.choices)}.' if parameter.choices else ''
    when = 'Changes live.' if parameter.live else 'Read at configure.'
    text = f'{parameter.text}{choices} {when}'
    descriptor = ParameterDescriptor(name=parameter.name, description=text)
    if parameter.low is not None and parameter.high is not None:
        limits: dict[str, Any] = {'from_value': parameter.low, 'to_value': parameter.high}
        if isinstance(parameter.default, float):
            descriptor.floating_point_range = [FloatingPointRange(**limits)]
        else:
            limits = {name: int(limit) for name, limit in limits.items()}
            descriptor.integer_range = [IntegerRange(**limits, step=1)]
    return descriptor
