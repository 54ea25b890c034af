# SPDX-License-Identifier: Apache-2.0
"""The bench says what happened; no test asserts how long anything took."""

import json
import threading
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bench import engines, live, messages, paper, picture, soak
from bench.frames import ReadyFrames
from endosfm3d_ros import bench as user
from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.cli import main
from endosfm3d_ros.core.picture.field_of_view import find_field_of_view
from endosfm3d_ros.engines import loading
from endosfm3d_ros.engines.loading import Options

S, MS = 1_000_000_000, 1_000_000


def test_the_user_s_bench_times_every_stage_and_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'bench.json'
    words = ['bench', '--frames', '2', '--out', str(out), '--set', 'model=photometric']
    assert main(words) == 0
    found = json.loads(out.read_text())
    stages = found['stages']['720p']
    assert {'decode', 'step', 'step: depth', 'messages', 'messages: points'} <= stages.keys()
    assert all(one['cpu'] >= 0 and one['p50'] <= one['p99'] for one in stages.values())
    assert found['engines']['openvino']['ready_s'] > 0
    said = capsys.readouterr().out
    assert 'openvino' in said and 'tensorrt' in said
    assert main(['bench', '--set', 'model=nonesuch']) == 1


def test_the_bench_s_pictures_look_like_a_scope_s_output() -> None:
    pictures = user.endoscope_pictures(1280, 720, 2)
    assert [p.shape for p in pictures] == [(720, 1280, 3)] * 2
    field = find_field_of_view(pictures[0])
    assert field.circle is not None and abs(field.circle[0] - 640) < 40
    stop = threading.Event()
    frames = iter(ReadyFrames([*pictures, pictures[0]], 25.0, stop))
    shown = [frame.image for frame in islice(frames, 5)]
    assert shown[0] is shown[4] and shown[1] is shown[3]
    stop.set()
    assert next(frames, None) is None


def a_run(rate: float = 30.0, seconds: float = 40.0, slower: float = 0.0) -> dict[str, Any]:
    """What player, listener and the watched process would have left."""
    begin, period = 100 * S, round(S / rate)
    stamps = list(range(begin - S, begin + round(seconds * S), period))
    answered = stamps[::2]
    ages = [round((20 + slower * i / len(answered)) * MS) for i in range(len(answered))]
    came = [(stamp, stamp + age) for stamp, age in zip(answered, ages, strict=True)]
    samples = [
        {
            'clock_ns': begin + s * S, 'cpu_ms': 1000.0 + 300.0 * s,
            'rss_mb': 400 + s / 60, 'own_mb': 300.0,
        }
        for s in range(0, int(seconds), 5)
    ]  # fmt: skip
    said = {'player': {'stamps_ns': stamps}, 'listener': {'heard': {'depth/image': came}}}
    window = {'begin': samples[0], 'end': samples[-1], 'samples': samples}
    return {'said': said, 'window': window, 'begun': begin - 3 * S}


def test_live_figures_are_of_what_was_answered_in_the_stretch() -> None:
    run = a_run()
    row = live._figures(run['said'], run['window'], run['begun'])
    assert row['dropped_share'] == pytest.approx(0.5, abs=0.01)
    assert row['rate_hz'] == pytest.approx(15.0, abs=0.1)
    assert row['cpu_ms'] == pytest.approx(300 / 15, rel=0.01)
    assert row['latency_ms']['p50'] == pytest.approx(20.0, abs=0.1)
    assert row['first_depth_s'] == pytest.approx(2.02, abs=0.01)
    table = live.as_table([{'case': asdict(live.Case()), 'load': 1.0, **row}])
    assert 'compact, auto, all | 720p25' in table and '20 / 20 / 20' in table


def test_the_soak_finds_a_leak_and_a_slowing_down(monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(slower=10.0)
    row = {
        'case': asdict(live.Case()), 'load': 1.0,
        **live._figures(run['said'], run['window'], run['begun']),
        **live._course(run['said'], run['window']),
    }  # fmt: skip
    monkeypatch.setattr(soak, 'measure', lambda case, sample_s: dict(row))
    found = soak.soak(live.Case(rate=30.0), minutes=35 / 60)
    assert found['slope_mb_per_min'] == pytest.approx(1.0, rel=0.01)
    assert found['p50_ratio'] == pytest.approx(29 / 21.5, rel=0.05)
    assert found['own_slope_mb_per_min'] == pytest.approx(0.0, abs=1e-6)
    assert found['cpu_ratio'] == pytest.approx(1.0, abs=0.05)  # the node itself is no slower
    assert '+1.000 MB/min' in soak.as_text(found)


def test_messages_ours_and_usual_are_the_same_messages() -> None:
    said = messages._reconstruction(np.zeros((48, 60, 3), np.uint8))
    head = messages.header(1, 'camera')
    assert messages.depth_message(said.depth, head).encoding == '32FC1'
    assert len(messages.points_message(said, head).data) == 48 * 60 * 16
    rows = messages.measure(runs=1)
    assert [row['outputs'] for row in rows] == list(messages.SIZES)
    assert 'network size' in messages.as_table(rows)


def test_a_runtime_that_is_not_here_is_a_row_that_says_so(tmp_path: Path) -> None:
    rows = engines.measure('photometric', runs=2)
    by_way = {row['way']: row for row in rows}
    assert by_way['openvino, 1 thread']['error'] < 1e-3
    assert by_way['openvino, 1 thread']['runtime'].startswith('OpenVINO 20')
    assert {'onnxruntime, 2 threads', 'onnxruntime-cuda', 'tensorrt'} <= by_way.keys()
    table = engines.as_table(rows)
    assert table.count('\n') == len(rows) + 1
    found = {
        'machine': user.machine(), 'engines': rows,
        'live': [{
            'case': asdict(live.Case()), 'answered': 10, 'cpu_ms': 30.0, 'rate_hz': 25.0,
        }],
    }  # fmt: skip
    picture.draw(found, tmp_path / 'bench.png')
    drawn = cv2.imread(str(tmp_path / 'bench.png'))
    assert drawn is not None and drawn.shape[1] == picture.WIDTH


def test_where_there_is_a_gpu_the_reference_and_the_threads_are_still_the_cpu_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def made(graph: Graph, kind: str, options: Options) -> Any:
        asked.append((kind, options.threads))
        return loading.make(graph, 'onnxruntime-cpu', options)

    monkeypatch.setattr(engines, 'make', made)
    engines.measure('photometric', runs=1)
    assert asked == [
        ('onnxruntime-cpu', 1),  # the reference
        ('openvino', 1), ('openvino', 2), ('onnxruntime-cpu', 1), ('onnxruntime-cpu', 2),
        ('tensorrt', 0), ('onnxruntime-cuda', 0),
    ]  # fmt: skip


def test_a_torch_that_can_not_compile_is_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(picture: np.ndarray) -> np.ndarray:
        raise RuntimeError('no working C++ compiler')

    monkeypatch.setattr(engines, '_ways', lambda bundle: [('torch.compile', lambda: ('', fail))])
    (row,) = engines.measure('photometric', runs=1)
    assert row['missing'] == 'no working C++ compiler'


def test_the_torch_form_of_the_shipped_network_says_what_the_graph_says() -> None:
    pytest.importorskip('torch', reason='the baselines need torch: make setup-training')
    from bench.torch_network import shipped_network

    shipped_network()  # holds itself against the graph, or raises


@pytest.mark.slow
def test_the_paper_networks_run_in_every_way() -> None:
    pytest.importorskip('torch', reason='the baselines need torch: make setup-training')
    rows = paper.measure(runs=1)
    assert len({row['way'] for row in rows}) == len(rows) == 5
    assert all(row['p50'] > 0 and row['cpu'] > 0 for row in rows)
    (eager,) = (row for row in rows if row['way'] == paper.EAGER)
    assert eager['ratio'] == 1.0
    assert paper.as_table(rows).count('\n') == len(rows) + 1


def test_the_plain_node_tells_how_its_camera_moved() -> None:
    pytest.importorskip('torch', reason='the plain node needs torch: make setup-training')
    pytest.importorskip('rclpy')
    from bench.plain_node import FOCAL, SIZE, RgbdOdometry

    width, height = SIZE
    coarse = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    wall = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
    away_m, step_m = 0.1, 0.001
    shift = np.array([[1, 0, -FOCAL * step_m / away_m], [0, 1, 0]])  # the wall goes to the left
    odometry, metres = RgbdOdometry(), np.full((height, width), away_m, np.float32)
    odometry.take(wall, metres)
    odometry.take(cv2.warpAffine(wall, shift, SIZE, borderMode=cv2.BORDER_REFLECT), metres)
    assert odometry.T_odom_cam[:3, 3] == pytest.approx([step_m, 0, 0], abs=0.1 * step_m)
