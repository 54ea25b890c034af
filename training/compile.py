# SPDX-License-Identifier: Apache-2.0
"""`endosfm3d compile`, which every robot has, among the other commands of a checkout."""

import argparse
import sys

from endosfm3d_ros.engines import command


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m training compile',
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return command.run(parser.parse_args())


if __name__ == '__main__':
    sys.exit(main())
