# SPDX-License-Identifier: Apache-2.0
"""`endosfm3d report`: the page and the summary of a run's bag."""

import argparse
import json
import sys
from pathlib import Path

from endosfm3d_ros.bags.reading import check_is_file
from endosfm3d_ros.evaluation.against_truth import against_truth, read_facts, read_truth
from endosfm3d_ros.outfile import check_outfile
from endosfm3d_ros.report.build import build_report
from endosfm3d_ros.report.run import read_run
from endosfm3d_ros.report.summary import summarise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d report`."""
    parser.add_argument(
        'bag', type=Path, help="a run's bag (.mcap), as record, replay and demo write it"
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='the page (default: beside the bag, .html); a .json of that name holds the figures',
    )
    parser.add_argument(
        '--truth',
        type=Path,
        metavar='TRUTH',
        help="the clip's truth: a folder (truth.npz, depth/) or a bag; adds the errors",
    )
    parser.add_argument(
        '--facts',
        type=Path,
        metavar='FILE.json',
        help='what was measured beside the bag (default: BAG.facts.json, where the demo left it)',
    )
    parser.add_argument(
        '--node',
        metavar='NAME',
        help='whose run, where several nodes were recorded, like /left/endosfm3d',
    )
    parser.add_argument(
        '--no-pictures',
        action='store_true',
        help='nothing that could show a patient: only curves and figures',
    )


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d report`."""
    try:
        check_is_file(arguments.bag)
        out = arguments.out or arguments.bag.with_suffix('.html')
        if out.suffix != '.html':
            raise ValueError(f'--out {out}: needed a file that ends in .html')
        figures = out.with_suffix('.json')
        if arguments.facts and figures.exists() and figures.samefile(arguments.facts):
            raise ValueError(f'{figures}: the figures would replace these facts; give --out')
        check_outfile(out)
        one = read_run(arguments.bag, read_facts(arguments.bag, arguments.facts), arguments.node)
        evaluation = against_truth(one, read_truth(arguments.truth)) if arguments.truth else None
        build_report(one, out, pictures=not arguments.no_pictures, evaluation=evaluation)
        summary = json.dumps(summarise(one, evaluation), indent=2, allow_nan=False)
        figures.write_text(summary + '\n', encoding='utf-8')
    except (ValueError, OSError) as error:
        print(f'endosfm3d report: {error}', file=sys.stderr)
        return 1
    print(f'look at {out}; the figures are in {figures}')
    return 0
