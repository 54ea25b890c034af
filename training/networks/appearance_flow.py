# SPDX-License-Identifier: Apache-2.0
"""
Optical flow and appearance flow: what endoscopic self-supervision needs beside depth and motion,
since the light moves with the camera (Shao et al. 2022); for training only.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.attention_motion import ConvElu, ReflectedConv
from training.networks.resnet import WIDTHS, ResNet18, pooled
from training.objective import readable

DECODER_WIDTHS = (16, 32, 64, 128, 256)  # from full size to 1/16
SKIP_WIDTHS = (0, 64, 64, 128, 256)  # of what is concatenated there
SCALES = 4
VISIBLE = 0.95  # of a pixel's weight must arrive where it is called visible


class SqueezeExcitation(nn.Module):
    """Weight channels by their means (Hu et al. 2018): (B, C, h, w) -> the same."""

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // ratio),
            nn.ReLU(),
            nn.Linear(channels // ratio, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[..., None, None]


class PairEncoder(nn.Module):
    """Two pictures (B, 6, H, W) in [0, 1] -> maps at 1/2, 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet18(6)
        self.attentions = nn.ModuleList(SqueezeExcitation(width) for width in WIDTHS)

    def forward(self, pair: Tensor) -> list[Tensor]:
        maps = [self.encoder.stem(pair)]
        x = pooled(maps[0])
        for stage, attention in zip(self.encoder.stages, self.attentions, strict=True):
            x = attention(stage(x))
            maps.append(x)
        return maps


class PairDecoder(nn.Module):
    """
    U-Net decoder: maps of a `PairEncoder` -> one map at each scale, full size first.

    :param outputs: the convolutions that end it, one for each scale.
    """

    def __init__(self, outputs: list[nn.Module]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        before = WIDTHS[-1]
        for width, skip in zip(DECODER_WIDTHS[::-1], SKIP_WIDTHS[::-1], strict=True):
            parts += [ConvElu(before, width), ConvElu(width + skip, width)]
            before = width
        self.decoder = nn.ModuleList([*parts, *outputs])

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        *finer, x = maps
        levels = len(DECODER_WIDTHS)
        said = []
        for level in reversed(range(levels)):
            first, second = self.decoder[2 * (levels - 1 - level) :][:2]
            skip = finer[level - 1] if level else None
            to = size if skip is None else tuple(skip.shape[-2:])
            x = F.interpolate(first(x), size=to, mode='nearest')
            x = second(x if skip is None else torch.cat([x, skip], dim=1))
            if level < SCALES:
                said.append(self.decoder[2 * levels + level](x))
        return said[::-1]


class FlowNetwork(nn.Module):
    """
    Optical flow: where each pixel of the target is in the source.

    Call it with (B, 6, H, W) float in [0, 1]: source, then target.

    :return: (B, 2, H / 2^s, W / 2^s) for s = 0..3: (dy, dx) [px of the full picture].
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = PairEncoder()
        outputs = [nn.Conv2d(width, 2, 3, padding=1) for width in DECODER_WIDTHS[:SCALES]]
        for conv in outputs:
            nn.init.normal_(conv.weight, std=1e-5)
            nn.init.zeros_(conv.bias)
        self.decoder = PairDecoder(list(outputs))

    def forward(self, pair: Tensor) -> list[Tensor]:
        return self.decoder(self.encoder(pair), (pair.shape[-2], pair.shape[-1]))


class AppearanceNetwork(nn.Module):
    """
    The change of brightness between a registered source and its target.

    Call it with (B, 6, H, W) float in [0, 1]: registered source, then target.

    :return: (B, 3, H / 2^s, W / 2^s) in (-1, 1) for s = 0..3, to be added to the target.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = PairEncoder()
        self.decoder = PairDecoder([ReflectedConv(w, 3) for w in DECODER_WIDTHS[:SCALES]])

    def forward(self, pair: Tensor) -> list[Tensor]:
        said = self.decoder(self.encoder(pair), (pair.shape[-2], pair.shape[-1]))
        return [torch.tanh(x) for x in said]


def registered(source: Tensor, flow: Tensor) -> Tensor:
    """
    The source as the flow says it looks from the target; beyond its border the border goes on.

    :param source: (B, C, H, W).
    :param flow: (B, 2, H, W) (dy, dx) [px]: target pixel (v, u) is at (v + dy, u + dx) in the
        source.
    :return: (B, C, H, W).
    """
    v, u = _pixels(flow)
    H, W = flow.shape[-2:]
    grid = torch.stack([(u + flow[:, 1]) / (W - 1), (v + flow[:, 0]) / (H - 1)], dim=-1)
    grid = readable(2 * grid - 1)
    return F.grid_sample(source, grid, padding_mode='border', align_corners=True)


def visible(reverse_flow: Tensor) -> Tensor:
    """
    Which pixels of the target anything of the source arrives at, splatted with bilinear weights.

    :param reverse_flow: (B, 2, H, W) (dy, dx) [px]: source pixel (v, u) is at (v + dy, u + dx) in
        the target.
    :return: (B, 1, H, W) of 0 and 1.
    """
    B, _, H, W = reverse_flow.shape
    v, u = _pixels(reverse_flow)
    arrived = reverse_flow.new_zeros(B, H * W)
    for row, column, weight in _corners(v + reverse_flow[:, 0], u + reverse_flow[:, 1]):
        inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
        at = row.clamp(0, H - 1) * W + column.clamp(0, W - 1)
        arrived.scatter_add_(1, at.flatten(1), (weight * inside).flatten(1))
    return (arrived > VISIBLE).to(reverse_flow.dtype).view(B, 1, H, W)


def refined_target(target: Tensor, appearance: Tensor, mask: Tensor) -> Tensor:
    """
    The target as bright as the source: (B, 3, H, W) in [0, 1].

    :param target: (B, 3, H, W) in [0, 1].
    :param appearance: (B, 3, H, W) of an `AppearanceNetwork`.
    :param mask: (B, 1, H, W) of `visible`.
    """
    return (target + appearance * mask).clamp(0, 1)


def _pixels(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel: (H, 1) and (W,) [px]."""
    H, W = flow.shape[-2:]
    v = torch.arange(H, device=flow.device, dtype=flow.dtype)
    return v[:, None], torch.arange(W, device=flow.device, dtype=flow.dtype)


def _corners(v: Tensor, u: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The four pixels around each place (B, H, W), and their bilinear weights."""
    top, left = v.floor(), u.floor()
    down, right = v - top, u - left
    for row, row_weight in ((top, 1 - down), (top + 1, down)):
        for column, column_weight in ((left, 1 - right), (left + 1, right)):
            yield row.long(), column.long(), row_weight * column_weight
