# SPDX-License-Identifier: Apache-2.0
"""
Where a depth network's training starts: the published weights of Depth Anything V2 Small
(Apache-2.0) from the hub, from a folder, or from the original file; or random ones.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from transformers import DepthAnythingConfig

from training.networks.depth_anything import DepthAnything
from training.spelling import Spelling
from training.state_dicts import WeightsError, check_state_dict, read_state_dict

HUB = 'depth-anything/Depth-Anything-V2-Small-hf'
PUBLISHED_BYTES = 99_218_434  # of depth_anything_v2_vits.pth
PUBLISHED_SHA256 = '715fade1', '1378'  # how it begins and ends
NEW = 'head.conv3.'  # its scale means nothing to a sigmoid, so it begins anew


def depth_network(
    source: str, config: DepthAnythingConfig | None = None, imagenet: bool = True
) -> DepthAnything:
    """
    Make a depth network, without adapters, that sees pictures with ImageNet's normalisation, as
    the published weights did.

    :param source: 'hub', 'none', or the path of a folder or a .pth.
    :param config: of the network; Depth Anything V2 Small when None.
    :param imagenet: False: it sees RGB in [0, 1] as it is, as the released weights do.
    :raises WeightsError: there is no such source, or a key of it does not fit.
    """
    network = DepthAnything(imagenet, config)
    if source == 'none':
        return network
    path = _from_hub() if source == 'hub' else Path(source).expanduser()
    if path.is_dir():
        own = _from_folder(path, network)
    elif path.is_file():
        own = _from_original(path, network)
    else:
        raise WeightsError(
            f'networks: depth_init: {source}: no such file or folder; needed a Hugging Face '
            'folder, depth_anything_v2_vits.pth, hub, or none'
        )
    fresh = {name: v for name, v in network.state_dict().items() if name.startswith(NEW)}
    network.load_state_dict({**own, **fresh})
    return network


def _from_hub() -> Path:
    """The folder of the published weights; fetched once, then kept in Hugging Face's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        folder = snapshot_download(HUB, allow_patterns=['config.json', 'model.safetensors'])
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f'networks: depth_init: hub: {HUB} can not be fetched ({said}); give a local folder '
            'or depth_anything_v2_vits.pth instead, or none'
        ) from error
    return Path(folder)


def _from_folder(folder: Path, network: DepthAnything) -> dict[str, Tensor]:
    """Weights as transformers saves them, of version 4 or 5, by our names."""
    for name in ('model.safetensors', 'pytorch_model.bin'):
        if (folder / name).is_file():
            path = folder / name
            break
    else:
        raise WeightsError(f'{folder}: needed model.safetensors or pytorch_model.bin in it')
    found = read_state_dict(path)
    spelling = Spelling.of(found)
    names = {name: spelling.spell(name) for name in network.state_dict()}
    needed = {names[name]: tuple(value.shape) for name, value in network.state_dict().items()}
    check_state_dict(path, found, needed)
    return {name: found[spelled] for name, spelled in names.items() if not name.startswith(NEW)}


def _from_original(path: Path, network: DepthAnything) -> dict[str, Tensor]:
    """Weights as Depth Anything's authors published them, by our names."""
    try:
        found = read_state_dict(path)
        needed: dict[str, tuple[int, ...]] = {}
        for ours, theirs, part in original_names(network):
            shape = tuple(network.state_dict()[ours].shape)
            needed[theirs] = shape if part is None else (3 * shape[0], *shape[1:])
        check_state_dict(path, found, needed)
    except WeightsError as error:
        raise WeightsError(f'{error}{_not_published(path)}') from error
    if note := _not_published(path):
        print(f'{path}: fits{note}', file=sys.stderr)
    return {
        ours: found[theirs] if part is None else found[theirs].chunk(3)[part]
        for ours, theirs, part in original_names(network)
        if not ours.startswith(NEW)
    }


def original_names(network: DepthAnything) -> Iterator[tuple[str, str, int | None]]:
    """
    Our names beside those of depth_anything_v2_vits.pth.

    :param network: without adapters.
    :return: ours, theirs, and which third of theirs ours is (query, key, value lie in one there).
    """
    replaced = (
        ('backbone.embeddings.patch_embeddings.projection.', 'pretrained.patch_embed.proj.'),
        ('backbone.embeddings.position_embeddings', 'pretrained.pos_embed'),
        ('backbone.embeddings.', 'pretrained.'),
        ('backbone.encoder.layer.', 'pretrained.blocks.'),
        ('backbone.layernorm.', 'pretrained.norm.'),
        ('.attention.o_proj.', '.attn.proj.'),
        ('.layer_scale1.lambda1', '.ls1.gamma'),
        ('.layer_scale2.lambda1', '.ls2.gamma'),
        ('.projection.', '.out_conv.'),
        ('.residual_layer', '.resConfUnit'),
        ('.convolution', '.conv'),
        ('head.conv1.', 'depth_head.scratch.output_conv1.'),
        ('head.conv2.', 'depth_head.scratch.output_conv2.0.'),
        ('head.conv3.', 'depth_head.scratch.output_conv2.2.'),
    )
    fixed = []
    for i in range(4):
        reassemble = f'neck.reassemble_stage.layers.{i}.'
        fixed += [
            (f'{reassemble}projection.', f'depth_head.projects.{i}.'),
            (f'{reassemble}resize.', f'depth_head.resize_layers.{i}.'),
            (f'neck.convs.{i}.', f'depth_head.scratch.layer{i + 1}_rn.'),
            (f'neck.fusion_stage.layers.{i}.', f'depth_head.scratch.refinenet{4 - i}.'),
        ]
    for ours in network.state_dict():
        theirs, part = ours, None
        for now, before in (*fixed, *replaced):
            theirs = theirs.replace(now, before)
        for number, name in enumerate(('q_proj', 'k_proj', 'v_proj')):
            if f'.attention.{name}.' in theirs:
                theirs, part = theirs.replace(f'.attention.{name}.', '.attn.qkv.'), number
        yield ours, theirs, part


def _not_published(path: Path) -> str:
    """What tells a file from the published one, if anything does; '' if it is that very file."""
    size = path.stat().st_size
    if size != PUBLISHED_BYTES:
        return (
            f'; it has {size} bytes, the published depth_anything_v2_vits.pth has '
            f'{PUBLISHED_BYTES}: was it cut short? download it again'
        )
    with path.open('rb') as file:
        found = hashlib.file_digest(file, 'sha256').hexdigest()
    begin, end = PUBLISHED_SHA256
    if not (found.startswith(begin) and found.endswith(end)):
        return (
            f'; its SHA-256 is {found[:8]}…{found[-4:]}, that of the published '
            f'depth_anything_v2_vits.pth is {begin}…{end}: download it again'
        )
    return ''
