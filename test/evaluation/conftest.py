# SPDX-License-Identifier: Apache-2.0
"""Lets the tests of this folder import made_truth: `test` itself is a package of Python's."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
