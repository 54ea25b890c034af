# SPDX-License-Identifier: Apache-2.0
"""
Curves, histograms and strips as inline SVG that stretches, with labels in HTML that keep their
size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

BOX = 1000.0
MOST_POINTS = 900


@dataclass(frozen=True)
class Axis:
    """
    What an axis spans.

    :param low: at the left or bottom end.
    :param high: at the other end.
    :param unit: written after the last label; '' for plain numbers.
    """

    low: float
    high: float
    unit: str = ''

    def position(self, values: np.ndarray | float) -> np.ndarray:
        """Where values lie, 0 to 1."""
        return (np.asarray(values, dtype=float) - self.low) / (self.high - self.low)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values within the axis, about as many as wanted."""
        rough = (self.high - self.low) / wanted
        power = 10.0 ** np.floor(np.log10(rough))
        step = power * min(
            (digit for digit in (1, 2, 5, 10) if digit * power >= rough), default=10
        )
        first = int(np.ceil(self.low / step - 1e-9))
        return [
            number * step for number in range(first, int(np.floor(self.high / step + 1e-9)) + 1)
        ]


@dataclass(frozen=True)
class Curve:
    """
    One line of a chart.

    :param name: in the legend.
    :param style: CSS class: a, b (the run's), truth.
    :param x: (N,).
    :param y: (N,); NaN breaks the line.
    :param spread: (N,) half width of a band; None without.
    :param breaks: places where the line begins anew, whatever lies between.
    """

    name: str
    style: str
    x: np.ndarray
    y: np.ndarray
    spread: np.ndarray | None = None
    breaks: np.ndarray | None = None


@dataclass(frozen=True)
class Mark:
    """
    A labelled vertical line.

    :param x: where.
    :param label: HTML.
    """

    x: float
    label: str


@dataclass(frozen=True)
class Plot:
    """
    A frame with two axes; what is drawn in it comes as SVG of a BOX x BOX picture.

    :param title: of the figure, HTML.
    :param x: horizontal axis.
    :param y: vertical axis.
    :param shaded: spans of x in which the run said nothing.
    :param marks: vertical lines.
    :param legend: (CSS class, name) of each line.
    :param height: CSS height of the frame.
    """

    title: str
    x: Axis
    y: Axis
    shaded: Sequence[tuple[float, float]] = ()
    marks: Sequence[Mark] = ()
    legend: Sequence[tuple[str, str]] = field(default=())
    height: str = '11.5rem'

    def html(self, drawing: str) -> str:
        """The whole figure."""
        x_ticks, y_ticks = self.x.ticks(6), self.y.ticks(4)
        spans = ''.join(
            f'<rect class="shade" x="{_box(self.x, low):.1f}" y="0" width="'
            f'{max(_box(self.x, high) - _box(self.x, low), 1):.1f}" height="{BOX:.0f}"/>'
            for low, high in self.shaded
        )
        grid = ''.join(
            f'<path class="grid" d="M0 {BOX - _box(self.y, tick):.1f}H{BOX:.0f}"/>'
            for tick in y_ticks
        )
        lines = ''.join(
            f'<path class="mark" d="M{_box(self.x, mark.x):.1f} 0V{BOX:.0f}"/>'
            for mark in self.marks
        )
        labels = ''.join(_label('y', self.y, tick, y_ticks) for tick in y_ticks)
        labels += ''.join(_label('x', self.x, tick, x_ticks) for tick in x_ticks)
        labels += ''.join(
            _mark_label(number, float(self.x.position(mark.x)), mark.label)
            for number, mark in enumerate(self.marks)
        )
        keys = ''.join(
            f'<span class="key {style}">{escape(name)}</span>' for style, name in self.legend
        )
        return _figure(
            'chart', self.title, keys, self.height, f'{spans}{grid}{drawing}{lines}', labels
        )


def line_chart(
    title: str, curves: Sequence[Curve], x: Axis, shaded: Sequence[tuple[float, float]] = ()
) -> str:
    """Curves over time."""
    y = Axis(*_span(curves))
    drawing = ''.join(
        _band(curve, curve.spread, x, y) for curve in curves if curve.spread is not None
    )
    drawing += ''.join(_line(curve, x, y) for curve in curves)
    legend = [(curve.style, curve.name) for curve in curves] if len(curves) > 1 else []
    if any(curve.spread is not None for curve in curves):
        legend.append(('sigma', '±1 σ'))
    return Plot(title, x, y, shaded, legend=legend).html(drawing)


def histogram(title: str, values: np.ndarray, unit: str, marks: Sequence[Mark]) -> str:
    """How often values occur; a few extreme ones gather in the last bar."""
    ordinary = float(np.percentile(values, 99.5))
    low, high = float(values.min()), max(ordinary, *(mark.x for mark in marks))
    margin = max((high - low) * 0.04, 0.5)
    x = Axis(min(low, max(0.0, low - margin)), high + margin, unit)
    bins = min(48, max(8, len(values) // 5))
    counts, edges = np.histogram(np.clip(values, x.low, x.high), bins, (x.low, x.high))
    y = Axis(0.0, max(counts.max() * 1.28, 4.0))  # whole numbers, of few values, too
    left = x.position(edges) * BOX
    drawing = ''.join(
        f'<rect class="bar" x="{left[place] + 0.8:.1f}" y="{BOX - _box(y, count):.1f}"'
        f' width="{left[place + 1] - left[place] - 1.6:.1f}" height="{_box(y, count):.1f}"/>'
        for place, count in enumerate(counts)
        if count
    )
    return Plot(title, x, y, marks=marks).html(drawing)


def timeline(
    title: str, slots: Sequence[str], seconds: float, legend: Sequence[tuple[str, str]]
) -> str:
    """
    A strip with one cell per frame.

    :param slots: CSS class of each frame; '' where nothing came out.
    :param seconds: the strip's length in time [s].
    :param legend: (CSS class, name).
    """
    x = Axis(0.0, max(seconds, 1e-3), 's')
    cells, start = [], 0
    for place in range(1, len(slots) + 1):
        if place == len(slots) or slots[place] != slots[start]:
            if slots[start]:
                left, right = (edge / len(slots) * BOX for edge in (start, place))
                cells.append(
                    f'<rect class="{slots[start]}" x="{left:.2f}" y="0"'
                    f' width="{right - left:.2f}" height="{BOX:.0f}"/>'
                )
            start = place
    ticks = x.ticks(6)
    labels = ''.join(_label('x', x, tick, ticks) for tick in ticks)
    keys = ''.join(
        f'<span class="key cell {style}">{escape(name)}</span>' for style, name in legend
    )
    return _figure('chart strip', title, keys, '1.9rem', ''.join(cells), labels)


def spans_of(x: np.ndarray, flags: np.ndarray) -> list[tuple[float, float]]:
    """Stretches of x over which flags hold, each half a step wider."""
    if not len(x):
        return []
    half = float(np.median(np.diff(x))) / 2 if len(x) > 1 else 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [(float(x[a]) - half, float(x[b - 1]) + half) for a, b in edges.reshape(-1, 2)]


def _figure(style: str, title: str, keys: str, height: str, drawing: str, labels: str) -> str:
    """A drawing that stretches, below its title and legend; labels lie on it, placed by shares."""
    return (
        f'<figure class="{style}"><figcaption><span>{title}</span>'
        f'<span class="keys">{keys}</span></figcaption><div class="plot" style="height:{height}">'
        f'<svg viewBox="0 0 {BOX:.0f} {BOX:.0f}" preserveAspectRatio="none" aria-hidden="true">'
        f'{drawing}</svg>{labels}</div></figure>'
    )


def _span(curves: Sequence[Curve]) -> tuple[float, float]:
    """An axis that holds the curves and, up to 60 % of a value, their bands."""
    edges = [curve.y for curve in curves]
    for curve in curves:
        if curve.spread is not None:
            spread = np.minimum(curve.spread, 0.6 * np.abs(curve.y))
            edges += [curve.y - spread, curve.y + spread]
    values = np.concatenate([*edges, np.empty(0)])
    values = values[np.isfinite(values)]
    if not values.any():  # nothing is known, or all of it is zero
        return -0.1, 1.0
    low, high = float(values.min()), float(values.max())
    half = max((high - low) * 0.55, 0.01 * max(abs(low), abs(high)))
    return (low + high) / 2 - half, (low + high) / 2 + half


def _pieces(curve: Curve, known: np.ndarray) -> list[np.ndarray]:
    """
    Places of each unbroken stretch that is known, all together about MOST_POINTS; the ends of
    each are kept, so that a gap stays as wide as it is.

    :param known: (N,) bool.
    """
    edges = np.flatnonzero(np.diff(known)) + 1
    if curve.breaks is not None:
        edges = np.union1d(edges, curve.breaks)
    stretches = np.split(np.arange(len(known)), edges)
    step = max(1, -(-len(known) // MOST_POINTS))
    return [
        np.union1d(places[::step], places[-1:])
        for places in stretches
        if len(places) and known[places[0]]
    ]


def _line(curve: Curve, x: Axis, y: Axis) -> str:
    """SVG paths; what is not known lifts the pen, and one value alone is a dot."""
    us, vs = x.position(curve.x) * BOX, BOX - y.position(curve.y) * BOX
    lines = dots = ''
    for places in _pieces(curve, np.isfinite(curve.y)):
        points = [f'{u:.1f} {v:.1f}' for u, v in zip(us[places], vs[places], strict=True)]
        if len(points) > 1:
            lines += f'M{"L".join(points)}'
        else:
            dots += f'M{points[0]}h0'
    line = f'<path class="line {curve.style}" d="{lines}"/>'
    return line + (f'<path class="line dot {curve.style}" d="{dots}"/>' if dots else '')


def _band(curve: Curve, spread: np.ndarray, x: Axis, y: Axis) -> str:
    """The area within one spread of a curve."""
    us = x.position(curve.x) * BOX
    high, low = (
        np.clip(BOX - y.position(curve.y + sign * spread) * BOX, 0, BOX) for sign in (1, -1)
    )
    areas = ''
    for places in _pieces(curve, np.isfinite(curve.y) & np.isfinite(spread)):
        there, back = (
            'L'.join(f'{us[place]:.1f} {edge[place]:.1f}' for place in way)
            for way, edge in ((places, high), (places[::-1], low))
        )
        areas += f'M{there}L{back}Z'
    return f'<path class="band {curve.style}" d="{areas}"/>' if areas else ''


def _box(axis: Axis, value: float) -> float:
    return float(axis.position(value) * BOX)


def _mark_label(number: int, place: float, label: str) -> str:
    """Beside its line (a share of the width), on the side that has room."""
    side = ' before' if place > 0.6 else ''
    return f'<span class="m m{number}{side}" style="left:{place * 100:.2f}%">{label}</span>'


def _label(side: str, axis: Axis, tick: float, ticks: Sequence[float]) -> str:
    """A tick's label; the last one bears the unit."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else max(abs(tick), 1.0)
    digits = max(0, int(np.ceil(-np.log10(step) - 1e-9)))
    text = f'{tick + 0.0:.{digits}f}'.replace('-', '−')
    unit = f' <i>{escape(axis.unit)}</i>' if axis.unit and tick == ticks[-1] else ''
    place = axis.position(tick) * 100
    style = 'x end' if side == 'x' and place > 97 else side
    edge = 'bottom' if side == 'y' else 'left'
    return f'<span class="{style}" style="{edge}:{place:.2f}%">{text}{unit}</span>'
