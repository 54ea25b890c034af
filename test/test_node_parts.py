# SPDX-License-Identifier: Apache-2.0
"""The node's small parts that need no ROS graph: mailbox, arrivals, complaints, diagnostics."""

from dataclasses import replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

from endosfm3d_ros.arrivals import Arrivals
from endosfm3d_ros.calibrations_in import Calibrations
from endosfm3d_ros.complaints import PAUSE_S, ROOM, Complaints
from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.picture.rectify import Calibration
from endosfm3d_ros.diagnostics import WINDOW_S, Diagnostics
from endosfm3d_ros.latest import Latest
from endosfm3d_ros.outputs import Traffic
from test.one_answer import one_answer


def test_the_mailbox_counts_what_came_and_what_a_newer_one_replaced() -> None:
    mailbox: Latest[int] = Latest()
    for number in (1, 2, 3):
        mailbox.put(number)
    assert (mailbox.take(), mailbox.received, mailbox.dropped) == (3, 3, 2)


def test_numbers_that_are_missing_between_two_pictures_are_lost() -> None:
    arrivals = Arrivals()
    for number in (7, 8, 11):  # what was sent before the first one that came is not ours to count
        arrivals.note(number, publishers=1)
    assert arrivals.lost == 2


def test_loss_is_unknown_while_two_publish_and_counted_on_when_one_is_left() -> None:
    arrivals = Arrivals()
    for number in (1, 3):
        arrivals.note(number, publishers=1)
    for number in (4, 900, 5, 901):
        arrivals.note(number, publishers=2)
        assert arrivals.lost == -1
    for number in (950, 953):
        arrivals.note(number, publishers=1)
    assert arrivals.lost == 1 + 2


def test_a_picture_whose_driver_left_right_behind_it_is_counted() -> None:
    arrivals = Arrivals()
    arrivals.note(1, publishers=1)
    arrivals.note(3, publishers=0)
    assert arrivals.lost == 1


def test_a_middleware_that_gives_no_numbers_leaves_the_loss_unknown() -> None:
    arrivals = Arrivals()
    arrivals.note(None, publishers=1)
    assert arrivals.lost == -1


def of_focal(focal: float) -> Calibration:
    return Calibration(Intrinsics(640, 480, focal, focal, 320.0, 240.0), 'plumb_bob', ())


def test_a_picture_has_the_newest_calibration_that_is_not_later() -> None:
    calibrations, told = Calibrations(), [of_focal(500.0 + number) for number in range(3)]
    assert calibrations.at(10) is None
    for number, one in enumerate(told):
        calibrations.put(10 * number + 10, one)
    assert [calibrations.at(stamp) for stamp in (10, 19, 20, 99)] == [told[0], *told]
    assert calibrations.at(9) is told[-1]  # a bag begins anew, or the clocks are two
    calibrations.put(0, of_focal(600.0))  # one without a stamp is of what comes
    assert calibrations.at(99) == of_focal(600.0)


def test_calibrations_without_end_are_not_kept() -> None:
    calibrations = Calibrations()
    for number in range(100):
        calibrations.put(number, of_focal(500.0 + number))
    assert calibrations.at(99) == of_focal(599.0) and calibrations.at(5) == of_focal(599.0)


def test_a_complaint_is_the_same_one_whatever_its_numbers_and_names() -> None:
    complaints = Complaints()
    assert complaints.line("stamp 1 s of 'left'", 0.0) == "stamp 1 s of 'left'"
    assert complaints.line("stamp 22 s of 'right'", 0.1) is None
    assert complaints.line('another one', 0.2) == 'another one'
    assert complaints.line("stamp 3 s of 'left'", 0.3) is None
    said_again = complaints.line("stamp 4 s of 'left'", PAUSE_S)
    assert said_again == "stamp 4 s of 'left' (and 2 more like it)"


def test_a_number_is_one_whatever_its_sign_its_size_or_that_it_is_none() -> None:
    complaints, rng = Complaints(), np.random.default_rng(0)
    numbers = [*rng.normal(0, 0.1, 40), np.nan, np.inf, -np.inf, 1e-9, -2.5e30, 0.0]
    said = [complaints.line(f'a pose at {[float(one), 1.0]}', 0.0) for one in numbers]
    assert said[0] and not any(said[1:])
    assert complaints.line('a nanny at information', 0.0) and complaints.line('a # at #', 0.0)


def test_many_kinds_of_complaints_push_out_the_one_not_heard_for_longest() -> None:
    complaints = Complaints()
    kinds = ['x' * (length + 1) for length in range(ROOM)]
    for kind in kinds:
        complaints.line(kind, 0.0)
    assert complaints.line(kinds[0], 0.1) is None  # heard again: the second is the oldest now
    assert complaints.line('one more', 0.2) == 'one more'
    assert complaints.line(kinds[0], 0.3) is None
    assert complaints.line(kinds[-1], 0.4) is None
    assert complaints.line(kinds[1], 0.5) == kinds[1]
    assert len(complaints._said) == ROOM


def test_diagnostics_say_the_worst_first_and_a_good_picture_ends_it() -> None:
    diagnostics, good = Diagnostics({'model': 'm'}), one_answer()
    assert diagnostics.report(0.0)[:2] == (DiagnosticStatus.WARN, 'no picture yet')
    diagnostics.frame(1.0, good, Traffic(20.0, 1))
    assert diagnostics.report(1.0)[0] == DiagnosticStatus.OK
    diagnostics.refused('picture', 'no stamp')
    assert diagnostics.report(1.0)[:2] == (DiagnosticStatus.WARN, 'picture refused: no stamp')
    diagnostics.failed('KeyError')
    level, sentence, values = diagnostics.report(1.0)
    assert (level, sentence) == (DiagnosticStatus.ERROR, 'the node fails: KeyError')
    assert (values['model'], values['refused'], values['failed']) == ('m', 1, 1)
    diagnostics.frame(1.1, replace(good, valid=False, reason='black'), Traffic(30.0, 2))
    level, sentence, values = diagnostics.report(1.1)
    assert (level, sentence) == (DiagnosticStatus.WARN, 'nothing to reconstruct: black')
    assert (values['latency_p50_ms'], values['valid_share']) == (25.0, 0.5)


def test_diagnostics_name_what_is_refused_and_later_why_nothing_comes_any_more() -> None:
    diagnostics = Diagnostics({})
    diagnostics.frame(0.0, one_answer(), Traffic(20.0))
    diagnostics.refused('robot_pose', 'no rotation')
    assert diagnostics.report(0.1)[1] == 'robot_pose refused: no rotation'  # not a picture
    diagnostics.silent('the driver is gone')
    assert diagnostics.report(WINDOW_S + 1.1)[1] == 'the driver is gone'


def test_diagnostics_keep_one_window_even_when_nobody_asks() -> None:
    diagnostics, good = Diagnostics({}), one_answer()
    for second in range(100):
        diagnostics.frame(float(second), good, Traffic(20.0))
    assert len(diagnostics._frames) == WINDOW_S + 1
