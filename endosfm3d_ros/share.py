# SPDX-License-Identifier: Apache-2.0
"""Where the files lie that come with the package: in a checkout, or where it was installed."""

import shutil
import sys
from pathlib import Path

DEMO_CLIP = Path(__file__).parent / 'demo_clip'


def shared_file(relative: str) -> Path:
    """
    Find a file of config/ or launch/.

    :param relative: such as 'config/endosfm3d.yaml'.
    :raises FileNotFoundError: it is neither in the checkout nor in the installed share folder.
    """
    here = Path(__file__).resolve().parents[1] / relative
    if here.is_file():
        return here
    try:  # imported late: the doctor runs where ROS is missing
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        raise FileNotFoundError(
            f'{relative} does not lie at {here}; install the package again'
        ) from None
    try:
        there = Path(get_package_share_directory('endosfm3d_ros')) / relative
    except (PackageNotFoundError, OSError):  # the latter where no install space is sourced
        there = here
    if not there.is_file():
        raise FileNotFoundError(
            f'{relative} lies neither at {here} nor at {there}; install the package again'
        )
    return there


def own_command() -> str:
    """
    How a shell calls our command line here, to be printed before what it shall do.

    :return: `endosfm3d` where it is on the path, else its file in this Python's environment; in
        a colcon workspace, which has neither, by way of `ros2 run`.
    """
    if shutil.which('endosfm3d'):
        return 'endosfm3d'
    here = Path(sys.executable).with_name('endosfm3d')
    return str(here) if here.is_file() else 'ros2 run endosfm3d_ros endosfm3d'
