# SPDX-License-Identifier: Apache-2.0
"""Random weights in the layout of the released ones, spread so that nothing is zero or dead."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from training.networks.attention_motion import AttentionMotion
from training.networks.depth_anything import DepthAnything

OLD = {
    'attention.q_proj': 'attention.attention.query',
    'attention.k_proj': 'attention.attention.key',
    'attention.v_proj': 'attention.attention.value',
    'attention.o_proj': 'attention.output.dense',
}


def spread(name: str, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Values that keep signals alive through the network, none of them zero."""
    x = torch.randn(shape, generator=random)
    x = torch.where(x.abs() < 0.05, torch.full_like(x, 0.05), x)
    if name.endswith('num_batches_tracked'):
        return torch.tensor(1234)
    if name.endswith('running_var'):
        return 0.5 + x.abs()
    if 'magnitude' in name:
        return 0.8 + 0.3 * x.abs()
    if 'lambda1' in name:
        return 0.3 + 0.2 * x
    scale_like = name.endswith('.weight') and len(shape) == 1
    if scale_like:
        return 1.0 + 0.2 * x
    if len(shape) >= 2 and name.endswith('weight'):
        return x / float(torch.tensor(shape[1:]).prod()) ** 0.5 * 1.2
    return 0.2 * x


def depth_weights(seed: int = 0, network: DepthAnything | None = None) -> dict[str, Tensor]:
    """What a depth_model.pth holds: peft's prefix, transformers 4 names, DoRA."""
    random = torch.Generator().manual_seed(seed)
    network = network or DepthAnything(imagenet=False).adapt()
    found = {}
    for name, value in network.state_dict().items():
        for now, before in OLD.items():
            name = name.replace(now, before)
        found[name] = spread(name, tuple(value.shape), random)
    return found


def motion_weights() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What pose_encoder.pth, with its unused classifier, and pose.pth hold; yours to change."""
    encoder, decoder = _motion_weights()
    return dict(encoder), dict(decoder)


@cache
def _motion_weights() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    random = torch.Generator().manual_seed(1)
    network = AttentionMotion()
    encoder, decoder = (
        {name: spread(name, tuple(v.shape), random) for name, v in part.state_dict().items()}
        for part in (network.encoder, network.decoder)
    )
    encoder['encoder.fc.weight'] = torch.randn(1000, 512, generator=random)
    encoder['encoder.fc.bias'] = torch.randn(1000, generator=random)
    decoder['net.3.weight'] *= 30  # motions of some size: the graph says a thousandth of it
    return encoder, decoder


def write_released(folder: Path, motion: bool = True) -> Path:
    """A folder of released weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(depth_weights(), folder / 'depth_model.pth')
    if motion:
        encoder, decoder = motion_weights()
        torch.save(encoder, folder / 'pose_encoder.pth')
        torch.save(decoder, folder / 'pose.pth')
    return folder
