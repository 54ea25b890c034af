# SPDX-License-Identifier: Apache-2.0
"""`endosfm3d compile`, under the name that it had before it was installed with the node."""

import sys

from endosfm3d_ros import cli


def main() -> int:
    """Run the command line."""
    return cli.main(['compile', *sys.argv[1:]])


if __name__ == '__main__':
    sys.exit(main())
