# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import pytest
import yaml

from endosfm3d_ros import parameters
from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.settings import Settings

CONFIG = Path(__file__).parents[1] / 'config' / 'endosfm3d.yaml'
DVRK = CONFIG.with_name('dvrk.yaml')


def flat(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    found = {}
    for key, value in tree.items():
        found |= (
            flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {prefix + key: value}
        )
    return found


def test_the_yaml_in_config_is_the_table() -> None:
    tree = yaml.safe_load(CONFIG.read_text())
    assert flat(tree['/**']['ros__parameters']) == dict(parameters.DEFAULTS)


def test_the_yaml_for_a_dvrk_says_only_what_differs_and_fits() -> None:
    given = flat(yaml.safe_load(DVRK.read_text())['/**']['ros__parameters'])
    assert all(parameters.DEFAULTS[name] != value for name, value in given.items())
    values = {**parameters.DEFAULTS, **parameters.checked(given)}
    parameters.settings(values)
    assert parameters.robot_frames(values) is None  # the topic is read


def test_every_default_passes_its_own_check_and_makes_the_pipeline_s_own_defaults() -> None:
    assert parameters.checked(parameters.DEFAULTS) == parameters.DEFAULTS
    assert parameters.settings(parameters.DEFAULTS) == Settings()


def test_every_parameter_has_a_sentence() -> None:
    assert all(
        (p.text.endswith('.') and p.text[0].isupper()) or p.text.startswith('auto')
        for p in parameters.PARAMETERS
    )


@pytest.mark.parametrize(
    ('name', 'value', 'said'),
    [
        ('modell', 'x', 'unknown parameter'),
        ('engine', 'cuda', 'none of auto, tensorrt, onnxruntime, openvino'),
        ('scale.constant', -1.0, 'not within'),
        ('engine_threads', 'two', 'not int'),
        ('require_metric', 1, 'not bool'),
        ('engine_threads', True, 'not int'),
        ('engine_threads', 2.0, 'not int'),
        ('scale.constant', True, 'not float'),
        ('scale.constant', float('nan'), 'not within'),
        ('intrinsics.fixed', [1.0, 2.0], 'not a list of 6'),
        ('intrinsics.fixed', [float('inf'), 480.0, 500.0, 500.0, 320.0, 240.0], 'finite numbers'),
        ('intrinsics.fixed', ['a', 'b', 'c', 'd', 'e', 'f'], 'finite numbers'),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parameters.checked({name: value})


def test_an_integer_is_taken_where_a_float_is_meant() -> None:
    given = {'epoch.gap': 3, 'intrinsics.fixed': [640, 480, 500, 501, 320, 240], 'path.length': 9}
    values = parameters.checked(given)
    assert values == given and type(values['epoch.gap']) is float
    assert {type(value) for value in values['intrinsics.fixed']} == {float}
    assert type(values['path.length']) is int


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown parameter 'modle'; known: .*model, ") as error:
        parameters.checked({'modle': 'compact'})
    assert all(name in str(error.value) for name in parameters.DEFAULTS)


def test_fixed_intrinsics_become_a_camera_and_zeros_are_refused() -> None:
    values = {**parameters.DEFAULTS, 'intrinsics.source': 'fixed'}
    with pytest.raises(ValueError, match='intrinsics.fixed'):
        parameters.settings(values)
    values['intrinsics.fixed'] = [640.0, 480.0, 500.0, 501.0, 320.0, 240.0]
    assert parameters.settings(values).fixed_camera == Intrinsics(
        640, 480, 500.0, 501.0, 320.0, 240.0
    )


def kinematic(base: str, tip: str) -> dict[str, Any]:
    frames = {'scale.base_frame_id': base, 'scale.tip_frame_id': tip}
    return {**parameters.DEFAULTS, 'scale.source': 'kinematics', **frames}


@pytest.mark.parametrize(
    ('base', 'tip', 'said'),
    [
        ('base', '', "scale.base_frame_id is 'base' and scale.tip_frame_id is ''"),
        ('/', 'tip', "scale.tip_frame_id is 'tip' and scale.base_frame_id is '/'"),
    ],
)
def test_one_frame_of_tf_without_the_other_is_refused(base: str, tip: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        parameters.settings(kinematic(base, tip))
    assert 'needed both' in str(error.value) and '\n' not in str(error.value)
    parameters.settings({**kinematic(base, tip), 'scale.source': 'none'})  # nobody asks


def test_frames_of_tf_lose_their_slash_and_without_them_the_topic_is_taken() -> None:
    assert parameters.robot_frames(kinematic('/base', '/arm/tip')) == ('base', 'arm/tip')
    assert parameters.robot_frames(kinematic('', '/')) is None
