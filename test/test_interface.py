# SPDX-License-Identifier: Apache-2.0
"""docs/interface.md says of topics, keys, encodings and parameters what the code has."""

import re
from pathlib import Path

import pytest

from endosfm3d_ros import parameters
from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.core.picture.rectify import COEFFICIENTS
from endosfm3d_ros.diagnostics import Diagnostics
from endosfm3d_ros.outputs import METRIC_TOPICS, PRIVATE_TOPICS, Outputs, Traffic, queue_depth
from endosfm3d_ros.pictures_in import ENCODINGS
from test.one_answer import one_answer

PAGE = (Path(__file__).parents[1] / 'docs' / 'interface.md').read_text()
NAME = re.compile('`([^`]+)`')


def section(title: str) -> str:
    """The text below a heading, to the next one."""
    return re.split(r'^#+ ', PAGE.split(f'# {title}\n', 1)[1], maxsplit=1, flags=re.M)[0]


def rows(title: str) -> list[list[str]]:
    """Cells of the first table below a heading."""
    table = re.search(r'(^\|.*\n)+', section(title), re.M)
    assert table
    lines = table.group().splitlines()[2:]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def keys(title: str) -> list[str]:
    return [name for row in rows(title) for name in NAME.findall(row[0])]


def item(start: str) -> list[str]:
    """Names in the list's item that begins so."""
    text = re.search(rf'^- \*\*{start}\*\*(.*\n(?:  .*\n)*)', PAGE, re.M)
    assert text
    return NAME.findall(text.group(1))


@pytest.fixture(scope='module')
def said() -> Reconstruction:
    return one_answer()


def test_every_topic_is_there_with_its_type_its_queue_and_whether_it_waits_for_metres():
    found = {}
    for topic, kind, depth, *_, silent in rows('Topics of the node'):
        found[topic.strip('`').removeprefix('/endosfm3d/')] = (
            kind.strip('`'), int(depth), silent.startswith('without metres'),
        )  # fmt: skip
    assert found == {
        topic: (
            f'{kind.__module__.split(".")[0]}/{kind.__name__}',
            queue_depth(topic),
            topic in METRIC_TOPICS,
        )
        for topic, kind in PRIVATE_TOPICS.items()
    }


def test_every_key_of_status_is_there_and_the_first_place_has_the_covariances_it_says(
    said: Reconstruction,
):
    messages = dict(Outputs(parameters.DEFAULTS).messages(said, Traffic()))
    assert [pair.key for pair in messages['status'].status[0].values] == keys('Keys of `status`')
    assert not messages['odometry'].pose.covariance.any()
    assert messages['odometry'].twist.covariance[0] == -1.0


def test_every_key_of_diagnostics_is_there(said: Reconstruction):
    diagnostics = Diagnostics({'model': '', 'runtime': '', 'engine': ''})
    diagnostics.frame(1.0, said, Traffic(20.0))
    assert [*diagnostics.report(1.0)[2], 'scale'] == keys('Keys of `/diagnostics`')


def test_every_parameter_is_told_to_be_live_or_read_at_configure():
    assert set(item('Live')) == parameters.LIVE
    fixed = set(item('Read at configure')) | set(item('Read at start only'))
    assert fixed == parameters.DEFAULTS.keys() - parameters.LIVE


def test_every_encoding_and_distortion_model_is_there():
    names = set(item('Pictures')) - {'frame_id', 'camera_frame_id', '/diagnostics'}
    assert names == ENCODINGS.keys()
    assert set(item('Calibrations')) == COEFFICIENTS.keys()
