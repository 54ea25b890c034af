# SPDX-License-Identifier: Apache-2.0
"""The offline replay: the same words twice, for every kind of input, and clear refusals."""

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader

from endosfm3d_ros import dds, doctor, parameters
from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.cli import COMMANDS, main
from endosfm3d_ros.engines import cuda, loading
from endosfm3d_ros.engines.engine import Engine, EngineError
from endosfm3d_ros.outputs import PRIVATE_TOPICS
from endosfm3d_ros.share import own_command

FRAMES = 12
README = (Path(__file__).parents[1] / 'README.md').read_text()
COMPILE = 'endosfm3d compile compact'


def picture(number: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(40, 220, (40, 60, 3)).astype(np.uint8)
    large = cv2.resize(coarse, (600, 400), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(large[40:296, 2 * number : 2 * number + 320])


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp('pictures')
    for number in range(FRAMES):
        cv2.imwrite(str(made / f'{number}.png'), picture(number))
    return made


def payloads(bag: Path) -> list[tuple[str, int, bytes]]:
    with bag.open('rb') as file:
        return [
            (c.topic, m.log_time, m.data)
            for _, c, m in make_reader(file).iter_messages(log_time_order=False)
        ]


def test_two_replays_say_the_same_to_the_byte(folder: Path, tmp_path: Path) -> None:
    for name in ('first', 'second'):
        assert main(['replay', str(folder), str(tmp_path / f'{name}.mcap'), '--rate', '25']) == 0
    first, second = payloads(tmp_path / 'first.mcap'), payloads(tmp_path / 'second.mcap')
    assert first == second
    counts = {
        topic: sum(t == f'/endosfm3d/{topic}' for t, _, _ in first) for topic in PRIVATE_TOPICS
    }
    assert {topic: n for topic, n in counts.items() if topic != 'path'} == {
        topic: FRAMES for topic in PRIVATE_TOPICS if topic != 'path'
    }
    assert counts['path'] >= 1 and sum(topic == '/tf' for topic, _, _ in first) == FRAMES
    assert min(stamp for _, stamp, _ in first) > 0


def test_a_run_whose_lengths_were_withheld_is_not_taken_for_its_input(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, again = str(tmp_path / 'run.mcap'), tmp_path / 'again.mcap'
    words = ['--rate', '25', '--set', 'require_metric=true']
    assert main(['replay', str(folder), run, *words]) == 0
    capsys.readouterr()
    assert main(['replay', run, str(again)]) == 1  # its one picture is the node's own
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and '--with-input' in said and '--topic' in said
    assert not again.exists()


def test_a_parameter_is_set_and_a_wrong_one_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / 'run.mcap')
    assert main(['replay', str(folder), out, '--rate', '25', '--set', 'tf.mode=none']) == 0
    assert not any(topic == '/tf' for topic, _, _ in payloads(tmp_path / 'run.mcap'))
    for wrong, said in (
        ('tf.mode=sideways', 'none of child'),
        ('speed=3', 'unknown parameter'),
        ('x', 'NAME=VALUE'),
    ):
        assert main(['replay', str(folder), out, '--rate', '25', '--set', wrong]) == 1
        assert said in capsys.readouterr().err


def test_events_are_told_in_one_line_each(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['replay', str(folder), str(tmp_path / 'run.mcap'), '--rate', '10']
    assert main([*words, '--set', 'epoch.gap=0.05']) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == FRAMES - 1  # the first picture has none before it
    assert lines[0].startswith('picture 2: epoch 1: no picture for 0.1 s')


def test_a_camera_that_would_be_its_own_parent_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['replay', str(folder), str(tmp_path / 'run.mcap'), '--rate', '25']
    assert main([*words, '--frame-id', 'odom']) == 1
    error = capsys.readouterr().err
    assert f'{FRAMES} frames were refused' in error and "are both 'odom'" in error


def test_what_is_there_is_replaced_only_when_that_is_asked_for_and_frames_came(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'run.mcap'
    out.write_bytes(b'somebody needs this')
    words = ['replay', str(folder), str(out), '--rate', '25']
    unusable = ['--overwrite', '--frame-id', 'odom']
    for more, said in (([], 'add --overwrite'), (unusable, f'all {FRAMES} frames were refused')):
        assert main([*words, *more]) == 1
        error = capsys.readouterr().err
        assert said in error and error.count('\n') == 1
        assert out.read_bytes() == b'somebody needs this'
    assert main([*words, '--overwrite']) == 0
    assert payloads(out)


@pytest.mark.parametrize('given', ['run.mcap', '.', 'link.mcap'])
def test_a_replay_never_replaces_what_it_reads(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    bag = tmp_path / 'bag' / 'run.mcap'
    bag.parent.mkdir()
    assert main(['replay', str(folder), str(bag), '--rate', '25']) == 0
    if given == 'link.mcap':
        (bag.parent / given).symlink_to(bag)
    before = bag.read_bytes()
    words = ['--topic', '/endosfm3d/rgb/image', '--overwrite']
    assert main(['replay', str(bag.parent / given), str(bag), *words]) == 1
    assert 'this is what is read' in capsys.readouterr().err
    assert bag.read_bytes() == before and not list(bag.parent.glob('*.part'))


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['replay', 'nowhere.mp4', 'out.mcap'], 'nowhere.mp4: no such file'),
        (['replay', '{folder}', 'out.mcap'], 'rate'),
        (['replay', '{folder}', 'out.bag', '--rate', '25'], 'a recording is one .mcap file'),
        (['replay', '{folder}', 'no_such_folder/out.mcap', '--rate', '25'], 'cannot write there'),
        (
            ['replay', '{folder}', 'out.mcap', '--rate', '25', '--set', 'model=nonesuch'],
            "no bundle 'nonesuch'",
        ),
    ],
)
def test_what_can_not_be_replayed_is_said_in_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([word.format(folder=folder) for word in arguments]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1
    assert not list(tmp_path.glob('*.mcap'))


@pytest.mark.skipif(
    not Path('/proc/self').is_dir(), reason='needs a folder that refuses even root'
)
def test_no_permission_to_write_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['replay', str(folder), '/proc/out.mcap', '--rate', '25']) == 1
    assert 'cannot write there' in capsys.readouterr().err


def test_a_truncated_video_gives_what_it_has_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 25, (320, 256))
    for number in range(40):
        writer.write(picture(number % 20))
    writer.release()
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 2 // 3])
    assert main(['replay', str(video), str(tmp_path / 'run.mcap')]) == 0
    frames = sum(topic == '/endosfm3d/status' for topic, _, _ in payloads(tmp_path / 'run.mcap'))
    assert 15 < frames < 40
    assert f'{frames}' in capsys.readouterr().err


@pytest.mark.parametrize('command', sorted(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, '--help'])
    assert end.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_the_doctor_finds_nothing_missing_where_the_tests_run() -> None:
    bad = [finding.text for finding in doctor.examine() if finding.state == 'bad']
    assert all('/dev/shm' in text for text in bad)  # a container may be short of it


def test_the_doctor_names_what_is_missing_and_what_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(doctor.MODULES, 'no_such_module', 'make setup')
    assert main(['doctor', '--no-traffic']) == 1
    said = capsys.readouterr().out
    assert 'bad   the Python module no_such_module is missing\n      run: make setup' in said


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU and no TensorRT."""
    for module in (cuda, loading):
        monkeypatch.setattr(module, 'prove_gpu', lambda: cuda.Gpu('NVIDIA H200', '9.0', '13.0'))
    monkeypatch.setitem(sys.modules, 'tensorrt', None)


def test_beside_a_gpu_the_doctor_says_what_auto_takes_and_what_to_install(gpu: None) -> None:
    (finding,) = doctor._gpu()
    assert finding.state == 'note' and finding.text.startswith('NVIDIA H200, model compact, ')
    assert 'engine auto: OpenVINO' in finding.text and 'built without CUDA' in finding.text
    assert 'TensorRT can not be imported' in finding.text and 'run:' not in finding.text
    install, then = finding.cure.split(', then once: ')
    assert install in README and then == f'{own_command()} compile compact'
    assert COMPILE in README and then.endswith(COMPILE)
    assert parameters.DEFAULTS['model'] == doctor.MODEL


def test_the_doctor_sends_who_has_tensorrt_to_compile_and_leaves_who_compiled_alone(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loading.make

    def uncompiled(graph: Graph, kind: str, options: loading.Options) -> Engine:
        if kind == 'tensorrt':
            raise EngineError(f'depth.onnx is not compiled for this GPU; run: {COMPILE}')
        return made(graph, kind, options)

    monkeypatch.setattr(loading, 'make', uncompiled)
    (finding,) = doctor._gpu()
    assert finding.state == 'note' and finding.cure == COMPILE
    engine = SimpleNamespace(runtime='TensorRT 10.16 (half) on NVIDIA H200')
    monkeypatch.setattr(loading, 'make', lambda graph, kind, options: engine)
    (finding,) = doctor._gpu()
    assert finding.state == 'ok' and not finding.cure and engine.runtime in finding.text


def test_without_a_gpu_the_doctor_says_nothing_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> cuda.Gpu:
        raise EngineError('no CUDA driver')

    monkeypatch.setattr(cuda, 'prove_gpu', none)
    assert not list(doctor._gpu())


@pytest.mark.parametrize(
    ('chosen', 'environment', 'state', 'cure'),
    [
        ('', {}, 'note', 'export FASTRTPS_DEFAULT_PROFILES_FILE=/'),
        ('', {'FASTRTPS_DEFAULT_PROFILES_FILE': '/x'}, 'ok', ''),
        ('rmw_cyclonedds_cpp', {'FASTRTPS_DEFAULT_PROFILES_FILE': '/x'}, 'note', 'file:///'),
        ('rmw_cyclonedds_cpp', {'CYCLONEDDS_URI': '/x'}, 'note', 'rmem_max'),
        ('rmw_cyclonedds_cpp', {'CYCLONEDDS_URI': '/x', 'ROOM': '67108864'}, 'ok', ''),
        ('rmw_zenoh_cpp', {'CYCLONEDDS_URI': '/x'}, 'note', 'unset RMW_IMPLEMENTATION'),
    ],
)
def test_every_middleware_gets_its_own_cure(
    chosen: str, environment: dict[str, str], state: str, cure: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in [name for names in dds.VARIABLES.values() for name in names] + ['ROS_DISTRO']:
        monkeypatch.delenv(name, raising=False)
    for name, value in {'RMW_IMPLEMENTATION': chosen, **environment}.items():
        monkeypatch.setenv(name, value)
    room = tmp_path / 'rmem_max'
    room.write_text(environment.get('ROOM', '212992'))
    monkeypatch.setattr(dds, 'RMEM_MAX', room)
    (finding,) = doctor._transport()
    assert finding.state == state and cure in finding.cure and bool(cure) == bool(finding.cure)


def test_the_doctor_s_socket_is_the_profile_s() -> None:
    profile = Path(__file__).parents[1] / dds.CYCLONE_DDS_PROFILE
    assert f'min="{dds.SOCKET >> 20}MB"' in profile.read_text()
    assert dds.MAKE_ROOM in profile.read_text()


@pytest.mark.parametrize(('room_mib', 'state'), [(63, 'bad'), (64, 'note'), (300, 'ok')])
def test_shared_memory_is_bad_only_where_not_even_one_segment_of_the_profile_fits(
    room_mib: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=room_mib << 20)
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: usage)
    (finding,) = doctor._shared_memory(tmp_path)
    assert finding.state == state and f'{room_mib} MiB free' in finding.text
    assert bool(finding.cure) == (state != 'ok')


def test_the_doctor_s_segment_is_the_profile_s() -> None:
    profile = Path(__file__).parents[1] / 'config' / 'fastdds_large_images.xml'
    assert f'<segment_size>{doctor.SEGMENT}</segment_size>' in profile.read_text()
