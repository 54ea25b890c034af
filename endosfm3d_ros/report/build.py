# SPDX-License-Identifier: Apache-2.0
"""Puts the page together: one file, no network, nothing outside of it."""

import json
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from endosfm3d_ros.evaluation.compare import Evaluation
from endosfm3d_ros.report import error_tables, sections
from endosfm3d_ros.report import pictures as shown
from endosfm3d_ros.report.figures import Figures
from endosfm3d_ros.report.run import Moment, Run, choose_moments
from endosfm3d_ros.report.summary import summarise

MOST_PATH_POINTS = 1500
VIEWS_ON_PATH = 7


def build_report(
    run: Run, out: Path, *, pictures: bool = True, evaluation: Evaluation | None = None
) -> None:
    """
    Write the page a person looks at after a run.

    :param run: what the bag tells.
    :param out: the page, one .html file.
    :param pictures: False leaves out every picture, depth image and cloud: what could show a
        patient.
    :param evaluation: errors against truth, where there is any.
    """
    figures = Figures(summarise(run, evaluation))
    moments = run.moments(choose_moments(run)) if pictures else []
    unit = run.rows[-1].unit if run.rows else ''
    path = _path(run, evaluation, unit)
    parts = {
        'title': figures.text('clip', 'A run'),
        'subtitle': sections.subtitle(figures),
        'keys': sections.key_figures(figures),
        'trust': sections.trust(figures),
        'pictures': _pictures(run, moments, pictures),
        'views': _views(moments, run, path, unit if evaluation is None else None),
        'intrinsics': sections.intrinsics(run, evaluation),
        'errors': _section('Against the truth', error_tables.errors(figures, evaluation)),
        'timing': sections.timing(run, figures),
        'machine': sections.machine(figures),
        'style': _asset('page.css'),
        'script': _asset('page.js'),
        'data': _script_data({'clouds': [shown.cloud(one) for one in moments],
                              'path': path}),
    }  # fmt: skip
    out.write_text(Template(_asset('page.html')).substitute(parts), encoding='utf-8')


def _asset(name: str) -> str:
    return (resources.files('endosfm3d_ros.report') / name).read_text(encoding='utf-8')


def _script_data(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c')


def _section(title: str, body: str) -> str:
    return f'<section><h2>{title}</h2>{body}</section>' if body else ''


def _pictures(run: Run, moments: list[Moment], wanted: bool) -> str:
    """The contact sheet: a column for each moment; picture, depth, confidence."""
    if not wanted:
        return _section(
            'Pictures',
            '<p class="none">Left out on request: this page shows nothing of the patient.</p>',
        )
    if not moments:
        return _section('Pictures', f'<p class="none">{_why_nothing(run)}</p>')
    units = sorted({one.row.unit for one in moments})
    spans = {
        unit: shown.depth_range([one for one in moments if one.row.unit == unit]) for unit in units
    }
    times = run.times
    columns = ''.join(
        _column(number, moment, f'{times[moment.row.key]:.1f} s', spans[moment.row.unit])
        for number, moment in enumerate(moments)
    )
    note = '<p class="hint">Any picture opens larger; moving over it reads its depth.</p>'
    return _section(
        'Picture, depth and confidence',
        f'<div class="sheet">{columns}</div>{_colour_bars(spans)}{note}',
    )


def _why_nothing(run: Run) -> str:
    """Why there is no picture to show."""
    if not run.rows:
        return f'{escape(run.why_none)}: there is nothing to show.'
    if all(np.isnan(row.coverage) for row in run.rows):
        return 'The depth of every frame was withheld, for want of a scale: nothing to show.'
    return 'No frame was recorded with picture, depth and confidence: there is nothing to show.'


def _column(number: int, moment: Moment, time: str, span: shown.DepthRange | None) -> str:
    """One moment."""
    size = height, width = shown.shown_size(moment)
    addresses = (
        ('Picture', shown.photograph(moment.image, size)),
        ('Depth', shown.depth_picture(moment.depth, span, size)),
        ('Confidence', shown.confidence_picture(moment.confidence, moment.depth, size)),
    )
    images = ''.join(
        f'<img src="{address}" alt="{name} at {time}" width="{width}" height="{height}">'
        for name, address in addresses
    )
    reason = (
        ''
        if moment.row.valid
        else f'<span class="reason">{escape(moment.row.reason or "not valid")}</span>'
    )
    return (
        f'<figure class="moment" data-moment="{number}"><button type="button" '
        f'aria-label="Enlarge the moment at {time}">'
        f'{images}</button><figcaption><span>{time}</span>{reason}</figcaption></figure>'
    )


def _colour_bars(spans: dict[str, shown.DepthRange | None]) -> str:
    """What the colours mean; depths in another unit have a bar of their own."""
    ends = ''.join(
        f'<span style="left:{share * 100:g}%">{share:g}</span>' for share in (0, 0.5, 1)
    )
    depth = ''
    for unit, span in spans.items():
        if span:
            ticks = ''.join(
                f'<span style="left:{span.position(tick) * 100:.2f}%">{tick:g}</span>'
                for tick in span.ticks()
            )
            depth += _colour_bar(f'Depth, {unit}', shown.TURBO, ticks)
    confidence = _colour_bar('Confidence', shown.CONFIDENCE, ends, 'ends')
    nothing = '<div class="nothing"><b>Not known</b><i></i></div>'
    return f'<div class="bars">{depth}{confidence}{nothing}</div>'


def _colour_bar(title: str, colours: np.ndarray, ticks: str, style: str = '') -> str:
    stops = ','.join(f'rgb({r} {g} {b})' for r, g, b in colours[:: len(colours) // 24])
    return (
        f'<div class="{" ".join(["colours", style]).strip()}"><b>{title}</b><div><i '
        f'style="background:linear-gradient(90deg,{stops})"></i>'
        f'{ticks}</div></div>'
    )


def _views(moments: list[Moment], run: Run, path: dict[str, Any], unit: str | None) -> str:
    """The two views that turn; unit: of the path, None where it is aligned to the truth."""
    parts = []
    if moments:
        times = run.times
        choices = ''.join(
            f'<button type="button" data-moment="{number}">{times[one.row.key]:.1f} s</button>'
            for number, one in enumerate(moments)
        )
        parts.append(
            '<figure class="view" id="cloud"><figcaption><span>Points in the colours of the '
            'picture</span></figcaption>'
            '<canvas tabindex="0" role="img" aria-label="Point cloud; drag or use the arrow '
            'keys to turn it"></canvas>'
            f'<div class="choices">{choices}</div></figure>'
        )
    if path:
        aligned = unit is None
        keys = '<span class="key a">this run</span>' + (
            '<span class="key truth">truth</span>' if aligned else ''
        )
        words = 'mm, the run aligned to the truth by a Sim(3)' if aligned else unit
        parts.append(
            f'<figure class="view" id="path"><figcaption><span>Path of the camera, {words}</span>'
            f'<span class="keys">{keys}</span></figcaption>'
            '<canvas tabindex="0" role="img" aria-label="Path of the camera; drag or use the '
            'arrow keys to turn it"></canvas>'
            '<p class="hint">x ahead at the first frame, y left, z up. Drag to turn, pinch or '
            'ctrl + wheel to come closer.</p>'
            '</figure>'
        )
    return _section(
        'In space', f'<div class="grid two views">{"".join(parts)}</div>' if parts else ''
    )


def _path(run: Run, evaluation: Evaluation | None, unit: str) -> dict[str, Any]:
    """
    Positions and some views at the last scale, in odom's axes [mm]; with truth, run and truth in
    the truth's millimetres.
    """
    rows = [row for row, is_kept in zip(run.rows, run.last_scale, strict=True) if is_kept]
    rows = [row for row in rows if np.isfinite(row.T_odom_cam).all()]
    if len(run.rows) < 2 or not rows or (evaluation and not evaluation.series.path):
        return {}
    positions = np.array([row.T_odom_cam[:3, 3] for row in rows])
    truth = np.empty((0, 3))
    if evaluation:
        turn, by_stamp = (
            np.array(evaluation.series.path_rotation),
            {row.stamp_ns: row for row in reversed(run.rows)},
        )
        rows = [by_stamp[stamp] for stamp in evaluation.series.path_stamps_ns]
        positions, truth = (
            np.array(path) @ turn.T
            for path in (evaluation.series.path, evaluation.series.path_true)
        )
    epochs = np.array([row.epoch for row in rows])
    step = -(-len(rows) // MOST_PATH_POINTS)
    chosen = np.unique(np.linspace(0, len(rows) - 1, VIEWS_ON_PATH).round().astype(int))
    camera = rows[-1].camera
    return {
        'unit': 'mm' if evaluation else unit,
        'run': [_thinned(positions[epochs == epoch], step) for epoch in np.unique(epochs)],
        'truth': _thinned(truth, step),
        'views': [
            {
                'at': positions[place].round(3).tolist(),
                'R': rows[place].T_odom_cam[:3, :3].round(4).tolist(),
            }
            for place in chosen
        ],
        'slope': [camera.width / 2 / camera.fx, camera.height / 2 / camera.fy],
    }


def _thinned(points: np.ndarray, step: int) -> list[list[float]]:
    """Every so many points (N, 3), and always the last one, rounded."""
    kept = np.union1d(np.arange(0, len(points), step), np.arange(len(points))[-1:])
    rounded: list[list[float]] = points[kept].round(3).tolist()
    return rounded
