# SPDX-License-Identifier: Apache-2.0
"""
Start the node on an image topic.

ros2 launch endosfm3d_ros endosfm3d.launch.py image:=/camera/image_raw rviz:=true
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
CONFIG = Path(get_package_share_directory('endosfm3d_ros')) / 'config'
ARGUMENTS = {
    'image': ('image', 'image topic; .../compressed of it with image_transport:=compressed'),
    'camera_info': ('camera_info', 'read with intrinsics.source: camera_info'),
    'robot_pose': ('robot_pose', 'PoseStamped, read with scale.source: kinematics'),
    'namespace': ('', 'namespace of the node and of topics without a leading slash'),
    'params': (str(CONFIG / 'endosfm3d.yaml'), 'parameter file'),
    'enclave': ('', 'SROS2 enclave; config/security has the policy'),
    'rviz': ('false', 'start RViz with config/endosfm3d.rviz'),
    'foxglove': ('false', 'start foxglove_bridge; the layout: config/endosfm3d_foxglove.json'),
}
# arguments that are parameters: what is not given stays as the parameter file says
PARAMETERS = {
    'model': 'model bundle, a name or a folder',
    'image_transport': 'raw or compressed',
    'camera_frame_id': "the camera's optical frame, instead of the picture's",
    'odom_frame_id': 'the frame that the motion is told in',
}


def generate_launch_description() -> LaunchDescription:
    """
    Node, parameter file, remapped input, the large-image profile, and views where asked for.

    Defaults of parameters stand in the YAML alone. A Fast DDS profile that the environment names
    already is kept, and ours goes to our node only, not to whatever else a robot launches.
    """
    declared = [
        DeclareLaunchArgument(name, default_value=value, description=text)
        for name, (value, text) in ARGUMENTS.items()
    ]
    given = [
        DeclareLaunchArgument(name, default_value='', description=f'parameter: {text}')
        for name, text in PARAMETERS.items()
    ]
    return LaunchDescription([*declared, *given, OpaqueFunction(function=_node), *_views()])


def _node(context: LaunchContext) -> list[LifecycleNode]:
    """The node; arguments that name parameters are read now, to leave out the empty ones."""
    words = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    given = {name: ParameterValue(word, value_type=str) for name, word in words.items() if word}
    enclave = LaunchConfiguration('enclave').perform(context)
    profile = str(CONFIG / 'fastdds_large_images.xml')
    node = LifecycleNode(
        package='endosfm3d_ros',
        executable='endosfm3d_node',
        name='endosfm3d',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            ParameterFile(LaunchConfiguration('params'), allow_substs=True),
            *([given] if given else []),
        ],
        remappings=[
            ('image', LaunchConfiguration('image')),
            ('image/compressed', [LaunchConfiguration('image'), '/compressed']),
            ('camera_info', LaunchConfiguration('camera_info')),
            ('robot_pose', LaunchConfiguration('robot_pose')),
        ],
        additional_env={
            PROFILE_VARIABLE: EnvironmentVariable(PROFILE_VARIABLE, default_value=profile)
        },
        ros_arguments=['--enclave', enclave] if enclave else None,
        output='screen',
    )
    return [node]


def _views() -> list[Node]:
    """RViz and the bridge to Foxglove; neither is needed, nor installed, by the package."""
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            name='endosfm3d_rviz',
            arguments=['-d', str(CONFIG / 'endosfm3d.rviz')],
            condition=IfCondition(LaunchConfiguration('rviz')),
        ),
        Node(
            package='foxglove_bridge',
            executable='foxglove_bridge',
            name='endosfm3d_foxglove_bridge',
            condition=IfCondition(LaunchConfiguration('foxglove')),
        ),
    ]
