# SPDX-License-Identifier: Apache-2.0
"""`endosfm3d evaluate`: the errors of runs against their truth, beside those of lazy answers."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from endosfm3d_ros.evaluation.against_truth import against_truth, read_facts, read_truth
from endosfm3d_ros.evaluation.compare import Evaluation
from endosfm3d_ros.evaluation.protocols import PROTOCOLS, protocol
from endosfm3d_ros.evaluation.table import table_of, videos_table
from endosfm3d_ros.evaluation.videos import over_all
from endosfm3d_ros.outfile import check_outfile
from endosfm3d_ros.report.run import read_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d evaluate`."""
    parser.add_argument(
        'bag', type=Path, nargs='+',
        help="a run's bag (.mcap), as record, replay and demo write it; several are summed up "
        'frame by frame and video by video',
    )  # fmt: skip
    parser.add_argument(
        '--truth', type=Path, nargs='+', required=True,
        help='for each bag its truth: a folder (depth/%%04d.png: 16 bits of mm x 256, 0 unknown; '
        'truth.npz: K Nx3x3 [px], T_world_cam Nx4x4 [mm], stamps N [s]), or a bag with '
        '/ground_truth/pose, camera_info and depth/image, each under stamps of its own (poses '
        'are interpolated over 100 ms at most, depth is of the picture within 10 ms)',
    )  # fmt: skip
    parser.add_argument(
        '--protocol', default='worlds',
        help=f'how depth is scored: {", ".join(sorted(PROTOCOLS))} (default: worlds)',
    )  # fmt: skip
    parser.add_argument(
        '--truth-topic', action='append', default=[], metavar='ROLE=NAME',
        help='a topic of a truth bag: pose, camera_info, depth or depth_camera_info; repeat',
    )  # fmt: skip
    parser.add_argument(
        '--node', metavar='NAME',
        help='whose run, where several nodes were recorded, like /left/endosfm3d',
    )  # fmt: skip
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures here')


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d evaluate`."""
    try:
        check_outfile(arguments.json)
        found = evaluate(arguments)
        if arguments.json:
            text = json.dumps(_document(found), indent=2, allow_nan=False)
            arguments.json.write_text(text + '\n', encoding='utf-8')
    except (ValueError, OSError) as error:
        print(f'endosfm3d evaluate: {error}', file=sys.stderr)
        return 1
    for bag, one in found.items():
        print(f'{bag}\n{table_of(one)}')
    if len(found) > 1:
        print(videos_table(over_all(list(found.values()))))
    if arguments.json:
        print(f'all figures: {arguments.json}')
    return 0


def evaluate(arguments: argparse.Namespace) -> dict[str, Evaluation]:
    """Score every bag; by its path."""
    bags, truths = arguments.bag, arguments.truth
    if len(bags) != len(truths):
        raise ValueError(f'{len(bags)} bags and {len(truths)} truths: each bag needs its own')
    if len(set(bags)) < len(bags):
        raise ValueError('a bag is named twice: each counts once')
    rules = protocol(arguments.protocol)
    topics = dict(_pair(text) for text in arguments.truth_topic)
    found = {}
    for bag, truth in zip(bags, truths, strict=True):
        known = read_truth(truth, topics)
        one = against_truth(read_run(bag, read_facts(bag), arguments.node), known, rules)
        if one is None:
            raise ValueError(f'{bag}: the run has no whole frame; nothing to score')
        found[str(bag)] = one
    return found


def _pair(text: str) -> tuple[str, str]:
    role, equals, name = text.partition('=')
    if not equals:
        raise ValueError(f'--truth-topic {text}: needed ROLE=NAME')
    return role, name


def _document(found: dict[str, Evaluation]) -> dict[str, Any]:
    """One run: its evaluation. Several: `videos` by bag, and `all` over frames and videos."""
    videos = {bag: one.as_json() | {'over_time': _over_time(one)} for bag, one in found.items()}
    if len(found) == 1:
        return next(iter(videos.values()))
    return {
        'videos': videos,
        'all': over_all(list(found.values())),
    }


def _over_time(one: Evaluation) -> dict[str, Any]:
    """Relative errors of K at every matched frame, and abs rel at every depth image scored."""
    return {
        'stamps_ns': one.series.stamps_ns,
        **{name: one.per_frame[name] for name in ('fx', 'fy', 'cx', 'cy')},
        'depth_stamps_ns': one.series.depth_stamps_ns,
        'abs_rel': one.series.abs_rel,
    }
