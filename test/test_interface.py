# SPDX-License-Identifier: Apache-2.0
"""docs/interface.md says what the code does."""

import re
from pathlib import Path
from unittest.mock import MagicMock

from endosfm3d_ros import parameters
from endosfm3d_ros.core.rectify import COEFFICIENTS
from endosfm3d_ros.diagnostics import Diagnostics
from endosfm3d_ros.messages_in import ENCODINGS
from endosfm3d_ros.messages_out import JUMPED, header
from endosfm3d_ros.outputs import IMAGE_DEPTH, PRIVATE_TOPICS, STATE_DEPTH, Outputs, Traffic

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'interface.md').read_text()
README = (ROOT / 'README.md').read_text()
LARGE = ('image', 'confidence', 'points')


def rows(section: str) -> list[list[str]]:
    """The rows of a section's table, each as its cells."""
    text = re.search(rf'^## {section}\n(.*?)(?=^## |\Z)', PAGE, re.DOTALL | re.MULTILINE)[1]
    lines = [line for line in text.splitlines() if line.startswith('| `')]
    return [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines]


def names(section: str) -> list[str]:
    return [name for row in rows(section) for name in re.findall(r'`([^`]+)`', row[0])]


def said() -> MagicMock:
    return MagicMock(events=(), valid=True)


def test_every_topic_stands_there_with_its_type_and_depth() -> None:
    told = {row[0].strip('`'): (row[1], int(row[2])) for row in rows('Topics out')}
    for topic in ('/tf', '/diagnostics'):
        del told[topic]
    assert told == {
        f'~/{topic}': (
            f'{kind.__module__.split(".")[0]}/{kind.__name__}',
            IMAGE_DEPTH if topic.endswith(LARGE) else STATE_DEPTH,
        )
        for topic, kind in PRIVATE_TOPICS.items()
    }
    assert f'variances are {JUMPED:.0f}' in PAGE


def test_every_key_of_status_stands_there_and_those_of_the_readme_are_keys() -> None:
    message = Outputs(parameters.DEFAULTS)._status(said(), Traffic(), header(1, 'scope'))
    keys = [pair.key for pair in message.status[0].values]
    assert names('status') == keys
    told = re.search(r'^\| `status` \| [^|]*\| ([^|]*)\|', README, re.MULTILINE)[1]
    assert set(re.findall(r'`(\w+)`', told)) <= set(keys)
    assert len(re.findall(r'`(\w+)`', told)) > 5


def test_every_key_of_diagnostics_stands_there() -> None:
    node = (ROOT / 'endosfm3d_ros' / 'endoscope_node.py').read_text()
    facts = re.findall(r"'(\w+)':", re.search(r'facts = \{(.*)\}', node)[1])
    diagnostics = Diagnostics(dict.fromkeys(facts, ''))
    diagnostics.frame(1.0, said(), Traffic(latency_ms=5.0))
    keys = list(diagnostics.report(2.0)[2])
    assert "values['scale'] = " in node
    assert names('diagnostics') == [*keys, 'scale']


def test_every_parameter_stands_there_with_its_default_and_when_it_is_read() -> None:
    told = {row[0].strip('`'): (row[1].strip('`'), row[3]) for row in rows('Parameters')}
    assert list(told) == [one.name for one in parameters.PARAMETERS]
    for one in parameters.PARAMETERS:
        default = str(one.default).lower() if isinstance(one.default, bool) else one.default
        when = 'live' if one.live else 'start' if one.name == 'autostart' else 'configure'
        assert told[one.name] == (str(default) or "''", when), one.name


def test_what_is_read_stands_there() -> None:
    encodings = re.search(r'Encodings that are read: (.*?)\.\n', PAGE, re.DOTALL)[1]
    assert re.findall(r'`(\w+)`', encodings) == list(ENCODINGS)
    for model, counts in COEFFICIENTS.items():
        *others, last = map(str, counts)
        told = f'{", ".join(others)} or {last}' if others else last
        assert f'`{model}` ({told})' in PAGE
