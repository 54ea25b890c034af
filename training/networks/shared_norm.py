# SPDX-License-Identifier: Apache-2.0
"""Batch norm whose statistics are of the whole step, however many processes share it."""

from typing import Any

import torch
from torch import Tensor, distributed, nn


class _Sum(torch.autograd.Function):
    """A sum over all processes; so is its gradient."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """
    `nn.BatchNorm2d` over the samples of all processes, which must have as many each.

    It is `nn.SyncBatchNorm`, which runs on accelerators only, for CPUs too. The gradient flows
    through the statistics into every process; their mean over processes is that of one process.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); without training as usual."""
        if not self.training:
            return super().forward(x)
        variance, mean = (one.double() for one in torch.var_mean(x, (0, 2, 3), correction=0))
        processes = distributed.get_world_size()
        mean, square = _Sum.apply(torch.stack([mean, variance + mean**2])) / processes
        variance = square - mean**2
        self._remember(mean.detach(), variance.detach(), x.numel() // len(mean) * processes)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        mean, scale = (one.to(x.dtype)[:, None, None] for one in (mean, scale))
        return (x - mean) * scale + self.bias[:, None, None]

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as torch does: by the momentum, the variance unbiased."""
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            unbiased = variance * count / (count - 1)
            for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
                running.lerp_(now.to(running.dtype), self.momentum)


def share_norms(networks: nn.Module, device: torch.device) -> nn.Module:
    """
    Let all batch norms of some networks be over all processes: the same parameters and names.

    Two processes of two samples each train otherwise as with batches of two, which is another
    training: statistics of fewer samples waver more.

    :param device: torch's own SyncBatchNorm where it runs.
    """
    if device.type != 'cpu':
        return nn.SyncBatchNorm.convert_sync_batchnorm(networks)
    for module in networks.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d  # keeps parameters, buffers and hooks
    return networks
