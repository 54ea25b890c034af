# SPDX-License-Identifier: Apache-2.0
"""
Every figure of a run in one nested dict of plain values: summary.json, and all the numbers of
the page.
"""

from collections import Counter
from pathlib import PurePath
from typing import Any

import numpy as np

from endosfm3d_ros.core.scale import CONSTANT, KINEMATIC, NOMINAL
from endosfm3d_ros.evaluation.compare import Evaluation
from endosfm3d_ros.report.run import Row, Run

FEW = 10  # frames that a node has taken before the first one of a recording from its start on
LATENCY = 'from the source stamp of a picture to the receipt of its depth image in the recorder'
WITHHELD = ', of its status where depth was withheld'
ANOTHER_TIME = (
    "not measured: the stamps are of another time than the recorder's clock, as where a bag is "
    'played under its own'
)
LONGEST_MS = 600_000.0  # no answer takes ten minutes: what is older was stamped at another time
OFFLINE = 'offline: every frame is waited for, no latency exists'
NOT_ANCHORED = (
    'The scale is not anchored: every length is right up to one unknown factor. '
    'Millimetres are nominal: proportions hold, absolute lengths do not.'
)
ANCHORS = {CONSTANT: 'a factor that was given', KINEMATIC: 'by the motion of the robot'}


def summarise(run: Run, evaluation: Evaluation | None = None) -> dict[str, Any]:
    """
    Sum a run up. What was not measured is None, never a guess.

    What the bag cannot know comes from `run.facts`, all of it optional: clip (a name or path),
    mode ('live' or 'offline'), bundle, runtime, rate_hz, frames {sent, received, lost_on_wire,
    dropped_by_mailbox}, cpu_ms_per_frame {player, node, recorder}, machine {cores, cpu_model,
    load_average_1min_before, load_average_1min_after, ...} and versions {name: text}.

    :return: node, clip, mode, bundle, runtime: text. duration_s. input, picture: {width, height}
        of what came in and of what depth belongs to. frames: {sent, received, lost_on_wire,
        dropped_by_mailbox, out, unanswered, incomplete, repeated, out_fraction}; incomplete: not
        among out, as the bag lacks an output of them; repeated: under a stamp that came before.
        latency_ms: {p50, p95, p99, max, ahead, definition}; ahead: frames whose stamp is later
        than their receipt. cpu_ms_per_frame (sent), machine, versions: as the
        facts. topics: {name: {type, count}}. valid_fraction, invalid_reasons {reason: frames}.
        depth: {coverage, median_mm}. intrinsics: {fx_min, fx_max, ... cy_max, zoom_min, zoom_max,
        camera_model, given_distortion {model, coefficients}, k_trust, k_sigma, trust_word,
        distortion, distortion_sigma}, all but the ranges as at the end. path_length_mm, epochs,
        motion_known_fraction, inliers_median. scale: {state, frames, factor, sigma, statement} as
        at the end; frames: how many have this scale, path_length_mm and median_mm are theirs.
        evaluation: see `Evaluation.as_json`, None without truth.
    """
    facts = run.facts
    last = run.rows[-1] if run.rows else None
    valid = run.column('valid')
    return {
        'node': run.node,
        'clip': _name(facts.get('clip')),
        'mode': facts.get('mode'),
        'bundle': facts.get('bundle'),
        'runtime': facts.get('runtime'),
        'duration_s': float(run.seconds[-1]) if last else 0.0,
        'input': _size(last.input_camera) if last else _size(None),
        'picture': _size(last.camera) if last else _size(None),
        'frames': _frames(run),
        'latency_ms': _latency(run),
        'cpu_ms_per_frame': {
            name: (facts.get('cpu_ms_per_frame') or {}).get(name)
            for name in ('player', 'node', 'recorder')
        },
        'topics': {
            name: {'type': topic.type_name, 'count': topic.count}
            for name, topic in sorted(run.bag.topics.items())
        },
        'valid_fraction': float(valid.mean()) if last else None,
        'invalid_reasons': dict(
            Counter(row.reason or 'unnamed' for row in run.rows if not row.valid)
        ),
        'depth': {
            'coverage': _median(run.column('coverage')[valid] if last else np.empty(0)),
            'median_mm': _median(run.column('median_depth')[run.last_scale]),
        },
        'intrinsics': _intrinsics(run),
        'path_length_mm': _path_length(run) if last else None,
        'epochs': len(set(run.column('epoch').tolist())),
        'motion_known_fraction': float(run.column('motion_known').mean()) if last else None,
        'inliers_median': _median(run.column('inliers')),
        'scale': _scale(run),
        'machine': facts.get('machine') or {},
        'versions': facts.get('versions') or {},
        'evaluation': evaluation.as_json() if evaluation else None,
    }


def trust_word(trust: float) -> str:
    """How a person would call a trust in K; only what was given is called a calibration."""
    steps = ((0.25, 'a guess'), (0.6, 'weakly observed'), (1.0, 'well observed'))
    return next((word for limit, word in steps if trust < limit), 'a calibration')


def _name(clip: str | None) -> str | None:
    """A clip's name without the folder it lay in; of a bag's the topic goes with it."""
    if not clip:
        return None
    path, beside, topic = clip.partition(' /')
    return f'{PurePath(path).name}{beside}{topic}'


def _frames(run: Run) -> dict[str, Any]:
    """
    Where every frame went; what the node counted meanwhile stands in for what was not measured
    beside the bag.
    """
    facts = run.facts.get('frames') or {}
    said = {'received': 'received', 'lost_on_wire': 'lost', 'dropped_by_mailbox': 'dropped'}
    frames = {
        name: facts[name] if facts.get(name) is not None else _counted(run, field)
        for name, field in said.items()
    }
    out = len(run.rows)
    sent = facts.get('sent')
    lost, dropped = frames['lost_on_wire'], frames['dropped_by_mailbox']
    unanswered = None
    if sent is not None and lost is not None and dropped is not None:
        unanswered = max(0, sent - out - run.incomplete - lost - dropped)
    return {
        'sent': sent,
        **frames,
        'out': out,
        'unanswered': unanswered,
        'incomplete': run.incomplete,
        'repeated': sum(row.key.turn > 0 for row in run.rows),
        'out_fraction': out / sent if sent else None,
    }


def _counted(run: Run, counter: str) -> int | None:
    """
    What a counter of the node rose by during the run; None where it does not say.

    It counts since the node became active: before a recording that came later, and from nothing
    again where the node did.
    """
    counts = run.column(counter)
    counts = counts[counts >= 0]
    if not len(counts):
        return None
    first = run.rows[0]
    is_from_start = first.received - max(first.dropped, 0) <= FEW
    before = counts[0] if is_from_start else int(counter == 'received')
    steps = np.diff(counts)
    return int(before + np.where(steps < 0, counts[1:], steps).sum())


def _latency(run: Run) -> dict[str, Any]:
    """Percentiles of what the recorder saw; None where it saw none."""
    latency = latencies_ms(run)
    measured = len(latency) > 0
    percentiles = np.percentile(latency, [50, 95, 99, 100]) if measured else [None] * 4
    names = ('p50', 'p95', 'p99', 'max')
    return {
        **{name: _plain(value) for name, value in zip(names, percentiles, strict=True)},
        'ahead': int((latency < 0).sum()) if measured else None,
        'definition': _measured_to(run) if measured else _why_none(run),
    }


def _measured_to(run: Run) -> str:
    """What the latency is of."""
    return LATENCY + WITHHELD * bool(np.isnan(run.column('coverage')).any())


def _why_none(run: Run) -> str:
    """Why no latency is known."""
    if _is_offline(run):
        return OFFLINE
    return ANOTHER_TIME if run.rows and _ages_ms(run).min() > LONGEST_MS else 'not measured'


def _ages_ms(run: Run) -> np.ndarray:
    """From each frame's stamp to the receipt of its depth image [ms]."""
    return np.asarray((run.column('receipt_ns') - run.column('stamp_ns')) * 1e-6)


def _is_offline(run: Run) -> bool:
    return run.facts.get('mode') == 'offline'


def latencies_ms(run: Run) -> np.ndarray:
    """Latency of each frame [ms]; empty for an offline run, or under stamps of another time."""
    if _is_offline(run) or not run.rows:
        return np.empty(0)
    latency = _ages_ms(run)
    return latency if latency.any() and latency.min() <= LONGEST_MS else np.empty(0)


def _intrinsics(run: Run) -> dict[str, Any]:
    """Ranges over the run, and the trust at its end."""
    ranges: dict[str, Any] = {}
    for name in ('fx', 'fy', 'cx', 'cy'):
        values = [getattr(row.input_camera, name) for row in run.rows]
        ranges |= {
            f'{name}_min': min(values, default=None),
            f'{name}_max': max(values, default=None),
        }
    zoom = run.column('zoom')
    zoom = zoom[np.isfinite(zoom)] if len(zoom) else zoom
    last = run.rows[-1] if run.rows else None
    return {
        **ranges,
        'zoom_min': float(zoom.min()) if len(zoom) else None,
        'zoom_max': float(zoom.max()) if len(zoom) else None,
        'camera_model': last.camera_model or None if last else None,
        'given_distortion': _given_distortion(last),
        'k_trust': _plain(last.k_trust) if last else None,
        'k_sigma': _plain(last.k_sigma) if last else None,
        'distortion': _plain(last.distortion) if last else None,
        'distortion_sigma': _plain(last.distortion_sigma) if last else None,
        'trust_word': trust_word(last.k_trust) if last and np.isfinite(last.k_trust) else None,
    }


def _given_distortion(last: Row | None) -> dict[str, Any] | None:
    """Model and coefficients of a calibration; None where none was given, or none that bends."""
    if last is None or last.lens.coefficient or not last.lens.bends:
        return None
    return {'model': last.lens.model, 'coefficients': list(last.lens.distortion)}


def _path_length(run: Run) -> float | None:
    """
    Sum of the steps within each epoch [mm], of frames at the scale of the last one; None where
    all were withheld.
    """
    if not np.isfinite(run.estimate.T_odom_cam).any():
        return None
    steps = np.linalg.norm(np.diff(run.estimate.T_odom_cam[:, :3, 3], axis=0), axis=1)
    kept = (np.diff(run.column('epoch')) == 0) & run.last_scale[1:] & run.last_scale[:-1]
    return float(np.nansum(steps[kept]))


def _scale(run: Run) -> dict[str, Any]:
    """What a millimetre of this run is worth."""
    last = run.rows[-1] if run.rows else None
    state = last.scale_state if last else ''
    anchor = ANCHORS.get(state, state)
    is_anchored = state not in ('', NOMINAL)
    statement = f'The scale is anchored: {anchor}.' if is_anchored else NOT_ANCHORED
    frames = int(run.last_scale.sum())
    if frames < len(run.rows):
        statement += (
            f' So it is in {frames} of {len(run.rows)} frames, and path length and median depth '
            'are theirs; the lengths of the others are scaled otherwise.'
        )
    return {
        'state': state or NOMINAL,
        'frames': frames,
        'factor': _plain(last.scale) if last else None,
        'sigma': _plain(last.scale_sigma) if last else None,
        'statement': statement,
    }


def _size(camera: Any) -> dict[str, int | None]:
    return {'width': getattr(camera, 'width', None), 'height': getattr(camera, 'height', None)}


def _median(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)] if len(values) else values
    return float(np.median(values)) if len(values) else None


def _plain(value: float | None) -> float | None:
    """JSON has no NaN."""
    return float(value) if value is not None and np.isfinite(value) else None
