# SPDX-License-Identifier: Apache-2.0
"""The training loop: reads top to bottom, resumes at the step, stops by validation only."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from training.checkpoints import (
    TrainingError,
    commit,
    keep_best,
    kept,
    latest,
    load,
    needed_facts,
    read_facts,
    save,
)
from training.config import Config
from training.data.dataset import Samples, Steps, steps_an_epoch
from training.data.sample import Batch, batched
from training.model import Networks
from training.networks.shared_norm import share_norms
from training.networks_of import networks_of, teaches_focal
from training.processes import on_cpu
from training.steps import Losses, Weights, flow_step, joint_step
from training.validate import validate


class Objective(nn.Module):
    """The networks and what they minimise, as one module that processes can share."""

    def __init__(self, nets: Networks, weights: Weights, teacher: nn.Module | None) -> None:
        super().__init__()
        self.nets, self.weights = nets, weights
        self._teacher = [teacher]  # hidden, so that its weights are not ours

    def forward(self, batch: Batch, phase: str) -> Losses:
        if phase == 'flow':
            return flow_step(self.nets, batch, self.weights)
        return joint_step(self.nets, batch, self.weights, self._teacher[0])


@dataclass
class State:
    """
    How far a training is, beside its weights.

    :param step: steps done; best: of the metric so far; best_step: when it was found; waited:
        validations since then.
    :param metrics: of the latest validation.
    """

    step: int = 0
    best: float = math.inf
    best_step: int = 0
    waited: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class Loop:
    """
    A training under way.

    :param run: folder of checkpoints/, best/, tensorboard/ and log.jsonl.
    :param tell: called with a line for people, on the main process.
    """

    config: Config
    run: Path
    train: Samples
    held_out: Samples | None
    scopes: list[str]
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        """Make networks and optimisers, or take them from the run's last checkpoint."""
        if self.held_out is not None and not _can_be_scored(self.config, self.held_out):
            raise _unscored(self.config.loop.metric)
        kwargs = DistributedDataParallelKwargs(find_unused_parameters=True)
        half = in_half(self.config)
        # accelerate would put the geometry into half precision too; the networks do it themselves
        self.accelerator = Accelerator(
            mixed_precision='no', cpu=on_cpu(), kwargs_handlers=[kwargs]
        )
        torch.manual_seed(self.config.seed)
        found = latest(self.run)
        nets, teacher = networks_of(
            self.config, self.train, self.scopes, half, self.tell, anew=found is None
        )
        self.nets = nets.to(self.accelerator.device)  # before the optimisers remember where
        if self.accelerator.num_processes > 1:
            share_norms(nets, self.accelerator.device)
        if teacher is not None:
            teacher.to(self.accelerator.device)
        self.optimizers = _optimizers(self.config, nets)
        self.state = State()
        if found:
            self._check_scopes(found)
            facts = load(found, nets, self.optimizers)
            self.tell(f'going on from {found}')
            self.state = self._resumed(found, facts)
        self.module = self.accelerator.prepare(
            Objective(nets, self.config.objective, teacher).train()
        )
        loop, count = self.config.loop, len(self.train)
        self.last = loop.epochs * steps_an_epoch(count, loop.batch)
        still = range(self.state.step, self.last)
        share = (self.accelerator.process_index, self.accelerator.num_processes)
        self.steps = Steps(count, loop.batch, self.config.seed, still, share)

    def __call__(self) -> State:
        """Train to the end, or until validation says that nothing gets better."""
        loop, main = self.config.loop, self.accelerator.is_main_process
        if self._waited_enough():
            return self.state
        self.run.mkdir(parents=True, exist_ok=True)
        log = Log(self.run, self.state.step) if main else None
        batches = DataLoader(
            self.train, batch_sampler=self.steps, collate_fn=batched,
            num_workers=self.config.data.workers,
        )  # fmt: skip
        begun, first = time.monotonic(), self.state.step
        for batch in batches:
            losses = self._advance(batch.to(self.accelerator.device))
            step = self.state.step
            if log:
                log.keep(losses)
                if step % loop.say_every == 0 or step == self.last:
                    seconds = (time.monotonic() - begun) / (step - first)
                    self.tell(log.say(step, self.last, self.steps.per_epoch, seconds))
            validated = step % loop.validate_every == 0 or step == self.last
            better = validated and self.held_out is not None and self._validate(log, losses)
            if validated or step % loop.save_every == 0:
                self._save(better)
            if self._waited_enough():
                break
        self.accelerator.wait_for_everyone()
        return self.state

    def _waited_enough(self) -> bool:
        """Whether so many validations found nothing better that training ends, and say so."""
        loop = self.config.loop
        if not (self.held_out and loop.patience and self.state.waited >= loop.patience):
            return False
        self.tell(
            f'step {self.state.step}: no better {loop.metric} for {loop.patience} validations'
        )
        return True

    def _advance(self, batch: Batch) -> Losses:
        """One step: flow first, where there is one, then all the rest."""
        step = self.state.step
        torch.manual_seed(hash((self.config.seed, step, self.accelerator.process_index)))
        losses = None
        for phase, optimizer in self.optimizers.items():
            losses_of_phase = self.module(batch, phase)
            self._check(losses_of_phase.total, batch, phase)
            optimizer.zero_grad()
            self.accelerator.backward(losses_of_phase.total)
            parameters = [p for group in optimizer.param_groups for p in group['params']]
            norm = self.accelerator.clip_grad_norm_(parameters, self.config.loop.clip)
            self._check(norm, batch, phase)
            for group in optimizer.param_groups:
                group['lr'] = group['initial'] * self._factor(step, group['rises'])
            optimizer.step()
            if losses is not None:
                losses_of_phase.figures = losses.figures | losses_of_phase.figures
            losses = losses_of_phase
        self.state.step += 1
        if losses is None:
            raise TrainingError('nothing to optimise')
        losses.figures['loss'] = float(losses.total.detach())
        return losses

    def _factor(self, step: int, rises: int) -> float:
        """What a rate that rises over so many steps is multiplied by."""
        loop = self.config.loop
        warm = min(1.0, (step + 1) / max(rises, 1))
        if loop.drop_after:
            return warm * (loop.drop if step >= loop.drop_after * self.steps.per_epoch else 1.0)
        along = step / max(self.last, 1)
        return warm * (loop.drop + (1 - loop.drop) * 0.5 * (1 + math.cos(math.pi * along)))

    def _check(self, value: Tensor, batch: Batch, phase: str) -> None:
        """Stop before what is no number reaches the weights, and name the samples."""
        good = torch.isfinite(value.detach()).reshape(1).float()
        if bool(self.accelerator.gather(good).min() > 0):
            return
        names = ', '.join(self._culprits(batch, phase))
        raise TrainingError(
            f'step {self.state.step}: the {phase} loss or its gradient is not finite; samples: '
            f'{names}; nothing was learnt from it and {kept(self.run)}'
        )

    @torch.no_grad()
    def _culprits(self, batch: Batch, phase: str) -> list[str]:
        """Samples whose loss alone is not finite; all of them where none stands out."""
        step = flow_step if phase == 'flow' else joint_step
        self.nets.eval()
        losses = [step(self.nets, batch.only(n), self.config.objective) for n in range(len(batch))]
        self.nets.train()
        bad = [
            name
            for name, one in zip(batch.name, losses, strict=True)
            if not bool(torch.isfinite(one.total))
        ]
        return bad or list(batch.name)

    def _validate(self, log: 'Log | None', losses: Losses) -> bool:
        """Score on the main process; all processes learn what it found: is it the best yet?"""
        found: list[Any] = [None]
        if log and self.held_out:
            loop = self.config.loop
            metrics = validate(
                self.nets, self.held_out, self.accelerator.device, loop.validate_most,
                taught=teaches_focal(self.config),
            )  # fmt: skip
            if loop.metric not in metrics:
                raise _unscored(loop.metric)
            found = [metrics]
            self.tell(log.validated(self.state.step, metrics, losses))
        broadcast_object_list(found)
        self.state.metrics = found[0]
        value = self.state.metrics[self.config.loop.metric]
        better = value < self.state.best
        self.state.waited = 0 if better else self.state.waited + 1
        if better:
            self.state.best, self.state.best_step = value, self.state.step
        return better

    def _resumed(self, found: Path, facts: dict[str, Any]) -> State:
        """
        The state of a checkpoint, with RUN/best's own metric for the best: it alone tells which
        weights are kept. All processes learn what the main one found.
        """
        said: list[Any] = [None]
        if self.accelerator.is_main_process:
            if facts['state'].get('best_step') == facts['step']:
                kept_facts = read_facts(self.run / 'best')
                if kept_facts is None or kept_facts['step'] != facts['step']:
                    keep_best(self.run, found)  # it was stopped between the two
            said = [self._best(facts)]
        broadcast_object_list(said)
        best, step, waited = said[0]
        return State(facts['step'], best, step, waited, facts['metrics'])

    def _best(self, facts: dict[str, Any]) -> tuple[float, int, int]:
        """Best so far, its step and what was waited since; nothing where another was asked for."""
        asked = judged_by(self.config.as_dict())
        best = read_facts(self.run / 'best')
        if best is None:
            return math.inf, 0, 0
        if judged_by(best['config']) != asked or judged_by(facts['config']) != asked:
            self.tell('another metric or validation set than before: the best is looked for anew')
            return math.inf, 0, 0
        value = best['metrics'][self.config.loop.metric]
        return value, best['step'], facts['state']['waited']

    def _check_scopes(self, found: Path) -> None:
        """Refuse to go on where a tied focal length would become that of another scope."""
        before = needed_facts(found)['scopes']
        if self.config.networks.intrinsics == 'tied' and before != self.scopes:
            raise TrainingError(
                f'{found}: it ties the focal lengths of {before}, the data now are of '
                f'{self.scopes}; needed the same scopes in the same order: put them back, name '
                'them by scope:, or begin another run'
            )

    def _save(self, best: bool = False) -> None:
        if self.accelerator.is_main_process:
            state = self.state
            best_so_far = state.best if math.isfinite(state.best) else None  # JSON has no infinity
            facts = {
                'epoch': state.step // self.steps.per_epoch,
                'metrics': state.metrics,
                'state': {
                    'best': best_so_far,
                    'best_step': state.best_step,
                    'waited': state.waited,
                },
                'config': self.config.as_dict(),
                'commit': commit(),
                'scopes': self.scopes,
                'processes': self.accelerator.num_processes,
            }
            keep = self.config.loop.keep
            folder = save(self.run, state.step, self.nets, self.optimizers, facts, keep)
            if best:
                keep_best(self.run, folder)


class Log:
    """
    What is kept of every step: RUN/log.jsonl, a line each, and TensorBoard.

    :param step: steps done already; what an interrupted run logged beyond is forgotten.
    """

    def __init__(self, run: Path, step: int) -> None:
        self.path = run / 'log.jsonl'
        if self.path.exists():
            lines = self.path.read_text().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith('\n')]
            self.path.write_text(''.join(x for x in whole if json.loads(x)['step'] <= step))
        self.writer = SummaryWriter(str(run / 'tensorboard'), purge_step=step + 1)
        self.step = step
        self._seen: dict[str, list[float]] = {}

    def keep(self, losses: Losses) -> None:
        """Note the figures of a step."""
        self.step += 1
        self._append({'step': self.step, **losses.figures})
        for name, value in losses.figures.items():
            self._seen.setdefault(name, []).append(value)

    def say(self, step: int, last: int, per_epoch: int, seconds: float) -> str:
        """Means since the last line, and the time that is left."""
        means = {name: float(np.mean(values)) for name, values in self._seen.items()}
        self._seen = {}
        with self._room():
            for name, value in means.items():
                self.writer.add_scalar(f'train/{name}', value, step)
        figures = '  '.join(f'{name} {value:.4g}' for name, value in means.items())
        left = time_left((last - step) * seconds)
        return (
            f'step {step} of {last} (epoch {step // per_epoch})  {figures}  '
            f'{seconds:.2f} s a step, {left} left'
        )

    def validated(self, step: int, metrics: dict[str, float], losses: Losses) -> str:
        """Note a validation."""
        with self._room():
            for name, value in metrics.items():
                self.writer.add_scalar(f'validation/{name}', value, step)
            for name, picture in losses.pictures.items():
                self.writer.add_image(name, picture.float().clamp(0, 1).cpu().numpy(), step)
            self.writer.flush()
        self._append({'step': step, 'validation': metrics})
        figures = '  '.join(f'{name} {value:.4g}' for name, value in metrics.items())
        return f'step {step} validation  {figures}'

    def _append(self, line: dict[str, Any]) -> None:
        with self._room(), self.path.open('a') as file:
            file.write(json.dumps(line) + '\n')

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Say in one line that there is none."""
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f'{self.path} or tensorboard/ beside it could not be written ({error}); '
                f'{kept(self.path.parent)}; make room and run the same command again'
            ) from error


def in_half(config: Config) -> bool:
    """
    Whether the networks work in bfloat16: the file or its launcher says so.

    :raises ValueError: the launcher asks for something else.
    """
    asked = os.environ.get('ACCELERATE_MIXED_PRECISION', 'no').lower()
    if asked not in ('no', 'bf16'):
        raise ValueError(f'--mixed_precision {asked}: need no or bf16')
    return 'bf16' in (config.loop.precision, asked)


def _can_be_scored(config: Config, held_out: Samples) -> bool:
    """Whether the validation set knows what the metric needs."""
    if config.loop.metric == 'abs_rel':
        return any(clip.depths is not None for clip in held_out.clips)
    given = config.networks.intrinsics == 'given'
    return not given or any(np.isfinite(clip.cameras).all(1).any() for clip in held_out.clips)


def _unscored(metric: str) -> TrainingError:
    needed = 'depth; use photometric' if metric == 'abs_rel' else 'K; use abs_rel'
    return TrainingError(f'loop: metric: {metric!r} needs a validation set with known {needed}')


def judged_by(config: dict[str, Any]) -> Any:
    """What says which of two checkpoints is better, of a configuration's plain values."""
    loop, data = config['loop'], config['data']
    names = ('validation', 'size', 'offsets', 'masks')
    samples = [data.get(name) for name in names] + data.get('strides', [])[:1]
    return json.loads(json.dumps([loop.get('metric'), loop.get('validate_most'), samples]))


def time_left(seconds: float) -> str:
    """Days where there are some, then hours, minutes and seconds."""
    days, rest = divmod(int(seconds), 86_400)
    clock = time.strftime('%H:%M:%S', time.gmtime(rest))
    return f'{days} d {clock}' if days else clock


def _optimizers(config: Config, nets: Networks) -> dict[str, torch.optim.Optimizer]:
    """
    Adam of each phase, in the order of a step; schedules scale `initial`, which `rises` at first.
    """
    loop = config.loop

    def group(part: nn.Module | None, rate: float, rises: int) -> list[dict[str, Any]]:
        parameters = [p for p in part.parameters() if p.requires_grad] if part else []
        return [{'params': parameters, 'lr': rate, 'initial': rate, 'rises': rises}]

    found: dict[str, torch.optim.Optimizer] = {}
    if nets.flow is not None:
        found['flow'] = torch.optim.Adam(group(nets.flow, loop.flow_rate, loop.warm_steps))
    joint = [
        *group(nets.depth, loop.depth_rate, loop.late_steps),
        *group(nets.motion, loop.rate, loop.warm_steps),
        *group(nets.appearance, loop.rate, loop.warm_steps),
        *group(nets.tied, loop.intrinsics_rate, loop.late_steps),
    ]
    found['joint'] = torch.optim.Adam(joint)
    return found
