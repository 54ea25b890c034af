# SPDX-License-Identifier: Apache-2.0
import argparse
import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from made_run import START_NS, reconstruction, write_run, write_truth

from endosfm3d_ros.bags.reading import RunBag
from endosfm3d_ros.bags.recording import McapWriter
from endosfm3d_ros.cli import main
from endosfm3d_ros.evaluation.compare import compare
from endosfm3d_ros.evaluation.truth import read_truth_folder as read_truth
from endosfm3d_ros.report import build, charts, sections
from endosfm3d_ros.report.build import build_report
from endosfm3d_ros.report.command import add_arguments
from endosfm3d_ros.report.command import run as report
from endosfm3d_ros.report.run import read_run
from endosfm3d_ros.report.summary import summarise

FACTS = {
    'clip': '/home/somebody/<clip>.mp4',
    'frames': {'sent': 45},
    'cpu_ms_per_frame': {'player': 4.0, 'node': 22.0, 'recorder': 6.0},
    'machine': {'cores': 2, 'load_average_1min_before': 0.25},
    'versions': {'numpy': '2.0'},
}


class Page(HTMLParser):
    """Collects what a browser would load, the figures, and the tags left open."""

    VOID = frozenset({'meta', 'img'})

    def __init__(self, text):
        super().__init__()
        self.loaded, self.figures, self.open, self.tags, self.words = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.loaded += [
            values[name] for name in ('src', 'href', 'srcset', 'action') if name in values
        ]
        if tag == 'data':
            self.figures.append([values['data-key'], values['value'], ''])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == 'data':
            self.figures[-1][2] += data
        if not {'style', 'script'} & set(self.open):
            self.words.append(data)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def made(tmp_path, frames, truth=False, **options):
    run = read_run(write_run(tmp_path / 'run.mcap', frames), FACTS)
    evaluation = None
    if truth:
        evaluation = compare(
            run.estimate,
            run.depth_pictures(),
            read_truth(write_truth(tmp_path / 'truth', len(frames))),
        )
    build_report(run, tmp_path / 'report.html', evaluation=evaluation, **options)
    return (tmp_path / 'report.html').read_text(encoding='utf-8'), summarise(run, evaluation)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    frames = [reconstruction(number, valid=number not in (7, 8)) for number in range(40)]
    return made(tmp_path_factory.mktemp('page'), frames, truth=True)


def test_nothing_is_loaded_from_outside(whole):
    text, _ = whole
    assert all(address.startswith('data:image/') for address in Page(text).loaded)
    assert not re.search(
        r'https?:|url\(|@import|fetch\(|XMLHttpRequest|WebSocket|//[a-z]+\.', text
    )


def test_tags_are_closed_and_the_clip_s_name_is_no_markup(whole):
    text, _ = whole
    assert Page(text).open == []
    assert '&lt;clip&gt;.mp4' in text
    assert '<clip>' not in text
    assert 'somebody' not in text


def test_every_figure_is_the_summary_s(whole):
    text, summary = whole
    figures = Page(text).figures
    assert len(figures) > 60
    for key, stored, shown in figures:
        value = summary
        for name in key.split('.'):
            value = value[name]
        if value is None:
            assert (stored, shown) == ('', '–'), key
            continue
        assert float(stored) == value, key
        digits = len(shown.partition('.')[2])
        read = float(shown.replace('−', '-'))
        assert any(
            abs(read - value * factor) <= 0.5000001 * 10.0**-digits for factor in (1, 100, 1000)
        ), (key, shown, value)


def test_what_must_be_said_is_said(whole):
    text, summary = whole
    assert 'Research software, not a medical device.' in text
    assert summary['scale']['statement'] in text
    assert 'nominal mm' in text


def test_a_page_without_pictures_holds_none(tmp_path):
    text, _ = made(
        tmp_path, [reconstruction(number) for number in range(10)], truth=True, pictures=False
    )
    assert 'data:image' not in text
    assert 'img' not in Page(text).tags
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert data['clouds'] == []
    assert not re.search(r'[A-Za-z0-9+/]{200,}', text)  # nothing in base64
    assert 'Focal lengths' in text  # the curves stay


def test_the_cloud_on_the_page_is_the_depth(whole):
    text, _ = whole
    cloud = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])['clouds'][0]
    said = reconstruction(0)
    depth = np.frombuffer(base64.b64decode(cloud['depth']), '<u2').reshape(48, 60) * cloud['step']
    np.testing.assert_allclose(depth, np.nan_to_num(said.depth), atol=cloud['step'])
    assert (cloud['fx'], cloud['cx']) == (
        pytest.approx(said.camera.fx, abs=1e-4),
        pytest.approx(said.camera.cx, abs=1e-4),
    )


@pytest.mark.parametrize('frames', [
    [reconstruction(0)],
    [reconstruction(number, valid=False) for number in range(6)],
    [reconstruction(0, valid=False)],
    [],
], ids=['one frame', 'no valid frame', 'one invalid frame', 'no frame'])  # fmt: skip
def test_a_poor_run_still_makes_a_page(tmp_path, frames):
    path = tmp_path / 'run.mcap'
    run = read_run(write_run(path, frames), FACTS)
    assert len(run.rows) == len(frames)
    build_report(run, tmp_path / 'report.html')
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    page = Page(text)
    assert page.open == []
    assert not re.search(r'\bnan\b|\binf\b|None', ' '.join(page.words))
    assert not re.search(r' (d|x|y|width|height|style)="[^"]*\b(nan|inf)\b', text)
    json.dumps(summarise(run), allow_nan=False)


def page_of(tmp_path, frames, **options):
    run = read_run(write_run(tmp_path / 'run.mcap', frames, **options))
    build_report(run, tmp_path / 'report.html')
    return (tmp_path / 'report.html').read_text(encoding='utf-8')


def test_pictures_are_as_tall_for_their_width_as_the_input_s_whatever_the_network_s_are(tmp_path):
    tall = reconstruction(0).input_camera.resized(480, 640)
    said = replace(reconstruction(0), input_camera=tall, camera=tall.resized(60, 48))
    text = page_of(tmp_path, [said])
    addresses = re.findall(r'src="data:image/\w+;base64,([^"]+)"[^>]+width="60" height="80"', text)
    stored = [np.frombuffer(base64.b64decode(one), np.uint8) for one in addresses]
    assert [cv2.imdecode(one, cv2.IMREAD_COLOR).shape for one in stored] == [(80, 60, 3)] * 3


def test_a_moment_s_depth_is_in_the_unit_of_its_time(tmp_path):
    frames = [reconstruction(number) for number in range(40)]
    text = page_of(tmp_path, frames, anchored=(30, 5.0))
    assert re.findall(r'Depth, ([a-z ]+)</b>', text) == ['mm', 'nominal mm']
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert {cloud['unit'] for cloud in data['clouds']} == {'mm', 'nominal mm'}
    assert data['path']['unit'] == 'mm'
    assert [len(piece) for piece in data['path']['run']] == [10]  # what came before is not in mm


def test_a_truth_of_frames_whose_lengths_were_withheld_makes_a_page_without_a_path(tmp_path):
    frames = [reconstruction(number) for number in range(20)]
    run = read_run(write_run(tmp_path / 'run.mcap', frames, withheld=10))
    truth = read_truth(write_truth(tmp_path / 'truth', 10))
    evaluation = compare(run.estimate, run.depth_pictures(), truth)
    build_report(run, tmp_path / 'report.html', evaluation=evaluation)
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert 'id="path"' not in text and 'no path to compare' in text


def test_why_there_is_no_picture_is_told(tmp_path):
    frames = [reconstruction(number) for number in range(5)]
    text = page_of(tmp_path, frames, withheld=5)
    assert 'depth of every frame was withheld' in text and 'id="path"' not in text
    assert text.count('Not told in any') == 2
    assert 'depth image in the recorder, of its status where depth was withheld' in text
    (tmp_path / 'run.mcap').unlink()
    text = page_of(tmp_path, frames, left_out=('rgb/image',))
    assert 'No frame was recorded with picture, depth and confidence' in text
    assert 'of its status' not in text
    assert 'No frame was answered' not in text


@pytest.mark.parametrize('name', ['odometry', 'input/camera_info'])
def test_what_a_bag_lacks_is_named_and_not_taken_for_no_answer(tmp_path, name):
    frames = [reconstruction(number) for number in range(5)]
    text = page_of(tmp_path, frames, left_out=(name,))
    lacks = f'No frame has all its outputs in the bag, which lacks /endosfm3d/{name}'
    assert text.count(lacks) == 2 and 'No frame was answered' not in text


def test_frames_that_were_recorded_in_part_were_answered(tmp_path):
    frames = [reconstruction(number) for number in range(12)]
    whole = RunBag(write_run(tmp_path / 'whole.mcap', frames))
    with McapWriter(tmp_path / 'run.mcap') as bag:
        for topic in whole.topics:
            for number, one in enumerate(whole.messages(topic)):
                if topic != '/endosfm3d/odometry' or number > 1:
                    kind = whole.topics[topic].type_name
                    bag.write(topic, kind, one.raw, one.log_time_ns, one.publish_time_ns)
    run = read_run(tmp_path / 'run.mcap', {'frames': {'sent': 15}})
    build_report(run, tmp_path / 'report.html')
    told = summarise(run)['frames']
    assert [told[one] for one in ('out', 'incomplete', 'unanswered')] == [10, 2, 1]
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert '>2</data></b> not whole in the bag' in text


def test_pictures_and_curves_count_from_the_same_frame(tmp_path):
    frames = [reconstruction(number, valid=number >= 50) for number in range(60)]
    text = page_of(tmp_path, frames)
    assert re.findall(r'<figcaption><span>([\d.]+ s)</span>', text)[0] == '2.0 s'
    assert re.findall(r'data-moment="0">([\d.]+ s)</button>', text) == ['2.0 s']


def cells_of(tmp_path, monkeypatch, frames, **facts):
    cells, timeline = [], charts.timeline
    monkeypatch.setattr(
        charts, 'timeline', lambda title, slots, *rest: (
            cells.extend(slots) or timeline(title, slots, *rest)
        )
    )  # fmt: skip
    run = read_run(write_run(tmp_path / 'run.mcap', frames), facts)
    build_report(run, tmp_path / 'report.html')
    return cells


@pytest.mark.parametrize('facts', [{}, {'rate_hz': 25.0}])
def test_stamps_in_whole_ten_milliseconds_or_a_slow_clock_leave_no_cell_empty(
    tmp_path, monkeypatch, facts
):
    frames = [reconstruction(number) for number in range(40)]
    ms = [number * 100 // 3 // 10 * 10 if not facts else number * 44 for number in range(40)]
    frames = [
        replace(one, stamp_ns=START_NS + at * 1_000_000)
        for one, at in zip(frames, ms, strict=True)
    ]
    assert cells_of(tmp_path, monkeypatch, frames, **facts) == ['valid'] * 40


def test_frames_that_are_missing_leave_their_cells_empty(tmp_path, monkeypatch):
    frames = [reconstruction(number) for number in range(20) if number not in (5, 6, 11)]
    cells = cells_of(tmp_path, monkeypatch, frames)
    assert [number for number, cell in enumerate(cells) if not cell] == [5, 6, 11]


def test_curves_begin_anew_with_an_epoch_and_its_zoom_at_one_as_the_truth_s(tmp_path):
    frames = [reconstruction(number) for number in range(20)]
    frames[10:] = [replace(one, epoch=1, zoom=one.zoom / 1.1) for one in frames[10:]]
    text, _ = made(tmp_path, frames, truth=True)
    lines = re.findall(r'class="line [^"]+" d="([^"]+)"', text)
    assert [line.count('M') for line in lines] == [2] * 11  # of K and its truth, zoom, tracks
    zoom = re.search(r'Zoom since the start of each epoch.*?</figure>', text, re.S)[0]
    told, true = (
        [float(number) for number in re.findall(r'[\d.]+', line)]
        for line in re.findall(r'class="line [^"]+" d="([^"]+)"', zoom)
    )
    assert told == pytest.approx(true, abs=0.2)


def test_a_thinned_path_ends_where_the_camera_does(tmp_path, monkeypatch):
    monkeypatch.setattr(build, 'MOST_PATH_POINTS', 10)
    frames = [reconstruction(number) for number in range(40)]
    frames[38:] = [replace(one, epoch=1) for one in frames[38:]]
    text, _ = made(tmp_path, frames, pictures=False)
    drawn = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])['path']['run']
    assert [(piece[0][0], piece[-1][0]) for piece in drawn] == [(0.0, 37.0), (38.0, 39.0)]
    assert len(drawn[0]) == 11


def test_a_clock_that_jumps_there_and_back_makes_a_page_of_its_usual_size(tmp_path, monkeypatch):
    cells, timeline = [], charts.timeline
    monkeypatch.setattr(
        charts, 'timeline', lambda title, slots, *rest: (
            cells.append(len(slots)) or timeline(title, slots, *rest)
        )
    )  # fmt: skip
    frames = [reconstruction(number) for number in range(10)]
    late = [replace(one, stamp_ns=one.stamp_ns + 10**14) for one in frames]  # by 28 hours
    text = page_of(tmp_path, [*frames, *late, *frames])
    assert cells[0] <= sections.MOST_CELLS + 1
    assert '10</data> frames bear a stamp that came before' in text
    assert 'No frame was answered' not in text


def test_stamps_ahead_of_the_recorder_s_clock_are_told(tmp_path):
    frames = [reconstruction(number) for number in range(10)]
    run = read_run(write_run(tmp_path / 'run.mcap', frames, latency_ms=-3000))
    build_report(run, tmp_path / 'report.html')
    assert summarise(run)['latency_ms']['ahead'] == 10
    assert "ahead of the recorder's clock" in (tmp_path / 'report.html').read_text()


def test_under_stamps_of_another_time_no_latency_is_told(tmp_path):
    """`ros2 bag play` sends pictures under the stamps of last month."""
    frames = [reconstruction(number) for number in range(10)]
    run = read_run(write_run(tmp_path / 'run.mcap', frames, latency_ms=30 * 86_400_000))
    build_report(run, tmp_path / 'report.html')
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert summarise(run)['latency_ms']['p50'] is None
    assert 'the stamps are of another time</dd>' in text and 'Frames by latency' not in text
    assert 'Latency was not measured: the stamps are of another time' in text


def test_a_noisy_run_of_large_pictures_stays_below_6_mb(tmp_path):
    rng = np.random.default_rng(0)
    frames = []
    for number in range(6):
        one = reconstruction(number)
        noise = {
            'image': rng.integers(0, 255, (480, 640, 3), dtype=np.uint8),
            'depth': rng.uniform(20, 90, (480, 640)).astype(np.float32),
            'confidence': rng.random((480, 640), np.float32),
        }
        frames.append(replace(one, camera=one.input_camera, **noise))
    made(tmp_path, frames)
    assert (tmp_path / 'report.html').stat().st_size < 6e6


@pytest.mark.parametrize('folder', ['.', '/'])
def test_a_folder_in_place_of_a_bag_is_one_clear_line(tmp_path, capsys, folder):
    truth = str(write_truth(tmp_path / 'truth', 2))
    for command in ('report', 'evaluate'):
        assert main([command, folder, '--truth', truth]) == 1
        assert f': {folder}: a folder; give the .mcap file in it\n' in capsys.readouterr().err


def test_the_command_writes_page_and_figures(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    bag = write_run(tmp_path / 'run.mcap', [reconstruction(number) for number in range(10)])
    truth = write_truth(tmp_path / 'truth', 10)
    assert report(parser.parse_args([str(bag), '--truth', str(truth)])) == 0
    summary = json.loads((tmp_path / 'run.json').read_text())
    assert math.isclose(summary['evaluation']['trajectory']['scale'], 7.0, rel_tol=1e-6)
    assert report(parser.parse_args([str(tmp_path / 'none.mcap')])) == 1
    assert 'none.mcap' in capsys.readouterr().err
