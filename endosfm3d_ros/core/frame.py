# SPDX-License-Identifier: Apache-2.0
"""
The values that flow through the pipeline: what goes in, what comes out, in which unit and frame.
"""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Intrinsics:
    """
    A pinhole camera that knows the picture size it belongs to.

    :param width: picture width [px].
    :param height: picture height [px].
    :param fx: focal length along x [px].
    :param fy: focal length along y [px].
    :param cx: principal point, x [px]; the centre of pixel u is the integer u.
    :param cy: principal point, y [px].
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        """Refuse what is not a camera."""
        if self.width < 1 or self.height < 1:
            raise ValueError(f'a camera needs a picture, found {self.width}x{self.height}')
        values = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(values).all() or self.fx <= 0 or self.fy <= 0:
            raise ValueError(
                f'focal lengths must be positive and finite, found fx, fy, cx, cy = {values}'
            )

    @property
    def matrix(self) -> np.ndarray:
        """K, (3, 3) float64 [px]."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @classmethod
    def from_matrix(cls, K: np.ndarray, width: int, height: int) -> 'Intrinsics':
        """Read K, (3, 3) [px], of a picture of this size."""
        return cls(width, height, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))

    def resized(self, width: int, height: int) -> 'Intrinsics':
        """The same camera after its picture was resized: c' = (c + 1/2) s - 1/2."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            width,
            height,
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> 'Intrinsics':
        """The same camera after a window was cut out (a negative offset pads): c' = c - offset."""
        return Intrinsics(width, height, self.fx, self.fy, self.cx - left, self.cy - top)

    def zoomed(self, factor: float) -> 'Intrinsics':
        """The same camera with its focal lengths multiplied."""
        return replace(self, fx=self.fx * factor, fy=self.fy * factor)


@dataclass(frozen=True)
class Frame:
    """
    One picture of the video as it came in.

    :param image: (H, W, 3) uint8, RGB.
    :param stamp_ns: acquisition time as the source gave it [ns].
    :param frame_id: the optical frame of the camera.
    :param camera: calibration that came with the picture, of its very size; None when there is
        none.
    :param covered: rectangles of the picture that show no scene: left, top, right, bottom,
        half-open [px].
    """

    image: np.ndarray
    stamp_ns: int
    frame_id: str
    camera: Intrinsics | None = None
    covered: tuple[tuple[int, int, int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is not a picture."""
        if (
            self.image.ndim != 3
            or self.image.shape[2] != 3
            or self.image.dtype != np.uint8
            or not self.image.size
        ):
            raise ValueError(
                f'a frame needs (H, W, 3) uint8 RGB, found {self.image.shape} {self.image.dtype}'
            )
        if self.camera and (self.camera.height, self.camera.width) != self.image.shape[:2]:
            found, needed = (self.camera.width, self.camera.height), self.image.shape[1::-1]
            raise ValueError(f'camera_info is of a {found} picture, this picture is {needed}')


@dataclass(frozen=True)
class Motion:
    """
    Where the camera moved between the previous frame and this one.

    :param T_prev_cam: (4, 4) float64, maps points of this camera into the previous one [mm].
    :param covariance: (6, 6) of a small motion of this camera in its own frame: translation [mm],
        rotation [rad].
    :param known: False when nothing could be said; then T_prev_cam is the identity and covariance
        is wide.
    :param inliers: tracks that agree with the motion.
    """

    T_prev_cam: np.ndarray
    covariance: np.ndarray
    known: bool
    inliers: int = 0


@dataclass(frozen=True)
class Reconstruction:
    """
    Everything said about one frame; every picture-like field has the network picture's size h x w.

    :param stamp_ns: the frame's own stamp [ns].
    :param frame_id: the frame's own optical frame.
    :param image: (h, w, 3) uint8 RGB, the picture the depth belongs to, straightened.
    :param depth: (h, w) float32 z-depth [mm, nominal until scale is anchored]; NaN where unknown.
    :param confidence: (h, w) float32 in [0, 1]: the chance that depth is within 25 % of the
        truth, up to the scene's scale; 0 where depth is NaN.
    :param camera: intrinsics of `image`.
    :param input_camera: the same camera at the input picture's size, which has its distortion.
    :param T_odom_cam: (4, 4) float64, maps points of this camera into odom (x along the first
        view, z up) [mm].
    :param odom_covariance: (6, 6) of T_odom_cam, as a small motion in odom's axes: translation
        [mm], rotation [rad].
    :param motion: the step from the previous frame.
    :param valid: False when the picture shows nothing that can be reconstructed.
    :param reason: why not, one word; '' when valid.
    :param k_trust: 0 (a guess) to 1 (a calibration).
    :param zoom: focal length now over focal length at the epoch's start, NaN where nothing shows
        it; zoom_sigma: standard deviation of its log.
    :param log_focal_sigma: standard deviation of the log of the focal lengths.
    :param epoch: counts restarts of odometry and filters.
    :param refinement: what K, motion and depth's scale rest on: 'window', or 'none'.
    :param distortion: of the input picture's lens, see `lens.py`; 0 before it is told from none,
        and where K is given. Every other field is without it. distortion_sigma: NaN where nothing
        is known.
    :param rigid_share: of the tracks, that move as one with the camera: tissue that moves by
        itself and instruments lower it; NaN where none was asked.
    :param map_number: which of the window's maps of this epoch it is in, from 0: where another
        begins depth's scale may be another, and is the old one again where an old one goes on.
    :param repeats: how many times in a row this very picture came, less one: a grabber may be
        faster than the camera. Nothing moves in such a picture, whatever the camera did.
    :param mixed: how much of each picture is the one before, by the camera's temporal noise
        reduction: it is taken out of `image`, and of all that follows; 0 where none was found.
    :param events: sentences for a person: a new epoch, a lost track; usually empty.
    """

    stamp_ns: int
    frame_id: str
    image: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray
    camera: Intrinsics
    input_camera: Intrinsics
    T_odom_cam: np.ndarray
    odom_covariance: np.ndarray
    motion: Motion
    valid: bool
    reason: str
    k_trust: float
    zoom: float
    log_focal_sigma: float
    epoch: int
    refinement: str = 'none'
    zoom_sigma: float = float('nan')
    rigid_share: float = float('nan')
    map_number: int = 0
    distortion: float = 0.0
    distortion_sigma: float = float('nan')
    repeats: int = 0
    mixed: float = 0.0
    events: tuple[str, ...] = field(default=())
