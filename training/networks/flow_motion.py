# SPDX-License-Identifier: Apache-2.0
"""
A small motion network that sees where patches went before it has learnt anything, so that
self-supervision from nothing takes minutes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 5  # descriptor: this many pixels of the halved picture, each way
REACH = 5  # patches are looked for so far, at half the size: 10 px of the picture
SHARPNESS = 25.0  # of the soft maximum over places, to begin with
GRID = (6, 8)  # cells whose mean shift is what the motion follows from


class FlowMotion(nn.Module):
    """
    The step between two pictures and the camera that took them, as `CompactMotion` says it.

    Each patch of the current picture is compared with those around it in the previous one; the
    soft maximum is a shift, and a perceptron reads motion from the shifts over a grid.

    Call it with (B, 6, H, W) float in [0, 1]: previous, then current, RGB.

    :return: (B, 13), see `CompactMotion`.
    """

    OUTPUTS = 13

    def __init__(self, hidden: int = 192) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())
        cells = 3 * GRID[0] * GRID[1]
        self.direct = nn.Linear(cells, self.OUTPUTS)
        self.read = nn.Sequential(
            nn.Linear(cells, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(),
            nn.Linear(hidden, self.OUTPUTS),
        )  # fmt: skip
        for layer in (self.direct, self.read[-1]):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)

    def forward(self, pair: Tensor) -> Tensor:
        previous, current = (_descriptors(F.avg_pool2d(x, 2)) for x in (pair[:, :3], pair[:, 3:]))
        shifts = self._shifts(previous, current)  # (B, 3, h, w)
        cells = F.adaptive_avg_pool2d(shifts, GRID).flatten(1)
        said: Tensor = self.direct(cells) + self.read(cells)
        return said

    def _shifts(self, previous: Tensor, current: Tensor) -> Tensor:
        """Expected shift (dx, dy) of each patch [REACH], and how sure its match is."""
        side = 2 * REACH + 1
        alike = _likeness(previous, current)
        chance = torch.softmax(self.sharpness.exp() * alike, dim=1)
        offsets = torch.linspace(-1, 1, side, device=current.device, dtype=current.dtype)
        dy, dx = torch.meshgrid(offsets, offsets, indexing='ij')
        sure = chance.amax(1, keepdim=True)
        mean = torch.stack([(chance * d.reshape(1, -1, 1, 1)).sum(1) for d in (dx, dy)], dim=1)
        return torch.cat([mean * sure, sure], dim=1)


@torch.no_grad()  # nothing in it learns
def _likeness(previous: Tensor, current: Tensor) -> Tensor:
    """
    How alike each patch is to those up to REACH around it in the previous picture, row by row
    from the top left, for every other patch: two (B, C, h, w) of unit length -> (B, (2 REACH +
    1)^2, h / 2, w / 2).
    """
    h, w = current.shape[-2:]
    around = F.pad(previous, (REACH, REACH, REACH, REACH))
    here = current[..., ::2, ::2].contiguous()
    side = range(2 * REACH + 1)
    shifted = (around[..., v : v + h : 2, u : u + w : 2] for v in side for u in side)
    return torch.stack([(here * x).sum(1) for x in shifted], dim=1)


def _descriptors(picture: Tensor) -> Tensor:
    """Patches of grey levels, without mean, of unit length: (B, 3, h, w) -> (B, 25, h, w)."""
    B, _, h, w = picture.shape
    grey = F.pad(picture.mean(1, keepdim=True), (PATCH // 2,) * 4, mode='replicate')
    patches = F.unfold(grey, PATCH).view(B, PATCH * PATCH, h, w)
    patches = patches - patches.mean(1, keepdim=True)
    return patches / (patches.norm(dim=1, keepdim=True) + 0.02)
