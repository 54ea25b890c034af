# SPDX-License-Identifier: Apache-2.0
"""Rotation and translation as tf2 computes with them."""

import math
from typing import NamedTuple

from geometry_msgs.msg import Transform

Quaternion = tuple[float, float, float, float]  # x, y, z, w
Vector = tuple[float, float, float]


class NotARotationError(ValueError):
    """NaN, or a quaternion of length zero; tf2 scales any other to unit length."""


class Motion(NamedTuple):
    """Maps a point p of the child frame into the parent: rotate, then translate."""

    rotation: Quaternion
    translation: Vector  # [m]

    def __matmul__(self, first: 'Motion') -> 'Motion':
        """:return: first the other motion, then this one."""
        x, y, z = rotate(self.rotation, first.translation)
        tx, ty, tz = self.translation
        return Motion(multiply(self.rotation, first.rotation), (x + tx, y + ty, z + tz))

    def inverse(self) -> 'Motion':
        """:return: the way back."""
        x, y, z, w = self.rotation
        back = (-x, -y, -z, w)
        x, y, z = rotate(back, self.translation)
        return Motion(back, (-x, -y, -z))


IDENTITY = Motion((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """:return: Hamilton's product: the rotation b, then a."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by + ay * bw + az * bx - ax * bz,
        aw * bz + az * bw + ax * by - ay * bx,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def rotate(q: Quaternion, vector: Vector) -> Vector:
    """:return: the vector rotated by a unit quaternion."""
    x, y, z, w = q
    rx, ry, rz, _ = multiply(multiply(q, (*vector, 0.0)), (-x, -y, -z, w))
    return rx, ry, rz


def interpolate(older: Motion, newer: Motion, ratio: float) -> Motion:
    """
    Go from one motion to another: the translation straight, the rotation by the shorter arc.

    :param ratio: 0 at the older, 1 at the newer.
    """
    a, b = older.rotation, newer.rotation
    dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
    if dot < 0.0:  # q and -q are the same rotation: take the nearer one
        dot, b = -dot, (-b[0], -b[1], -b[2], -b[3])
    angle = math.acos(min(dot, 1.0))
    old_part, new_part = 1.0 - ratio, ratio
    if math.sin(angle) > 0.0:
        old_part = math.sin(old_part * angle) / math.sin(angle)
        new_part = math.sin(ratio * angle) / math.sin(angle)
    x, y, z, w = (old_part * p + new_part * q for p, q in zip(a, b, strict=True))
    ends = zip(older.translation, newer.translation, strict=True)
    tx, ty, tz = (p + ratio * (q - p) for p, q in ends)
    return Motion((x, y, z, w), (tx, ty, tz))


def motion_from_message(message: Transform) -> Motion:
    """:raises NotARotationError: where tf2 would leave the transform out."""
    q, t = message.rotation, message.translation
    motion = Motion((q.x, q.y, q.z, q.w), (t.x, t.y, t.z))
    norm2 = _norm2(motion.rotation)
    if norm2 == 0.0 or any(math.isnan(number) for number in motion.rotation + motion.translation):
        raise NotARotationError(f'NaN or a quaternion of length zero in {motion}')
    x, y, z, w = (part / math.sqrt(norm2) for part in motion.rotation)
    return motion._replace(rotation=(x, y, z, w))


def motion_to_message(motion: Motion) -> Transform:
    """:return: the same as a message."""
    message = Transform()
    q, t = message.rotation, message.translation
    q.x, q.y, q.z, q.w = motion.rotation
    t.x, t.y, t.z = motion.translation
    return message


def _norm2(q: Quaternion) -> float:
    return q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]
