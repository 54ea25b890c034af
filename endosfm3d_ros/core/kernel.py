# SPDX-License-Identifier: Apache-2.0
"""Compiles the core's inner loops; what they are made from is listed here."""

from pathlib import Path

from endosfm3d_ros.compiled import Compiler

# What any of them is made from, itself or by what it calls.
SOURCES = (
    'circle.py',
    'kernel.py',
    'lens.py',
    'normal_equations.py',
    'parallax.py',
    'reprojection.py',
    'scene.py',
    'scene_step.py',
    'warp.py',
)

# Sums may be taken in any order, so that several numbers go through the processor at once.
kernel = Compiler(
    (Path(__file__).with_name(name) for name in SOURCES),
    fastmath={'contract', 'nsz', 'reassoc'},
)
