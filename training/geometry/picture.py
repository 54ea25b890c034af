# SPDX-License-Identifier: Apache-2.0
"""Error, stated sigma and bound over time, a panel for each kind of motion, as one SVG file."""

from collections.abc import Sequence
from html import escape

import numpy as np

from training.geometry.films import RATE
from training.geometry.runs import Run
from training.geometry.tables import kind

PANEL_W, PANEL_H, LEFT, TOP, COLUMNS = 268, 176, 46, 60, 4
PLOT_W, PLOT_H = 212, 118
LOWEST, HIGHEST = 5e-4, 1.0  # of the logarithmic axis
TICKS = {1.0: '100 %', 0.1: '10', 0.01: '1', 0.001: '0.1'}
COLOURS = ('#3e7bfa', '#e5484d')  # starts too short and too long
BOUND = '#8b8d98'
STYLE = (
    'text{font:11px system-ui,sans-serif;fill:#60646c}'
    '.t{font-weight:600;fill:#1c2024}.h{font-size:13px}'
    'path{fill:none;stroke-width:1.6;stroke-linejoin:round}'
    '.g{stroke:#e0e1e6;stroke-width:1}.s{stroke-dasharray:5 3;stroke-width:1.2}'
    '.b{stroke-dasharray:1.5 2.5}'
)


def picture(runs: Sequence[Run]) -> str:
    """Of each kind of motion the film whose errors at the end are its kind's median."""
    alone = [one for one in runs if one.start.refinement == 'window' and not one.start.guess]
    panels = []
    for name in dict.fromkeys(kind(one) for one in alone):
        panels.append(_typical([one for one in alone if kind(one) == name]))
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * PANEL_W + 12, TOP + rows * PANEL_H
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><style>{STYLE}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _legend(),
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        parts.append(_panel(panel, column * PANEL_W, TOP + row * PANEL_H))
    return '\n'.join([*parts, '</svg>\n'])


def _typical(runs: Sequence[Run]) -> list[Run]:
    """The runs of the film in the middle, by its mean error at the end."""
    names = list(dict.fromkeys(one.film for one in runs))
    of_film = [[one for one in runs if one.film == name] for name in names]
    ends = [float(np.mean([abs(one.error[-1]) for one in some])) for some in of_film]
    return of_film[int(np.argsort(ends)[(len(ends) - 1) // 2])]


def _legend() -> str:
    entries = [
        (COLOURS[0], '', 'error, begun 40 % too short'),
        (COLOURS[1], '', 'error, begun 40 % too long'),
        (COLOURS[0], 's', 'stated σ (dashed, of either)'),
        (BOUND, 'b', 'the bound’s σ'),
    ]
    parts = ['<text class="t h" x="12" y="20">|error| of log focal length over time [s]</text>']
    x = 12
    for colour, style, words in entries:
        parts.append(f'<path class="{style}" stroke="{colour}" d="M{x} 38h26"/>')
        parts.append(f'<text x="{x + 32}" y="42">{words}</text>')
        x += 52 + 7 * len(words)
    return ''.join(parts)


def _panel(runs: Sequence[Run], left: float, top: float) -> str:
    seconds = (len(runs[0].error) - 1) / RATE
    x0, y0 = left + LEFT, top + 20
    family = runs[0].film.split('_')[1]
    title = escape(f'{kind(runs[0])} ({family})')
    parts = [f'<text class="t" x="{x0}" y="{top + 12}">{title}</text>']
    for value, label in TICKS.items():
        y = y0 + _height(np.array([value]))[0]
        parts.append(f'<path class="g" d="M{x0} {y:.1f}h{PLOT_W}"/>')
        parts.append(f'<text x="{x0 - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for second in range(int(seconds) + 1):
        x = x0 + PLOT_W * second / seconds
        parts.append(f'<text x="{x:.1f}" y="{y0 + PLOT_H + 14}" text-anchor="middle">')
        parts.append(f'{second}</text>')
    frames, sigmas = np.array(runs[0].bound).T
    parts.append(_line(x0, y0, frames / RATE / seconds, sigmas, BOUND, 'b'))
    for run in runs:
        colour = COLOURS[0] if run.start.factor < 1 else COLOURS[1]
        times = np.arange(len(run.error)) / RATE / seconds
        parts.append(_line(x0, y0, times, np.array(run.sigma), colour, 's'))
        parts.append(_line(x0, y0, times, np.abs(run.error), colour, ''))
    return ''.join(parts)


def _height(values: np.ndarray) -> np.ndarray:
    """Distance from the top of the plot."""
    share = np.log(HIGHEST / np.clip(values, LOWEST, HIGHEST)) / np.log(HIGHEST / LOWEST)
    return np.asarray(PLOT_H * share)


def _line(x0: float, y0: float, x: np.ndarray, values: np.ndarray, colour: str, style: str) -> str:
    points = zip(x0 + PLOT_W * x, y0 + _height(values), strict=True)
    d = 'M' + 'L'.join(f'{u:.1f} {v:.1f}' for u, v in points)
    return f'<path class="{style}" stroke="{colour}" d="{d}"/>'
