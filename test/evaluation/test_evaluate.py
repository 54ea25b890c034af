# SPDX-License-Identifier: Apache-2.0
"""`endosfm3d evaluate`: errors that were put in by hand come out as computed by hand."""

import json
import re

import made_truth
import numpy as np
import pytest
from made_truth import FRAME_NS, Mistakes, true_cameras, write_bag, write_folder, write_run
from nav_msgs.msg import Odometry

from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.bags.recording import McapWriter, facts_beside
from endosfm3d_ros.cli import main
from endosfm3d_ros.core.lens import rational_polynomial
from endosfm3d_ros.evaluation.lens import Lens
from endosfm3d_ros.evaluation.protocols import PROTOCOLS
from endosfm3d_ros.evaluation.trajectory import align

NO_MISTAKE = Mistakes()


def evaluated(tmp_path, wrong=NO_MISTAKE, truth=None, *options):
    """The JSON of the command on a run with these mistakes."""
    truth = truth or write_folder(tmp_path / 'truth')
    bag, out = tmp_path / 'run.mcap', tmp_path / 'errors.json'
    if not bag.exists():
        write_run(bag, wrong)
    code = main(['evaluate', str(bag), '--truth', str(truth), '--json', str(out), *options])
    assert code == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize('protocol', sorted(PROTOCOLS))
def test_the_truth_has_no_error_anywhere(tmp_path, protocol, capsys):
    found = evaluated(tmp_path, Mistakes(), None, '--protocol', protocol)
    assert (found['matched'], found['unmatched'], found['truth_unmatched']) == (30, 0, 0)
    for group in ('depth', 'depth_unscaled'):
        assert found[group]['frames'] == 30
        assert found[group]['coverage'] == 1.0
        for name in ('abs_rel', 'sq_rel', 'rmse', 'rmse_log'):
            assert found[group][name] == pytest.approx(0, abs=1e-5)
    for name in ('ate_sim3', 'ate_se3', 'rpe_translation', 'snippet_ate', 'snippet_rmse'):
        assert found['trajectory'][name] == pytest.approx(0, abs=1e-9)
    assert found['trajectory']['rpe_rotation'] == pytest.approx(0, abs=1e-5)
    for name in ('fx', 'fy', 'cx', 'cy', 'focal_bias', 'zoom', 'zoom_lag'):
        assert found['intrinsics'][name] == pytest.approx(0, abs=1e-9)
    assert found['depth_constant']['abs_rel'] > 0.1
    assert found['trajectory_still']['ate_sim3'] > 1.0
    assert 'this run' in capsys.readouterr().out


@pytest.mark.parametrize(('pose', 'unit'), [('pose', '32FC1'), ('odometry', '16UC1')])
def test_a_bag_is_as_good_a_truth_as_a_folder(tmp_path, pose, unit):
    kind = {'odometry': {'pose': Odometry}}.get(pose, {})
    found = evaluated(tmp_path, truth=write_bag(tmp_path / 'truth.mcap', unit=unit, **kind))
    assert found['matched_by'] == 'one clock'
    assert found['matched'] == 30
    tolerance = 1e-6 if unit == '32FC1' else 0.5 / 15  # half a millimetre of 16 and more
    assert found['depth']['abs_rel'] < tolerance
    assert found['trajectory']['ate_se3'] == pytest.approx(0, abs=1e-9)
    assert found['intrinsics']['fx'] == 0.0


def test_a_tracker_s_poses_are_interpolated_at_the_stamps_of_the_pictures(tmp_path, capsys):
    """Poses every 9.6 ms, pictures every 40."""
    truth = write_bag(tmp_path / 'truth.mcap', pose_step=0.24)
    found = evaluated(tmp_path, Mistakes(offset=(0.5, 0.0, 0.0)), truth)
    assert (found['matched'], found['truth_frames'], found['truth_unmatched']) == (30, 125, None)
    exact = evaluated(tmp_path, Mistakes(offset=(0.5, 0.0, 0.0)), write_folder(tmp_path / 'truth'))
    for name, value in exact['trajectory'].items():
        assert found['trajectory'][name] == pytest.approx(value, rel=1e-3, abs=2e-3)
    assert found['depth']['frames'] == 30
    said = capsys.readouterr().out
    assert 'poses interpolated over up to 9.6 ms; a frame is 40 ms; 30 of 30 depth im' in said
    bag, page = tmp_path / 'run.mcap', tmp_path / 'run.html'
    assert main(['report', str(bag), '--truth', str(tmp_path / 'truth.mcap')]) == 0
    assert 'interpolated over up to 9.6 ms' in page.read_text()


def test_a_step_over_dropped_frames_is_no_step_whatever_the_rate_of_the_poses(tmp_path):
    kept = tuple(n for n in range(30) if n not in (4, 5, 17))
    wrong = Mistakes(frames=kept, offset=(0.5, 0.0, 0.0))
    found = evaluated(tmp_path, wrong, write_bag(tmp_path / 'truth.mcap', pose_step=0.25))
    exact = evaluated(tmp_path, wrong, write_folder(tmp_path / 'truth'))
    assert len(kept) == found['matched'] == found['trajectory']['frames']
    for name, value in exact['trajectory'].items():
        assert found['trajectory'][name] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(('late_ms', 'met'), [(3, 30), (-3, 30), (9, 30), (11, 0)])
def test_depth_and_camera_infos_a_little_off_are_of_the_picture_and_it_is_said_how_far(
    tmp_path, late_ms, met, capsys
):
    truth = write_bag(tmp_path / 'truth.mcap', late_ns=late_ms * 1_000_000)
    found = evaluated(tmp_path, truth=truth)
    assert (found['matched'], found['truth_placed']['depth_met']) == (30, met)
    said = capsys.readouterr().out
    if met:
        assert (found['depth']['frames'], found['intrinsics']['fx']) == (30, 0.0)
        assert found['depth_unscaled']['abs_rel'] < 1e-6
        assert f'30 of 30 depth images are of a picture, up to {abs(late_ms)} ms off it' in said
    else:  # the K before is held
        assert (found['depth'], found['intrinsics']['fx'] > 0) == (None, True)
        assert 'met a depth truth (none of 30 lies within 10 ms of a picture)' in said


def test_a_picture_in_a_hole_of_the_poses_has_no_truth(tmp_path, capsys):
    """Poses every 120 ms: only the pictures that lie on one are known."""
    found = evaluated(tmp_path, truth=write_bag(tmp_path / 'truth.mcap', pose_step=3.0))
    assert (found['matched'], found['unmatched']) == (10, 20)
    assert found['trajectory']['ate_se3'] == pytest.approx(0, abs=1e-9)
    assert 'poses of the very stamps; a frame is 40 ms' in capsys.readouterr().out
    bag = write_run(tmp_path / 'off.mcap', Mistakes(late_ns=FRAME_NS // 2))
    assert main(['evaluate', str(bag), '--truth', str(tmp_path / 'truth.mcap')]) == 1
    error = capsys.readouterr().err
    assert 'none lies between two poses at most 100 ms apart' in error and error.count('\n') == 1


@pytest.mark.parametrize('size', [(640, 512), (160, 128)])
def test_a_true_camera_of_another_picture_size_is_brought_to_the_run_s(tmp_path, size):
    found = evaluated(tmp_path, truth=write_bag(tmp_path / 'truth.mcap', size=size))
    for name in ('fx', 'fy', 'cx', 'cy'):
        assert found['intrinsics'][name] == pytest.approx(0, abs=1e-12)
    assert found['depth_unscaled']['abs_rel'] < 1e-6


def test_a_true_camera_of_a_picture_of_another_shape_is_refused(tmp_path, capsys):
    bag = write_run(tmp_path / 'run.mcap', Mistakes(frames=(0, 1, 2)))
    truth = write_bag(tmp_path / 'truth.mcap', 3, size=(640, 480))
    assert main(['evaluate', str(bag), '--truth', str(truth)]) == 1
    error = capsys.readouterr().err
    assert 'of a 640x480 picture, the run had 320x256' in error and error.count('\n') == 1


def test_a_bag_is_no_truth_of_pictures_that_were_sent_under_other_stamps(tmp_path, capsys):
    """Its stamps are of poses: the first of them need not be the first picture's."""
    bag, truth = write_run(tmp_path / 'run.mcap'), write_bag(tmp_path / 'truth.mcap')
    facts_beside(bag).write_text('{"stamps_ns": [1, 2, 3]}')
    assert main(['evaluate', str(bag), '--truth', str(truth)]) == 1
    assert 'make it by: endosfm3d replay' in capsys.readouterr().err


def test_frames_of_a_folder_meet_the_pictures_by_the_stamps_that_they_were_sent_under(tmp_path):
    """Uneven ones; the first three frames were lost, and the last was never sent."""
    kept = tuple(n for n in range(3, 29))
    bag, truth = tmp_path / 'run.mcap', write_folder(tmp_path / 'truth')
    with McapWriter(bag) as out:
        copy(write_run(tmp_path / 'sent.mcap', Mistakes(frames=kept)), out)
    assert evaluated(tmp_path, truth=truth)['intrinsics']['fx'] > 0.0  # nobody told
    sent = [made_truth.FIRST_NS + n * FRAME_NS for n in range(29)]
    facts_beside(bag).write_text(json.dumps({'stamps_ns': sent}))
    found = evaluated(tmp_path, truth=truth)
    assert (found['matched'], found['unmatched'], found['truth_unmatched']) == (26, 0, 4)
    assert found['intrinsics']['fx'] == 0.0
    twice = [sent[0] + 2 * (stamp - sent[0]) for stamp in sent]  # sent at half the rate
    facts_beside(bag).write_text(json.dumps({'stamps_ns': twice}))
    assert evaluated(tmp_path, truth=truth)['matched'] == 13
    facts_beside(bag).write_text(json.dumps({'stamps_ns': sent[:10]}))  # the rest never was
    assert evaluated(tmp_path, truth=truth)['matched'] == 7


def test_a_report_does_not_replace_the_facts_that_it_reads(tmp_path, capsys):
    bag, facts = write_run(tmp_path / 'run.mcap'), tmp_path / 'run.json'
    facts.write_text('{"frames": {"sent": 40}}')
    assert main(['report', str(bag), '--facts', str(facts)]) == 1
    assert 'would replace these facts' in capsys.readouterr().err and 'sent' in facts.read_text()
    other = tmp_path / 'page.html'
    assert main(['report', str(bag), '--facts', str(facts), '--out', str(other)]) == 0


def test_a_run_is_its_own_truth(tmp_path):
    bag = write_run(tmp_path / 'run.mcap')
    out = tmp_path / 'errors.json'
    assert main(['evaluate', str(bag), '--truth', str(bag), '--json', str(out)]) == 0
    found = json.loads(out.read_text())
    assert found['depth_unscaled']['abs_rel'] == 0.0
    assert found['trajectory']['ate_se3'] == pytest.approx(0, abs=1e-9)


def test_a_run_without_its_status_is_a_truth_of_one_epoch(tmp_path):
    run, bare = write_run(tmp_path / 'run.mcap', Mistakes(reset=12)), tmp_path / 'bare.mcap'
    with McapWriter(bare) as out:
        copy(run, out, [name for name in RunBag(run).topics if not name.endswith('/status')])
    assert evaluated(tmp_path, truth=bare)['trajectory']['frames'] == 18


def test_of_a_run_as_the_truth_only_one_epoch_is_one_path(tmp_path):
    """The truth lost frame 4, which lies in an epoch, and 12, which lies between two."""
    kept = tuple(n for n in range(30) if n not in (4, 12))
    truth = write_run(tmp_path / 'truth.mcap', Mistakes(reset=12, frames=kept))
    found = evaluated(tmp_path, truth=truth)
    assert (found['matched'], found['trajectory']['frames']) == (29, 17)  # 13 to 29
    assert found['trajectory']['ate_se3'] == pytest.approx(0, abs=1e-9)
    own = ['evaluate', str(truth), '--truth', str(tmp_path / 'run.mcap'), '--json']
    assert main([*own, str(tmp_path / 'own.json')]) == 0
    found = json.loads((tmp_path / 'own.json').read_text())['trajectory']
    assert found['frames'] == 17 and found['ate_se3'] == pytest.approx(0, abs=1e-9)


def test_a_run_that_lies_in_its_truth_folder_is_not_its_own_truth(tmp_path):
    folder = write_folder(tmp_path / 'clip')
    bag, out = write_run(folder / 'run.mcap', Mistakes(depth=3, focal=1.3)), tmp_path / 'out.json'
    assert main(['evaluate', str(bag), '--truth', str(folder), '--json', str(out)]) == 0
    found = json.loads(out.read_text())
    assert found['intrinsics']['fx'] == pytest.approx(0.3)
    assert found['depth_unscaled']['abs_rel'] > 1.0


def copy(bag, out, topics=None):
    """Put the messages of a bag, or of some of its topics, into one that is being written."""
    whole = RunBag(bag)
    for topic in topics or whole.topics:
        for one in whole.messages(topic):
            kind = whole.topics[topic].type_name
            out.write(topic, kind, one.raw, one.log_time_ns, one.publish_time_ns)


def test_a_true_pose_beside_a_run_makes_the_rest_of_the_run_no_truth(tmp_path, capsys):
    run = write_run(tmp_path / 'run.mcap', Mistakes(depth=3, focal=1.3))
    truth, both = write_bag(tmp_path / 'truth.mcap'), tmp_path / 'both.mcap'
    with McapWriter(both) as out:
        copy(run, out)
        copy(truth, out, ['/ground_truth/pose'])
    assert main(['evaluate', str(both), '--truth', str(both)]) == 1
    assert 'no camera_info of the truth: need /ground_truth/' in capsys.readouterr().err
    with McapWriter(both, overwrite=True) as out:
        copy(run, out)
        copy(truth, out, ['/ground_truth/pose', '/ground_truth/camera_info'])
    assert main(['evaluate', str(both), '--truth', str(both)]) == 0
    said = capsys.readouterr().out
    assert 'truth: pose /ground_truth/pose, camera_info /ground_truth/camera_info\n' in said
    assert 'no depth image met a depth truth' in said
    named = ['--truth-topic', 'depth=/endosfm3d/depth/image']
    assert main(['evaluate', str(both), '--truth', str(both), *named]) == 0
    assert 'depth /endosfm3d/depth/image' in capsys.readouterr().out


def test_depth_of_one_node_is_no_truth_beside_the_pose_of_another(tmp_path):
    run, whole, right = (tmp_path / f'{name}.mcap' for name in ('run', 'whole', 'right'))
    write_run(run)
    with McapWriter(right) as out:
        renamed(write_run(tmp_path / 'threefold.mcap', Mistakes(depth=3)), out, '/right/endosfm3d')
    with McapWriter(whole) as out:
        copy(right, out, [name for name in RunBag(right).topics if 'confidence' not in name])
        copy(run, out, [name for name in RunBag(run).topics if '/depth' not in name])
    pose = ['--truth-topic', 'pose=/endosfm3d/odometry']
    found = evaluated(tmp_path, NO_MISTAKE, whole, *pose)
    assert sorted(found['truth_topics']) == ['camera_info', 'pose'] and found['depth'] is None


def test_the_only_picture_of_a_bag_is_no_depth(tmp_path):
    truth, bare = write_bag(tmp_path / 'truth.mcap'), tmp_path / 'bare.mcap'
    rgb = '/endosfm3d/rgb/image'
    with McapWriter(bare) as out:
        copy(truth, out, ['/ground_truth/pose', '/ground_truth/camera_info'])
        for one in RunBag(write_run(tmp_path / 'run.mcap')).messages(rgb):
            out.write('/scope/image', 'sensor_msgs/msg/Image', one.raw, *[one.log_time_ns] * 2)
    found = evaluated(tmp_path, truth=bare)
    assert found['depth'] is None and found['matched'] == 30


LENSES = [
    Lens(-0.4),
    Lens(0.0, 'plumb_bob', (-0.3, 0.08, 0.001, -0.002, 0.0)),
    Lens(0.0, 'rational_polynomial', tuple(rational_polynomial(-0.4))),
    Lens(0.0, 'equidistant', (0.05, -0.01, 0.0, 0.0)),
]


@pytest.mark.parametrize('truth', ['folder', 'run'])
@pytest.mark.parametrize('lens', LENSES, ids=['found', 'plumb_bob', 'polynomial', 'equidistant'])
def test_a_lens_that_was_undone_is_no_error(tmp_path, lens, truth):
    bag, out = write_run(tmp_path / 'run.mcap', NO_MISTAKE, lens), tmp_path / 'out.json'
    known = write_folder(tmp_path / 'truth') if truth == 'folder' else bag
    assert main(['evaluate', str(bag), '--truth', str(known), '--json', str(out)]) == 0
    depth = json.loads(out.read_text())['depth_unscaled']
    assert depth['abs_rel'] < (2e-3 if truth == 'folder' else 1e-6)  # resampled there and back
    assert depth['coverage'] > 0.6  # a given K is kept, and the picture's edges are not


def test_the_page_says_who_told_the_lens(tmp_path):
    words = {
        'the given calibration says (plumb_bob)': LENSES[1],
        'the given calibration has no distortion': Lens(0.0, 'plumb_bob', (0.0,) * 5),
        'the motion told no distortion': Lens(),
    }
    for name, (said, lens) in enumerate(words.items()):
        bag = write_run(tmp_path / f'{name}.mcap', Mistakes(frames=(0, 1, 2)), lens)
        assert main(['report', str(bag)]) == 0
        page = re.sub('<[^>]+>', '', bag.with_suffix('.html').read_text())
        assert said in page


def renamed(bag, out, node):
    """Put a run into one that is being written, as if the node had this name."""
    whole = RunBag(bag)
    for topic in whole.topics:
        name, kind = topic.replace('/endosfm3d', node), whole.topics[topic].type_name
        for one in whole.messages(topic):
            out.write(name, kind, one.raw, one.log_time_ns, one.publish_time_ns)


@pytest.mark.parametrize('node', ['/left/endosfm3d', '/theatre/scope'])
def test_a_node_of_another_name_is_found(tmp_path, node):
    whole, bag = write_run(tmp_path / 'whole.mcap', NO_MISTAKE, Lens(-0.3)), tmp_path / 'run.mcap'
    with McapWriter(bag) as out:
        renamed(whole, out, node)
    truth, found = write_folder(tmp_path / 'truth'), tmp_path / 'out.json'
    for known, limit in ((truth, 2e-3), (bag, 1e-6)):
        assert main(['evaluate', str(bag), '--truth', str(known), '--json', str(found)]) == 0
        assert json.loads(found.read_text())['depth_unscaled']['abs_rel'] < limit
    assert main(['report', str(bag), '--truth', str(bag)]) == 0
    page = (tmp_path / 'run.html').read_text()
    assert 'data-moment="5"' in page and f'<i>·</i> {node}' in page
    assert f'The truth: pose <code>{node}/odometry</code>' in page


def test_of_several_nodes_one_is_named(tmp_path, capsys):
    bag, truth = tmp_path / 'run.mcap', write_folder(tmp_path / 'truth')
    with McapWriter(bag) as out:
        renamed(write_run(tmp_path / 'a.mcap'), out, '/left/endosfm3d')
        renamed(write_run(tmp_path / 'b.mcap', Mistakes(depth=1.1)), out, '/right/endosfm3d')
    words = ['evaluate', str(bag), '--truth', str(truth), '--json', str(tmp_path / 'out.json')]
    for command in (words, ['report', str(bag)]):
        assert main(command) == 1
        error = capsys.readouterr().err
        assert 'several nodes, /left/endosfm3d, /right/endosfm3d' in error
        assert '--node /left/endosfm3d' in error and error.count('\n') == 1
    assert main([*words, '--node', '/right/endosfm3d']) == 0
    found = json.loads((tmp_path / 'out.json').read_text())
    assert found['depth_unscaled']['abs_rel'] == pytest.approx(0.1, rel=1e-4)
    assert main([*words, '--node', '/up/endosfm3d']) == 1
    assert 'need the topic /up/endosfm3d/status' in capsys.readouterr().err
    as_truth = ['evaluate', str(bag), '--truth', str(bag), '--node', '/right/endosfm3d']
    assert main(as_truth) == 1
    assert 'no pose of the truth' in capsys.readouterr().err
    assert main([*as_truth, '--truth-topic', 'pose=/left/endosfm3d/odometry']) == 0
    said = capsys.readouterr().out
    assert 'depth /left/endosfm3d/depth/image' in said and '/right' not in said


def test_light_falloff_counts_the_pictures_that_it_had(tmp_path, capsys):
    whole, bag = write_run(tmp_path / 'whole.mcap'), tmp_path / 'run.mcap'
    rgb = '/endosfm3d/rgb/image'
    with McapWriter(bag) as out:
        copy(whole, out, [topic for topic in RunBag(whole).topics if topic != rgb])
        for one in list(RunBag(whole).messages(rgb))[:12]:
            out.write(rgb, 'sensor_msgs/msg/Image', one.raw, one.log_time_ns, one.log_time_ns)
    truth = write_folder(tmp_path / 'truth')
    assert main(['evaluate', str(bag), '--truth', str(truth)]) == 0
    assert 'light falloff, 12 images' in capsys.readouterr().out
    assert main(['report', str(bag), '--truth', str(truth)]) == 0
    assert re.search('Light falloff, <[^>]+>12</data> images', (tmp_path / 'run.html').read_text())


def test_depth_a_tenth_too_large_is_a_matter_of_scale_and_told_unscaled(tmp_path):
    found = evaluated(tmp_path, Mistakes(depth=1.1))
    assert found['depth']['abs_rel'] == pytest.approx(0, abs=1e-5)
    assert found['depth']['scale'] == pytest.approx(1 / 1.1, rel=1e-5)
    assert found['depth_unscaled']['abs_rel'] == pytest.approx(0.1, rel=1e-4)
    assert found['depth_unscaled']['rmse_log'] == pytest.approx(np.log(1.1), rel=1e-4)
    assert found['depth_unscaled']['delta1'] == 1.0


def test_a_focal_length_five_per_cent_too_long_is_told_unscaled_at_every_moment(tmp_path):
    found = evaluated(tmp_path, Mistakes(focal=1.05))
    for name in ('fx', 'fy', 'focal_bias', 'focal_worst'):
        assert found['intrinsics'][name] == pytest.approx(0.05)
    assert found['intrinsics']['cx'] == pytest.approx(0)
    assert found['intrinsics']['zoom'] == pytest.approx(0, abs=1e-9)
    assert found['over_time']['fx'] == pytest.approx([0.05] * 30)
    assert found['depth']['abs_rel'] == pytest.approx(0, abs=1e-5)  # which pixel is which: as ever


def test_every_other_camera_half_a_millimetre_aside(tmp_path):
    found = evaluated(tmp_path, Mistakes(offset=(0.5, 0.0, 0.0)))
    wrong = true_cameras(30)[:, :3, 3].copy()
    wrong[1::2, 0] += 0.5
    truth = true_cameras(30)[:, :3, 3]
    left = align(wrong, truth).points(wrong) - truth
    assert found['trajectory']['ate_sim3'] == pytest.approx(np.sqrt((left**2).sum(1).mean()))
    # +-0.25 mm about the mean, less what the bent path lets the alignment hide
    assert found['trajectory']['ate_se3'] == pytest.approx(0.25, rel=0.02)
    # every step errs by 0.5 mm; the Sim(3)'s scale, close to 1, changes it a little
    assert found['trajectory']['rpe_translation'] == pytest.approx(0.5, rel=0.02)
    assert found['trajectory']['snippet_rmse'] == pytest.approx(
        found['trajectory']['snippet_ate'] * np.sqrt(5)
    )


def test_dropped_frames_are_counted_and_change_no_error(tmp_path):
    kept = tuple(n for n in range(30) if n not in (4, 5, 17))
    found = evaluated(tmp_path, Mistakes(frames=kept))
    assert (found['matched'], found['unmatched'], found['truth_unmatched']) == (27, 0, 3)
    assert found['trajectory']['rpe_translation'] == pytest.approx(0, abs=1e-9)
    assert found['intrinsics']['fx'] == pytest.approx(0, abs=1e-12)
    assert found['depth']['abs_rel'] == pytest.approx(0, abs=1e-5)


def test_stamps_two_frames_late_on_one_clock_meet_the_truth_of_two_frames_later(tmp_path):
    truth = write_bag(tmp_path / 'truth.mcap')
    found = evaluated(tmp_path, Mistakes(late_ns=2 * FRAME_NS), truth)
    assert (found['matched'], found['unmatched'], found['truth_unmatched']) == (28, 2, None)
    # frame n of the run stands beside frame n + 2 of the truth
    zoom = 1 + 0.2 * np.sin(np.arange(30) / 6)
    assert found['intrinsics']['fx'] == pytest.approx(np.abs(zoom[:-2] / zoom[2:] - 1).mean())
    assert found['intrinsics']['zoom_lag'] == pytest.approx(0.08, abs=0.01)


def test_stamps_a_third_of_a_frame_late_meet_the_same_frames_of_a_folder(tmp_path):
    truth = write_folder(tmp_path / 'truth', first_s=made_truth.FIRST_NS * 1e-9)
    found = evaluated(tmp_path, Mistakes(late_ns=FRAME_NS // 3), truth)
    assert (found['matched'], found['unmatched'], found['matched_by']) == (30, 0, 'one clock')
    assert found['intrinsics']['fx'] == 0.0


def test_stamps_a_third_of_a_frame_late_are_behind_the_poses_of_a_bag(tmp_path):
    """A third of each step of the truth's, but for the last picture, behind all poses."""
    truth = write_bag(tmp_path / 'truth.mcap')
    found = evaluated(tmp_path, Mistakes(late_ns=FRAME_NS // 3), truth)
    assert (found['matched'], found['unmatched'], found['intrinsics']['fx']) == (29, 1, 0.0)
    assert 0.01 < found['trajectory']['ate_se3'] < 0.4
    assert found['truth_placed']['longest_gap_ms'] == 40.0


def test_two_videos_are_summed_up_frame_by_frame_and_video_by_video(tmp_path, capsys):
    truth = write_folder(tmp_path / 'truth')
    bags = [
        write_run(tmp_path / 'good.mcap', Mistakes(frames=tuple(range(20)))),
        write_run(tmp_path / 'bad.mcap', Mistakes(focal=1.1, frames=tuple(range(10)))),
    ]
    out = tmp_path / 'errors.json'
    arguments = [*map(str, bags), '--truth', str(truth), str(truth), '--json', str(out)]
    assert main(['evaluate', *arguments]) == 0
    fx = json.loads(out.read_text())['all']['fx']
    assert fx['per_frame']['mean'] == pytest.approx(0.1 * 10 / 30)
    assert fx['per_video']['mean'] == pytest.approx(0.1 / 2)
    half = 12.7062 * 0.05  # of two videos
    ends = pytest.approx((0.05 - half, 0.05 + half), rel=1e-4)
    assert (fx['per_video']['low'], fx['per_video']['high']) == ends
    assert 'all videos' in capsys.readouterr().out


@pytest.mark.parametrize('spoilt', ['cut', 'empty', 'renamed'])
def test_a_spoilt_truth_is_one_clear_line(tmp_path, spoilt, capsys):
    bag = write_run(tmp_path / 'run.mcap', Mistakes(frames=(0, 1, 2)))
    path = write_folder(tmp_path / 'truth', 3) / 'truth.npz'
    stored = path.read_bytes()
    if spoilt == 'renamed':
        np.save(tmp_path / 'one.npy', np.zeros(3))
        stored = (tmp_path / 'one.npy').read_bytes()
    path.write_bytes({'cut': stored[: len(stored) // 2], 'empty': b''}.get(spoilt, stored))
    assert main(['evaluate', str(bag), '--truth', str(path.parent)]) == 1
    error = capsys.readouterr().err
    assert f'{path}: no archive of arrays' in error and error.count('\n') == 1


@pytest.mark.parametrize(
    ('name', 'spoil', 'said'),
    [
        ('T_world_cam', lambda T: T.transpose(0, 2, 1), 'T_world_cam of frame 1 is no rigid'),
        ('T_world_cam', lambda T: T * [1, 1, -1, 1], 'T_world_cam of frame 0 is no rigid'),
        ('T_world_cam', lambda T: T * [2, 2, 2, 1], 'T_world_cam of frame 0 is no rigid'),
        ('T_world_cam', lambda T: np.where(T == 2.0, np.nan, T), 'T_world_cam of frame 2 is no'),
        ('K', lambda K: np.where(K == 1.0, K, K * [1, np.nan, 1]), 'K of frame 0 is none'),
        ('K', lambda K: K * 0.0, 'K of frame 0 is none'),
        ('stamps', lambda stamps: stamps * [1, np.nan, 1], 'stamps must rise'),
    ],
)
def test_a_truth_that_is_none_is_not_compared_with(tmp_path, name, spoil, said, capsys):
    """Transposed motions all lie at one place, where every path is perfect up to scale."""
    bag = write_run(tmp_path / 'run.mcap', Mistakes(frames=(0, 1, 2)))
    path = write_folder(tmp_path / 'truth', 3) / 'truth.npz'
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **arrays | {name: spoil(arrays[name])})
    assert main(['evaluate', str(bag), '--truth', str(path.parent)]) == 1
    error = capsys.readouterr().err
    assert f'{path}: {said}' in error and error.count('\n') == 1


def test_depth_of_a_frame_that_is_not_there_is_named(tmp_path, capsys):
    bag = write_run(tmp_path / 'run.mcap', Mistakes(frames=(0, 1, 2)))
    folder = write_folder(tmp_path / 'truth', 3)
    (folder / 'depth' / '0002.png').rename(folder / 'depth' / '0003.png')
    assert main(['evaluate', str(bag), '--truth', str(folder)]) == 1
    assert '0003.png: there are 3 frames only' in capsys.readouterr().err


def test_a_bag_s_pose_without_a_turn_is_named(tmp_path, monkeypatch, capsys):
    bag = write_run(tmp_path / 'run.mcap', Mistakes(frames=(0, 1, 2)))
    monkeypatch.setattr(made_truth, 'quaternion', lambda R: (0.0, 0.0, 0.0, 0.0))
    truth = write_bag(tmp_path / 'truth.mcap', 3)
    assert main(['evaluate', str(bag), '--truth', str(truth)]) == 1
    error = capsys.readouterr().err
    assert 'of topic /ground_truth/pose message 0 is no rigid motion' in error
    assert error.count('\n') == 1


@pytest.mark.parametrize(
    ('truth', 'options', 'said'),
    [
        ('nowhere', [], 'no such truth'),
        ('folder', ['--protocol', 'kitti'], "no protocol 'kitti'; there are c3vd"),
        ('folder', ['--truth-topic', 'pose=/x'], 'is for bags'),
        ('bag', ['--truth-topic', 'pose=/ground_truth/camera_info'], 'pose needs a topic of'),
        ('bag', ['--truth-topic', 'poses=/x'], "no part 'poses' of a truth"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, truth, options, said, capsys):
    path = tmp_path / 'nowhere'
    if truth == 'folder':
        path = write_folder(tmp_path / 'truth', 3)
    elif truth == 'bag':
        path = write_bag(tmp_path / 'truth.mcap', 3)
    bag = write_run(tmp_path / 'run.mcap', Mistakes(frames=(0, 1, 2)))
    assert main(['evaluate', str(bag), '--truth', str(path), *options]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
