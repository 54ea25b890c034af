# SPDX-License-Identifier: Apache-2.0
"""
Start the node on an image topic.

ros2 launch endosfm3d_ros endosfm3d.launch.py image:=/camera/image_raw
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterFile

PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'


def generate_launch_description() -> LaunchDescription:
    """
    Node, parameter file, remapped input and the large-image profile.

    Defaults of parameters stand in the YAML alone. A Fast DDS profile that the environment names
    already is kept, and ours goes to our node only, not to whatever else a robot launches.
    """
    config = Path(get_package_share_directory('endosfm3d_ros')) / 'config'
    arguments = {
        'image': ('image', 'image topic; .../compressed of it with image_transport: compressed'),
        'camera_info': ('camera_info', 'read with intrinsics.source: camera_info'),
        'robot_pose': ('robot_pose', 'PoseStamped, read with scale.source: kinematics'),
        'namespace': ('', 'namespace of the node and of topics without a leading slash'),
        'params': (str(config / 'endosfm3d.yaml'), 'parameter file'),
    }
    profile = str(config / 'fastdds_large_images.xml')
    node = LifecycleNode(
        package='endosfm3d_ros',
        executable='endosfm3d_node',
        name='endosfm3d',
        namespace=LaunchConfiguration('namespace'),
        parameters=[ParameterFile(LaunchConfiguration('params'), allow_substs=True)],
        remappings=[
            ('image', LaunchConfiguration('image')),
            ('image/compressed', [LaunchConfiguration('image'), '/compressed']),
            ('camera_info', LaunchConfiguration('camera_info')),
            ('robot_pose', LaunchConfiguration('robot_pose')),
        ],
        additional_env={
            PROFILE_VARIABLE: EnvironmentVariable(PROFILE_VARIABLE, default_value=profile)
        },
        output='screen',
    )
    declared = (
        DeclareLaunchArgument(name, default_value=value, description=text)
        for name, (value, text) in arguments.items()
    )
    return LaunchDescription([*declared, node])
