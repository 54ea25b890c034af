# SPDX-License-Identifier: Apache-2.0
"""
Motion and intrinsics from two pictures, as the method EndoSfM3D (2025) defines them: a ResNet-18
whose early features are weighted by patch attention, and a decoder for both answers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.resnet import ResNet18, pooled

PATCH = 8
POSITIONS = 1024
MOTION_SCALE = 1e-3  # what the decoder says is this much too large, so that training starts small


class PatchAttention(nn.Module):
    """
    Where to look: (B, C, h, w) -> a map in (0, 1), (B, 1, h, w).

    Patches of 8x8 become tokens, attend to each other, and are spread over the map again.

    :param channels: C, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.patch_embed = nn.Sequential(
            nn.Conv2d(channels, channels, PATCH, stride=PATCH),
            nn.GroupNorm(1, channels),
            nn.GELU(),
        )
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, POSITIONS, channels))
        self.norm = nn.LayerNorm(channels)
        self.multihead_attn = nn.MultiheadAttention(channels, 8, dropout=0.1, batch_first=True)
        self.upsample_layers = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(before, now, 3, stride=2, padding=1, output_padding=1),
                nn.GroupNorm(1, now),
                *([nn.GELU()] if number < 2 else []),
            )
            for number, (before, now) in enumerate(
                ((channels, half), (half, quarter), (quarter, channels))
            )
        )
        self.attention_conv = nn.Sequential(
            nn.Conv2d(channels, quarter, 3, padding=1), nn.ReLU(), nn.Conv2d(quarter, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = self.patch_embed(F.pad(x, (0, -w % PATCH, 0, -h % PATCH)))  # (B, C, h/8, w/8)
        rows, columns = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C), row by row
        tokens = self.norm(tokens + self._positions(rows * columns))
        tokens, _ = self.multihead_attn(tokens, tokens, tokens, need_weights=False)
        x = tokens.transpose(1, 2).unflatten(2, (rows, columns))
        for layer in self.upsample_layers:
            x = layer(x)
        return torch.sigmoid(self.attention_conv(x[..., :h, :w]))

    def _positions(self, count: int) -> Tensor:
        """The first of the learned positions; stretched where there are more tokens: (1, N, C)."""
        if count <= POSITIONS:
            return self.pos_embed[:, :count]
        return F.interpolate(self.pos_embed.transpose(1, 2), size=count, mode='linear').transpose(
            1, 2
        )


class MotionEncoder(nn.Module):
    """Two pictures (B, 6, H, W) in [0, 1], [source, target] -> (B, 512, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet18(6)
        self.attentions = nn.ModuleDict(
            {'layer_0': PatchAttention(64), 'layer_2': PatchAttention(256)}
        )

    def forward(self, pair: Tensor) -> Tensor:
        x = pooled(self.encoder.stem(pair))
        for number, stage in enumerate(self.encoder.stages):
            x = stage(x)
            if f'layer_{number}' in self.attentions:
                x = x * self.attentions[f'layer_{number}'](x)
        return x


class ConvElu(nn.Module):
    """Reflection pad, 3x3 convolution, ELU: (B, C, h, w) -> (B, D, h, w)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = ReflectedConv(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.conv(x))


class ReflectedConv(nn.Module):
    """Reflection pad and 3x3 convolution: (B, C, h, w) -> (B, D, h, w)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (1, 1, 1, 1), mode='reflect'))


class MotionDecoder(nn.Module):
    """
    The encoder's feature (B, 512, h, w) -> axis-angle (B, 3) [rad], translation (B, 3) [the
    networks' unit] and what becomes of K, (B, 4) (`normalised_intrinsics`).

    The last convolution has 12 outputs, two motions; only the first is ever used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [
                nn.Conv2d(512, 256, 1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 12, 1),
            ]
        )
        self.intrinsics_layers = nn.Sequential(
            ConvElu(256, 256),
            ConvElu(256, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 4),
        )

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        squeeze, first, second, last = self.net
        f = F.relu(squeeze(feature))
        said = last(
            F.relu(second(F.relu(first(f))))
        ).float()  # small numbers need single precision
        motion = MOTION_SCALE * said.mean((2, 3))  # (B, 12)
        return motion[:, :3], motion[:, 3:6], self.intrinsics_layers(f).float()


def normalised_intrinsics(said: Tensor, height: int, width: int) -> Tensor:
    """
    K of a picture from what the decoder says: fx = softplus((o0 + 1/2) W), cx = (o2 + 1/2) W.

    :param said: (B, 4) outputs o.
    :param height: of the pictures [px]; width likewise.
    :return: (B, 4) fx / W, fy / H, cx / W, cy / H, with cx, cy in pixels whose centres are
        integers; no skew.
    """
    size = said.new_tensor([width, height])
    focal = F.softplus((said[:, :2] + 0.5) * size) / size
    return torch.cat([focal, said[:, 2:] + 0.5], dim=1)


class AttentionMotion(nn.Module):
    """
    The step between two pictures and the camera that took them.

    Call it with (B, 6, H, W) float in [0, 1], RGB: [source, target]; sides of 64 px and more.

    :return: axis-angle (B, 3) [rad] and translation (B, 3) [the networks' unit] of
        T_source_target = Trans(t) Rot(r), and K (B, 4) as `normalised_intrinsics` says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MotionEncoder()
        self.decoder = MotionDecoder()

    def forward(self, pair: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = pair.shape[-2:]
        axis_angle, translation, said = self.decoder(self.encoder(pair))
        return axis_angle, translation, normalised_intrinsics(said, height, width)
