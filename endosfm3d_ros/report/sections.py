# SPDX-License-Identifier: Apache-2.0
"""The sections of the page that hold curves and figures, each a string of HTML."""

from html import escape

import numpy as np

from endosfm3d_ros.bags.nodes import USUAL
from endosfm3d_ros.evaluation.compare import Evaluation
from endosfm3d_ros.report import charts
from endosfm3d_ros.report.figures import NONE, Figures, table
from endosfm3d_ros.report.run import Run
from endosfm3d_ros.report.summary import ANOTHER_TIME, latencies_ms

MOST_CELLS = 100_000  # of a strip: a clock that jumps by hours must not make it endless


def subtitle(figures: Figures) -> str:
    """One line on what ran."""
    mode = {'live': 'live over DDS', 'offline': 'offline, every frame'}.get(
        figures.value('mode') or '', ''
    )
    size = f'{figures.number("input.width")} × {figures.number("input.height")} px'
    parts = [f'{figures.number("duration_s", ".1f", "s")} of video', size, mode]
    if figures.value('node') != USUAL:
        parts.append(figures.text('node'))
    if figures.value('bundle'):
        runtime = f' on {figures.text("runtime")}' if figures.value('runtime') else ''
        parts.append(f'{figures.text("bundle")}{runtime}')
    return ' <i>·</i> '.join(part for part in parts if part)


def key_figures(figures: Figures) -> str:
    """The five numbers to look at first."""
    answered = figures.number('frames.out'), 'sent: not known'
    if figures.value('frames.sent'):
        answered = (
            figures.percent('frames.out_fraction'),
            f'{answered[0]} of {figures.number("frames.sent")}',
        )
    latency = 'none', 'not measured'
    if figures.value('mode') == 'offline':
        latency = 'none', 'offline: no clock runs'
    if figures.value('latency_ms.definition') == ANOTHER_TIME:
        latency = 'none', 'the stamps are of another time'
    if figures.value('latency_ms.p50') is not None:
        within = figures.number('latency_ms.p95', '.1f', 'ms')
        latency = figures.number('latency_ms.p50', '.1f', 'ms'), f'95 % within {within}'
    zoom = '<span class="none">not seen</span>'
    if figures.value('intrinsics.zoom_min') is not None:
        ends = (figures.number(f'intrinsics.zoom_{end}', '.2f') for end in ('min', 'max'))
        zoom = ' – '.join(ends)
    epochs = 'epoch' if figures.value('epochs') == 1 else 'epochs'
    part = ''
    if figures.value('scale.frames') < figures.value('frames.out'):
        part = f', of {figures.number("scale.frames")} frames at the last scale'
    cells = (
        ('Frames answered', *answered),
        ('Valid', figures.percent('valid_fraction'), 'of the frames answered'),
        ('Latency, median', *latency),
        ('Zoom', zoom, f'trust in K {figures.number("intrinsics.k_trust", ".2f")} of 1'),
        (
            'Path',
            figures.number('path_length_mm', '.0f', _unit(figures)),
            f'{figures.number("epochs")} {epochs}{part}',
        ),
    )
    return ''.join(
        f'<div><dt>{name}</dt><dd>{big}</dd><dd class="aside">{small}</dd></div>'
        for name, big, small in cells
    )


def trust(figures: Figures) -> str:
    """What can be believed, in plain words."""
    focal = (
        f'At the end the focal length is {figures.text("intrinsics.trust_word", "not known")}: '
        'trust '
        f'{figures.number("intrinsics.k_trust", ".2f")} on a scale from 0, a guess, to 1, a '
        'calibration'
    )
    if figures.value('intrinsics.k_sigma') is not None:
        focal += f'; one σ is {figures.percent("intrinsics.k_sigma")}'
    rows = [
        ('Lengths', figures.text('scale.statement')),
        ('Camera', f'{focal}. {_lens(figures)}'),
        (
            'Depth',
            f'Known in {figures.percent("depth.coverage", ".0f")} of the picture (median over '
            'valid frames). '
            'The rest is NaN, shown hatched: nothing is filled in.'
            if figures.value('depth.coverage') is not None
            else 'Not told in any valid frame.',
        ),
        (
            'Path',
            (
                'Errors add up along it, and no loop is closed.'
                if figures.value('path_length_mm') is not None
                else 'Not told in any frame.'
            )
            + ' The step was known in '
            f'{figures.percent("motion_known_fraction", ".0f")} of the frames, with '
            f'{figures.number("inliers_median", ".0f")} tracks that agree (median).',
        ),
    ]
    return ''.join(f'<div><dt>{name}</dt><dd>{words}</dd></div>' for name, words in rows)


def _lens(figures: Figures) -> str:
    """What bends straight lines, and who says so."""
    if figures.value('intrinsics.distortion'):
        return (
            'The lens bends straight lines: c = '
            f'{figures.number("intrinsics.distortion", ".3f")}, one σ '
            f'{figures.number("intrinsics.distortion_sigma", ".3f")} (division model), found from '
            'the motion and undone in every picture but the input.'
        )
    if figures.value('intrinsics.given_distortion'):
        return (
            'The lens bends straight lines as the given calibration says '
            f'({figures.text("intrinsics.given_distortion.model")}), undone in every picture but '
            'the input.'
        )
    if figures.value('intrinsics.camera_model') == 'given':
        return 'Ideal pinhole: the given calibration has no distortion of the lens.'
    return 'Ideal pinhole: the motion told no distortion of the lens.'


def intrinsics(run: Run, evaluation: Evaluation | None) -> str:
    """K over time, with the truth where it is known."""
    if not run.rows:
        return f'<p class="none">{escape(run.why_none)}.</p>'
    seconds = run.seconds
    x = _time_axis(run)
    shaded = charts.spans_of(seconds, ~run.column('valid'))
    sigma, restarts = run.column('k_sigma'), _restarts(run.column('epoch'))
    truth = evaluation.series if evaluation else None
    times = {key.stamp_ns: time for key, time in reversed(run.times.items())}
    truth_seconds = np.array([times[stamp] for stamp in truth.stamps_ns] if truth else [])
    by_stamp = {row.stamp_ns: row.epoch for row in reversed(run.rows)}
    truth_epochs = np.array([by_stamp[stamp] for stamp in truth.stamps_ns] if truth else [], int)

    def values(name: str) -> np.ndarray:
        return np.array([getattr(row.input_camera, name) for row in run.rows])

    def known(*names: str) -> list[charts.Curve]:
        if not truth:
            return []
        return [
            charts.Curve(
                'truth' if name == names[0] else '',
                f'truth {style}',
                truth_seconds,
                _since_restart(truth.zoom, truth_epochs)
                if name == 'zoom'
                else np.array(getattr(truth, name)),
                breaks=_restarts(truth_epochs),
            )
            for name, style in zip(names, ('', 'second'), strict=False)
        ]

    def curve(name: str, style: str, spread: bool = False) -> charts.Curve:
        band = values(name) * sigma if spread and np.isfinite(sigma).any() else None
        return charts.Curve(name, style, seconds, values(name), band, restarts)

    seen, doubt = run.column('zoom'), run.column('zoom_sigma')
    band = seen * doubt if np.isfinite(doubt).any() else None
    zoom = charts.Curve('zoom', 'a', seconds, seen, band, restarts)
    zoom_title = f'Zoom since the start{" of each epoch" if len(restarts) else ""}'
    if not np.isfinite(zoom.y).any():
        zoom_title += ': not seen, no rim of a round picture is in view'
    return ''.join(
        [
            charts.line_chart(
                'Focal lengths, px',
                [curve('fx', 'a', True), curve('fy', 'b'), *known('fx', 'fy')],
                x,
                shaded,
            ),
            charts.line_chart(zoom_title, [zoom, *known('zoom')], x, shaded),
            charts.line_chart(
                'Centre, horizontal, px', [curve('cx', 'a'), *known('cx')], x, shaded
            ),
            charts.line_chart('Centre, vertical, px', [curve('cy', 'a'), *known('cy')], x, shaded),
        ]
    )


def timing(run: Run, figures: Figures) -> str:
    """Where the frames went, when the picture was valid, how long an answer took."""
    parts = [_account(figures)]
    if run.rows:
        parts.append(_validity(run, figures))
        inliers = charts.Curve(
            'tracks',
            'a',
            run.seconds,
            run.column('inliers').astype(float),
            breaks=_restarts(run.column('epoch')),
        )
        x = _time_axis(run)
        shaded = charts.spans_of(run.seconds, ~run.column('valid'))
        pair = charts.line_chart('Tracks that agree with the motion', [inliers], x, shaded)
        latency = latencies_ms(run)
        if len(latency):
            marks = [
                charts.Mark(figures.value(f'latency_ms.{name}'),
                            f'<b>{name}</b> {figures.number(f"latency_ms.{name}", ".1f")}')
                for name in ('p50', 'p95', 'p99')
            ]  # fmt: skip
            title = f'Frames by latency, {figures.text("latency_ms.definition")}'
            pair = charts.histogram(title, latency, 'ms', marks) + pair
        if figures.value('frames.repeated'):
            parts.append(
                f'<p class="note">{figures.number("frames.repeated")} frames bear a stamp that '
                'came before: the clip was looped, or a clock jumped back.</p>'
            )
        if figures.value('latency_ms.definition') == ANOTHER_TIME:
            why = figures.text('latency_ms.definition')
            parts.append(f'<p class="note">Latency was {why}.</p>')
        if figures.value('latency_ms.ahead'):
            parts.append(
                f'<p class="note">{figures.number("latency_ms.ahead")} frames bear stamps ahead '
                "of the recorder's clock: the clocks do not agree, and no latency is right.</p>"
            )
        parts.append(f'<div class="grid two">{pair}</div>')
    return ''.join(parts)


def machine(figures: Figures) -> str:
    """What it ran on, what it cost, what was published."""
    cost = table(
        ['Process', 'CPU per frame sent'],
        [
            (name.capitalize(), figures.number(f'cpu_ms_per_frame.{name}', '.1f', 'ms'))
            for name in ('player', 'node', 'recorder')
        ],
    )
    facts = {
        name.replace('_', ' '): value
        for group in ('machine', 'versions')
        for name, value in figures.summary[group].items()
        if value is not None
    }
    words = ''.join(
        f'<div><dt>{escape(name)}</dt><dd>{_fact(value)}</dd></div>'
        for name, value in facts.items()
    )
    topics = table(
        ['Topic', 'Type', 'Messages'],
        [
            (
                f'<code>{escape(name)}</code>',
                f'<code>{escape(topic["type"])}</code>',
                str(topic['count']),
            )
            for name, topic in figures.summary['topics'].items()
        ],
        style='topics',
    )
    nothing = '<p class="none">Nothing was noted about the machine.</p>'
    return f'<div class="grid two"><dl class="facts">{words or nothing}</dl>{cost}</div>{topics}'


def _account(figures: Figures) -> str:
    """A bar of all frames sent, cut by where they went."""
    out = figures.value('frames.out')
    total = figures.value('frames.sent') or out + sum(
        figures.value(f'frames.{name}') or 0 for name in ('lost_on_wire', 'dropped_by_mailbox')
    )
    parts = [
        ('out', 'answered', 'out'),
        ('dropped_by_mailbox', 'replaced by a newer one', 'dropped'),
        ('lost_on_wire', 'lost before the node', 'lost'),
        ('unanswered', 'without an answer', 'open'),
    ]
    if figures.value('frames.incomplete'):
        parts.append(('incomplete', 'not whole in the bag, and not on this page', 'part'))
    bars = ''.join(
        f'<span class="{style}" style="flex-grow:{figures.value(f"frames.{name}") or 0}"></span>'
        for name, _, style in parts
        if figures.value(f'frames.{name}')
    )
    legend = ''.join(
        f'<li class="{style}"><b>{figures.number(f"frames.{name}")}</b> {words}</li>'
        for name, words, style in parts
    )
    sent = (
        f'{figures.number("frames.sent")} sent'
        if figures.value('frames.sent') is not None
        else 'sent: not known'
    )
    return (
        f'<figure class="account"><figcaption><span>Where the frames went</span><span>{sent}, '
        f'{figures.number("frames.received")} received</span></figcaption>'
        f'<div class="bar">{bars if total else ""}</div><ul>{legend}</ul></figure>'
    )


def _validity(run: Run, figures: Figures) -> str:
    """One cell per frame of the input: valid, not valid; empty where none came out."""
    seconds = run.seconds
    step = 1 / run.facts['rate_hz'] if run.facts.get('rate_hz') else _step(seconds)
    step = max(step, float(seconds[-1]) / MOST_CELLS)
    # from frame to frame: a clock that is a little slower than the rate must leave no cell empty
    places = np.concatenate([[0], np.cumsum((np.diff(seconds) / step).round())]).astype(int)
    slots = [''] * (int(places[-1]) + 1)
    for place, row in zip(places, run.rows, strict=True):
        slots[place] = 'valid' if row.valid else 'invalid'
    reasons = ', '.join(
        f'{escape(name)} {figures.number(f"invalid_reasons.{name}")}'
        for name in figures.summary['invalid_reasons']
    )
    title = f'Validity{": " + reasons if reasons else ""}'
    legend = [('valid', 'valid'), ('invalid', 'not valid'), ('gap', 'nothing came out')]
    return charts.timeline(title, slots, float(seconds[-1]) + step, legend)


def _restarts(epochs: np.ndarray) -> np.ndarray:
    """Places of the frames, of epochs (N,), that another epoch begins with."""
    return np.flatnonzero(np.diff(epochs)) + 1


def _since_restart(zoom: list[float], epochs: np.ndarray) -> np.ndarray:
    """The truth's zoom (N,) as the run tells its own: since the first frame of its epoch."""
    told = np.array(zoom)
    _, first, epoch = np.unique(epochs, return_index=True, return_inverse=True)
    return np.asarray(told / told[first][epoch])


def _time_axis(run: Run) -> charts.Axis:
    return charts.Axis(0.0, float(run.seconds[-1]) or 1.0, 's')


def _step(seconds: np.ndarray) -> float:
    return float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0


def _fact(value: object) -> str:
    if isinstance(value, list | tuple):
        return ' · '.join(_fact(one) for one in value)
    return (
        f'{value:.2f}' if isinstance(value, float) else escape(str(value)) if value != '' else NONE
    )


def _unit(figures: Figures) -> str:
    return 'nominal mm' if figures.value('scale.state') == 'nominal' else 'mm'
