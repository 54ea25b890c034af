# SPDX-License-Identifier: Apache-2.0
"""A training that is killed, starved or fed nonsense loses nothing and says why, in one line."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import made_data
import pytest
import yaml

pytest.importorskip('torch', reason='torch trains: make setup-training')

import torch
from accelerate import PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import training.train
from training import __main__ as command_line
from training.checkpoints import TrainingError, latest, save
from training.config import read_config
from training.evaluate import main as evaluate_command
from training.loop import time_left
from training.model import CompactStep
from training.networks_of import paper_model
from training.processes import number_in
from training.prove import prove
from training.train import add_arguments
from training.train import run as train_command

ROOT = Path(__file__).parents[2]


def settings(folder: Path, **changes) -> Path:
    """A configuration of a made-up data set, as small as one can be."""
    data = folder / 'data'
    if not data.exists():
        made_data.hamlyn(data, list(range(7)))
    source = {'reader': 'hamlyn', 'path': str(data), 'scope': 'one'}
    values = {
        'data': {'train': [source], 'validation': [source], 'size': [48, 64],
                 'cache': str(folder / 'cache')},
        'networks': {'depth': 'small', 'motion': 'small', 'focal': 0.8},
        'objective': {'pyramid': 2},
        'loop': {'epochs': 5, 'batch': 2, 'rate': 1e-3, 'validate_every': 4, 'save_every': 2,
                 'say_every': 5, 'metric': 'abs_rel'},
    }  # fmt: skip
    for part, some in changes.items():
        values[part] = {**values[part], **some}
    path = folder / 'config.yaml'
    path.write_text(yaml.safe_dump(values))
    return path


def train(config: Path, run: Path) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return train_command(parser.parse_args([str(config), str(run)]))


def started(config: Path, run: Path) -> subprocess.Popen:
    command = [sys.executable, '-m', 'training', 'train', str(config), str(run)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """As on a disk that is full: files grow to so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def logged(run: Path) -> list[dict]:
    path = run / 'log.jsonl'
    lines = path.read_text().split('\n')[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / 'checkpoints').iterdir())


def test_a_killed_training_goes_on_with_losses_equal_to_the_bit(tmp_path):
    config = settings(tmp_path)
    torch.set_num_threads(1)
    assert train(config, tmp_path / 'whole') == 0
    broken = started(config, tmp_path / 'broken')
    deadline = time.monotonic() + 240
    while len(logged(tmp_path / 'broken')) < 5 and time.monotonic() < deadline:
        assert broken.poll() is None, broken.stdout.read().decode()
        time.sleep(0.02)
    os.kill(broken.pid, signal.SIGKILL)
    assert broken.wait() == -signal.SIGKILL
    assert checkpoints(tmp_path / 'broken')
    resumed = started(config, tmp_path / 'broken')
    assert resumed.wait(timeout=300) == 0, resumed.stdout.read().decode()
    assert b'going on from' in resumed.stdout.read()
    assert logged(tmp_path / 'broken') == logged(tmp_path / 'whole')
    steps = [line['step'] for line in logged(tmp_path / 'whole') if 'loss' in line]
    assert steps == list(range(1, 11))


def test_an_interrupt_says_what_is_kept_and_is_no_traceback(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.train, 'train', interrupted)
    command = ['training', 'train', str(settings(tmp_path)), str(tmp_path / 'run')]
    monkeypatch.setattr(sys, 'argv', command)
    assert command_line.main() == 130
    assert capsys.readouterr().err == (
        'there is no checkpoint yet; the same command goes on\n'
        'python -m training train: interrupted\n'
    )


def test_a_checkpoint_tells_all_of_its_training_and_the_best_is_kept(tmp_path):
    assert train(settings(tmp_path), tmp_path / 'run') == 0
    assert checkpoints(tmp_path / 'run') == ['step_00000008', 'step_00000010']
    facts = json.loads((tmp_path / 'run' / 'best' / 'checkpoint.json').read_text())
    assert facts['config']['networks']['depth'] == 'small'
    assert set(facts) >= {'step', 'epoch', 'metrics', 'commit', 'scopes'}
    validated = [line['validation'] for line in logged(tmp_path / 'run') if 'validation' in line]
    assert facts['metrics']['abs_rel'] == min(one['abs_rel'] for one in validated)
    assert {'photometric', 'abs_rel', 'constant', 'light', 'focal', 'unit_mm'} <= set(validated[0])
    assert list((tmp_path / 'run' / 'tensorboard').iterdir())


def test_a_checkpoint_is_evaluated_clip_by_clip_and_exported_only_with_what_it_was_taught(
    tmp_path, capsys, monkeypatch
):
    assert train(settings(tmp_path, loop={'epochs': 1}), tmp_path / 'run') == 0
    out = tmp_path / 'figures.json'
    best = tmp_path / 'run' / 'best'
    words = ['evaluate', str(best), '--protocol', 'hamlyn', '--json', str(out)]
    monkeypatch.setattr(sys, 'argv', words)
    assert evaluate_command() == 0
    found = json.loads(out.read_text())
    assert set(found['clips']['rectified01']) >= {'abs_rel', 'constant', 'a1', 'focal'}
    assert found['mean']['abs_rel']['mean'] == found['clips']['rectified01']['abs_rel']
    assert 'rectified01' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', [*words[:-1], str(tmp_path / 'gone' / 'figures.json')])
    assert evaluate_command() == 1  # before hours of work, not after them
    said = capsys.readouterr()
    assert 'make it, or choose another' in said.err and not said.out
    with pytest.raises(TrainingError, match='nothing taught its sigma'):
        paper_model(best)


@pytest.mark.parametrize(
    ('intrinsics', 'pair', 'taught'),
    [('tied', 0.0, False), ('given', 0.0, False), ('tied', 0.1, True), ('pair', 0.0, True)],
)
def test_a_focal_length_that_nothing_taught_is_not_exported(
    tmp_path, monkeypatch, intrinsics, pair, taught
):
    pytest.importorskip('peft', reason='the paper networks need peft: make setup-training')
    from tiny import tiny_config

    from training.networks.depth_anything import DepthAnything

    def tiny(imagenet: bool, _: None = None) -> DepthAnything:
        return DepthAnything(imagenet, tiny_config())

    monkeypatch.setattr('training.depth_init.DepthAnything', tiny)
    networks = {
        'depth': 'paper',
        'depth_init': 'none',
        'motion': 'paper',
        'intrinsics': intrinsics,
    }
    config = settings(
        tmp_path, data={'size': [56, 70]}, networks=networks, objective={'pair': pair},
        loop={'epochs': 1},
    )  # fmt: skip
    assert train(config, tmp_path / 'run') == 0
    told = []
    model = paper_model(tmp_path / 'run' / 'best', told.append)
    assert (model.motion is not None) == taught == (not told)
    assert 'hamlyn' in model.card['training_data'] and model.card['metrics']


def test_training_stops_when_validation_gets_no_better(tmp_path, capsys):
    rates = {'rate': 2e-2, 'depth_rate': 2e-2, 'warm_steps': 0, 'late_steps': 0}  # too fast
    loop = {**rates, 'epochs': 40, 'metric': 'photometric', 'patience': 2, 'validate_every': 1}
    config = settings(tmp_path, loop=loop)
    assert train(config, tmp_path / 'run') == 0
    said = capsys.readouterr().out
    assert 'no better photometric for 2 validations' in said
    lines = logged(tmp_path / 'run')
    assert len([line for line in lines if 'loss' in line]) < 80
    assert train(config, tmp_path / 'run') == 0  # and not a step more
    assert 'no better photometric for 2 validations' in capsys.readouterr().out
    assert logged(tmp_path / 'run') == lines


def test_a_metric_that_validation_can_not_tell_is_refused_before_the_first_step(tmp_path, capsys):
    config = settings(tmp_path)
    shutil.rmtree(tmp_path / 'data' / 'rectified01' / 'depth01')
    assert train(config, tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert error == (
        "training train: loop: metric: 'abs_rel' needs a validation set with known depth; use "
        'photometric'
    )
    assert not (tmp_path / 'run').exists()


def test_a_training_that_is_never_validated_claims_no_best(tmp_path, capsys):
    config = settings(tmp_path, data={'validation': []}, loop={'epochs': 1})
    assert train(config, tmp_path / 'run') == 0
    assert capsys.readouterr().out.strip().endswith('2 steps; never validated: no best')
    with pytest.raises(ValueError, match='seed_0: abs_rel was not scored'):
        prove(read_config(config), tmp_path, [0])


def test_figures_of_the_checkpoint_s_own_step_stay_when_a_run_goes_on(tmp_path):
    often = {'epochs': 2, 'say_every': 2, 'validate_every': 2}
    assert train(settings(tmp_path, loop=often), tmp_path / 'run') == 0
    assert train(settings(tmp_path, loop={**often, 'epochs': 3}), tmp_path / 'run') == 0
    shown = EventAccumulator(str(tmp_path / 'run' / 'tensorboard')).Reload()
    for name in ('train/loss', 'validation/abs_rel'):
        assert [one.step for one in shown.Scalars(name)] == [2, 4, 6]


def test_the_cache_may_lie_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    config = settings(tmp_path, data={'cache': '~/cache'}, loop={'epochs': 1})
    assert train(config, tmp_path / 'run') == 0
    assert list((tmp_path / 'home' / 'cache').glob('rectified01-*'))
    assert not (tmp_path / '~').exists()


def test_a_loss_that_is_no_number_stops_names_the_samples_and_keeps_the_last_good(
    tmp_path, capsys
):
    config = settings(tmp_path, loop={'rate': 1e30, 'depth_rate': 1e30, 'warm_steps': 0,
                                      'late_steps': 0, 'save_every': 1})  # fmt: skip
    assert train(config, tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert 'not finite; samples: rectified01 frame' in error
    kept = checkpoints(tmp_path / 'run')[-1]
    assert f'the last good checkpoint is {tmp_path / "run" / "checkpoints" / kept}' in error


def test_a_motion_that_is_no_number_stops_with_the_promised_line(tmp_path, capsys, monkeypatch):
    """torch's grid_sample would end the process at pixels that are NaN."""
    forward = CompactStep.forward

    def broken(self, source, target):
        said = forward(self, source, target)
        return replace(said, T_source_target=said.T_source_target * float('nan'))

    monkeypatch.setattr(CompactStep, 'forward', broken)
    assert train(settings(tmp_path), tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert 'not finite; samples: rectified01 frame' in error


def test_a_given_K_that_a_clip_does_not_say_is_refused_before_the_first_step(tmp_path, capsys):
    config = settings(tmp_path, networks={'intrinsics': 'given'})
    (tmp_path / 'data' / 'rectified01' / 'intrinsics.txt').unlink()
    assert train(config, tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert 'rectified01: K is not known of 7 of its 7 frames' in error
    assert not (tmp_path / 'run').exists()


def test_a_best_whose_copy_failed_is_kept_when_the_run_goes_on(tmp_path, monkeypatch):
    config = settings(tmp_path, loop={'epochs': 1, 'validate_every': 1, 'keep': 1})
    run = tmp_path / 'run'

    def stopped(run, folder):
        raise TrainingError('no room')

    monkeypatch.setattr('training.loop.keep_best', stopped)
    assert train(config, run) == 1
    assert not (run / 'best').exists()
    monkeypatch.undo()
    assert train(settings(tmp_path, loop={'epochs': 1, 'validate_every': 100}), run) == 0
    facts = json.loads((run / 'best' / 'checkpoint.json').read_text())
    validated = [line['validation'] for line in logged(run) if 'validation' in line]
    assert facts['metrics']['abs_rel'] == min(one['abs_rel'] for one in validated)


def test_the_best_is_what_lies_in_its_folder_whatever_a_checkpoint_says(tmp_path):
    config = settings(tmp_path, loop={'epochs': 1, 'validate_every': 1})
    run = tmp_path / 'run'
    assert train(config, run) == 0
    path = run / 'checkpoints' / checkpoints(run)[-1] / 'checkpoint.json'
    facts = json.loads(path.read_text())
    facts['state'] = {**facts['state'], 'best': 1e-9, 'best_step': 0}  # of a folder that is lost
    path.write_text(json.dumps(facts))
    shutil.rmtree(run / 'best')
    assert train(settings(tmp_path, loop={'epochs': 2, 'validate_every': 1}), run) == 0
    assert (run / 'best' / 'weights.safetensors').is_file()


def test_a_best_by_another_metric_is_none(tmp_path, capsys):
    run = tmp_path / 'run'
    assert train(settings(tmp_path, loop={'epochs': 1}), run) == 0
    first = json.loads((run / 'best' / 'checkpoint.json').read_text())['step']
    capsys.readouterr()
    changed = {'epochs': 2, 'metric': 'photometric', 'validate_every': 100}
    assert train(settings(tmp_path, loop=changed), run) == 0
    assert 'the best is looked for anew' in capsys.readouterr().out
    facts = json.loads((run / 'best' / 'checkpoint.json').read_text())
    assert facts['step'] > first
    assert facts['state']['best'] == facts['metrics']['photometric']


def test_a_step_is_saved_once_and_a_half_deleted_checkpoint_is_none(tmp_path, monkeypatch):
    saved = []

    def counted(run, step, *rest):
        saved.append(step)
        return save(run, step, *rest)

    monkeypatch.setattr('training.loop.save', counted)
    run = tmp_path / 'run'
    assert train(settings(tmp_path, loop={'epochs': 1, 'validate_every': 1}), run) == 0
    assert len(saved) == len(set(saved))
    broken = run / 'checkpoints' / 'step_00009999'
    broken.mkdir()
    (broken / 'weights.safetensors').write_bytes(b'')
    assert latest(run).name == f'step_{saved[-1]:08d}'


def test_a_checkpoint_that_takes_anothers_place_never_leaves_it_half(tmp_path, monkeypatch):
    net = torch.nn.Linear(2, 2)
    folder = save(tmp_path, 1, net, {}, {}, 1)
    deleted = []

    def stopped(path, **_):
        if Path(path).exists():
            deleted.append(Path(path).name)
            raise OSError('stopped while it deletes')

    monkeypatch.setattr('training.checkpoints.shutil.rmtree', stopped)
    with pytest.raises((TrainingError, OSError)):
        save(tmp_path, 1, net, {}, {}, 1)
    assert deleted[0] == 'step_00000001.old'
    assert latest(tmp_path) == folder
    assert (folder / 'weights.safetensors').is_file()


@pytest.mark.parametrize(
    ('text', 'said'),
    [('', 'no whole JSON'), ('{"step": 3}', "without 'config'"), ('[]', 'a list')],
)
def test_a_checkpoint_whose_facts_are_cut_short_or_foreign_is_named_in_one_line(
    tmp_path, capsys, text, said
):
    config, run = settings(tmp_path), tmp_path / 'run'
    folder = run / 'checkpoints' / 'step_00000003'
    folder.mkdir(parents=True)
    (folder / 'checkpoint.json').write_text(text)
    assert train(config, run) == 1
    with pytest.raises(TrainingError, match='take that folder away'):
        paper_model(folder)
    line = capsys.readouterr().err
    assert f'{folder}/checkpoint.json: ' in line and said in line and line.count('\n') == 1
    shutil.rmtree(folder)
    assert latest(run) is None


def test_a_full_disk_stops_with_one_line_and_loses_no_checkpoint(tmp_path, capsys):
    config = settings(tmp_path, loop={'epochs': 1})
    assert train(config, tmp_path / 'run') == 0
    before = checkpoints(tmp_path / 'run')
    capsys.readouterr()
    config = settings(tmp_path, loop={'epochs': 3})
    with no_file_over(100_000):
        assert train(config, tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert 'could not be written' in error
    assert 'make room and run the same command again' in error
    assert checkpoints(tmp_path / 'run') == before
    assert train(config, tmp_path / 'run') == 0  # there is room again


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda data: (data / 'rectified01/image01/0000000003.jpg').write_bytes(b'x'),
         'cannot be read'),
        (lambda data: (data / 'rectified01').rename(data.parent / 'elsewhere'), 'need CLIP/image'),
    ],
)  # fmt: skip
def test_bad_data_stops_before_the_first_step_with_one_line(tmp_path, change, said, capsys):
    config = settings(tmp_path)
    change(tmp_path / 'data')
    assert train(config, tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_tied_focal_length_does_not_become_that_of_another_scope(tmp_path, capsys):
    source = {'reader': 'hamlyn', 'path': str(tmp_path / 'data'), 'scope': 'one'}
    assert train(settings(tmp_path, loop={'epochs': 1}), tmp_path / 'run') == 0
    other = {'train': [{**source, 'scope': 'two'}]}
    assert train(settings(tmp_path, data=other), tmp_path / 'run') == 1
    assert "focal lengths of ['one'], the data now are of ['two']" in capsys.readouterr().err


def test_two_clips_of_one_name_have_names_of_their_own(tmp_path, capsys):
    clips = []
    for patient in ('a', 'b', 'c'):
        source = settings(tmp_path / patient) and tmp_path / patient / 'data'
        clips.append({'reader': 'hamlyn', 'path': str(source / 'rectified01')})
    config = settings(tmp_path, data={'train': clips}, loop={'epochs': 1})
    assert train(config, tmp_path / 'run') == 0
    scopes = json.loads((tmp_path / 'run' / 'best' / 'checkpoint.json').read_text())['scopes']
    assert scopes == ['rectified01', 'data_rectified01', 'c_data_rectified01']


def test_a_run_does_not_go_on_as_another_one(tmp_path, capsys):
    assert train(settings(tmp_path, loop={'epochs': 1}), tmp_path / 'run') == 0
    assert train(settings(tmp_path, objective={'pyramid': 1}), tmp_path / 'run') == 1
    assert "begun with another 'objective'" in capsys.readouterr().err


def test_a_cache_without_room_is_one_line_and_nothing_half_made_stays(tmp_path, capsys):
    config = settings(tmp_path)
    with no_file_over(10_000):
        assert train(config, tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert 'make room, or name another folder as data: cache' in error
    assert [path.name for path in (tmp_path / 'cache').iterdir()] == ['.lock']


def test_figures_and_pictures_without_room_stop_with_one_line_and_lose_no_checkpoint(
    tmp_path, capsys
):
    assert train(settings(tmp_path, loop={'epochs': 1}), tmp_path / 'run') == 0
    before = checkpoints(tmp_path / 'run')
    capsys.readouterr()
    config = settings(tmp_path, loop={'epochs': 3})
    log = tmp_path / 'run' / 'log.jsonl'
    with no_file_over(log.stat().st_size + 10):
        assert train(config, tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert 'make room and run the same command again' in error
    assert checkpoints(tmp_path / 'run') == before
    assert train(config, tmp_path / 'run') == 0  # what was half written is forgotten


def test_a_typo_stops_the_command_with_one_line(tmp_path, capsys):
    assert train(settings(tmp_path, loop={'epoch': 3}), tmp_path / 'run') == 1
    error = capsys.readouterr().err.strip()
    assert "loop: unknown key 'epoch'; known keys:" in error
    assert len(error.splitlines()) == 1


def test_more_than_a_day_left_is_told_in_days():
    assert time_left(3661) == '01:01:01'
    assert time_left(2 * 86_400 + 5) == '2 d 00:00:05'


def test_bfloat16_asked_of_the_launcher_is_that_of_the_file_to_the_bit(tmp_path):
    """Were the geometry in half precision too, as accelerate has it, losses would differ."""
    torch.set_num_threads(1)
    config = settings(tmp_path, loop={'epochs': 1})
    assert train(config, tmp_path / 'single') == 0
    half = settings(tmp_path, loop={'epochs': 1, 'precision': 'bf16'})
    assert train(half, tmp_path / 'file') == 0
    config = settings(tmp_path, loop={'epochs': 1})
    command = [
        Path(sys.executable).parent / 'accelerate', 'launch', '--cpu', '--num_processes', '1',
        '--num_machines', '1', '--mixed_precision', 'bf16', '--dynamo_backend', 'no',
        '-m', 'training', 'train', str(config), str(tmp_path / 'launched'),
    ]  # fmt: skip
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    single, file, launched = (
        [line['loss'] for line in logged(tmp_path / name) if 'loss' in line]
        for name in ('single', 'file', 'launched')
    )
    assert launched == file
    assert file != single
    assert file == pytest.approx(single, rel=0.1)


def test_half_precision_that_is_none_of_ours_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('ACCELERATE_MIXED_PRECISION', 'fp16')
    assert train(settings(tmp_path), tmp_path / 'run') == 1
    assert '--mixed_precision fp16: need no or bf16' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('command', 'count'),
    [
        ('python accelerate launch --cpu --num_processes 2 -m training train x.yaml', 2),
        ('python accelerate launch --cpu --num_processes=3 -m training train x.yaml', 3),
        ('python accelerate launch --cpu -m training train x.yaml', 1),
        ('bash run.sh --num_processes 4', 1),
    ],
)
def test_as_many_processes_run_as_accelerate_was_asked_for(command, count):
    assert number_in(command.split()) == count


def test_processes_wait_a_day_for_the_one_that_reads_the_data(tmp_path, monkeypatch):
    asked = []

    class Place(PartialState):
        def __init__(self, **kwargs):
            asked.append(kwargs['timeout'])
            super().__init__(**kwargs)

    monkeypatch.setattr('training.train.PartialState', Place)
    assert train(settings(tmp_path, loop={'epochs': 1}), tmp_path / 'run') == 0
    assert asked == [timedelta(days=1)]


@pytest.mark.slow
def test_two_processes_reach_the_metrics_of_one(tmp_path):
    config = settings(tmp_path, loop={'epochs': 20, 'batch': 4})
    one = started(config, tmp_path / 'one')
    assert one.wait(timeout=600) == 0, one.stdout.read().decode()
    command = [
        Path(sys.executable).parent / 'accelerate', 'launch', '--cpu', '--num_processes', '2',
        '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no',
        '--main_process_port', '0', '-m', 'training', 'train', str(config), str(tmp_path / 'two'),
    ]  # fmt: skip
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (
        [line['validation'] for line in logged(tmp_path / name) if 'validation' in line]
        for name in ('one', 'two')
    )
    facts = json.loads((tmp_path / 'two' / 'best' / 'checkpoint.json').read_text())
    assert facts['processes'] == 2
    assert two[0] == pytest.approx(one[0], rel=1e-3)  # the same training, up to rounding ...
    assert two[-1]['photometric'] == pytest.approx(one[-1]['photometric'], rel=0.1)
    assert two[-1]['abs_rel'] == pytest.approx(one[-1]['abs_rel'], abs=0.05)  # ... that adds up
