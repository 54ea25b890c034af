# SPDX-License-Identifier: Apache-2.0
"""
The node at 30 Hz for half an hour: does its memory grow, does it become slower.

    python -m bench soak --minutes 30
"""

from dataclasses import replace
from typing import Any

import numpy as np

from bench.live import Case, measure

SAMPLE_S = 5.0
SETTLED_MIN = 5.0  # memory is looked at after so long, and latency at both ends for so long


def soak(case: Case, minutes: float) -> dict[str, Any]:
    """
    Run the node and watch it.

    :param minutes: how long; a run of less than four times SETTLED_MIN uses a quarter of itself.
    :return: the figures of `live.measure`; the slope of resident memory [MB/min] after the first
        part, all of it and without files and what DDS shares; p50 of latency of the last part
        over that of the first, and the same of CPU time a frame, which tells a slower machine
        from a slower node; and what was seen of the `process` [s, MB, MB, CPU-ms].
    """
    row = measure(replace(case, seconds=minutes * 60), sample_s=SAMPLE_S)
    part_s = min(SETTLED_MIN, minutes / 4) * 60
    at, memory, own, cpu_ms = np.array(row['process']).T
    settled = at >= part_s
    for name, values in (('slope_mb_per_min', memory), ('own_slope_mb_per_min', own)):
        row[name] = float(np.polyfit(at[settled] / 60, values[settled], 1)[0])
    came, age = np.array(row.pop('ages')).T  # s since the start, ms
    for name, begin, end in (('first', 0.0, part_s), ('last', at[-1] - part_s, at[-1])):
        part = (came >= begin) & (came < end)
        used = np.interp(end, at, cpu_ms) - np.interp(begin, at, cpu_ms)
        row[f'p50_{name}_ms'] = float(np.median(age[part]))
        row[f'cpu_{name}_ms'] = float(used / part.sum())
    row['p50_ratio'] = row['p50_last_ms'] / row['p50_first_ms']
    row['cpu_ratio'] = row['cpu_last_ms'] / row['cpu_first_ms']
    row['minutes'], row['part_min'] = minutes, part_s / 60
    return row


def as_text(row: dict[str, Any]) -> str:
    """What a person wants to know."""
    return (
        f'{row["minutes"]:g} minutes at {row["case"]["rate"]:g} Hz ({row["case"]["size"]}): '
        f'{row["answered"]} of {row["sent"]} answered, load {row["load"]:.1f}\n'
        f'resident memory {row["rss_mb"]:.0f} MB, slope after minute {row["part_min"]:g}: '
        f'{row["slope_mb_per_min"]:+.3f} MB/min, without files and shared memory '
        f'{row["own_slope_mb_per_min"]:+.3f}\n'
        f'p50 of the last {row["part_min"]:g} minutes over the first: '
        f'{row["p50_last_ms"]:.1f} / {row["p50_first_ms"]:.1f} ms = {row["p50_ratio"]:.2f}\n'
        f'CPU {row["cpu_ms"]:.1f} ms an answered frame, the same parts '
        f'{row["cpu_last_ms"]:.1f} / {row["cpu_first_ms"]:.1f} = {row["cpu_ratio"]:.2f}'
    )
