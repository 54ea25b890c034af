# SPDX-License-Identifier: Apache-2.0
"""What is told of the camera beside its K: zoom, trust, and what a person should know."""

from dataclasses import replace

import numpy as np

from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.intrinsics import CameraEstimate
from endosfm3d_ros.core.motion import Moved
from endosfm3d_ros.core.network_motion import K_SIGMA, NetworkMotion, network_camera
from endosfm3d_ros.core.picture.field_of_view import FieldOfView
from endosfm3d_ros.core.prepare import Window

GIVEN_K_ZOOM = 0.03  # a given K is doubted once the rim's zoom and its own differ by more


def zoom(
    estimate: CameraEstimate, moved: Moved, given: Intrinsics | None = None
) -> tuple[float, float]:
    """
    Zoom and sigma of its log; NaN where neither a rim nor the window ever showed it. By a given K
    the window asks for none.
    """
    if estimate.zoom_seen or (moved.refinement == 'window' and given is None):
        return estimate.zoom.zoom, estimate.zoom.zoom_sigma
    return float('nan'), float('nan')


def network_focal(said: NetworkMotion | None, window: Window, field: FieldOfView) -> float | None:
    """
    The focal length of a motion network, of the input picture [px]; None where it says none.

    Its errors are much the same from frame to frame, so it is taken once an epoch only.
    """
    seen = said and network_camera(said, window.network_width, window.network_height)
    if not seen:
        return None
    camera = window.input_camera(seen, field.width, field.height)
    return float(np.sqrt(camera.fx * camera.fy))


def with_focal(estimate: CameraEstimate, focal_px: float | None) -> CameraEstimate:
    """The camera after a network's focal length was taken as one measurement."""
    if focal_px is None:
        return estimate
    return replace(estimate, zoom=estimate.zoom.measure_focal(focal_px, K_SIGMA))


def contradicted(
    estimate: CameraEstimate, given: Intrinsics | None, rim: bool, before: float
) -> float:
    """
    By how much a rim contradicts a given K, in log focal length.

    :param rim: whether this frame's rim is believed; else what the last one said holds.
    :param before: by how much it did in the frame before.
    """
    if given is None or not rim:
        return before
    return abs(float(np.log(estimate.zoom.focal_px / given.fx)))


def trust(
    estimate: CameraEstimate, given: Intrinsics | None, contradiction: float
) -> tuple[float, float]:
    """
    Trust in K and sigma of log f; a given K loses both once the rim says that the scope zoomed and
    K did not.
    """
    if given is None:
        return estimate.zoom.trust, estimate.zoom.log_focal_sigma
    return (1.0, 0.0) if contradiction <= GIVEN_K_ZOOM else (0.0, contradiction)


def rim_events(estimate: CameraEstimate) -> tuple[str, ...]:
    if not estimate.jumped:
        return ()
    return (
        f'the round picture jumped (zoom is now {estimate.zoom.zoom:.2f}): this step is not known',
    )


def lens_events(before: CameraEstimate | None, now: CameraEstimate) -> tuple[str, ...]:
    """Pictures change their shape when a distortion is told, and when none is any more."""
    if bool(now.distortion) == bool(before and before.distortion):
        return ()
    if not now.distortion:
        return ('the lens is told to bend no lines any more: pictures are as the scope sees them',)
    return (
        f'the lens bends straight lines (distortion {now.distortion:.2f}): '
        'all that is published is straightened from here on',
    )
