# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: measure what this machine's transport costs."""

import sys

from bench.dds_transport import main

if __name__ == '__main__':
    sys.exit(main())
