# SPDX-License-Identifier: Apache-2.0
"""What one nominal millimetre of the networks is worth, and who says so."""

from dataclasses import dataclass

NOMINAL, CONSTANT, KINEMATIC = 'nominal', 'constant', 'kinematic'
ANOTHER_MAP = 0.2  # sigma of the log of one map's scale against another's


@dataclass(frozen=True)
class Scale:
    """
    A factor on depth and translation.

    :param factor: millimetres of the world per nominal millimetre.
    :param log_sigma: standard deviation of its logarithm; NaN where nobody states one.
    :param state: nominal (nothing anchors it), constant (the user says so), or kinematic (the
        robot's own motion says so).
    """

    factor: float = 1.0
    log_sigma: float = float('nan')
    state: str = NOMINAL

    @property
    def anchored(self) -> bool:
        """Whether lengths are metric."""
        return self.state != NOMINAL
