# SPDX-License-Identifier: Apache-2.0
"""
Depth Anything V2 Small (Yang et al. 2024) with DoRA (Liu et al. 2024) and a head that says
disparity at four scales, as the method EndoSfM3D (2025) defines it.
"""

import warnings
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DepthAnythingConfig, Dinov2Config
from transformers.models.depth_anything.modeling_depth_anything import DepthAnythingNeck
from transformers.models.dinov2.modeling_dinov2 import Dinov2Backbone, Dinov2Embeddings

PATCH = 14
SCALES = 4
DEPTH_RANGE = (0.1, 150.0)  # what disparity 1 and 0 mean, in the networks' unit
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RANK, ALPHA, DROPOUT = 14, 16, 0.1
ADAPTED = ('q_proj', 'v_proj')  # query and value, as transformers 5 calls them


def small_config(**backbone: Any) -> DepthAnythingConfig:
    """
    Describe Depth Anything V2 Small.

    :param backbone: values of Dinov2Config that shall differ (tests use tiny ones).
    """
    values = {
        'hidden_size': 384,
        'num_hidden_layers': 12,
        'num_attention_heads': 6,
        'image_size': 518,
        'patch_size': PATCH,
        'out_features': ['stage3', 'stage6', 'stage9', 'stage12'],
        'reshape_hidden_states': False,
        'apply_layernorm': True,
        **backbone,
    }
    return DepthAnythingConfig(
        backbone_config=Dinov2Config(**values),
        patch_size=PATCH,
        reassemble_hidden_size=values['hidden_size'],
        neck_hidden_sizes=[48, 96, 192, 384],
        fusion_hidden_size=64,
        head_hidden_size=32,
    )


class DisparityHead(nn.Module):
    """
    One head for all scales: a fused map (B, C, h, w) -> disparity in (0, 1), (B, 1, H, W).

    :param config: of the network.
    """

    def __init__(self, config: DepthAnythingConfig) -> None:
        super().__init__()
        wide, narrow = config.fusion_hidden_size, config.head_hidden_size
        self.conv1 = nn.Conv2d(wide, wide // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(wide // 2, narrow, 3, padding=1)
        self.conv3 = nn.Conv2d(narrow, 1, 1)

    def forward(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        x = F.interpolate(self.conv1(fused), size=size, mode='bilinear', align_corners=True)
        said = self.conv3(F.relu(self.conv2(x)))
        return torch.sigmoid(said.float())  # half precision knows no small disparity


class OldPositionEmbeddings(Dinov2Embeddings):
    """
    Positions as DINOv2 and older transformers 4 stretched them: by a factor with 0.1 patches
    added, not to a size. Networks trained so say something else without (2 % of disparity).
    """

    def interpolate_pos_encoding(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        """(B, 1 + N, C) tokens of a picture (height, width) [px] -> (1, 1 + N, C)."""
        first, rest = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        side = round(rest.shape[1] ** 0.5)
        rows, columns = height // PATCH, width // PATCH
        if rows == columns == side:
            return self.position_embeddings
        square = rest.transpose(1, 2).unflatten(2, (side, side))  # (1, C, side, side)
        factor = (rows + 0.1) / side, (columns + 0.1) / side
        grid = F.interpolate(square, scale_factor=factor, mode='bicubic', align_corners=False)
        return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)


class DepthAnything(nn.Module):
    """
    Disparity of one picture.

    Call it with (B, 3, H, W) float in [0, 1], RGB. The patches cover the first 14 (H // 14) rows
    and 14 (W // 14) columns; where that is less than the picture, what they say is stretched over
    all of it, as the released weights were trained. Sizes that are multiples of 14 move no pixel.

    :param imagenet: normalise by ImageNet's mean and standard deviation, as the published
        backbone was trained; the released EndoSfM3D weights were trained without.
    :param config: of the network; Depth Anything V2 Small when None.
    :param old_positions: stretch positions as older transformers did.
    :return: (B, 1, H, W) disparity in (0, 1); `disparities` gives coarser scales too.
    """

    def __init__(
        self,
        imagenet: bool = True,
        config: DepthAnythingConfig | None = None,
        old_positions: bool = False,
    ) -> None:
        super().__init__()
        config = config or small_config()
        config.backbone_config._attn_implementation = 'eager'  # what exports to plain operators
        self.imagenet, self.old_positions = imagenet, old_positions
        self.backbone = Dinov2Backbone(config.backbone_config)
        if old_positions:
            self.backbone.embeddings = OldPositionEmbeddings(config.backbone_config)
        self.neck = DepthAnythingNeck(config)
        self.head = DisparityHead(config)
        for name, values in (('mean', IMAGENET_MEAN), ('std', IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.disparities(images, scales=1)[0]

    def disparities(self, images: Tensor, scales: int = SCALES) -> list[Tensor]:
        """Disparity (B, 1, H // 2^s, W // 2^s) of the first so many scales s, finest first."""
        H, W = images.shape[-2:]
        x = (images - self.mean) / self.std if self.imagenet else images
        maps = self.backbone(x).feature_maps  # 4 of (B, 1 + N, C)
        fused = self.neck(list(maps), H // PATCH, W // PATCH)  # coarse to fine
        return [self.head(fused[SCALES - 1 - s], (H >> s, W >> s)) for s in range(scales)]

    def adapt(self, dora: bool = True) -> 'DepthAnything':
        """
        Put low-rank adapters beside every query and value, and freeze what is not trained.

        :param dora: with magnitudes (DoRA); else plain LoRA.
        :return: itself; adapters and head train, backbone and neck do not.
        """
        chosen = LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            lora_dropout=DROPOUT,
            target_modules=list(ADAPTED),
            use_dora=dora,
        )
        with warnings.catch_warnings():  # of a method of transformers that peft still calls
            warnings.simplefilter('ignore', FutureWarning)
            self.backbone = get_peft_model(self.backbone, chosen)
        self.neck.requires_grad_(False)
        return self

    @property
    def adapted(self) -> bool:
        """Whether adapters lie beside the weights."""
        return hasattr(self.backbone, 'merge_and_unload')

    def merge(self) -> 'DepthAnything':
        """
        Fold the adapters into the weights, in single precision.

        :return: itself, without adapters.
        :raises ValueError: an adapter holds what is no number.
        """
        if self.adapted:
            self.backbone = self.backbone.float().merge_and_unload(safe_merge=True)
        return self


def depth_from_disparity(
    disparity: Tensor, depth_range: tuple[float, float] = DEPTH_RANGE
) -> Tensor:
    """
    Depth of a disparity in [0, 1]: 1 / depth = 1 / far + (1 / near - 1 / far) disparity.

    :param depth_range: near and far [the networks' unit].
    :return: depth [the networks' unit], of the same shape, within the range.
    """
    near, far = depth_range
    depth = 1.0 / (1.0 / far + (1.0 / near - 1.0 / far) * disparity)
    return depth.clamp(near, far)
