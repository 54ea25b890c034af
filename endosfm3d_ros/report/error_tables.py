# SPDX-License-Identifier: Apache-2.0
"""The section of the page that lays the run's errors beside those of lazy answers."""

from html import escape

from endosfm3d_ros.evaluation.compare import Evaluation
from endosfm3d_ros.evaluation.table import placed_text
from endosfm3d_ros.report.figures import Figures, table


def errors(figures: Figures, evaluation: Evaluation | None) -> str:
    """Tables of errors, lazy answers beside them; '' without truth."""
    if not evaluation:
        return ''
    return ''.join(
        [
            f'<p class="lead">{figures.number("evaluation.matched")} frames met their truth, '
            f'{figures.number("evaluation.unmatched")} did not. Beside every error stands what '
            'an answer without '
            f'any thought would score on the same frames and pixels.{_topics(evaluation)}</p>',
            _depth_table(figures, evaluation),
            _path_table(figures, evaluation),
            _camera_table(figures),
        ]
    )


def _topics(evaluation: Evaluation) -> str:
    """Where the truth was read from, if from a bag."""
    named = (
        f'{role} <code>{escape(name)}</code>' for role, name in evaluation.truth_topics.items()
    )
    text = f' The truth: {", ".join(named)}.' if evaluation.truth_topics else ''
    if evaluation.truth_placed:
        text += f' Of it, {placed_text(evaluation.truth_placed)}.'
    return text


def _depth_table(figures: Figures, evaluation: Evaluation) -> str:
    silent = ''
    if evaluation.depth_silent:
        silent = f' {evaluation.depth_silent} depth images say nothing where the truth does.'
    if not evaluation.depth:
        return f'<p class="none">No depth image met a depth truth.{silent}</p>'
    columns = (
        ('abs_rel', '.3f'),
        ('sq_rel', '.2f'),
        ('rmse', '.2f'),
        ('rmse_log', '.3f'),
        ('delta1', '.3f'),
        ('delta2', '.3f'),
        ('delta3', '.3f'),
    )
    groups = [('This run', 'depth'), ('A flat wall', 'depth_constant')]
    if evaluation.depth_light:
        light = 'Light falloff'
        if evaluation.depth_light.frames != evaluation.depth.frames:
            light += f', {figures.number("evaluation.depth_light.frames")} images'
        groups.append((light, 'depth_light'))
    rows = [
        (name, *(figures.number(f'evaluation.{group}.{column}', form) for column, form in columns))
        for name, group in groups
    ]
    head = [
        '',
        'abs rel',
        'sq rel, mm',
        'RMSE, mm',
        'RMSE log',
        'δ &lt; 1.25',
        'δ &lt; 1.25²',
        'δ &lt; 1.25³',
    ]
    note = (
        f'{figures.number("evaluation.depth.frames")} depth images, each scaled by the ratio of '
        'medians as the field does; '
        f'that ratio is {figures.number("evaluation.depth.scale", ".3f")} and wavers by '
        f'{figures.percent("evaluation.depth.scale_spread")} (σ of its log). The run speaks about '
        f'{figures.percent("evaluation.depth.coverage", ".0f")} of the pixels with truth.{silent}'
    )
    return table(head, rows, f'<b>Depth</b> {note}', 'errors')


def _path_table(figures: Figures, evaluation: Evaluation) -> str:
    if not evaluation.trajectory:
        return '<p class="none">Fewer than three places met their truth: no path to compare.</p>'
    columns = (
        ('ate_sim3', '.2f'),
        ('ate_se3', '.2f'),
        ('rpe_translation', '.3f'),
        ('rpe_rotation', '.3f'),
        ('snippet_ate', '.4f'),
    )
    groups = (
        ('This run', 'trajectory'),
        ('Never moves', 'trajectory_still'),
        ('Straight ahead', 'trajectory_forward'),
    )
    rows = [
        (name, *(figures.number(f'evaluation.{group}.{column}', form) for column, form in columns))
        for name, group in groups
    ]
    head = [
        '',
        'ATE Sim(3), mm',
        'ATE SE(3), mm',
        'RPE, mm/frame',
        'RPE, °/frame',
        'ATE of 5-frame snippets, mm',
    ]
    note = (
        f'{figures.number("evaluation.trajectory.frames")} cameras of the longest epoch. One '
        'millimetre of this run is '
        f'{figures.number("evaluation.trajectory.scale", ".3f")} true ones, by the Sim(3).'
    )
    return table(head, rows, f'<b>Path</b> {note}', 'errors')


def _camera_table(figures: Figures) -> str:
    groups = (
        ('This run', 'intrinsics'),
        ('Its first K, held', 'intrinsics_first_held'),
        ('True first K, held', 'intrinsics_calibrated_once'),
    )
    rows = [
        (
            name,
            *(
                figures.number(f'evaluation.{group}.{column}', '.2f', factor=100.0)
                for column in ('fx', 'fy', 'cx', 'cy', 'zoom')
            ),
            figures.number(f'evaluation.{group}.zoom_correlation', '.3f'),
            figures.number(f'evaluation.{group}.zoom_lag', '.0f', factor=1000.0),
        )
        for name, group in groups
    ]
    head = [
        '',
        'fx, %',
        'fy, %',
        'cx, %',
        'cy, %',
        'f over its first, % RMS',
        'correlation',
        'lag, ms',
    ]
    note = (
        'Relative to the truth of the same moment, never rescaled; a held K cannot follow a zoom. '
        'The focal length is off by '
        f'{figures.percent("evaluation.intrinsics.focal_bias", "+.1f")} on the mean and by '
        f'{figures.percent("evaluation.intrinsics.focal_worst")} at worst. Its ratio to its own '
        'first moves while it is being learnt, too: it is not the zoom that is told (drawn above).'
    )
    return table(head, rows, f'<b>Camera</b> {note}', 'errors')
