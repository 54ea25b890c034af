# SPDX-License-Identifier: Apache-2.0
"""
`endosfm3d compile`: compile a bundle's graphs for this machine's GPU, with TensorRT.

    endosfm3d compile compact

Run it on the robot itself (or the same GPU with the same TensorRT): a plan runs nowhere else.
"""

import argparse
import sys

from endosfm3d_ros.bundle import BundleError, open_bundle
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.engines.plans import PRECISIONS, cache_folder
from endosfm3d_ros.engines.tensorrt_build import Options, compile_graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d compile`."""
    parser.add_argument('bundle', help="a shipped bundle's name, or a bundle's folder")
    parser.add_argument(
        '--precision', choices=PRECISIONS, default=Options.precision,
        help='half: convolutions and products in half precision; graph: as it says (default: '
        '%(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--cache', default='', help="where to keep plans, as the node's engine_cache"
    )
    parser.add_argument(
        '--workspace', type=float, default=Options.workspace_gib, metavar='GIB',
        help='to try tactics in (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--level', type=int, choices=range(6), default=Options.level,
        help='thoroughness (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--size', action='append', metavar='HxW', default=[],
        help='only this size, e.g. 224x280; repeat for more',
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d compile`: 1 where a graph was not compiled."""
    options = Options(arguments.precision, arguments.workspace, arguments.level)
    cache = cache_folder(arguments.cache)
    try:
        bundle = open_bundle(arguments.bundle)
        graphs = [
            graph
            for graph in (*bundle.depth, *bundle.motion)
            if not arguments.size or f'{graph.height}x{graph.width}' in arguments.size
        ]
        if not graphs:
            sizes = ', '.join(f'{height}x{width}' for height, width in bundle.sizes)
            raise ValueError(f'no graph of size {arguments.size[0]}; the bundle has {sizes}')
        for i, graph in enumerate(graphs, 1):
            start = f'[{i}/{len(graphs)}] {graph.path.name} {graph.height}x{graph.width}'
            print(f'{start}: building, this takes a minute or more', flush=True)
            record = compile_graph(graph, cache, options, _tell)
            print(
                f'{start}: {max(record.error.values()):.1e} off the graph, '
                f'{record.median_ms:.2f} ms on {record.gpu}, in {cache}'
            )
    except (ValueError, BundleError, EngineError) as error:
        print(f'endosfm3d compile: {error}', file=sys.stderr)
        return 1
    return 0


def _tell(line: str) -> None:
    """A line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        print(f'\r{line[:78]:<78}\r', end='', file=sys.stderr, flush=True)
