# SPDX-License-Identifier: Apache-2.0
"""
Which messages one reconstruction becomes: the same for the live node and for the offline replay.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from endosfm3d_ros import messages_out as out
from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.core.picture.rectify import Calibration
from endosfm3d_ros.core.scale import Scale
from endosfm3d_ros.parameters import scale_of

# topics below the node's own name, in the order they are sent: what a depth belongs to comes
# before it
PRIVATE_TOPICS: dict[str, Any] = {
    'rgb/camera_info': CameraInfo,
    'rgb/image': Image,
    'depth/camera_info': CameraInfo,
    'depth/image': Image,
    'depth/confidence': Image,
    'input/camera_info': CameraInfo,
    'points': PointCloud2,
    'odometry': Odometry,
    'path': Path,
    'status': DiagnosticArray,
}
METRIC_TOPICS = ('depth/image', 'depth/confidence', 'points', 'odometry', 'path')
IMAGE_DEPTH, STATE_DEPTH = 5, 10  # how many of them a reliable publisher keeps


def queue_depth(topic: str) -> int:
    """How many messages of a private topic are kept for a slow reader: fewer of what is large."""
    is_large = topic.endswith(('image', 'confidence', 'points'))
    return IMAGE_DEPTH if is_large else STATE_DEPTH


@dataclass(frozen=True)
class Traffic:
    """
    What happened to the pictures since the node became active.

    :param latency_ms: from this picture's receipt in the node's callback to the end of its
        reconstruction [ms]: the wait for its turn and the networks; the wire before it, and making
        and sending the messages after it, come on top. NaN offline.
    :param received: pictures that came to the callback.
    :param lost: pictures lost before the node: on the way, or replaced in the subscription's own
        queue; -1 where that can not be known.
    :param dropped: pictures that a newer one replaced in the node, before their turn.
    """

    latency_ms: float = float('nan')
    received: int = 0
    lost: int = 0
    dropped: int = 0


class Outputs:
    """
    Makes the messages; keeps what spans frames: the path and the previous stamp.

    :param values: the node's parameters by name.
    :ivar scale: of what the pipeline says; whoever changes the pipeline's changes this one too.
    :raises ValueError: odom_frame_id names no frame.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._odom_frame_id: str = values['odom_frame_id'].lstrip('/')  # tf2 knows no slash
        if not self._odom_frame_id:
            raise ValueError(
                f'odom_frame_id: {values["odom_frame_id"]!r} names no frame; set it, say to odom'
            )
        self._is_given = values['intrinsics.source'] != 'estimated'
        self._tf_mode: str = values['tf.mode']
        self.scale: Scale = scale_of(values)
        self.change(values)
        self._path = Path()
        self._path_stamp_ns = -(1 << 62)
        self._previous: Reconstruction | None = None
        self._shown_ns = 0  # stamp of its picture, when that came first

    def change(self, values: Mapping[str, Any]) -> None:
        """Go on by other values of the parameters that may change live."""
        self._require_metric: bool = values['require_metric']
        self._path_period_ns = int(1e9 / values['path.rate'])
        self._path_length: int = values['path.length']

    @property
    def withheld(self) -> bool:
        """Whether all that has lengths is kept back, as nothing tells the scale."""
        return self._require_metric and not self.scale.anchored

    def check_frame_id(self, frame_id: str) -> None:
        """
        Refuse a camera that would be its own parent in TF.

        :param frame_id: the camera's optical frame.
        :raises ValueError: it is odom_frame_id.
        """
        if frame_id == self._odom_frame_id:
            raise ValueError(
                f'the camera frame and odom_frame_id are both {frame_id!r}; needed two names: set '
                'odom_frame_id or camera_frame_id'
            )

    def messages(
        self,
        said: Reconstruction,
        traffic: Traffic,
        wanted: Callable[[str], bool] = lambda topic: True,
        calibration: Calibration | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """
        Make one frame's messages.

        :param said: the reconstruction.
        :param traffic: for the status.
        :param wanted: whether anybody listens to a topic; what costs is made only then.
        :param calibration: that the input picture was rectified by.
        :return: (private topic or '/tf', message) pairs; all bear the frame's stamp.
        """
        head = out.header(said.stamp_ns, said.frame_id)
        camera_info = out.camera_info_message(said.camera, head)
        make: dict[str, Callable[[], Any]] = {
            'rgb/camera_info': lambda: camera_info,
            'rgb/image': lambda: out.image_message(said.image, head),
            'depth/camera_info': lambda: camera_info,
            'depth/image': lambda: out.depth_message(said.depth, head),
            'depth/confidence': lambda: out.image_message(said.confidence, head),
            'input/camera_info': lambda: out.camera_info_message(
                said.input_camera, head, said.distortion, calibration
            ),
            'points': lambda: out.points_message(said, head),
            'odometry': lambda: out.odometry_message(
                said, self._odom_frame_id, self._dt(said), self._jumped(said)
            ),
            'status': lambda: self._status(said, traffic, head),
        }
        if self._tf_mode != 'none' and not self.withheld:
            yield (
                '/tf',
                TFMessage(
                    transforms=[out.transform_message(said, self._odom_frame_id, self._tf_mode)]
                ),
            )
        grew = self._grow_path(said)
        for topic in PRIVATE_TOPICS:
            if self.withheld and topic in METRIC_TOPICS:
                continue
            if topic in make and wanted(topic):
                yield topic, make[topic]()
        if grew and not self.withheld and wanted('path'):
            yield 'path', self._path
        self._previous = said
        if not said.repeats:
            self._shown_ns = said.stamp_ns

    def _dt(self, said: Reconstruction) -> float:
        """
        How long the step took [s]; 0 where that is not known: a place that was only held may be
        left after seconds, in one step, and so is that of a picture that comes again.
        """
        before = self._previous
        if before is None or before.epoch != said.epoch:
            return 0.0
        if not before.motion.known or not said.motion.known or said.repeats:
            return 0.0
        return (said.stamp_ns - self._shown_ns) * 1e-9

    def _jumped(self, said: Reconstruction) -> bool:
        """Whether this is the first frame of an epoch that is not the first one."""
        return said.epoch > 0 and (not self._previous or self._previous.epoch != said.epoch)

    def _grow_path(self, said: Reconstruction) -> bool:
        if self._previous and self._previous.epoch != said.epoch:
            self._path, self._path_stamp_ns = Path(), -(1 << 62)
        if said.stamp_ns - self._path_stamp_ns < self._path_period_ns:
            return False
        self._path_stamp_ns = said.stamp_ns
        self._path.header = out.header(said.stamp_ns, self._odom_frame_id)
        poses = [*self._path.poses, out.pose_message(said, self._odom_frame_id)]
        self._path.poses = poses[-self._path_length :]
        return True

    def _camera_model(self, said: Reconstruction) -> str:
        if self._is_given:
            return 'given'
        return 'straightened' if said.distortion else 'pinhole_approximation'

    def _status(self, said: Reconstruction, traffic: Traffic, head: Any) -> DiagnosticArray:
        values = {
            'valid': said.valid,
            'reason': said.reason,
            'scale_state': self.scale.state,
            'scale': self.scale.factor,
            'scale_sigma': self.scale.log_sigma,
            'camera_model': self._camera_model(said),
            'k_trust': said.k_trust,
            'k_sigma': said.log_focal_sigma,
            'distortion': said.distortion,
            'distortion_sigma': said.distortion_sigma,
            'zoom': said.zoom,
            'zoom_sigma': said.zoom_sigma,
            'epoch': said.epoch,
            'map': said.map_number,
            'motion_known': said.motion.known,
            'inliers': said.motion.inliers,
            'refinement': said.refinement,
            'rigid_share': said.rigid_share,
            'repeats': said.repeats,
            'mixed': said.mixed,
            'latency_ms': traffic.latency_ms,
            'received': traffic.received,
            'lost': traffic.lost,
            'dropped': traffic.dropped,
        }
        level = DiagnosticStatus.OK if said.valid else DiagnosticStatus.WARN
        text = 'ok' if said.valid else f'nothing to reconstruct: {said.reason}'
        return out.diagnostic_message(
            values, head, 'endosfm3d: frame', level, '; '.join((text, *said.events))
        )
