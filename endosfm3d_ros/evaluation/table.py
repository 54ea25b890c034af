# SPDX-License-Identifier: Apache-2.0
"""An evaluation as text for a terminal, lazy answers beside every error."""

from collections.abc import Sequence
from typing import Any

from endosfm3d_ros.evaluation.compare import Evaluation
from endosfm3d_ros.evaluation.truth import Placed

WIDTH = 30


def table_of(one: Evaluation) -> str:
    """Everything a person wants to see of one run."""
    lines = [
        f'  {one.matched} frames met their truth by {one.matched_by}; {_unmatched(one)} did not. '
        f'Protocol {one.protocol}.',
        *_topics(one),
        *_depth(one),
        *_path(one),
        *_camera(one),
    ]
    return '\n'.join(lines)


def videos_table(found: dict[str, dict[str, Any]]) -> str:
    """Means over frames and videos, 95 % intervals over videos."""
    lines = ['all videos' + ' ' * (WIDTH - 8) + f'{"per frame":>28}{"per video":>28}']
    for name, parts in found.items():
        lines.append(
            f'  {name:<{WIDTH}}'
            + ''.join(f'{_interval(parts[way]):>28}' for way in ('per_frame', 'per_video'))
        )
    return '\n'.join(lines)


def placed_text(placed: Placed) -> str:
    """How the poses and depth images of a bag's truth came to the pictures, in words."""
    gap, step = placed.longest_gap_ms, placed.usual_step_ms
    poses = f'interpolated over up to {gap:.3g} ms' if gap else 'of the very stamps'
    text = f'poses {poses}; a frame is {step:.3g} ms'
    if placed.depth_images:
        text += f'; {placed.depth_met} of {placed.depth_images} depth images are of a picture'
    if placed.depth_off_ms:
        text += f', up to {placed.depth_off_ms:.2g} ms off it'
    return text


def _unmatched(one: Evaluation) -> str:
    if one.truth_unmatched is None:
        return f'{one.unmatched} of the run'
    return f'{one.unmatched} of the run and {one.truth_unmatched} of the truth'


def _topics(one: Evaluation) -> list[str]:
    named = ', '.join(f'{role} {topic}' for role, topic in one.truth_topics.items())
    placed = [f'  {placed_text(one.truth_placed)}'] if one.truth_placed else []
    return [f'  truth: {named}', *placed] if named else placed


def _depth(one: Evaluation) -> list[str]:
    if one.depth is None:
        images = one.truth_placed.depth_images if one.truth_placed else 0
        rule = f' (none of {images} lies within 10 ms of a picture)' if images else ''
        return [f'  depth: no depth image met a depth truth{rule}{_silent(one)}']
    names = ('abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'delta1', 'delta2', 'delta3')
    rows = {
        'this run': one.depth,
        'this run, not scaled': one.depth_unscaled,
        'a flat wall': one.depth_constant,
        _light(one): one.depth_light,
    }
    interval = _interval(vars(one.intervals['abs_rel']))
    return [
        *_rows(f'depth, {one.depth.frames} images, median-scaled', names, rows),
        f'  abs_rel {interval}; scale {one.depth.scale:.4g}, wavering by '
        f'{100 * one.depth.scale_spread:.2g} %; speaks about {100 * one.depth.coverage:.0f} % of '
        f'the pixels with truth{_silent(one)}',
    ]


def _light(one: Evaluation) -> str:
    """With its own count, where pictures are missing that it would need."""
    if one.depth is None or one.depth_light is None or one.depth_light.frames == one.depth.frames:
        return 'light falloff'
    return f'light falloff, {one.depth_light.frames} images'


def _silent(one: Evaluation) -> str:
    return f'; {one.depth_silent} images say nothing' if one.depth_silent else ''


def _path(one: Evaluation) -> list[str]:
    if one.trajectory is None:
        return ['  path: fewer than three places met their truth']
    names = (
        'ate_sim3', 'ate_se3', 'rpe_translation', 'rpe_rotation', 'snippet_ate', 'snippet_rmse'
    )  # fmt: skip
    rows = {
        'this run': one.trajectory,
        'never moves': one.trajectory_still,
        'straight ahead': one.trajectory_forward,
    }
    return [
        *_rows(f'path, {one.trajectory.frames} cameras [mm, deg]', names, rows),
        "  snippet_ate: the field's sqrt(sum)/5 over 5 frames; snippet_rmse: sqrt(sum/5)",
    ]


def _camera(one: Evaluation) -> list[str]:
    names = ('fx', 'fy', 'cx', 'cy', 'focal_bias', 'focal_worst', 'zoom', 'zoom_lag')
    rows = {
        'this run': one.intrinsics,
        'its first K, held': one.intrinsics_first_held,
        'true first K, held': one.intrinsics_calibrated_once,
    }
    return _rows('camera, relative, never rescaled', names, rows)


def _rows(title: str, names: Sequence[str], rows: dict[str, Any]) -> list[str]:
    lines = [f'  {title:<{WIDTH + 6}}' + ''.join(f'{name:>16}' for name in names)]
    for label, errors in rows.items():
        values = [getattr(errors, name, None) for name in names]
        shown = ('-' if value is None else f'{value:.4f}' for value in values)
        lines.append(f'    {label:<{WIDTH + 4}}' + ''.join(f'{text:>16}' for text in shown))
    return lines


def _interval(parts: dict[str, Any]) -> str:
    if parts['low'] is None:
        return f'{parts["mean"]:.4f} (one only)'
    return f'{parts["mean"]:.4f} [{parts["low"]:.4f}, {parts["high"]:.4f}]'
