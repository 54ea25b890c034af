# SPDX-License-Identifier: Apache-2.0
"""Message definitions as a bag carries them: a type's text, all that it contains, and its hash."""

import re
from functools import cache
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

_SEPARATOR = '=' * 80


@cache
def message_definition(type_name: str) -> str:
    """
    The `.msg` text of a type followed by those of the types in it, as rosbag2 stores schemas.

    Installed files come first, since they are the types in use; a type that is not installed is
    taken from the definitions of ROS 2 Jazzy.

    :param type_name: like `sensor_msgs/msg/Image`.
    :raises ValueError: a type that is neither installed nor part of Jazzy's common interfaces.
    """
    texts: dict[str, str] = {}
    _collect(type_name, texts)
    first, *others = texts.items()
    blocks = [f'{_SEPARATOR}\nMSG: {name.replace("/msg/", "/")}\n{text}' for name, text in others]
    return '\n'.join([first[1], *blocks])


def typestore_of(type_name: str, definition: str) -> Typestore:
    """What (de)serialises the type of a definition and all types in it."""
    typestore = get_typestore(Stores.EMPTY)
    typestore.register(get_types_from_msg(definition, type_name))
    return typestore


@cache
def type_hash(type_name: str) -> str:
    """The RIHS01 hash of a type (REP 2016), computed from its definition."""
    return typestore_of(type_name, message_definition(type_name)).hash_rihs01(type_name)


def _collect(type_name: str, texts: dict[str, str]) -> None:
    """Add the text of a type, then those of the types in it, each once."""
    if type_name in texts:
        return
    package = type_name.split('/')[0]
    texts[type_name] = _own_text(type_name)
    for field_type in re.findall(r'^[ \t]*([A-Za-z][\w/]*)', texts[type_name], flags=re.MULTILINE):
        if '/' in field_type:
            names = field_type.split('/')
            _collect(f'{names[0]}/msg/{names[-1]}', texts)
        elif field_type[0].isupper():
            _collect(f'{package}/msg/{field_type}', texts)


def _own_text(type_name: str) -> str:
    """The `.msg` text of one type alone."""
    package, _, name = type_name.split('/')
    try:
        file = Path(get_package_share_directory(package)) / 'msg' / f'{name}.msg'
        if file.is_file():
            return file.read_text()
    except (PackageNotFoundError, OSError):  # OSError: no ROS environment at all
        pass
    try:
        return (
            get_typestore(Stores.ROS2_JAZZY)
            .generate_msgdef(type_name, ros_version=2)[0]
            .split(_SEPARATOR)[0]
        )
    except TypesysError:
        raise ValueError(
            f'no definition of the message type {type_name} on this machine; '
            'source the workspace that has it'
        ) from None


def canonical(raw: bytes, type_name: str) -> bytes:
    """
    The same message with zeros between its fields.

    CDR aligns fields, and what serialised the message leaves in the gaps whatever the memory
    held; equal messages become equal bytes here.

    :param raw: the message as CDR, with its encapsulation header.
    :param type_name: like `sensor_msgs/msg/Image`.
    """
    typestore = _typestore(type_name)
    return bytes(typestore.serialize_cdr(typestore.deserialize_cdr(raw, type_name), type_name))


@cache
def _typestore(type_name: str) -> Typestore:
    return typestore_of(type_name, message_definition(type_name))
