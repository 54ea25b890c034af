# SPDX-License-Identifier: Apache-2.0
"""The views show topics that the node sends, of the type that the display takes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from endosfm3d_ros import parameters
from endosfm3d_ros.outputs import PRIVATE_TOPICS

CONFIG = Path(__file__).parents[1] / 'config'
RVIZ = yaml.safe_load((CONFIG / 'endosfm3d.rviz').read_text())
FOXGLOVE = json.loads((CONFIG / 'endosfm3d_foxglove.json').read_text())
OURS = re.compile(r'/endosfm3d/([a-z_/]+)')
SHOWN = {'rgb/image', 'depth/image', 'points', 'path'}  # what a view has to show at least


def own(topic: str) -> str:
    found = OURS.match(topic)
    assert found and found[1] in PRIVATE_TOPICS, topic
    return found[1]


def texts(tree: Any) -> Iterator[str]:
    """Every string in a tree, keys too."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from (str(key), *texts(value))
    elif isinstance(tree, list):
        for value in tree:
            yield from texts(value)
    elif isinstance(tree, str):
        yield tree


def test_every_rviz_display_takes_the_type_that_its_topic_has() -> None:
    displays = RVIZ['Visualization Manager']['Displays']
    shown = set()
    for display in displays:
        kind = display['Class'].removeprefix('rviz_default_plugins/')
        assert display['Value'] == display['Enabled']
        if 'Topic' in display:
            topic = own(display['Topic']['Value'])
            assert PRIVATE_TOPICS[topic].__name__ == kind
            shown.add(topic)
        else:
            assert kind in ('Grid', 'TF')
    assert shown >= SHOWN
    fixed = RVIZ['Visualization Manager']['Global Options']['Fixed Frame']
    assert fixed == parameters.DEFAULTS['odom_frame_id']


def test_every_topic_of_the_foxglove_layout_is_sent_and_every_panel_has_its_place() -> None:
    panels = FOXGLOVE['configById']
    topics = {own(text) for text in texts(panels) if text.startswith('/endosfm3d')}
    assert topics >= SHOWN
    placed = [text for text in texts(FOXGLOVE['layout']) if '!' in text]
    assert sorted(placed) == sorted(panels)
    pictures = {own(p['imageMode']['imageTopic']) for n, p in panels.items() if n[:5] == 'Image'}
    assert pictures == {'rgb/image', 'depth/image', 'depth/confidence'}


@pytest.mark.parametrize('panel', ['Plot!K', 'Plot!place'])
def test_every_plotted_path_leads_to_a_number(panel: str) -> None:
    for path in FOXGLOVE['configById'][panel]['paths']:
        topic, *fields = path['value'].split('.')
        value: Any = PRIVATE_TOPICS[own(topic)]()
        for field in fields:
            name, _, index = field.partition('[')
            value = getattr(value, name)
            value = value[int(index[:-1])] if index else value
        assert isinstance(float(value), float)
