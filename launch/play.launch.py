# SPDX-License-Identifier: Apache-2.0
"""
Play a video, a folder of pictures or a bag through the live node, at its own rate.

ros2 launch endosfm3d_ros play.launch.py input:=clip.mp4
ros2 launch endosfm3d_ros play.launch.py input:=pictures rate:=25
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EnvironmentVariable, FindExecutable, LaunchConfiguration

PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
PATIENCE_S = (
    '300'  # the node's first start on a machine compiles its loops: a minute where it is busy
)


# arguments that are options of `endosfm3d play`: what is not given stays with the input
OPTIONS = {
    'rate': 'frames a second [Hz]; needed for pictures',
    'topic': "a bag's image topic; needed when it has several",
    'frame_id': "the camera's optical frame, instead of the input's",
}


def generate_launch_description() -> LaunchDescription:
    """The player, with the large-image profile, beside endosfm3d.launch.py."""
    share = Path(get_package_share_directory('endosfm3d_ros'))
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / 'launch' / 'endosfm3d.launch.py')),
        launch_arguments={'image': LaunchConfiguration('image')}.items(),
    )
    options = [
        DeclareLaunchArgument(name, default_value='', description=text)
        for name, text in OPTIONS.items()
    ]
    return LaunchDescription(
        [
            DeclareLaunchArgument('input', description='video, folder of pictures, or rosbag2'),
            DeclareLaunchArgument('image', default_value='/endoscope/image_raw'),
            *options,
            node,
            OpaqueFunction(function=_player, args=[share]),
        ]
    )


def _player(context: LaunchContext, share: Path) -> list[ExecuteProcess]:
    """The player; its options are read now, to leave out the empty ones."""
    given = {name: LaunchConfiguration(name).perform(context) for name in OPTIONS}
    words = [
        word
        for name, value in given.items()
        if value
        for word in (f'--{name.replace("_", "-")}', value)
    ]
    profile = str(share / 'config' / 'fastdds_large_images.xml')
    player = ExecuteProcess(
        cmd=[
            FindExecutable(name='ros2'), 'run', 'endosfm3d_ros', 'endosfm3d', 'play',
            LaunchConfiguration('input'), '--to', LaunchConfiguration('image'),
            '--wait', PATIENCE_S, *words,
        ],
        additional_env={
            PROFILE_VARIABLE: EnvironmentVariable(PROFILE_VARIABLE, default_value=profile)
        },
        output='screen',
    )  # fmt: skip
    return [player]
