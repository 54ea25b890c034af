# SPDX-License-Identifier: Apache-2.0
"""`endosfm3d report`: the page and the summary of a run's bag."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from endosfm3d_ros.evaluation.compare import Evaluation, compare
from endosfm3d_ros.evaluation.truth import read_truth
from endosfm3d_ros.report.build import build_report
from endosfm3d_ros.report.run import Run, read_run
from endosfm3d_ros.report.summary import summarise

NEVER_S = 1e6  # when frames were sent that were not


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
        metavar='FOLDER',
        help="the clip's truth: truth.npz and depth/; adds the errors",
    )
    parser.add_argument(
        '--facts',
        type=Path,
        metavar='FILE.json',
        help='what was measured beside the bag (default: BAG.facts.json, where the demo left it)',
    )
    parser.add_argument(
        '--no-pictures',
        action='store_true',
        help='nothing that could show a patient: only curves and figures',
    )


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d report`."""
    out = arguments.out or arguments.bag.with_suffix('.html')
    try:
        if out.suffix != '.html':
            raise ValueError(f'--out {out}: needed a file that ends in .html')
        beside = facts_beside(arguments.bag)
        one = read_run(
            arguments.bag, _facts(arguments.facts or (beside if beside.is_file() else None))
        )
        evaluation = against_truth(one, arguments.truth) if arguments.truth else None
        build_report(one, out, pictures=not arguments.no_pictures, evaluation=evaluation)
        summary = json.dumps(summarise(one, evaluation), indent=2, allow_nan=False)
        out.with_suffix('.json').write_text(summary + '\n', encoding='utf-8')
    except (ValueError, OSError) as error:
        print(f'endosfm3d report: {error}', file=sys.stderr)
        return 1
    print(f'look at {out}; the figures are in {out.with_suffix(".json")}')
    return 0


def _facts(path: Path | None) -> dict[str, Any]:
    """Read the facts."""
    if path is None:
        return {}
    try:
        facts = json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no JSON: {error}') from error
    if not isinstance(facts, dict):
        raise ValueError(f'{path}: needed an object {{...}}, found {type(facts).__name__}')
    return facts


def facts_beside(bag: Path) -> Path:
    """Where the facts of a bag lie."""
    return bag.with_suffix('.facts.json')


def against_truth(one: Run, folder: Path) -> Evaluation | None:
    """
    The errors of a run; None for a run without frames.

    :param one: the run. Where its facts hold `stamps_ns`, the stamp that each frame of the clip
        was sent under, frames are told apart by it; else by the time since the run's first frame.
    :param folder: the truth's folder.
    """
    if not one.rows:
        return None
    truth = read_truth(folder)
    sent = np.array(one.facts.get('stamps_ns') or [], np.int64)
    if not len(sent):
        return compare(one.estimate, one.depth_pictures(), truth)
    stamps = np.arange(len(truth.stamps)) + NEVER_S
    count = min(len(sent), len(stamps))
    stamps[:count] = (sent[:count] - sent[0]) * 1e-9
    return compare(one.estimate, one.depth_pictures(), replace(truth, stamps=stamps), int(sent[0]))
