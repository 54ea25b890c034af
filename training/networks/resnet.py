# SPDX-License-Identifier: Apache-2.0
"""
ResNet-18 (He et al. 2016) without its classifier, its parts named as torchvision names them.

torchvision itself has no build for bare CPUs on the package index, and is not needed for this.
"""

from copy import deepcopy
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

WIDTHS = (64, 128, 256, 512)
Network = TypeVar('Network', bound=nn.Module)


class BasicBlock(nn.Module):
    """
    Two 3x3 convolutions and a short cut: (B, C, h, w) -> (B, D, ceil(h / s), ceil(w / s)).

    :param channels: C; out: D; stride: s.
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet18(nn.Module):
    """
    Stem and four stages, to be called one by one, since others put attention between them.

    :param channels: of the input; 6 for two pictures.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for number, (width, stride) in enumerate(zip(WIDTHS, (1, 2, 2, 2), strict=True), 1):
            stage = nn.Sequential(BasicBlock(before, width, stride), BasicBlock(width, width))
            self.add_module(f'layer{number}', stage)
            before = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def stem(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, 64, H/2, W/2), before the pooling."""
        return F.relu(self.bn1(self.conv1(x)))

    @property
    def stages(self) -> list[nn.Module]:
        """layer1..4; the first takes the pooled stem (`pooled`)."""
        return [self.get_submodule(f'layer{number}') for number in range(1, 5)]


def pooled(stem: Tensor) -> Tensor:
    """The stem's maximum pooling: (B, 64, h, w) -> (B, 64, ceil(h / 2), ceil(w / 2))."""
    return F.max_pool2d(stem, 3, stride=2, padding=1)


def without_batch_norms(network: Network) -> Network:
    """
    A copy that says the same in evaluation, its batch norms folded into the convolutions.

    Exporters would fold them later, and in half precision get the types wrong.

    :param network: one that holds `ResNet18` anywhere, in evaluation mode.
    """
    network = deepcopy(network)
    for module in network.modules():
        for number in (1, 2):
            conv, norm = (getattr(module, f'{kind}{number}', None) for kind in ('conv', 'bn'))
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, f'conv{number}', fuse_conv_bn_eval(conv, norm))
                setattr(module, f'bn{number}', nn.Identity())
        if isinstance(module, BasicBlock) and isinstance(module.downsample, nn.Sequential):
            conv, norm = module.downsample
            module.downsample = nn.Sequential(fuse_conv_bn_eval(conv, norm), nn.Identity())
    return network
