# SPDX-License-Identifier: Apache-2.0
"""The judgement of single points; whole windows are in test_window.py."""

import numpy as np

from endosfm3d_ros.core.window import rigid

RNG = np.random.default_rng(0)
PIXELS = RNG.uniform((0, 0), (320, 256), (300, 2))


def test_what_strays_hangs_together() -> None:
    """A patch that misfits strays; single points that do, and those not yet told, follow it."""
    inside = np.linalg.norm(PIXELS - (80, 80), axis=1) < 60
    misfit = np.where(inside, 6.0, 0.6) + 0.1 * RNG.standard_normal(len(PIXELS))
    far = np.linalg.norm(PIXELS - (80, 80), axis=1) > 90
    alone = np.flatnonzero(far)[:5]
    misfit[alone] = 10.0
    untold = np.flatnonzero(inside)[:8]
    misfit[untold] = np.nan
    found = rigid.strays(PIXELS, misfit, np.zeros(len(PIXELS), bool))
    core = np.linalg.norm(PIXELS - (80, 80), axis=1) < 45
    assert found[core].all() and found[untold][core[untold]].all()
    assert not found[far].any()


def test_the_border_of_what_moves_goes_with_it() -> None:
    """It sways by too little to be told from poor tracks, unless something moves beside it."""
    away = np.linalg.norm(PIXELS - (80, 80), axis=1)
    misfit = np.where(away < 45, 6.0, np.where(away < 70, 2.0, 0.4))
    nobody = np.zeros(len(PIXELS), bool)
    border = (away > 52) & (away < 62)
    assert not rigid.strays(PIXELS, np.where(border, misfit, 0.4), nobody).any()
    first = rigid.strays(PIXELS, misfit, nobody)
    then = rigid.strays(PIXELS, misfit, first)
    assert first.any() and not first[border].any()
    assert then[border].all() and then[first].all() and not then[away > 85].any()


def test_where_most_would_stray_the_judgement_stays() -> None:
    before = PIXELS[:, 0] > 0.7 * 320
    some = np.where(PIXELS[:, 0] > 0.6 * 320, 4.0, 0.3)
    most = np.where(PIXELS[:, 0] > 0.4 * 320, 4.0, 0.3)
    assert before.sum() < rigid.strays(PIXELS, some, before).sum() < 150
    assert (rigid.strays(PIXELS, most, before) == before).all()


def test_a_few_that_stray_are_poor_tracks_unless_some_did_before() -> None:
    inside = np.linalg.norm(PIXELS - (80, 80), axis=1) < 22
    misfit = np.where(inside, 6.0, 0.6)
    nobody = np.zeros(len(PIXELS), bool)
    assert 3 <= inside.sum() < rigid.LEAST * len(PIXELS)
    assert not rigid.strays(PIXELS, misfit, nobody).any()
    assert rigid.strays(PIXELS, misfit, inside).any()


def test_too_few_calm_points_judge_nobody() -> None:
    away = np.linalg.norm(PIXELS - (80, 80), axis=1)
    moving = away < 60
    for calm, judged in ((rigid.FEWEST - 1, False), (rigid.FEWEST + 10, True)):
        misfit = np.where(moving, 6.0, np.nan)
        misfit[np.flatnonzero(away > 90)[:calm]] = 0.3
        assert rigid.strays(PIXELS, misfit, moving).any() == judged


def test_where_all_fits_ill_what_fits_a_little_worse_does_not_move() -> None:
    """A hard passage: worse tracks lie together."""
    worse = np.linalg.norm(PIXELS - (80, 80), axis=1) < 70
    assert rigid.LEAST < worse.mean() < rigid.MOST
    for usual, strays in ((3.0, False), (0.4, True)):
        misfit = np.where(worse, 5.0, usual)
        assert rigid.strays(PIXELS, misfit, np.zeros(len(PIXELS), bool)).any() == strays


def test_what_was_not_told_yet_only_follows() -> None:
    """A few poor tracks at the border, and beyond it new points that have no other neighbours."""
    told = PIXELS[:, 0] < 220
    poor = told & (PIXELS[:, 0] > 213)
    misfit = np.where(told, np.where(poor, 6.0, 0.4), np.nan)
    assert 5 <= poor.sum() < rigid.LEAST * told.sum() and (~told).sum() > 40
    assert not rigid.strays(PIXELS, misfit, np.zeros(len(PIXELS), bool)).any()
    assert rigid.strays(PIXELS, misfit, poor)[~told].any()
