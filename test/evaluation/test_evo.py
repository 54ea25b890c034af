# SPDX-License-Identifier: Apache-2.0
"""Our trajectory figures are those of evo, run as a program of its own (GPL: never imported)."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from endosfm3d_ros.core.geometry import quaternion
from endosfm3d_ros.evaluation.trajectory import trajectory_errors

PROGRAMS = Path(sys.executable).parent
pytestmark = pytest.mark.skipif(
    not (PROGRAMS / 'evo_ape').exists(), reason='evo is not installed: make setup-test'
)


def paths():
    """A truth that turns, and an estimate in another world and unit with noise."""
    rng = np.random.default_rng(3)
    truth = np.tile(np.eye(4), (60, 1, 1))
    for n in range(1, 60):
        step = np.eye(4)
        step[:3, :3] = cv2.Rodrigues(rng.normal(0, 0.03, 3))[0]
        step[:3, 3] = rng.normal([0, 0, 0.5], 0.4)
        truth[n] = truth[n - 1] @ step
    R = cv2.Rodrigues(np.array([0.4, -1.1, 2.0]))[0]
    estimate = truth.copy()
    for n in range(60):
        estimate[n, :3, :3] = R @ truth[n, :3, :3] @ cv2.Rodrigues(rng.normal(0, 0.01, 3))[0]
        estimate[n, :3, 3] = 0.2 * R @ truth[n, :3, 3] + [3, 4, 5] + rng.normal(0, 0.05, 3)
    return estimate, truth


def as_tum(path, cameras):
    rows = [[0.04 * n, *T[:3, 3], *quaternion(T[:3, :3])] for n, T in enumerate(cameras)]
    np.savetxt(path, rows, fmt='%.12g')
    return str(path)


def rmse_of(program, tmp_path, truth, estimate, *options):
    """What evo says, to the last digit."""
    out = tmp_path / f'{program}{"".join(options)}.zip'
    environment = {**os.environ, 'HOME': str(tmp_path), 'MPLBACKEND': 'Agg'}
    command = [PROGRAMS / program, 'tum', truth, estimate, *options, '--save_results', out]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=tmp_path)
    with zipfile.ZipFile(out) as stored:
        return json.loads(stored.read('stats.json'))['rmse']


def test_ate_and_rpe_are_those_of_evo(tmp_path):
    estimate, truth = paths()
    files = as_tum(tmp_path / 'truth.txt', truth), as_tum(tmp_path / 'estimate.txt', estimate)
    ours = trajectory_errors(estimate, truth)
    theirs = {
        'ate_sim3': rmse_of('evo_ape', tmp_path, *files, '-a', '-s'),
        'ate_se3': rmse_of('evo_ape', tmp_path, *files, '-a'),
        'rpe_translation': rmse_of('evo_rpe', tmp_path, *files, '-a', '-s'),
        'rpe_rotation': rmse_of('evo_rpe', tmp_path, *files, '-a', '-s', '-r', 'angle_deg'),
    }
    assert {name: getattr(ours, name) for name in theirs} == pytest.approx(theirs, rel=1e-6)
    assert min(theirs.values()) > 0.01
