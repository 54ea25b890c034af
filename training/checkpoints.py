# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints: safetensors for numbers, json for the rest, no pickles; whole or not there at all.

RUN/checkpoints/step_00001200/ holds weights.safetensors (all networks), optimizer.safetensors and
checkpoint.json (config, commit, step, epoch, metrics). RUN/best/ is a copy of the best by
validation.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

ROOT = Path(__file__).parents[1]
NAME = re.compile(r'step_(\d{8})')
FACTS = {'step', 'epoch', 'metrics', 'state', 'config', 'scopes'}  # what is read of a checkpoint
WITHOUT = 'take that folder away to go on from the checkpoint before it'


class TrainingError(ValueError):
    """Training can not go on; one line says why, what is kept and what to do."""


def commit() -> str:
    """The commit of this checkout, `+` behind it where files were changed; '' without git."""
    try:
        command = ['git', 'describe', '--always', '--abbrev=40', '--dirty=+', '--exclude=*']
        said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return said.stdout.strip()


def save(
    run: Path,
    step: int,
    nets: nn.Module,
    optimizers: dict[str, Optimizer],
    facts: dict[str, Any],
    keep: int,
) -> Path:
    """
    Write a checkpoint and delete the oldest beyond `keep`.

    :param facts: what checkpoint.json shall hold beside the step.
    :raises TrainingError: it could not be written; the older ones are untouched.
    """
    folder = run / 'checkpoints' / f'step_{step:08d}'
    part = folder.with_suffix('.part')
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        weights = {name: value.detach().cpu() for name, value in nets.state_dict().items()}
        _write(weights, part / 'weights.safetensors')
        _write(_flat(optimizers), part / 'optimizer.safetensors')
        text = json.dumps({'step': step, **facts}, indent=2) + '\n'
        (part / 'checkpoint.json').write_text(text, encoding='utf-8')
        _replace(folder, part)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise TrainingError(
            f'the checkpoint of step {step} could not be written ({error}); '
            f'{kept(run)}; make room and run the same command again'
        ) from error
    for old in _all(run)[:-keep]:
        _moved_away(old)
    for gone in (run / 'checkpoints').glob('*.old'):  # of a run that was stopped here, too
        shutil.rmtree(gone)
    return folder


def keep_best(run: Path, folder: Path) -> None:
    """Copy a checkpoint's weights to RUN/best; the one before is there until then."""
    part = run / 'best.part'
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for name in ('weights.safetensors', 'checkpoint.json'):
            shutil.copyfile(folder / name, part / name)
        _replace(run / 'best', part)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise TrainingError(
            f'the best checkpoint could not be copied ({error}); {kept(run)}; '
            'make room and run the same command again'
        ) from error


def latest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run; None where there is none."""
    found = _all(run)
    return found[-1] if found else None


def kept(run: Path) -> str:
    """Which checkpoint is safe, in words."""
    found = latest(run)
    return f'the last good checkpoint is {found}' if found else 'there is no checkpoint yet'


def load(folder: Path, nets: nn.Module, optimizers: dict[str, Optimizer]) -> dict[str, Any]:
    """
    Go on where a checkpoint stands.

    :return: its facts.
    :raises TrainingError: it does not fit these networks; the first key that does not is named.
    """
    load_strictly(nets, read_tensors(folder / 'weights.safetensors'), folder)
    _restore(optimizers, read_tensors(folder / 'optimizer.safetensors'))
    return needed_facts(folder)


def load_weights(folder: Path, nets: nn.Module, scopes: Sequence[str]) -> list[str]:
    """
    Begin with the weights of a checkpoint: network by network, and what is tied scope by scope.

    :param scopes: names of those whose focal lengths are tied, in order.
    :return: names of the networks and scopes that it lacks; they are untouched. Zooms are of a
        training's own frames and begin anew, too.
    :raises TrainingError: a network that it holds does not fit.
    """
    weights = read_tensors(folder / 'weights.safetensors')
    lacking = []
    for name, part in nets.named_children():
        own = {k[len(name) + 1 :]: v for k, v in weights.items() if k.startswith(f'{name}.')}
        if name == 'tied':
            before = (read_facts(folder) or {}).get('scopes', [])
            lacking += _take_scopes(part, own, before, scopes)
        elif own:
            load_strictly(part, own, folder)
        else:
            lacking.append(name)
    return lacking


@torch.no_grad()
def _take_scopes(
    tied: nn.Module, weights: dict[str, Tensor], before: Sequence[str], now: Sequence[str]
) -> list[str]:
    """Focal lengths and centres of the scopes that both know; what begins anew, in words."""
    known = list(before) if weights else []
    own = tied.state_dict()  # the parameters themselves, not copies
    for place, scope in enumerate(now):
        if scope in known:
            for name in ('log_focal', 'centre'):
                own[name][place] = weights[name][known.index(scope)]
    anew = [f'the focal length of {scope}' for scope in now if scope not in known]
    return anew + (['zooms'] if 'log_zoom' in own else [])


def load_strictly(nets: nn.Module, weights: dict[str, Tensor], where: Path) -> None:
    """Load weights; a missing, extra or misshapen key is an error that names it."""
    own = nets.state_dict()
    if missing := sorted(set(own) - set(weights)):
        raise TrainingError(f'{where}: {missing[0]} is missing ({len(missing)} keys in all)')
    if extra := sorted(set(weights) - set(own)):
        raise TrainingError(f'{where}: {extra[0]} is not of these networks ({len(extra)} in all)')
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise TrainingError(
                f'{where}: {name} is {tuple(value.shape)}, need {tuple(own[name].shape)}'
            )
    nets.load_state_dict(weights)


def read_facts(folder: Path) -> dict[str, Any] | None:
    """
    What checkpoint.json of a folder holds; None where there is none.

    :raises TrainingError: it was cut short, or is of something else.
    """
    path = folder / 'checkpoint.json'
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise TrainingError(f'{path}: no whole JSON ({error}); {WITHOUT}') from error
    if not isinstance(facts, dict):
        raise TrainingError(f'{path}: not of a training, a {type(facts).__name__}; {WITHOUT}')
    if missing := sorted(FACTS - set(facts)):
        raise TrainingError(f'{path}: not of a training, without {missing[0]!r}; {WITHOUT}')
    return facts


def needed_facts(folder: Path) -> dict[str, Any]:
    """
    What checkpoint.json of a folder holds.

    :raises TrainingError: there is none, or see `read_facts`.
    """
    facts = read_facts(folder)
    if facts is None:
        raise TrainingError(f'{folder}: no checkpoint.json; need RUN/best or one of checkpoints/')
    return facts


def _all(run: Path) -> list[Path]:
    folders = (run / 'checkpoints').glob('step_*')
    whole = (path for path in folders if (path / 'checkpoint.json').is_file())
    return sorted(path for path in whole if NAME.fullmatch(path.name))


def _replace(folder: Path, part: Path) -> None:
    """Put a whole folder where another may be: one that is moved away is whole, or gone."""
    if folder.exists():
        old = _moved_away(folder)
        part.rename(folder)
        shutil.rmtree(old)
    else:
        part.rename(folder)


def _moved_away(folder: Path) -> Path:
    """The folder by a name that nobody asks for, so that it can be deleted in peace."""
    old = folder.with_name(f'{folder.name}.old')
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    return old


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise TrainingError(f'{path}: no such file; need a checkpoint folder')
    try:
        return load_file(path)
    except SafetensorError as error:
        raise TrainingError(f'{path}: no whole safetensors file ({error}); {WITHOUT}') from error


def _flat(optimizers: dict[str, Optimizer]) -> dict[str, Tensor]:
    """Everything an optimiser remembers, by optimiser, parameter's number and name."""
    return {
        f'{name}.{number}.{key}': torch.as_tensor(value).cpu()
        for name, optimizer in optimizers.items()
        for number, state in optimizer.state_dict()['state'].items()
        for key, value in state.items()
    }


def _restore(optimizers: dict[str, Optimizer], flat: dict[str, Tensor]) -> None:
    for name, optimizer in optimizers.items():
        states: dict[int, dict[str, Tensor]] = {}
        for path, value in flat.items():
            whose, number, key = path.split('.', 2)
            if whose == name:
                states.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), 'state': states})
