# SPDX-License-Identifier: Apache-2.0
"""Lets tests import the modules beside them: `test` itself is a package of Python's."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
