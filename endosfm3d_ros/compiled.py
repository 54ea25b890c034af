# SPDX-License-Identifier: Apache-2.0
"""
How inner loops are compiled, said once: by numba, at their first call, and kept on disk.

numba's cache looks only at a function's own file, and would keep a loop that was compiled before
what it calls changed. So a cache belongs to all sources that it was made from.
"""

import hashlib
import os
import shutil
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
        :param sources: every file that compiled code depends on; what is kept lies beside the
            first.
        :param options: of `numba.njit`, beside the usual ones: division by zero gives infinity, as
            in numpy, and Python's lock is not held meanwhile.
        """
        self._options = {'error_model': 'numpy', 'nogil': True, **options}
        files = list(sources)
        made_from = [path.read_bytes() for path in (*sorted(files), Path(__file__))]
        chosen = [  # a set has another order in each process
            (name, sorted(value) if isinstance(value, set) else value)
            for name, value in sorted(self._options.items())
        ]
        digest = hashlib.sha256(repr([chosen, made_from]).encode()).hexdigest()
        self._kept = _kept_in(f'kernels-{digest[:12]}', files[0].parent)

    @property
    def keeps_something(self) -> bool:
        """Whether an earlier process compiled here."""
        return self._kept is not None and any(self._kept.rglob('*.nbi'))

    def run(self, what: Callable[[], object]) -> None:
        """
        Run what calls compiled functions for the first time.

        A cache that lost its end (no power, a full disk) is forgotten, and compiled anew.
        """
        try:
            what()
        except Exception:
            if not self.keeps_something:
                raise
            self._forget()
            what()

    def _forget(self) -> None:
        for path in self._kept.rglob('*.nb[ci]') if self._kept else ():
            path.unlink(missing_ok=True)

    def __call__(self, function: Callable) -> Callable:
        """Compile a function when it is called first."""
        if self._kept is None:
            return njit(**self._options)(function)
        before, config.CACHE_DIR = config.CACHE_DIR, str(self._kept)  # type: ignore[attr-defined]
        try:
            return njit(cache=True, **self._options)(function)
        finally:
            config.CACHE_DIR = before  # type: ignore[attr-defined]


def _kept_in(name: str, beside: Path) -> Path | None:
    """
    Where a cache of this name is: beside the sources, or among the user's caches, with what
    somebody who may write beside the sources (an installer) compiled there.
    """
    caches = Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'))
    theirs, own = beside / '__pycache__' / name, caches / 'endosfm3d_ros' / name
    if _writable(theirs):
        return theirs
    try:
        if theirs.is_dir() and caches.is_absolute() and not own.exists():
            shutil.copytree(theirs, own)
    except OSError:
        pass  # it is compiled anew
    return own if caches.is_absolute() and _writable(own) else None


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
