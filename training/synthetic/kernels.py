# SPDX-License-Identifier: Apache-2.0
"""How the renderer's inner loops are compiled, said once: any of them may call any other."""

from pathlib import Path

from endosfm3d_ros.compiled import Compiler

_SOURCES = tuple(Path(__file__).parent.glob('*.py'))

kernel = Compiler(_SOURCES, fastmath=True)
parallel_kernel = Compiler(_SOURCES, fastmath=True, parallel=True, nogil=False)
