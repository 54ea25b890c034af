# SPDX-License-Identifier: Apache-2.0
"""What a user may choose of a pipeline."""

from dataclasses import dataclass

from endosfm3d_ros.core.frame import Frame, Intrinsics
from endosfm3d_ros.core.zoom_filter import ZOOM_ACCELERATION


@dataclass(frozen=True)
class Settings:
    """
    What a user may choose; the node's parameters of the same names explain each.

    :param intrinsics_source: 'estimated', 'camera_info' or 'fixed'.
    :param fixed_camera: intrinsics of the input picture for 'fixed'.
    :param prior_field_of_view_deg: full angle across the round picture, else across the diagonal
        [deg].
    :param prior_focal_sigma: standard deviation of the log of the focal length that follows from
        it.
    :param zoom_agility: spectral density of the zoom's acceleration [1/s^1.5].
    :param scale: factor on depth and translation; None while nothing anchors it.
    :param find_circle: look for the round field stop.
    :param zoom_by_rim: its radius tells the zoom; not where an electronic stop stands still.
    :param frozen_after: a picture repeated this often is frozen.
    :param tissue_colour: tissue is red: smoke and rooms are told by their colours.
    :param gap_s: a longer gap between stamps opens a new epoch [s].
    :param lens: 'auto': whether it bends straight lines is found; 'straight': it does not, or the
        video is rectified.
    :param undo_noise_reduction: look for temporal noise reduction, and undo it (`echo.py`).
    :param refinement: 'window' or 'none': what tells motion, the focal length and depth's scale.
    """

    intrinsics_source: str = 'estimated'
    fixed_camera: Intrinsics | None = None
    prior_field_of_view_deg: float = 75.0
    prior_focal_sigma: float = 0.35
    zoom_agility: float = ZOOM_ACCELERATION
    scale: float | None = None
    find_circle: bool = True
    zoom_by_rim: bool = True
    frozen_after: int = 5
    tissue_colour: bool = True
    gap_s: float = 2.0
    refinement: str = 'window'
    lens: str = 'auto'
    undo_noise_reduction: bool = True

    def calibration_of(self, frame: Frame) -> Intrinsics | None:
        """
        The calibration to believe, of this frame's very size; None where K is estimated.

        :raises ValueError: there is none, or it is of another size.
        """
        source = self.intrinsics_source
        if source == 'estimated':
            return None
        given = frame.camera if source == 'camera_info' else self.fixed_camera
        height, width = frame.image.shape[:2]
        if given is None:
            raise ValueError(
                f"intrinsics.source is '{source}' and no calibration came with the picture; "
                'publish '
                'camera_info, give intrinsics.fixed, or set intrinsics.source to estimated'
            )
        if (given.width, given.height) != (width, height):
            raise ValueError(
                f'the calibration is of a {given.width}x{given.height} picture, '
                f'this one is {width}x{height}'
            )
        return given
