# SPDX-License-Identifier: Apache-2.0
"""
The SROS2 policy is what a running node opens: nothing is missing, and nothing is allowed for
nothing. (The Fast DDS of the wheels is built without security: no enclave can be enforced here.)
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from robot import RobotWithNode

ROOT = Path(__file__).parents[2]
POLICY = ElementTree.parse(ROOT / 'config' / 'security' / 'endosfm3d.policy.xml').getroot()
NODE = '/endosfm3d'
ALONE = 'ENDOSFM3D_TEST_ALONE'
TF = {'/tf', '/tf_static'}
MODES = {
    'everything': (
        ('intrinsics.source:=camera_info', 'scale.source:=kinematics', 'use_sim_time:=true'),
        {'/image', '/camera_info', '/robot_pose', '/clock', *TF},
    ),
    'compressed': (('image_transport:=compressed',), {'/image/compressed', *TF}),
}


def allowed(kind: str, right: str) -> set[str]:
    """Full names of what a policy lets the node do."""
    return {
        absolute(one.text or '')
        for group in POLICY.iter(f'{kind}s')
        if group.get(right) == 'ALLOW'
        for one in group.iter(kind)
    }


def absolute(name: str) -> str:
    if name.startswith('~/'):
        return f'{NODE}/{name[2:]}'
    return name if name.startswith('/') else f'/{name}'


def opened(robot: RobotWithNode) -> dict[str, set[str]]:
    """What others see of the node; the test's own remapping of the image is undone."""
    found = {}
    for what in ('publisher', 'subscriber', 'service', 'client'):
        ask = getattr(robot.node, f'get_{what}_names_and_types_by_node')
        names = {name for name, _ in ask('endosfm3d', '/')}
        found[what] = {'/image' if name == '/scope/image' else name for name in names}
    return found


@pytest.mark.ros
@pytest.mark.parametrize('mode', MODES)
def test_the_policy_allows_what_the_node_opens_and_nothing_more(
    with_node: Callable[..., RobotWithNode], mode: str
) -> None:
    if ALONE not in os.environ:  # the graph of this process still knows the nodes of other tests
        words = [sys.executable, '-m', 'pytest', '-q', f'{__file__}', '-k', mode]
        done = subprocess.run(
            words, env={**os.environ, ALONE: '1'}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
        return
    parameters, listens = MODES[mode]
    robot = with_node(*parameters, start=False)
    assert robot.scope.start()
    # rcl gives one process one /rosout for all its nodes of a name, and tests before had some
    wanted = allowed('topic', 'publish') - {'/rosout'}
    robot.wait(lambda: opened(robot)['publisher'] >= wanted, 'all topics')
    seen = opened(robot)
    assert seen['publisher'] | {'/rosout'} == allowed('topic', 'publish')
    assert seen['service'] == allowed('service', 'reply')
    assert not seen['client'] and not allowed('service', 'request')
    assert seen['subscriber'] == listens


def test_everything_that_the_policy_lets_in_is_heard_in_some_mode() -> None:
    assert set.union(*(listens for _, listens in MODES.values())) == allowed('topic', 'subscribe')


def test_the_policy_has_the_form_of_sros2() -> None:
    assert POLICY.tag == 'policy' and POLICY.attrib == {'version': '0.2.0'}
    (enclave,) = POLICY.iter('enclave')
    (profile,) = enclave.iter('profile')
    assert enclave.get('path') == '/endosfm3d'
    assert profile.attrib == {'ns': '/', 'node': 'endosfm3d'}
    rights = {'topics': {'publish', 'subscribe'}, 'services': {'reply', 'request'}}
    for group in profile:
        assert set(group.attrib) <= rights[group.tag] and set(group.attrib.values()) == {'ALLOW'}
        names = [one.text for one in group]
        assert {one.tag for one in group} == {group.tag[:-1]}
        assert len(names) == len(set(names)) and not any('*' in (name or '') for name in names)
