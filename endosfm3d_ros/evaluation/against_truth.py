# SPDX-License-Identifier: Apache-2.0
"""A run's bag against its truth, folder or bag, with what was measured beside the run."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from endosfm3d_ros.bags.bag_frames import is_bag
from endosfm3d_ros.bags.recording import facts_beside
from endosfm3d_ros.evaluation.compare import Evaluation, compare
from endosfm3d_ros.evaluation.protocols import WORLDS, Protocol
from endosfm3d_ros.evaluation.truth import Truth, read_truth_folder
from endosfm3d_ros.evaluation.truth_bag import read_truth_bag
from endosfm3d_ros.evaluation.truth_topics import TruthTopics
from endosfm3d_ros.report.run import Run

NEVER_S = 1e6  # when frames were sent that were not


def read_truth(path: Path, topics: Mapping[str, str] | None = None) -> Truth | TruthTopics:
    """
    Read the truth of a clip: a folder (see `read_truth_folder`) or a bag (`read_truth_bag`).

    :param topics: names of a bag's topics by role, where they are not the usual ones.
    """
    if not path.exists():
        raise ValueError(f'{path}: no such truth; need a folder with truth.npz, or a bag')
    is_folder = (path / 'truth.npz').is_file()  # runs may lie in it
    if is_bag(path) and not is_folder:
        return read_truth_bag(path, topics)
    if topics:
        raise ValueError(f'{path}: --truth-topic is for bags, this is none')
    return read_truth_folder(path)


def against_truth(
    one: Run, truth: Truth | TruthTopics, protocol: Protocol = WORLDS
) -> Evaluation | None:
    """
    The errors of a run; None for a run without frames.

    :param one: the run. Where its facts hold `stamps_ns`, the stamp that each frame of the clip
        was sent under, frames are told apart by it; else by `matching.clock`.
    :param truth: of the clip; streams are brought to the run's pictures.
    """
    if not one.rows:
        return None
    sent = np.array(one.facts.get('stamps_ns') or [], np.int64)
    estimate, first_ns = one.estimate, None
    if isinstance(truth, TruthTopics):
        if len(sent):
            raise ValueError(
                "the run's pictures were sent under stamps of their own, and a bag's truth goes "
                'by its stamps: needed a run under the stamps of the bag; make it by: '
                'endosfm3d replay'
            )
        truth = truth.of_pictures(estimate.stamps_ns, estimate.cameras)
    elif len(sent):
        stamps = np.arange(len(truth.stamps)) + NEVER_S
        count = min(len(sent), len(stamps))
        stamps[:count] = (sent[:count] - sent[0]) * 1e-9
        truth, first_ns = replace(truth, stamps=stamps), int(sent[0])
    return compare(estimate, one.depth_pictures(), truth, first_ns, protocol)


def read_facts(bag: Path, path: Path | None = None) -> dict[str, Any]:
    """
    Read what was measured beside a run; nothing where nothing was.

    :param path: the facts; default: `facts_beside` of the bag, where it is there.
    """
    if path is None:
        path = facts_beside(bag)
        if not path.is_file():
            return {}
    try:
        facts = json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no JSON: {error}') from error
    if not isinstance(facts, dict):
        raise ValueError(f'{path}: needed an object {{...}}, found {type(facts).__name__}')
    return facts
