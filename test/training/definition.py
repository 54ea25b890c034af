# SPDX-License-Identifier: Apache-2.0
"""
The paper's networks a second time, read off the definition and written as plain formulas on the
released files' own keys: what the import is held against.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def disparity(w: Weights, x: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1] -> (1, 1, H, W), from the keys of a depth_model.pth with DoRA."""
    rows, columns = x.shape[2] // 14, x.shape[3] // 14
    head = {k.removeprefix('head.'): v for k, v in w.items() if k.startswith('head.')}
    y = _neck(w, _features(w, x, rows, columns), rows, columns)
    y = F.conv2d(y, head['conv1.weight'], head['conv1.bias'], padding=1)
    y = F.interpolate(y, size=x.shape[2:], mode='bilinear', align_corners=True)
    y = F.relu(F.conv2d(y, head['conv2.weight'], head['conv2.bias'], padding=1))
    return 1 / (1 + torch.exp(-F.conv2d(y, head['conv3.weight'], head['conv3.bias'])))


def _features(w: Weights, x: Tensor, rows: int, columns: int) -> list[Tensor]:
    """Tokens after blocks 3, 6, 9 and 12, normed by the last norm, without the class token."""
    b = {k.removeprefix('backbone.base_model.model.'): v for k, v in w.items()}
    patches = x[:, :, : 14 * rows, : 14 * columns].unfold(2, 14, 14).unfold(3, 14, 14)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(rows * columns, 3 * 14 * 14)
    projection = b['embeddings.patch_embeddings.projection.weight'].reshape(384, -1)
    tokens = patches @ projection.T + b['embeddings.patch_embeddings.projection.bias']
    positions = b['embeddings.position_embeddings'][0]
    square = positions[1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=(rows, columns), mode='bicubic', align_corners=False)
    at = square[0].flatten(1).T
    t = torch.cat([b['embeddings.cls_token'][0] + positions[:1], tokens + at])  # (1 + N, 384)
    features = []
    for block in range(12):
        p = f'encoder.layer.{block}.'
        t = t + b[p + 'layer_scale1.lambda1'] * _attention(b, p, _norm(b, p + 'norm1', t))
        y = _norm(b, p + 'norm2', t) @ b[p + 'mlp.fc1.weight'].T + b[p + 'mlp.fc1.bias']
        y = F.gelu(y) @ b[p + 'mlp.fc2.weight'].T + b[p + 'mlp.fc2.bias']
        t = t + b[p + 'layer_scale2.lambda1'] * y
        if block % 3 == 2:
            features.append(_norm(b, 'layernorm', t)[1:])
    return features


def _attention(b: Weights, p: str, t: Tensor) -> Tensor:
    p += 'attention.attention.'
    q, k, v = (_projected(b, p + name, t).reshape(-1, 6, 64) for name in ('query', 'key', 'value'))
    alike = torch.einsum('ihc,jhc->hij', q, k) / 8
    seen = torch.einsum('hij,jhc->ihc', alike.softmax(-1), v).reshape(-1, 384)
    p = p.replace('attention.attention.', 'attention.output.dense')
    return seen @ b[p + '.weight'].T + b[p + '.bias']


def _projected(b: Weights, p: str, t: Tensor) -> Tensor:
    """A linear map; with DoRA (Liu et al. 2024, eq. 5): direction W + 16/14 B A, magnitude m."""
    if p + '.weight' in b:
        return t @ b[p + '.weight'].T + b[p + '.bias']
    W = b[p + '.base_layer.weight'].double()
    W = W + 16 / 14 * (b[p + '.lora_B.default.weight'] @ b[p + '.lora_A.default.weight'])
    m = b[p + '.lora_magnitude_vector.default.weight'].double()
    W = m[:, None] * W / W.pow(2).sum(1, keepdim=True).sqrt()
    return t @ W.float().T + b[p + '.base_layer.bias']


def _norm(b: Weights, p: str, t: Tensor) -> Tensor:
    t = t - t.mean(-1, keepdim=True)
    t = t / (t.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    return t * b[p + '.weight'] + b[p + '.bias']


def _neck(w: Weights, features: list[Tensor], rows: int, columns: int) -> Tensor:
    """DPT: maps at 4, 2, 1 and 1/2 times the patches' grid, fused from coarse to fine."""
    n = {k.removeprefix('neck.'): v for k, v in w.items() if k.startswith('neck.')}
    maps = []
    for i, tokens in enumerate(features):
        p = f'reassemble_stage.layers.{i}.'
        y = tokens.T.reshape(1, 384, rows, columns)
        y = F.conv2d(y, n[p + 'projection.weight'], n[p + 'projection.bias'])
        if i < 2:
            y = F.conv_transpose2d(
                y, n[p + 'resize.weight'], n[p + 'resize.bias'], stride=(4, 2)[i]
            )
        elif i == 3:
            y = F.conv2d(y, n[p + 'resize.weight'], n[p + 'resize.bias'], stride=2, padding=1)
        maps.append(F.conv2d(y, n[f'convs.{i}.weight'], padding=1))

    def residual(p: str, y: Tensor) -> Tensor:
        z = F.conv2d(
            F.relu(y), n[p + 'convolution1.weight'], n[p + 'convolution1.bias'], padding=1
        )
        z = F.relu(z)
        return y + F.conv2d(z, n[p + 'convolution2.weight'], n[p + 'convolution2.bias'], padding=1)

    fused = None
    for i, y in enumerate(reversed(maps)):
        p = f'fusion_stage.layers.{i}.'
        fused = y if fused is None else fused + residual(p + 'residual_layer1.', y)
        fused = residual(p + 'residual_layer2.', fused)
        size = maps[2 - i].shape[2:] if i < 3 else [2 * side for side in fused.shape[2:]]
        fused = F.interpolate(fused, size=tuple(size), mode='bilinear', align_corners=True)
        fused = F.conv2d(fused, n[p + 'projection.weight'], n[p + 'projection.bias'])
    return fused


def motion(encoder: Weights, decoder: Weights, pair: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(1, 6, H, W), [source, target] -> axis-angle, translation, and fx, fy, cx, cy [px]."""
    e = {k.removeprefix('encoder.'): v for k, v in encoder.items()}
    x = F.relu(_bn(e, 'bn1', F.conv2d(pair, e['conv1.weight'], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for layer in range(1, 5):
        for block in range(2):
            x = _block(e, f'layer{layer}.{block}.', x, 2 if layer > 1 and block == 0 else 1)
        if layer in (1, 3):
            x = x * _attention_map(encoder, f'attentions.layer_{layer - 1}.', x)
    d = decoder
    f = F.relu(F.conv2d(x, d['net.0.weight'], d['net.0.bias']))
    y = f
    for number in (1, 2):
        y = F.relu(F.conv2d(y, d[f'net.{number}.weight'], d[f'net.{number}.bias'], padding=1))
    y = F.conv2d(y, d['net.3.weight'], d['net.3.bias']).mean((2, 3)) * 0.001
    first = y.reshape(2, 6)[0]
    z = f
    for number in (0, 1):
        p = f'intrinsics_layers.{number}.conv.conv.'
        z = F.elu(F.conv2d(F.pad(z, [1] * 4, 'reflect'), d[p + 'weight'], d[p + 'bias']))
    o = z.mean((2, 3))[0] @ d['intrinsics_layers.4.weight'].T + d['intrinsics_layers.4.bias']
    size = torch.tensor([pair.shape[3], pair.shape[2]] * 2)
    K = (o + 0.5) * size
    focal = torch.where(K[:2] > 20, K[:2], torch.log1p(torch.exp(K[:2].clamp(max=20))))
    return first[:3], first[3:], torch.cat([focal, K[2:]])


def _bn(e: Weights, p: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        e[f'{p}.{name}'][:, None, None]
        for name in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def _block(e: Weights, p: str, x: Tensor, stride: int) -> Tensor:
    y = F.relu(_bn(e, p + 'bn1', F.conv2d(x, e[p + 'conv1.weight'], stride=stride, padding=1)))
    y = _bn(e, p + 'bn2', F.conv2d(y, e[p + 'conv2.weight'], padding=1))
    if p + 'downsample.0.weight' in e:
        x = _bn(e, p + 'downsample.1', F.conv2d(x, e[p + 'downsample.0.weight'], stride=stride))
    return F.relu(y + x)


def _attention_map(w: Weights, p: str, x: Tensor) -> Tensor:
    """Patches of 8x8, attention among them with 8 heads, and back: (1, 1, h, w) in (0, 1)."""
    a = {k.removeprefix(p): v for k, v in w.items() if k.startswith(p)}
    C, h, width = x.shape[1:]
    rows, columns = -(-h // 8), -(-width // 8)
    padded = F.pad(x, (0, 8 * columns - width, 0, 8 * rows - h))
    y = F.conv2d(padded, a['patch_embed.0.weight'], a['patch_embed.0.bias'], stride=8)
    y = F.gelu(_group_norm(a, 'patch_embed.1', y))
    t = y[0].flatten(1).T + a['pos_embed'][0, : rows * columns]
    t = F.layer_norm(t, (C,), a['norm.weight'], a['norm.bias'])
    qkv = t @ a['multihead_attn.in_proj_weight'].T + a['multihead_attn.in_proj_bias']
    q, k, v = (part.reshape(-1, 8, C // 8) for part in qkv.split(C, dim=1))
    alike = torch.einsum('ihc,jhc->hij', q, k) / (C / 8) ** 0.5
    t = torch.einsum('hij,jhc->ihc', alike.softmax(-1), v).reshape(-1, C)
    t = t @ a['multihead_attn.out_proj.weight'].T + a['multihead_attn.out_proj.bias']
    y = t.T.reshape(1, C, rows, columns)
    for i in range(3):
        q = f'upsample_layers.{i}.'
        y = F.conv_transpose2d(
            y, a[q + '0.weight'], a[q + '0.bias'], stride=2, padding=1, output_padding=1
        )
        y = _group_norm(a, q + '1', y)
        y = F.gelu(y) if i < 2 else y
    y = y[:, :, :h, :width]
    y = F.relu(F.conv2d(y, a['attention_conv.0.weight'], a['attention_conv.0.bias'], padding=1))
    y = F.conv2d(y, a['attention_conv.2.weight'], a['attention_conv.2.bias'])
    return torch.sigmoid(y)


def _group_norm(a: Weights, p: str, x: Tensor) -> Tensor:
    x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    return x * a[p + '.weight'][:, None, None] + a[p + '.bias'][:, None, None]
