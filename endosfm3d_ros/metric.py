# SPDX-License-Identifier: Apache-2.0
"""
The scale of one reconstruction and of what is said about it: the same for the live node and for
the offline replay.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from endosfm3d_ros import parameters
from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.core.kinematics.scale_anchor import ScaleAnchor
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.scale import Scale
from endosfm3d_ros.outputs import Outputs

MM_PER_METRE = 1e3


class Metric:
    """
    Keeps pipeline and outputs at one scale, from the parameters or from the robot's motion.

    :param values: every parameter by name.
    :param pipeline: makes the reconstructions; its settings are replaced.
    :param outputs: tells them.
    :ivar anchor: what the robot's motion says; None unless `scale.source` is kinematics.
    """

    def __init__(self, values: Mapping[str, Any], pipeline: Pipeline, outputs: Outputs) -> None:
        self._values, self._pipeline, self._outputs = values, pipeline, outputs
        self.anchor: ScaleAnchor | None = None
        if values['scale.source'] == 'kinematics':
            lever_mm = values['scale.hand_eye_sigma'] * MM_PER_METRE
            self.anchor = ScaleAnchor(lever_mm, values['scale.anchor_sigma'])

    @property
    def progress(self) -> str:
        """What the scale rests on, or what is still missing, in words for a person."""
        if self.anchor is None:
            return str(self._values['scale.source'])
        anchor = self.anchor
        if anchor.taken is None:
            return f'kinematics: {anchor.why}'
        lever = float(np.linalg.norm(anchor.taken.t_tip_cam))
        told = (
            f'kinematics: 1 nominal mm is {anchor.scale.factor:.3g} mm within '
            f'{100 * anchor.scale.log_sigma:.0f} %; camera {lever:.0f} mm from the tip, '
            f'pictures {1e3 * anchor.taken.delay_s:.0f} ms late'
        )
        return f'{told}; lately not confirmed: {anchor.why}' if anchor.why else told

    def change(self, values: Mapping[str, Any]) -> None:
        """Go on by other parameters from the next frame; another factor opens an epoch."""
        self._values = values
        self._outputs.change(values)
        self._apply(self.anchor.scale if self.anchor else parameters.scale_of(values))

    def robot(self, stamp_ns: int, T_base_tip: np.ndarray) -> None:
        """Take a pose of the robot: stamp [ns], (4, 4) [mm]; passed over where nobody asks."""
        if self.anchor:
            self.anchor.robot(stamp_ns, T_base_tip)

    def before(self, said: Reconstruction) -> None:
        """Heed the map that a frame is in, before messages are made of it."""
        if self.anchor:
            self.anchor.enter(said.epoch, said.map_number)
            self._outputs.scale = self.anchor.scale

    def after(self, said: Reconstruction) -> None:
        """Learn from a frame that was reconstructed; the next one may have another scale."""
        if self.anchor is None or said.repeats:
            return
        scale = self.anchor.camera(
            said.stamp_ns,
            said.T_odom_cam,
            said.epoch,
            said.motion.known,
            said.log_focal_sigma,
            said.map_number,
        )
        if scale:
            self._apply(scale)

    def _apply(self, scale: Scale) -> None:
        settings = parameters.settings(self._values)
        self._pipeline.change(replace(settings, scale=scale.factor if scale.anchored else None))
        self._outputs.scale = scale
