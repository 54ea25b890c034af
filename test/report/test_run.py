# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from made_run import FRAME_NS, START_NS, depth_of, reconstruction, write_run

from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.bags.recording import McapWriter, facts_beside
from endosfm3d_ros.cli import main
from endosfm3d_ros.outputs import Traffic
from endosfm3d_ros.report import messages
from endosfm3d_ros.report.run import RGB, choose_moments, read_run
from endosfm3d_ros.report.summary import summarise, trust_word


class Image:
    """The fields of a sensor_msgs Image, with padded rows."""

    encoding, is_bigendian, width, height, step = 'rgb8', 0, 2, 2, 8
    data = np.array([1, 2, 3, 4, 5, 6, 99, 99, 7, 8, 9, 10, 11, 12, 99, 99], np.uint8)


def test_what_the_node_said_is_read_back(tmp_path):
    said = [reconstruction(number) for number in range(12)]
    run = read_run(write_run(tmp_path / 'run.mcap', said))
    assert len(run.rows) == 12
    assert run.incomplete == 0
    for row, one in zip(run.rows, said, strict=True):
        np.testing.assert_allclose(row.T_odom_cam, one.T_odom_cam, atol=1e-9)
        assert row.camera == one.camera
        assert row.input_camera == one.input_camera
        assert (row.stamp_ns, row.valid, row.inliers, row.epoch) == (one.stamp_ns, True, 80, 0)
        assert row.median_depth == pytest.approx(float(np.nanmedian(one.depth)), rel=1e-6)
        assert row.coverage == pytest.approx(1 - 64 / (48 * 60))


@pytest.mark.parametrize('live', [True, False])
@pytest.mark.parametrize('withheld', [8, 20])
def test_frames_whose_depth_is_withheld_are_frames(tmp_path, withheld: int, live: bool) -> None:
    """All of them where the scale never anchors; those before where it does."""
    said = [reconstruction(number) for number in range(20)]
    run = read_run(write_run(tmp_path / 'run.mcap', said, live=live, withheld=withheld))
    assert len(run.rows) == 20 and run.incomplete == 0
    assert [row.coverage > 0 for row in run.rows] == [number >= withheld for number in range(20)]
    assert len(list(run.depth_pictures())) == 20 - withheld
    told = np.isfinite(run.estimate.T_odom_cam).all(axis=(1, 2))
    assert told.tolist() == [number >= withheld for number in range(20)]
    length = summarise(run)['path_length_mm']
    assert length is None if withheld == 20 else length == pytest.approx(11.0)


def test_lengths_that_were_withheld_in_the_first_turn_of_a_loop_are_none_of_its_frames(tmp_path):
    clip = [reconstruction(number) for number in range(10)]
    said = [*clip, *(replace(one, epoch=1) for one in clip)]
    run = read_run(write_run(tmp_path / 'run.mcap', said, withheld=10))
    assert (len(run.rows), run.incomplete) == (20, 0)
    assert [np.isfinite(row.coverage) for row in run.rows] == [False] * 10 + [True] * 10
    assert [row.scale_state for row in run.rows] == ['nominal'] * 10 + ['kinematic'] * 10
    assert len(list(run.depth_pictures())) == 10
    assert [moment.row.key.turn for moment in run.moments(run.rows)] == [1] * 10


def test_lengths_before_the_scale_was_anchored_are_not_mixed_in(tmp_path) -> None:
    said = [reconstruction(number) for number in range(40)]
    run = read_run(write_run(tmp_path / 'run.mcap', said, anchored=(30, 5.0)))
    summary = summarise(run)
    assert summary['path_length_mm'] == pytest.approx(5.0 * 9)
    expected = np.median([np.nanmedian(depth_of(number)) * 5 for number in range(30, 40)])
    assert summary['depth']['median_mm'] == pytest.approx(expected, rel=1e-5)
    assert summary['scale']['frames'] == 10
    assert (
        'by the motion of the robot. So it is in 10 of 40 frames'
        in (summary['scale']['statement'])
    )


@pytest.mark.parametrize('live', [True, False])
def test_every_turn_of_a_looped_clip_is_told(tmp_path, live: bool) -> None:
    said = [reconstruction(number) for number in range(10)]
    again = [replace(one, epoch=1, depth=one.depth * 2, valid=False) for one in said]
    run = read_run(write_run(tmp_path / 'run.mcap', said + again, live=live))
    summary = summarise(run)
    assert (len(run.rows), run.incomplete, summary['frames']['repeated']) == (20, 0, 10)
    assert [row.valid for row in run.rows] == [True] * 10 + [False] * 10
    assert summary['path_length_mm'] == pytest.approx(18.0)
    assert run.seconds.tolist() == pytest.approx([0.04 * number for number in range(20)])
    moments = run.moments(run.rows)
    assert len(moments) == 20
    np.testing.assert_allclose(moments[13].depth, depth_of(3) * 2, rtol=1e-6)
    assert all(one.image is not None for one in run.depth_pictures())


def test_a_missing_picture_is_missed_by_its_own_frame_only(tmp_path) -> None:
    said = [reconstruction(number) for number in range(30)]
    whole = RunBag(write_run(tmp_path / 'whole.mcap', said))
    with McapWriter(tmp_path / 'run.mcap') as bag:
        for topic in whole.topics:
            for number, one in enumerate(whole.messages(topic)):
                if topic != f'/endosfm3d/{RGB}' or number not in (3, 4, 20):
                    kind = whole.topics[topic].type_name
                    bag.write(topic, kind, one.raw, one.log_time_ns, one.publish_time_ns)
    pictures = list(read_run(tmp_path / 'run.mcap').depth_pictures())
    missing = [number for number, one in enumerate(pictures) if one.image is None]
    assert (len(pictures), missing) == (30, [3, 4, 20])
    np.testing.assert_array_equal(pictures[21].image, said[21].image)


def test_a_missing_picture_does_not_bring_the_rest_into_memory(tmp_path, monkeypatch) -> None:
    said = [reconstruction(number) for number in range(30)]
    run = read_run(write_run(tmp_path / 'run.mcap', said))
    read, all_messages = [], RunBag.messages

    def without_the_first(bag, topic):
        for number, one in enumerate(all_messages(bag, topic)):
            is_rgb = topic == f'/endosfm3d/{RGB}'
            if is_rgb:
                read.append(number)
            if number or not is_rgb:
                yield one

    monkeypatch.setattr(RunBag, 'messages', without_the_first)
    assert next(run.depth_pictures()).image is None
    assert read == [0, 1]


def test_coverage_is_of_the_depth_that_was_sent(tmp_path) -> None:
    said = [reconstruction(number) for number in range(20)]
    run = read_run(write_run(tmp_path / 'run.mcap', said, withheld=12))
    assert summarise(run)['depth']['coverage'] == pytest.approx(1 - 64 / (48 * 60))


@pytest.mark.parametrize(
    ('clip', 'name'),
    [
        ('camera.mcap /scope/image_raw', 'camera.mcap /scope/image_raw'),
        ('/home/some body/camera /scope/image', 'camera /scope/image'),
        ('/home/some body/clip.mp4', 'clip.mp4'),
    ],
)
def test_a_run_is_named_by_its_clip_or_by_its_bag_and_topic(tmp_path, clip, name):
    run = read_run(write_run(tmp_path / 'run.mcap', [reconstruction(0)]), {'clip': clip})
    assert summarise(run)['clip'] == name


def test_facts_of_a_run_go_with_it(tmp_path) -> None:
    said = [reconstruction(number) for number in range(3)]
    bag = write_run(tmp_path / 'run.mcap', said)
    facts_beside(bag).write_text('{"clip": "another.mp4"}')
    with McapWriter(bag, overwrite=True):
        pass
    assert not facts_beside(bag).exists()
    with McapWriter(bag, overwrite=True):
        facts_beside(bag).write_text('{"clip": "this.mp4"}')  # by a player that ended first
    assert facts_beside(bag).exists()


def test_moments_are_spread_and_bear_their_own_pictures(tmp_path):
    said = [reconstruction(number, valid=number != 0) for number in range(30)]
    run = read_run(write_run(tmp_path / 'run.mcap', said))
    chosen = run.moments(choose_moments(run))
    numbers = [(one.row.stamp_ns - START_NS) // FRAME_NS for one in chosen]
    assert numbers[0] == 1  # the first frame has no depth
    assert numbers[-1] == 29
    assert len(set(numbers)) == 6
    for number, one in zip(numbers, chosen, strict=True):
        np.testing.assert_array_equal(one.image, said[number].image)
        np.testing.assert_allclose(one.depth, depth_of(number), rtol=1e-6)
        np.testing.assert_array_equal(one.confidence, said[number].confidence)


def test_rows_may_be_padded():
    assert messages.picture(Image).tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]


def test_the_summary_counts_and_measures(tmp_path):
    said = [reconstruction(number, valid=number not in (4, 5)) for number in range(20)]
    run = read_run(write_run(tmp_path / 'run.mcap', said), {'frames': {'sent': 25}})
    summary = summarise(run)
    assert summary['frames'] == {
        'sent': 25,
        'received': 21,
        'lost_on_wire': 1,
        'dropped_by_mailbox': 1,
        'out': 20,
        'unanswered': 3,
        'incomplete': 0,
        'repeated': 0,
        'out_fraction': 0.8,
    }
    assert summary['clip'] == 'clip.mp4'  # and not where it lay
    assert summary['mode'] == 'live'
    assert summary['latency_ms']['p50'] == pytest.approx(39.5)
    assert summary['latency_ms']['max'] == pytest.approx(49.0)
    assert summary['valid_fraction'] == 0.9
    assert summary['invalid_reasons'] == {'fogged': 2}
    assert summary['path_length_mm'] == pytest.approx(19.0)
    assert summary['intrinsics']['fx_min'] == 500.0
    assert summary['intrinsics']['fx_max'] == pytest.approx(595.0)
    assert summary['intrinsics']['zoom_max'] == pytest.approx(1.19)
    assert summary['topics']['/endosfm3d/depth/image'] == {
        'type': 'sensor_msgs/msg/Image',
        'count': 20,
    }
    assert summary['scale']['state'] == 'nominal'
    assert 'not anchored' in summary['scale']['statement']


def test_what_the_node_counted_before_the_recording_is_not_counted(tmp_path):
    said = [reconstruction(number) for number in range(20)]
    late = [Traffic(20.0, 5000 + 2 * number, 50, 400 + number) for number in range(20)]
    restarted = [*late[:10], *(Traffic(20.0, number + 1, 1, 0) for number in range(10))]
    unknown = [Traffic(20.0, number + 1, -1, 0) for number in range(20)]
    waited = [Traffic(20.0, 60 + number, 0, 58) for number in range(20)]  # for its networks
    found = []
    for name, counters in enumerate((late, restarted, unknown, waited)):
        bag = write_run(tmp_path / f'{name}.mcap', said, counters=counters)
        frames = summarise(read_run(bag))['frames']
        found.append([frames[one] for one in ('received', 'lost_on_wire', 'dropped_by_mailbox')])
    assert found == [[39, 0, 19], [29, 1, 9], [20, None, 0], [79, 0, 58]]


def test_a_bag_without_its_last_words_is_neither_live_nor_offline(tmp_path):
    said = [reconstruction(number) for number in range(10)]
    bag = write_run(tmp_path / 'run.mcap', said, breaks_off=True)
    summary = summarise(read_run(bag))
    assert summary['mode'] is None
    assert summary['latency_ms']['p50'] == pytest.approx(34.5)
    assert main(['report', str(bag)]) == 0
    assert 'offline' not in (tmp_path / 'run.html').read_text()
    nothing = read_run(write_run(tmp_path / 'nothing.mcap', []))
    assert summarise(nothing)['latency_ms']['definition'] == 'not measured'


def test_an_offline_run_has_no_latency(tmp_path):
    run = read_run(
        write_run(tmp_path / 'run.mcap', [reconstruction(0), reconstruction(1)], live=False)
    )
    latency = summarise(run)['latency_ms']
    assert latency['p50'] is None
    assert 'offline' in latency['definition']


def test_a_bag_of_something_else_is_refused(tmp_path):
    with McapWriter(tmp_path / 'other.mcap') as bag:
        bag.add_topic('/chatter', 'std_msgs/msg/Header')
    with pytest.raises(ValueError, match='need the topic /endosfm3d/status'):
        read_run(tmp_path / 'other.mcap')


@pytest.mark.parametrize(
    ('trust', 'word'),
    [(0.1, 'a guess'), (0.5, 'weakly observed'), (0.999, 'well observed'), (1.0, 'a calibration')],
)
def test_only_a_given_camera_is_called_a_calibration(trust: float, word: str) -> None:
    assert trust_word(trust) == word
