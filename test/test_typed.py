# SPDX-License-Identifier: Apache-2.0
"""What is typed wrong is told in one line, before anything starts."""

from pathlib import Path

import pytest

from endosfm3d_ros import doctor, parameters
from endosfm3d_ros.cli import main
from endosfm3d_ros.replay import parameters_from
from endosfm3d_ros.typed import check_topic

TOPICS = ['/two words', '/a//b', '/a/', '/1st', '', '/{no_such}/image']


@pytest.mark.parametrize('topic', TOPICS)
@pytest.mark.parametrize(
    'words',
    [
        ['play', 'pattern:64x48@30', '--wait-for', '0', '--count', '1', '--to', 'TOPIC'],
        ['record', 'RUN', 'TOPIC', '--silence', '1'],
        ['record', 'RUN', '--with-input', '--node', 'TOPIC'],
        ['doctor', '--seconds', '0.5', '--topic', 'TOPIC'],
    ],
    ids=lambda words: '-'.join(words)[:12],
)
def test_a_name_that_no_topic_can_have_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], topic: str
) -> None:
    words = [word.replace('RUN', str(tmp_path / 'run.mcap')) for word in words]
    assert main([topic if word == 'TOPIC' else word for word in words]) == 1
    said = ''.join(capsys.readouterr())
    assert f'{topic!r} is no name of a topic' in said or 'begin with /' in said
    assert said.count('\n') == (3 if words[0] == 'doctor' else 1)  # /dev/shm, this, the sum
    assert not list(tmp_path.iterdir())


def test_names_below_the_root_and_of_a_node_are_names() -> None:
    for name in ('/scope/image_raw', 'image', '~/image', '/_hidden'):
        check_topic(name)


@pytest.mark.parametrize(
    'words',
    [
        ['play', 'pattern:64x48@30', '--wait-for', '0', '--count'],
        ['record', 'RUN', '/nothing', '--silence', '1', '--count'],
        ['bench', '--frames'],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize('count', ['0', '-20'])
def test_what_shall_be_done_no_times_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], count: str
) -> None:
    words = [word.replace('RUN', str(tmp_path / 'run.mcap')) for word in words]
    assert main([*words, count]) == 1
    said, error = capsys.readouterr()
    assert f'{words[-1]} {count}; needed 1 or more' in error and error.count('\n') == 1
    assert not said and not list(tmp_path.iterdir())


@pytest.mark.parametrize('value', ['model=[', 'overlays=a: b: c', 'model=@x', 'model=\x01'])
def test_a_parameter_that_is_no_yaml_is_one_line(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert main(['replay', 'pattern:64x48@30', 'run.mcap', '--set', value]) == 1
    error = capsys.readouterr().err
    assert 'is no YAML' in error and error.count('\n') == 1


def test_a_number_is_one_as_ros_reads_it() -> None:
    values = parameters_from(['scale.constant=2e-3', 'odom_frame_id=1e3'])  # YAML 1.1: two texts
    assert values['scale.constant'] == 2e-3 and values['odom_frame_id'] == '1e3'
    with pytest.raises(ValueError, match="'far' is not float"):
        parameters_from(['scale.constant=far'])
    assert parameters_from([]) == parameters.DEFAULTS


def test_the_doctor_s_all_is_well_is_of_something_that_it_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['doctor', '--topic', '/image', '--no-traffic']) == 1
    assert 'leave out --no-traffic' in capsys.readouterr().err
    there = doctor.find_spec
    monkeypatch.setattr(doctor, 'find_spec', lambda name: None if name == 'rclpy' else there(name))
    assert main(['doctor', '--topic', '/image']) == 1  # nobody can listen where ROS is missing
    assert 'the Python module rclpy is missing' in capsys.readouterr().out
