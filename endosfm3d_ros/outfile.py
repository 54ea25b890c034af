# SPDX-License-Identifier: Apache-2.0
"""Files that are written after long work, and refused before it."""

import os
from pathlib import Path


def check_outfile(path: Path | None) -> None:
    """
    Refuse a file that could not be written in the end.

    :param path: the file; None where none is asked for.
    :raises ValueError: its folder is missing or closed, or it is a folder itself.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise ValueError(f'{path}: no folder {path.parent}; make it, or choose another')
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f'{path}: cannot write there; needed a file that you may write')


def write_outfile(path: Path | None, text: str) -> None:
    """
    Write a file whose folder was there when the work began.

    :param path: the file; None where none is asked for.
    :raises ValueError: the disk is full, or the folder is gone.
    """
    if path is None:
        return
    try:
        path.write_text(text + '\n', encoding='utf-8')
    except OSError as error:
        raise ValueError(f'{path}: cannot write there ({error.strerror})') from error
