# SPDX-License-Identifier: Apache-2.0
"""The truth of a clip as ROS topics of a bag: poses, camera infos and depth images."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from endosfm3d_ros.bags.bag_frames import read_messages, topics_of
from endosfm3d_ros.bags.nodes import STATUS, nodes_in
from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.evaluation.lens import Lens
from endosfm3d_ros.evaluation.sampling import DepthTruth
from endosfm3d_ros.evaluation.truth import check_motions
from endosfm3d_ros.evaluation.truth_topics import Stream, TruthTopics
from endosfm3d_ros.report import messages

NAMESPACE = '/ground_truth'
TYPES = {
    'pose': ('nav_msgs/msg/Odometry', 'geometry_msgs/msg/PoseStamped'),
    'camera_info': ('sensor_msgs/msg/CameraInfo',),
    'depth': ('sensor_msgs/msg/Image',),
    'depth_camera_info': ('sensor_msgs/msg/CameraInfo',),
}
USUAL = {
    'pose': (f'{NAMESPACE}/pose', f'{NAMESPACE}/odometry'),
    'camera_info': (f'{NAMESPACE}/camera_info',),
    'depth': (f'{NAMESPACE}/depth/image',),
    'depth_camera_info': (f'{NAMESPACE}/depth/camera_info',),
}
OF_RUN = {  # another run as the truth
    'pose': 'odometry',
    'camera_info': 'input/camera_info',
    'depth': 'depth/image',
    'depth_camera_info': 'depth/camera_info',
}
OPTIONAL = ('depth', 'depth_camera_info')


def read_truth_bag(path: Path, names: Mapping[str, str] | None = None) -> TruthTopics:
    """
    Read a rosbag2. Its poses, depth images and camera infos each go by their own stamps.

    :param path: a bag's folder or file.
    :param names: topics by role: `pose` (PoseStamped or Odometry of the optical frame in any
        world), `camera_info` (of the input picture, at any size; one message stands for all that
        follow), `depth` (Image 32FC1 [m] or 16UC1 [mm]; shows all of the input, unless)
        `depth_camera_info` (says which window). Default: /ground_truth/..., else another run's own
        topics, else the only topic of the type. Of a run all are taken or none, but for what is
        named: a true pose beside a run does not make its depth true.
    """
    found = topics_of(path)
    topics = _choose(path, found, dict(names or {}))
    poses = _by_stamp(path, topics['pose'], messages.pose)
    if not poses:
        raise ValueError(f'{path}: topic {topics["pose"]} holds no message')
    infos = _by_stamp(path, topics['camera_info'], messages.camera)
    if not infos:
        raise ValueError(f'{path}: topic {topics["camera_info"]} holds no message')
    stamps_ns = sorted(poses)
    T_world_cam = np.stack([poses[stamp] for stamp in stamps_ns])
    check_motions(T_world_cam, f'{path}: of topic {topics["pose"]} message')
    run = _run_of('pose', topics['pose'], found)
    status = f'{run}/{STATUS}'
    epochs = _by_stamp(path, status, messages.epoch) if status in found else {}
    depth = _Depth(path, topics, _run_of('depth', topics.get('depth', ''), found), found)
    return TruthTopics(
        stamps_ns=np.array(stamps_ns, np.int64),
        T_world_cam=T_world_cam,
        epochs=np.array([epochs.get(stamp, 0) for stamp in stamps_ns], int),
        cameras=Stream(infos),
        depth_stamps_ns=np.array(sorted(depth.received_ns), np.int64),
        read_depth=depth.read,
        topics=topics,
    )


class _Depth:
    """
    The depth images of a bag, each read when asked for.

    :ivar received_ns: stamp [ns] -> time of recording [ns].
    """

    def __init__(
        self, path: Path, topics: dict[str, str], run: str | None, found: Collection[str]
    ) -> None:
        self._path, self._topic = path, topics.get('depth', '')
        self.received_ns: dict[int, int] = {}
        self._windows: Stream[Intrinsics] | None = None
        self._lenses: Stream[Lens] | None = None
        if not self._topic:
            return
        for received_ns, message in read_messages(path, self._topic):
            self.received_ns[messages.stamp_ns(message)] = received_ns
        if 'depth_camera_info' in topics:
            windows = _by_stamp(path, topics['depth_camera_info'], messages.camera)
            self._windows = Stream(windows) if windows else None
        if run and (lenses := _lenses(path, topics['camera_info'], f'{run}/{STATUS}', found)):
            self._lenses = Stream(lenses)

    def read(self, stamp_ns: int, camera: Intrinsics) -> DepthTruth:
        """
        One depth image.

        :param camera: of the input picture of then.
        """
        for _, message in read_messages(self._path, self._topic, self.received_ns[stamp_ns]):
            if messages.stamp_ns(message) == stamp_ns:
                seen = messages.depth_mm(message)
                window = self._windows.at(stamp_ns) if self._windows else None
                if self._lenses and (lens := self._lenses.at(stamp_ns)).bends:
                    window = window or camera.resized(*seen.shape[::-1])
                    seen, window = lens.saw(seen, window)
                return DepthTruth(seen, window, camera if window else None)
        raise ValueError(f'{self._path}: the depth image of stamp {stamp_ns} ns is gone')


def _choose(path: Path, found: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    """Topic of each role; optional ones may be missing."""
    if unknown := sorted(set(names) - set(TYPES)):
        raise ValueError(
            f'no part {unknown[0]!r} of a truth; there are {", ".join(sorted(TYPES))}'
        )
    chosen: dict[str, str] = {}
    runs = nodes_in(found)
    run = runs[0] if len(runs) == 1 else None
    for role, types in TYPES.items():
        there = [topic for topic, kind in sorted(found.items()) if kind in types]
        fitting = there
        if role not in names and role in OPTIONAL:
            fitting = [topic for topic in fitting if 'depth' in topic]
        if role not in names:
            others = tuple(f'{one}/' for one in runs if one != run)
            fitting = [topic for topic in fitting if not topic.startswith(others)]
        known = (*USUAL[role], f'{run}/{OF_RUN[role]}')
        usual = next((topic for topic in known if topic in fitting), None)
        only = fitting[0] if len(fitting) == 1 and role != 'depth_camera_info' else None
        topic = names.get(role) or usual or only
        if topic is not None and topic not in fitting:
            raise ValueError(
                f'{path}: {role} needs a topic of {" or ".join(types)}, {topic} is none; '
                f'there are {", ".join(fitting) or "none"}'
            )
        if topic is None and role not in OPTIONAL:
            raise ValueError(
                f'{path}: no {role} of the truth: need {" or ".join(USUAL[role])} '
                f'({" or ".join(types)}), or --truth-topic {role}=NAME; of that type there are '
                f'{", ".join(there) or "none"}'
            )
        if topic is not None:
            chosen[role] = topic
        if role == 'pose':
            run = _run_of(role, chosen[role], found)
    return chosen


def _run_of(role: str, topic: str, found: Collection[str]) -> str | None:
    """The node that sent this part of the truth; None where it is of no run."""
    return next((one for one in nodes_in(found) if topic == f'{one}/{OF_RUN[role]}'), None)


def _lenses(path: Path, camera_info: str, status: str, found: Collection[str]) -> dict[int, Lens]:
    """What a run undid in its depth, by stamp: found from the motion, else given."""
    given = _by_stamp(path, camera_info, messages.lens)
    said = _by_stamp(path, status, messages.status) if status in found else {}
    told = {stamp: float(one.get('distortion') or 'nan') for stamp, one in said.items()}
    return given | {stamp: Lens(one) for stamp, one in told.items() if np.nan_to_num(one)}


def _by_stamp(path: Path, topic: str, read: Any) -> dict[int, Any]:
    return {messages.stamp_ns(message): read(message) for _, message in read_messages(path, topic)}
