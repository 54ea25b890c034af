# SPDX-License-Identifier: Apache-2.0
"""The depth network in miniature: the same parts, a thousandth of the weights."""

from transformers import DepthAnythingConfig, Dinov2Config


def tiny_config() -> DepthAnythingConfig:
    """4 blocks of 24 channels instead of 12 of 384."""
    backbone = Dinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    return DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=24,
        neck_hidden_sizes=[4, 8, 12, 16],
        fusion_hidden_size=8,
        head_hidden_size=4,
    )
