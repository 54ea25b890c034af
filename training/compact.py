# SPDX-License-Identifier: Apache-2.0
"""
Train the compact networks on rendered pairs, supervised by the truth; stop and start again as you
like.

    python -m training synthesize DATA --worlds 500 --size 112 140
    python -m training.compact depth DATA RUN --steps 20000
    python -m training.compact motion DATA RUN2 --start RUN --steps 10000
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.compact_bundle import is_compact_bundle, network_of_bundle
from training.networks.compact import UNIT_MM, CompactDepth, CompactMotion
from training.pairs import Batch, Pairs, augmented, batches

ABSOLUTE_WEIGHT = 0.1  # the scene's scale can only be guessed; guess it a little
GRADIENT_WEIGHT = 0.5
FOCAL_WEIGHT = 0.1
SIGMA_WEIGHT = 0.2
EMA_STEPS = 500
WARM_STEPS = 300
NETWORKS: dict[str, type[nn.Module]] = {'depth': CompactDepth, 'motion': CompactMotion}


def depth_loss(
    log_depth: Tensor, log_sigma: Tensor, focal: Tensor, depth: Tensor, camera: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """
    Loss of a batch of depth maps and focal lengths; see `CompactDepth` for the first three.

    :param depth: (B, H, W) truth [mm], NaN where unknown.
    :param camera: (B, 4) fx/W, fy/H, n_x, n_y.
    :return: the loss, and figures to watch: abs_rel is scaled per image by the median.
    """
    known = torch.isfinite(depth) & (depth > 0.5)
    truth = torch.where(known, depth, torch.full_like(depth, UNIT_MM)).div(UNIT_MM).log()
    count = known.sum((1, 2)).clamp(min=1)
    error = torch.where(known, log_depth - truth, torch.zeros_like(truth))
    offset = (error.sum((1, 2)) / count)[:, None, None]
    shape = torch.where(known, error - offset, torch.zeros_like(error))
    per_image = shape.abs().sum((1, 2)) / count
    loss = per_image.mean() + ABSOLUTE_WEIGHT * offset.abs().mean()
    loss = loss + GRADIENT_WEIGHT * sum(_slopes(shape, known, step) for step in (1, 2, 4))
    surprise = shape.detach().abs() * math.sqrt(2) * torch.exp(-log_sigma) + log_sigma  # Laplace
    loss = loss + SIGMA_WEIGHT * (
        torch.where(known, surprise, torch.zeros_like(surprise)).sum() / known.sum()
    )
    focal_error = focal[:, 0] - camera[:, 0].log()
    loss = loss + FOCAL_WEIGHT * (focal_error.abs().mean() + _laplace(focal_error, focal[:, 1]))
    with torch.no_grad():
        medians = torch.stack(
            [
                e[k].median() if k.any() else e.new_zeros(())
                for e, k in zip(error, known, strict=True)
            ]
        )
        relative = torch.where(
            known, (torch.exp(error - medians[:, None, None]) - 1).abs(), torch.zeros_like(error)
        )
        figures = {
            'abs_rel': float((relative.sum((1, 2)) / count).mean()),
            'scale': float(offset.abs().mean()),
            'sigma': float(log_sigma.exp()[known].mean()),
            'focal': float(focal_error.abs().mean()),
            'focal_sigma': float(focal[:, 1].exp().mean()),
        }
    return loss, figures


def _laplace(error: Tensor, log_sigma: Tensor) -> Tensor:
    """Negative log likelihood of errors that are not pulled at, for the sigma's sake."""
    return (error.detach().abs() * math.sqrt(2) * torch.exp(-log_sigma) + log_sigma).mean()


def _slopes(error: Tensor, known: Tensor, step: int) -> Tensor:
    """Mean absolute difference of the error between neighbours: edges right, surfaces smooth."""
    across = (error[:, :, step:] - error[:, :, :-step]).abs() * (
        known[:, :, step:] & known[:, :, :-step]
    )
    down = (error[:, step:] - error[:, :-step]).abs() * (known[:, step:] & known[:, :-step])
    return (across.sum() + down.sum()) / (2 * known.sum().clamp(min=1))


def motion_loss(
    said: Tensor, T_prev_cam: Tensor, cameras: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """
    Loss of a batch of motions; see `CompactMotion` for what `said` (B, 13) holds.

    :param T_prev_cam: (B, 4, 4) truth [mm]; cameras: (B, 2, 4) fx/W, fy/H, n_x, n_y of both
        pictures.
    """
    rotation = _rotation_vectors(T_prev_cam[:, :3, :3])
    translation = T_prev_cam[:, :3, 3] / UNIT_MM
    log_focal, log_zoom = cameras[:, 1, 0].log(), (cameras[:, 1, 0] / cameras[:, 0, 0]).log()
    turn = (said[:, :3] - rotation).norm(dim=1)
    shift = (said[:, 3:6] - translation).norm(dim=1)
    centre = (said[:, 8:10] - (cameras[:, 1, 2:] - 0.5)).abs().sum(1)
    focal_error, zoom_error = said[:, 6] - log_focal, said[:, 7] - log_zoom
    loss = (
        20 * turn.mean()
        + 20 * shift.mean()
        + centre.mean()
        + focal_error.abs().mean()
        + 20 * zoom_error.abs().mean()
    )
    for error, log_sigma, floor in (
        (focal_error, said[:, 10], 0.02),
        (zoom_error, said[:, 11] - 4.0, 5e-4),
        (shift / translation.norm(dim=1).clamp(min=0.005), said[:, 12], 0.02),
    ):
        sigma = floor + log_sigma.exp()
        loss = (
            loss
            + SIGMA_WEIGHT * (error.detach().abs() * math.sqrt(2) / sigma + sigma.log()).mean()
        )
    figures = {
        'focal': float(focal_error.abs().mean()),
        'zoom': float(zoom_error.abs().mean()),
        'turn': float(turn.mean()),
        'shift': float(shift.sum() / translation.norm(dim=1).sum()),
    }
    return loss, figures


def _rotation_vectors(R: Tensor) -> Tensor:
    """Axis-angle of small rotations (B, 3, 3) -> (B, 3) [rad]."""
    skew = (
        torch.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], 1)
        / 2
    )
    sine = skew.norm(dim=1, keepdim=True)
    return skew * torch.where(
        sine > 1e-6, torch.asin(sine.clamp(max=1.0)) / sine.clamp(min=1e-9), torch.ones_like(sine)
    )


def loss_of(
    network: nn.Module, batch: Batch, half: bool = False
) -> tuple[Tensor, dict[str, float]]:
    """The loss of either network on a batch; `half`: the network computes in bfloat16."""
    one = isinstance(network, CompactDepth)
    pictures = batch.images.flatten(0, 1) if one else batch.images.flatten(1, 2)
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=half):
        said = network(pictures.contiguous(memory_format=torch.channels_last))
    if one:
        truth = batch.depths.flatten(0, 1), batch.cameras.flatten(0, 1)
        return depth_loss(*(part.float() for part in said), *truth)
    return motion_loss(said.float(), batch.T_prev_cam, batch.cameras)


@dataclass
class Run:
    """
    A training under way: the network, its running average, and how far it is.

    :param kind: 'depth' or 'motion'; folder: receives weights.safetensors (the average),
        state.pt (to go on from) and log.jsonl.
    :param steps: where it ends, unless `minutes` of training end it before.
    :param half: bfloat16 inside the network; its weights and the loss stay in single precision.
    """

    kind: str
    folder: Path
    device: str
    rate: float
    steps: int
    minutes: float = math.inf
    half: bool = False
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Begin, or go on where the folder's checkpoint stands."""
        self.network = NETWORKS[self.kind]().to(self.device, memory_format=torch.channels_last)
        self.average = {name: v.detach().clone() for name, v in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.rate, weight_decay=0.02, fused=True
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / 'state.pt').exists():
            state = torch.load(
                self.folder / 'state.pt', map_location=self.device, weights_only=True
            )
            self.network.load_state_dict(state['network'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.step, self.seconds = state['step'], state['seconds']
            self.average = state['average']

    @property
    def progress(self) -> float:
        """From 0 at the beginning to 1 at the end, which comes by steps or by time."""
        return max(self.step / self.steps, self.seconds / 60 / self.minutes)

    def start_from(self, folder: Path, pictures: Tensor) -> None:
        """
        Begin with the weights of another run, or of a bundle; a motion network takes a depth
        one's first.

        What the optimiser remembers of a run of the same kind comes along: without it the first
        hundred steps go anywhere, and what was learnt has to be learnt again.

        :param folder: of a run, or a bundle of `training.export`.
        :param pictures: (B, 3, H, W) in [0, 1], for a bundle (`network_of_bundle`).
        """
        if is_compact_bundle(folder):
            weights = network_of_bundle(folder, pictures).state_dict()
        else:
            weights = load_file(folder / 'weights.safetensors')
        if self.kind == 'motion' and 'encoder.stem.conv.weight' in weights:
            own = self.network.state_dict()
            names = {name: name.removeprefix('encoder.') for name in weights}
            names = {name: short.replace('stages.0.', 'near.') for name, short in names.items()}
            first = {short: weights[name] for name, short in names.items()
                     if short.startswith(('stem.', 'near.'))}  # fmt: skip
            weights = {**own, **first}
        self.network.load_state_dict(weights)
        if (folder / 'state.pt').exists():
            state = torch.load(folder / 'state.pt', map_location=self.device, weights_only=True)
            if state['network'].keys() == weights.keys():
                self.optimizer.load_state_dict(state['optimizer'])
        self.average = {name: v.detach().clone() for name, v in self.network.state_dict().items()}

    def advance(self, batch: Batch) -> dict[str, float]:
        """One step: (loss and figures)."""
        begun = time.monotonic()
        left = 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group['lr'] = self.rate * min(1.0, (self.step + 1) / WARM_STEPS) * max(left, 0.01)
        self.network.train()
        loss, figures = loss_of(self.network, batch.to(self.device), self.half)
        if not torch.isfinite(loss):
            raise ValueError(
                f'the loss of step {self.step} is not finite; nothing was learnt from it'
            )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        keep = min(1 - 1 / EMA_STEPS, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - keep)
                else:
                    self.average[name].copy_(value)
        self.step += 1
        self.seconds += time.monotonic() - begun
        return {'loss': float(loss.detach()), **figures}

    def save(self) -> None:
        """
        Write the checkpoint; what was there is replaced only when all is written.

        The weights come first, so that a state is never newer than its weights.
        """
        weights = {name: value.contiguous() for name, value in self.average.items()}
        save_file(weights, self.folder / 'weights.part')
        (self.folder / 'weights.part').rename(self.folder / 'weights.safetensors')
        state = {
            'network': self.network.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'average': self.average,
            'step': self.step,
            'seconds': self.seconds,
        }
        torch.save(state, self.folder / 'state.part')
        (self.folder / 'state.part').rename(self.folder / 'state.pt')

    def say(self, line: dict[str, object]) -> None:
        """Print a line of figures and keep it."""
        text = json.dumps({'step': self.step, **line})
        print(text, flush=True)
        with (self.folder / 'log.jsonl').open('a') as file:
            file.write(text + '\n')


def train(
    run: Run, data: Path, size: int, validation: Path | None, start: Path | None = None
) -> None:
    """Train to the run's end, from its own checkpoint where there is one."""
    pairs = Pairs(data)
    if start and run.step == 0:
        some = augmented(pairs.draw(np.random.default_rng(0), size), np.random.default_rng(0))
        run.start_from(start, some.images.flatten(0, 1))
    held_out = Pairs(validation) if validation else None
    seen: dict[str, list[float]] = {}
    for batch in batches(pairs, size, run.step + 1, single=run.kind == 'depth'):
        if run.progress >= 1.0:
            break
        for name, value in run.advance(batch).items():
            seen.setdefault(name, []).append(value)
        last = run.progress >= 1.0
        if run.step % 50 == 0 or last:
            means = {name: round(float(np.mean(values)), 5) for name, values in seen.items()}
            minutes_left = round(run.seconds / 60 * (1 / run.progress - 1), 1)
            run.say({**means, 'pairs': len(pairs), 'minutes_left': minutes_left})
            seen = {}
        if run.step % 250 == 0 or last:
            run.save()
        if held_out and (run.step % 1000 == 0 or last):
            run.say({'validation': validate(run, held_out)})


@torch.no_grad()
def validate(run: Run, held_out: Pairs) -> dict[str, dict[str, float]]:
    """Figures of the averaged weights over held-out worlds, by family."""
    network = NETWORKS[run.kind]()
    network.load_state_dict(run.average)
    network.eval()
    figures: dict[str, list[dict[str, float]]] = {}
    for name, batch in held_out.worlds():
        figures.setdefault(name.split('_')[0], []).append(loss_of(network, batch)[1])
    return {
        family: {key: round(float(np.mean([f[key] for f in some])), 4) for key in some[0]}
        for family, some in figures.items()
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('kind', choices=sorted(NETWORKS))
    parser.add_argument('data', type=Path, help='pairs of training.synthesize')
    parser.add_argument('run', type=Path, help='folder of this run; one that has begun goes on')
    parser.add_argument('--steps', type=int, default=20_000)
    parser.add_argument(
        '--minutes', type=float, default=math.inf, help='end after so many, if sooner'
    )
    parser.add_argument('--batch', type=int, default=32, help='pairs')
    parser.add_argument('--rate', type=float, default=1.5e-3, help='learning rate at its height')
    parser.add_argument(
        '--half', action='store_true', help='bfloat16: half the time where the processor knows it'
    )
    parser.add_argument('--start', type=Path, help='begin with the weights of this run or bundle')
    parser.add_argument('--validation', type=Path, help='pairs of held-out worlds')
    a = parser.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    run = Run(a.kind, a.run, device, a.rate, a.steps, a.minutes, a.half)
    train(run, a.data, a.batch, a.validation, a.start)
    return 0


if __name__ == '__main__':
    sys.exit(main())
