# SPDX-License-Identifier: Apache-2.0
"""
How inner loops are compiled, said once: by numba, at their first call, and kept on disk.

numba's cache looks only at a function's own file, and would keep a loop that was compiled before
what it calls changed. So a cache belongs to all sources that it was made from.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from numba import config, njit


class Compiler:
    """
    A decorator for functions of numbers and arrays.

    Where no folder can be written to nothing is kept, and each process compiles anew.
    """

    def __init__(self, sources: Iterable[Path], **options: Any) -> None:
        """
        :param sources: every file that compiled code depends on.
        :param options: of `numba.njit`, beside the usual ones: division by zero gives infinity, as
            in numpy, and Python's lock is not held meanwhile.
        """
        sources = sorted(sources)
        digest = hashlib.sha256(b''.join(path.read_bytes() for path in sources)).hexdigest()
        self._kept = _writable(f'kernels-{digest[:12]}', sources[0].parent)
        self._options = {'error_model': 'numpy', 'nogil': True, **options}

    @property
    def keeps_something(self) -> bool:
        """Whether an earlier process compiled here."""
        return self._kept is not None and any(self._kept.rglob('*.nbc'))

    def __call__(self, function: Callable) -> Callable:
        """Compile a function when it is called first."""
        if self._kept is None:
            return njit(**self._options)(function)
        before, config.CACHE_DIR = config.CACHE_DIR, str(self._kept)  # type: ignore[attr-defined]
        try:
            return njit(cache=True, **self._options)(function)
        finally:
            config.CACHE_DIR = before  # type: ignore[attr-defined]


def _writable(name: str, beside: Path) -> Path | None:
    """Where a cache of this name can be: beside the sources, or among the user's caches."""
    caches = Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'))
    for folder in (beside / '__pycache__' / name, caches / 'endosfm3d_ros' / name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    return None
