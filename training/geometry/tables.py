# SPDX-License-Identifier: Apache-2.0
"""Runs as tables: medians by kind of motion."""

from collections.abc import Sequence

import numpy as np

from training.geometry.runs import SECOND, Run

FEWEST_MM = 3.0  # a shorter path's error is no share of it
COSTS = ('step_ms', 'settle_ms')


def tables(runs: Sequence[Run]) -> str:
    """Markdown: the focal length with and without the network's guess, then all the rest."""
    parts = []
    for guess, title in ((True, 'with'), (False, 'without')):
        parts.append(f"### Focal length, {title} the depth network's guess of it\n")
        parts.append(_focal_table([one for one in _windowed(runs) if one.start.guess == guess]))
    parts.append('### Path, depth and cost\n')
    parts.append(_rest_table(runs))
    return '\n'.join(parts)


def kind(one: Run) -> str:
    """What a run is counted under: a zoom is told by a rim, or by tracks alone."""
    if one.move != 'zoom':
        return one.move
    return 'zoom, a rim seen' if one.rim else 'zoom, no rim'


def log_focal_surprise(one: Run) -> float:
    """Mean squared error of log focal by its variance, from a second on."""
    ratio = np.array(one.error[SECOND:]) / np.array(one.sigma[SECOND:])
    return float(np.mean(ratio**2))


def lied(one: Run) -> bool:
    """Whether the error of log focal ever was beyond three sigma, from a second on."""
    return bool((np.abs(one.error[SECOND:]) > 3.0 * np.array(one.sigma[SECOND:])).any())


def bound_at(one: Run, frame: int) -> float:
    """The bound's sigma at the nearest frame it was computed for."""
    return min(one.bound, key=lambda pair: abs(pair[0] - frame))[1]


def _windowed(runs: Sequence[Run]) -> list[Run]:
    return [one for one in runs if one.start.refinement == 'window']


def _kinds(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    names = dict.fromkeys(kind(one) for one in runs)
    return [(name, [one for one in runs if kind(one) == name]) for name in names]


def _median(values: Sequence[float]) -> float:
    known = np.array(values)[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float('nan')


def _percent(values: Sequence[float], digits: int = 1) -> str:
    """Their median."""
    return f'{100 * _median(values):.{digits}f}' if values else '–'


def _focal_table(runs: Sequence[Run]) -> str:
    lines = [
        '| motion | runs | start | 1 s | 2 s | end | worst end | stated σ 1 s / end '
        '| bound σ 1 s / end | squared error by variance: median, mean | runs ever beyond 3 σ |',
        '|---|---|---|---|---|---|---|---|---|---|---|',
        *(_focal_row(name, some) for name, some in _kinds(runs)),
    ]
    return '\n'.join(lines) + '\n'


def _focal_row(name: str, runs: Sequence[Run]) -> str:
    cells = [name, str(len(runs))]
    for frame in (0, SECOND, 2 * SECOND, -1):
        cells.append(_percent([abs(run.error[frame]) for run in runs]))
    cells.append(f'{100 * max(abs(run.error[-1]) for run in runs):.1f}')
    stated = [_percent([run.sigma[frame] for run in runs]) for frame in (SECOND, -1)]
    best = [
        _percent([bound_at(run, SECOND) for run in runs], 2),
        _percent([bound_at(run, len(run.error) - 1) for run in runs], 2),
    ]
    surprise = [log_focal_surprise(run) for run in runs]
    cells += [' / '.join(stated), ' / '.join(best)]
    cells.append(f'{np.median(surprise):.1f}, {np.mean(surprise):.1f}')
    cells.append(str(sum(map(lied, runs))))
    return f'| {" | ".join(cells)} |'


def _rest_table(runs: Sequence[Run]) -> str:
    guessed = [run for run in runs if run.start.guess]
    lines = [
        '| motion | path error: window / pairs [% of path] | worst '
        '| drift of scale: depth, window / pairs; path [%] | squared error of motion '
        'over 1 s by covariance: window / pairs | maps disagree by: window / pairs [%] '
        '| steps not known [%] | step / settle / worst settle [CPU-ms] | step of pairs |',
        '|---|---|---|---|---|---|---|---|---|',
        *(_rest_row(name, some) for name, some in _kinds(guessed)),
    ]
    return '\n'.join(lines) + '\n'


def _far(runs: Sequence[Run]) -> list[Run]:
    """Those whose camera went somewhere."""
    return [run for run in runs if run.path_mm >= FEWEST_MM]


def _rest_row(name: str, runs: Sequence[Run]) -> str:
    window = [run for run in runs if run.start.refinement == 'window']
    pairs = [run for run in runs if run.start.refinement == 'none']
    far, far_pairs = ([run.path_error for run in _far(some)] for some in (window, pairs))
    surprise = [_median([run.motion_surprise for run in some]) for some in (window, pairs)]
    drift = [_percent([abs(one.scale_drift) for one in some]) for some in (window, pairs)]
    apart = [_percent([run.disagreement for run in some]) for some in (window, pairs)]
    lost = np.mean([not known for run in window for known in run.known])
    step, settle = ([float(np.mean(getattr(run, key))) for run in window] for key in COSTS)
    cells = [
        name,
        f'{_percent(far)} / {_percent(far_pairs)}',
        f'{100 * max(far):.1f}' if far else '–',
        f'{" / ".join(drift)}; {_percent([abs(one.path_drift) for one in window])}',
        f'{surprise[0]:.1f} / {surprise[1]:.1f}',
        ' / '.join(apart),
        f'{100 * lost:.1f}',
        f'{_median(step):.1f} / {_median(settle):.1f} / '
        f'{max(max(run.settle_ms) for run in window):.0f}',
        f'{_median([float(np.mean(run.step_ms)) for run in pairs]):.1f}',
    ]
    return f'| {" | ".join(cells)} |'
