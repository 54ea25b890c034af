# SPDX-License-Identifier: Apache-2.0
"""Compiles the core's inner loops; what they are made from is listed here."""

from pathlib import Path

from endosfm3d_ros.compiled import Compiler

# What any of them is made from, itself or by what it calls.
SOURCES = (
    'kernel.py',
    'adjustment/normal_equations.py',
    'adjustment/reprojection.py',
    'adjustment/scene.py',
    'adjustment/scene_step.py',
    'bilateral_grid.py',
    'lens.py',
    'picture/circle.py',
    'tracking/warp.py',
    'window/parallax.py',
)

# Sums may be taken in any order, so that several numbers go through the processor at once.
kernel = Compiler(
    (Path(__file__).parent / name for name in SOURCES),
    fastmath={'contract', 'nsz', 'reassoc'},
)
