# SPDX-License-Identifier: Apache-2.0
"""How each data set of the field is scored, by name: caps and grid of the depth."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """
    What of a depth image is scored, and where.

    :param name: as typed on the command line.
    :param nearest: truth at or below is not scored, and scaled depth is clipped here [mm].
    :param farthest: truth at or beyond is not scored, and scaled depth is clipped here [mm].
    :param on_truth: True: the estimate's disparity is resized to the truth's pixels, as papers
        do; False: the truth is read at the estimate's pixels.
    :param why: where these figures come from.
    """

    name: str
    nearest: float
    farthest: float
    on_truth: bool
    why: str = ''


PROTOCOLS = {
    one.name: one
    for one in (
        Protocol(
            'scared', 1e-3, 150.0, True, why='AF-SfMLearner and all after it: 1e-3 < truth < 150'
        ),
        Protocol('c3vd', 1e-3, 100.0, True, why='16 bits full scale is 100 mm and means beyond'),
        Protocol('hamlyn', 1.0, 150.0, True, why='stereo depth, 1 mm and more, capped at 150'),
        Protocol('serv-ct', 1e-3, 180.0, True, why='CT depth, capped at 180'),
        Protocol(
            'worlds', 1e-3, 255.0, False, why='rendered: exact at every pixel, 16 bits at 1/256 mm'
        ),
    )
}
WORLDS = PROTOCOLS['worlds']


def protocol(name: str) -> Protocol:
    """
    Look a protocol up.

    :raises ValueError: no such name; says which there are.
    """
    if name not in PROTOCOLS:
        raise ValueError(f'no protocol {name!r}; there are {", ".join(sorted(PROTOCOLS))}')
    return PROTOCOLS[name]
