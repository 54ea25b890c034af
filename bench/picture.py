# SPDX-License-Identifier: Apache-2.0
"""One picture of a bench: CPU time of a frame, live and of the depth alone; shorter is better."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

WIDTH, ROW, LEFT, RIGHT = 1100, 34, 380, 150
INK, OURS, THEIRS, PAPER = (40, 40, 40), (150, 110, 30), (150, 150, 150), (255, 255, 255)  # BGR
FONT = cv2.FONT_HERSHEY_SIMPLEX

Bar = tuple[str, float, str, bool]  # words, CPU-ms, words behind, whether it is ours


def draw(found: dict[str, Any], out: Path) -> None:
    """
    Draw a bench's figures.

    :param found: what `python -m bench` writes as JSON.
    :param out: the .png.
    """
    charts = [('Live, CPU of the node, ms an answered frame', live_bars(found['live']))]
    charts.append(('Depth alone, CPU ms a picture', engine_bars(found['engines'])))
    here = found['machine']
    pages = [_chart(title, bars) for title, bars in charts]
    foot = np.full((ROW, WIDTH, 3), 255, np.uint8)
    _write(foot, f'{here["cpu"]}, {here["cores"]} cores, load {here["load"]:.1f}', 12, 22)
    if not cv2.imwrite(str(out), np.concatenate([*pages, foot])):
        raise OSError(f'{out}: can not be written')


def live_bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """A bar for each live run that answered."""
    bars = []
    for row in rows:
        if not row['answered']:
            continue
        case, ours = row['case'], row['case']['node'] != 'plain'
        name = f'{case["model"]} ({case["engine"]})' if ours else 'plain node (torch)'
        said = f'{row["cpu_ms"]:.0f}, {row["rate_hz"]:.0f} Hz'
        bars.append((f'{name} {case["size"]}{case["rate"]:g}', row['cpu_ms'], said, ours))
    return bars


def engine_bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """A bar for each runtime that is here."""
    return [
        (f'{row["bundle"]}: {row["way"]}', row['cpu'], f'{row["cpu"]:.1f}', 'torch' not in row['way'])  # noqa: E501
        for row in rows
        if 'missing' not in row
    ]  # fmt: skip


def _chart(title: str, bars: list[Bar]) -> np.ndarray:
    page = np.full((ROW * (len(bars) + 2), WIDTH, 3), 255, np.uint8)
    _write(page, title, 12, 24, 0.65)
    longest = max((value for _, value, _, _ in bars), default=1.0)
    for i, (words, value, behind, ours) in enumerate(bars, 1):
        top = ROW * i + 8
        right = LEFT + round((WIDTH - LEFT - RIGHT) * value / longest)
        cv2.rectangle(page, (LEFT, top), (right, top + ROW - 12), OURS if ours else THEIRS, -1)
        _write(page, words, 12, top + 17)
        _write(page, behind, right + 8, top + 17)
    return page


def _write(page: np.ndarray, text: str, x: int, y: int, size: float = 0.5) -> None:
    cv2.putText(page, text, (x, y), FONT, size, INK, 1, cv2.LINE_AA)
