# SPDX-License-Identifier: Apache-2.0
"""
Play a video, a folder of pictures or a bag through the live node, at its own rate.

ros2 launch endosfm3d_ros play.launch.py input:=clip.mp4
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EnvironmentVariable, FindExecutable, LaunchConfiguration

PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'


def generate_launch_description() -> LaunchDescription:
    """The player, with the large-image profile, beside endosfm3d.launch.py."""
    share = Path(get_package_share_directory('endosfm3d_ros'))
    topic = LaunchConfiguration('image')
    player = ExecuteProcess(
        cmd=[
            FindExecutable(name='ros2'), 'run', 'endosfm3d_ros', 'endosfm3d', 'play',
            LaunchConfiguration('input'), '--to', topic,
        ],
        additional_env={
            PROFILE_VARIABLE: EnvironmentVariable(
                PROFILE_VARIABLE, default_value=str(share / 'config' / 'fastdds_large_images.xml')
            )
        },
        output='screen',
    )  # fmt: skip
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / 'launch' / 'endosfm3d.launch.py')),
        launch_arguments={'image': topic}.items(),
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument('input', description='video, folder of pictures, or rosbag2'),
            DeclareLaunchArgument('image', default_value='/endoscope/image_raw'),
            node,
            player,
        ]
    )
