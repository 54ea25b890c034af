# SPDX-License-Identifier: Apache-2.0
"""
The compact networks: small enough for two CPU cores in real time.

Plain 3x3 convolutions, since CPUs run nothing faster, and a little attention where the picture is
down to some dozens of tokens, since depth needs to see all of it at once.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNIT_MM = 30.0  # log depth is told relative to this: endoscopes work at centimetres
LOG_RANGE = 3.2  # depth within UNIT_MM times e^-LOG_RANGE .. e^LOG_RANGE: 1.2 mm to 0.74 m
LOG_SIGMA_RANGE = (-4.0, 0.5)  # sigma of log depth within 0.018 .. 1.6


class Residual(nn.Module):
    """Two convolutions and a short cut: (B, C, h, w) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(x + self.second_norm(self.second(y)))


class Down(nn.Module):
    """Half the size: (B, C, h, w) -> (B, D, ceil(h / 2), ceil(w / 2))."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Overview(nn.Module):
    """
    Every place looks at every other: a transformer block over the coarsest map, (B, C, h, w) ->
    the same.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.look = nn.Linear(channels, 3 * channels)
        self.gather = nn.Linear(channels, channels)
        self.think_norm = nn.LayerNorm(channels)
        self.think = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        B, C, h, w = x.shape
        tokens = (x + self.place(x)).flatten(2).transpose(1, 2)  # (B, h w, C)
        q, k, v = (
            part.view(B, h * w, self.heads, C // self.heads).transpose(1, 2)
            for part in self.look(self.norm(tokens)).chunk(3, dim=-1)
        )  # (B, heads, h w, C / heads)
        weights = torch.softmax(q @ k.transpose(-1, -2) * (C // self.heads) ** -0.5, dim=-1)
        seen = (weights @ v).transpose(1, 2).reshape(B, h * w, C)
        tokens = tokens + self.gather(seen)
        tokens = tokens + self.think(self.think_norm(tokens))
        return tokens.transpose(1, 2).reshape(B, C, h, w)


class Encoder(nn.Module):
    """
    Maps at 1/4, 1/8, 1/16 and 1/32 of the picture.

    :param widths: channels at 1/2, 1/4, 1/8, 1/16 and 1/32.
    :param depths: residual blocks at 1/4, 1/8, 1/16 and 1/32; overviews: `Overview`s behind them.
    """

    def __init__(
        self, widths: tuple[int, ...], depths: tuple[int, ...], overviews: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.stem = Down(3, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                Down(before, now),
                *(Residual(now) for _ in range(depth)),
                *(Overview(now) for _ in range(overview)),
            )
            for before, now, depth, overview in zip(
                widths[:-1], widths[1:], depths, overviews, strict=True
            )
        )

    def forward(self, picture: Tensor) -> list[Tensor]:
        maps = [self.stem(picture)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps  # 1/2, 1/4, 1/8, 1/16, 1/32


class Summary(nn.Module):
    """
    A few numbers from the coarsest map, (B, C, h, w) -> (B, outputs): its mean and its strongest
    places.
    """

    def __init__(self, channels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 64, 1)
        self.say = nn.Sequential(
            nn.Linear(64 + channels, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )
        nn.init.zeros_(self.say[-1].weight)
        nn.init.zeros_(self.say[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.say(torch.cat([x.mean((-1, -2)), self.squeeze(x).amax((-1, -2))], dim=1))


class CompactDepth(nn.Module):
    """
    Depth, the focal length, and how sure both are, from one picture.

    Call it with (B, 3, H, W) float in [0, 1], RGB; sides of 32 px and more.

    :return: log depth (B, H, W) relative to UNIT_MM, log sigma (B, H, W) of it, and (B, 2):
        log(fx / W) and log sigma of it.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 64, 128, 192),
        depths: tuple[int, ...] = (1, 2, 4, 4),
        overviews: tuple[int, ...] = (0, 0, 2, 4),
    ) -> None:
        super().__init__()
        self.encoder = Encoder(widths, depths, overviews)
        coarse_first = widths[::-1]
        self.laterals = nn.ModuleList(
            nn.Conv2d(above, here, 1) for above, here in pairwise(coarse_first)
        )
        self.mixes = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU())
            for c in coarse_first[1:]
        )
        self.head = nn.Conv2d(widths[0], 2, 3, padding=1)
        nn.init.zeros_(self.head.bias)
        self.focal = Summary(widths[-1], 64, 2)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        *finer, x = self.encoder(2.0 * picture - 1.0)
        focal = self.focal(x)
        for lateral, mix, skip in zip(self.laterals, self.mixes, reversed(finer), strict=True):
            x = F.interpolate(
                lateral(x), size=skip.shape[-2:], mode='bilinear', align_corners=False
            )
            x = mix(x + skip)
        with torch.autocast(x.device.type, enabled=False):  # half precision would leave steps
            said = F.interpolate(
                self.head(x.float()), size=picture.shape[-2:], mode='bilinear', align_corners=False
            )
        log_depth = LOG_RANGE * torch.tanh(said[:, 0] / LOG_RANGE)
        low, high = LOG_SIGMA_RANGE
        log_sigma = low + (high - low) * torch.sigmoid(said[:, 1])
        return log_depth, log_sigma, focal


class CompactMotion(nn.Module):
    """
    The step between two pictures and the camera that took them.

    Both pictures pass one small encoder; each place of the current one is compared with those
    around it in the previous one, and what matches where tells the motion.

    Call it with (B, 6, H, W) float in [0, 1]: previous, then current, RGB.

    :return: (B, 13): axis-angle [rad] and translation [UNIT_MM mm] of T_prev_cam; log(fx / W) of
        the current picture, log of its zoom against the previous one, n_x and n_y of the
        principal point less 1/2; and log sigma of log(fx / W), of the log zoom and of the
        translation's length relative to itself.
    """

    OUTPUTS = 13
    REACH = 4  # matches are looked for so far to each side, at a quarter of the size

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 64, 128, 192),
        depths: tuple[int, ...] = (1, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.stem = Down(3, widths[0])
        self.near = nn.Sequential(
            Down(widths[0], widths[1]), *(Residual(widths[1]) for _ in range(depths[0]))
        )
        self.match = nn.Conv2d(widths[1], widths[1], 1)
        before = (2 * self.REACH + 1) ** 2 + widths[1]
        stages = []
        for now, depth in zip(widths[2:], depths[1:], strict=True):
            stages.append(nn.Sequential(Down(before, now), *(Residual(now) for _ in range(depth))))
            before = now
        self.stages = nn.Sequential(*stages)
        self.overview = Overview(widths[-1])
        self.summary = Summary(widths[-1], 128, self.OUTPUTS)

    def forward(self, pair: Tensor) -> Tensor:
        B = len(pair)
        both = torch.cat([pair[:, :3], pair[:, 3:]])  # (2B, 3, H, W)
        maps = self.near(self.stem(2.0 * both - 1.0))  # (2B, C, H/4, W/4)
        keys = F.normalize(self.match(maps), dim=1)
        matches = _matches(keys[:B], keys[B:], self.REACH)
        seen = self.stages(torch.cat([matches, maps[B:]], dim=1))
        return self.summary(self.overview(seen))


def _matches(previous: Tensor, current: Tensor, reach: int) -> Tensor:
    """
    How alike each place is to those up to `reach` around it: two (B, C, h, w) of unit length ->
    (B, (2 reach + 1)^2, h, w), row by row from the top left.
    """
    h, w = current.shape[-2:]
    padded = F.pad(previous, (reach, reach, reach, reach))
    alike = [
        (current * padded[..., v : v + h, u : u + w]).sum(1)
        for v in range(2 * reach + 1)
        for u in range(2 * reach + 1)
    ]
    return torch.stack(alike, dim=1)
