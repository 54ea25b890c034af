# SPDX-License-Identifier: Apache-2.0
"""How the renderer's inner loops are compiled, said once."""

import hashlib
from pathlib import Path

from numba import config, njit

_FOLDER = Path(__file__).parent

# numba's cache looks only at a function's own file: it would keep a ray caster compiled before
# shade() changed. So the cache belongs to the sources of the whole folder.
_digest = hashlib.sha256(b''.join(p.read_bytes() for p in sorted(_FOLDER.glob('*.py'))))
_cache = _FOLDER / '__pycache__' / f'kernels-{_digest.hexdigest()[:12]}'
config.CACHE_DIR = str(_cache)  # type: ignore[attr-defined]  # settings are made at run time

# Division by zero gives infinity, as in numpy, instead of a test at every division.
kernel = njit(cache=True, fastmath=True, error_model='numpy')
parallel_kernel = njit(cache=True, fastmath=True, error_model='numpy', parallel=True)
