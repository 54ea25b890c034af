# SPDX-License-Identifier: Apache-2.0
"""The calibrations that came with a bag's pictures, for `intrinsics.source: camera_info`."""

from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from endosfm3d_ros.bags.bag_frames import BagFrames, read_messages
from endosfm3d_ros.bags.bag_topics import topic_types
from endosfm3d_ros.bags.source import FrameSource
from endosfm3d_ros.core.picture.rectify import Calibration
from endosfm3d_ros.messages_in import calibration_from, stamp_of

INFO_TYPE = 'sensor_msgs/msg/CameraInfo'


class BagCalibrations:
    """
    What a CameraInfo topic of a bag says, by its stamps.

    :param path: the bag's folder or file.
    :param topic: its name.
    :param is_rectified: the pictures were rectified before they came.
    :ivar refused: messages that could not be used, with the last reason.
    :raises ValueError: none could be used.
    """

    def __init__(self, path: Path, topic: str, is_rectified: bool = False) -> None:
        self.refused, self.reason = 0, 'it holds no message'
        told: list[tuple[int, Calibration]] = []
        known: dict[Calibration, Calibration] = {}  # as a rule they are all one
        for received_ns, message in read_messages(path, topic):
            try:
                stamp_ns = _stamp(message.header, received_ns)
                calibration = calibration_from(message, is_rectified)
            except ValueError as error:
                self.refused, self.reason = self.refused + 1, str(error)
                continue
            told.append((stamp_ns, known.setdefault(calibration, calibration)))
        if not told:
            raise ValueError(f'{path}: nothing of {topic} can be used: {self.reason}')
        told.sort(key=lambda one: one[0])
        self._stamps, self._calibrations = zip(*told, strict=True)

    def at(self, stamp_ns: int) -> Calibration:
        """The newest one that is not later than a picture [ns]; else the first one."""
        return self._calibrations[max(bisect_right(self._stamps, stamp_ns) - 1, 0)]


def calibrations_of(
    source: FrameSource, values: Mapping[str, Any], topic: str | None
) -> BagCalibrations | None:
    """
    Read what `intrinsics.source: camera_info` needs.

    :param source: what is replayed.
    :param values: the node's parameters by name.
    :param topic: of the calibrations; None takes `camera_info` beside the image topic.
    :return: None where another source was chosen.
    :raises ValueError: it is no bag, the topic is not there, or a topic was given for nothing.
    """
    if values['intrinsics.source'] != 'camera_info':
        if topic:
            raise ValueError('--camera-info is for --set intrinsics.source=camera_info')
        return None
    if not isinstance(source, BagFrames):
        raise ValueError(
            f'{source.path}: intrinsics.source camera_info needs a bag with that topic; for a '
            'video or pictures set intrinsics.source to fixed, with intrinsics.fixed, or estimated'
        )
    types = topic_types(source.path)
    wanted = topic or beside(source.topic)
    if types.get(wanted) != INFO_TYPE:
        there = ', '.join(sorted(name for name, kind in types.items() if kind == INFO_TYPE))
        raise ValueError(
            f'{source.path}: no CameraInfo topic {wanted}; those there: {there or "none"}; choose '
            'one with --camera-info, or set intrinsics.source to fixed or estimated'
        )
    return BagCalibrations(source.path, wanted, values['intrinsics.lens'] == 'straight')


def beside(image_topic: str) -> str:
    """Where a driver sends the calibration of an image topic, of a compressed one too."""
    namespace = image_topic.removesuffix('/compressed').rpartition('/')[0]
    return f'{namespace}/camera_info'


def _stamp(header: Any, received_ns: int) -> int:
    """The header's stamp, or the time of recording where it has none, as with pictures [ns]."""
    has_none = header.stamp.sec == header.stamp.nanosec == 0
    return received_ns if has_none else stamp_of(header)
