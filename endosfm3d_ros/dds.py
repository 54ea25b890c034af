# SPDX-License-Identifier: Apache-2.0
"""The middleware that this shell chose, and what makes it carry large pictures."""

import os
from pathlib import Path

from endosfm3d_ros.share import shared_file

FAST_DDS, CYCLONE_DDS = 'rmw_fastrtps_cpp', 'rmw_cyclonedds_cpp'
FAST_DDS_3 = ('kilted', 'lyrical', 'rolling')  # distributions whose Fast DDS reads another name
FAST_DDS_PROFILE = 'config/fastdds_large_images.xml'
CYCLONE_DDS_PROFILE = 'config/cyclonedds_large_images.xml'
VARIABLES = {
    FAST_DDS: ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'),
    CYCLONE_DDS: ('CYCLONEDDS_URI',),
}
SOCKET = 16 << 20  # of a receiver, as config/cyclonedds_large_images.xml asks for [bytes]
MAKE_ROOM = 'sudo sysctl -w net.core.rmem_max=67108864'
RMEM_MAX = Path('/proc/sys/net/core/rmem_max')


def implementation() -> str:
    """The chosen middleware, by ROS 2's name; Fast DDS where nothing was chosen."""
    chosen = os.environ.get('RMW_IMPLEMENTATION') or FAST_DDS
    return FAST_DDS if 'fastrtps' in chosen else chosen


def has_profile() -> bool:
    """Whether this shell names a profile to its middleware, ours or another."""
    return any(os.environ.get(name) for name in VARIABLES.get(implementation(), ()))


def profile_line() -> str:
    """The line for the shell that starts the DRIVER; '' where we have no profile."""
    if implementation() == CYCLONE_DDS:
        variable = VARIABLES[CYCLONE_DDS][0]
        return f'{MAKE_ROOM}; export {variable}=file://{shared_file(CYCLONE_DDS_PROFILE)}'
    if implementation() != FAST_DDS:
        return ''
    kilted = os.environ.get('ROS_DISTRO', '') in FAST_DDS_3
    return f'export {VARIABLES[FAST_DDS][kilted]}={shared_file(FAST_DDS_PROFILE)}'


def lacks_room() -> bool:
    """Whether the kernel gives sockets less than our Cyclone profile asks for: nothing starts."""
    try:
        return 2 * int(RMEM_MAX.read_text()) < SOCKET  # Linux doubles what it is asked for
    except (OSError, ValueError):
        return False
