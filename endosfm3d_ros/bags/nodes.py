# SPDX-License-Identifier: Apache-2.0
"""Which of our nodes spoke in a bag: it may have another name, and several may have run."""

from collections.abc import Collection
from pathlib import Path

USUAL = '/endosfm3d'
STATUS = 'status'
KNOWN_BY = (STATUS, 'input/camera_info')  # one of another name sends these, metric or not
PICTURES = ('rgb/image', 'depth/image', 'depth/confidence')
TOPICS = (*KNOWN_BY, 'odometry', 'depth/camera_info', *PICTURES)


def nodes_in(topics: Collection[str]) -> list[str]:
    """
    Find our nodes by their topics.

    :param topics: full names.
    :return: the nodes' full names, sorted.
    """
    names = {
        topic.removesuffix(f'/{one}')
        for one in TOPICS
        for topic in topics
        if topic.endswith(f'/{one}')
    }
    return sorted(
        name
        for name in names
        if name.endswith(USUAL) or all(f'{name}/{one}' in topics for one in KNOWN_BY)
    )


def own_pictures(topics: Collection[str]) -> list[str]:
    """
    Image topics that our nodes sent, sorted: none of them is a camera's, but what a node saw of
    its input and made of it.

    :param topics: full names.
    """
    return sorted({f'{name}/{one}' for name in nodes_in(topics) for one in PICTURES} & set(topics))


def choose_node(path: Path, topics: Collection[str], asked: str | None = None) -> str:
    """
    Choose the node whose run a bag is.

    :param path: the bag, for a person.
    :param asked: full name of the node; None takes the only one.
    :raises ValueError: there is no status of that node or of any; or of several, and none was
        named.
    """
    nodes = [node for node in nodes_in(topics) if f'{node}/{STATUS}' in topics]
    if asked is not None:
        nodes = [asked] if f'{asked}/{STATUS}' in topics else []
    if not nodes:
        found = ', '.join(sorted(topics)) or 'none'
        raise ValueError(
            f'{path} is no run of endosfm3d: need the topic {asked or USUAL}/{STATUS}, '
            f'found {found}'
        )
    if len(nodes) > 1:
        raise ValueError(
            f'{path}: runs of several nodes, {", ".join(nodes)}; '
            f'choose one, like --node {nodes[0]}'
        )
    return nodes[0]
