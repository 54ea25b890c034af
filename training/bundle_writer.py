# SPDX-License-Identifier: Apache-2.0
"""
Networks become a model bundle: exported, held against themselves in every runtime, and only then
put in place.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from endosfm3d_ros.bundle import MANIFEST, open_bundle, write_manifest
from training.parity import FP32_BOUND, Row, check_parity, parity

OPSET = 20


@dataclass(frozen=True)
class Part:
    """
    One graph of a bundle, of all its sizes.

    :param kind: 'depth' or 'motion'.
    :param reference: the module that was exported; runtimes are held against it.
    :param models: ONNX by precision; 'fp32' always.
    :param sizes: (height, width) that they run at [px]; several where sides are left open.
    :param bound: how far fp32 may differ from the reference.
    """

    kind: str
    reference: nn.Module
    models: Mapping[str, onnx.ModelProto]
    sizes: tuple[tuple[int, int], ...]
    bound: float = FP32_BOUND


def exported(
    module: nn.Module,
    size: tuple[int, int],
    inputs: list[str],
    outputs: list[str],
    half: bool = False,
) -> onnx.ModelProto:
    """
    Export a module of uint8 pictures (H, W, 3) at one static size.

    :param size: (height, width) [px].
    :param inputs: names, a picture each; outputs: names.
    :param half: convolutions and products in half precision; norms, softmax and sums stay single.
    """
    import onnxslim  # not where networks only run, as on a GPU machine that `bench.gpu` measures

    height, width = size
    blank = tuple(torch.zeros(height, width, 3, dtype=torch.uint8) for _ in inputs)
    chatter = logging.getLogger('torch.onnx')
    level = chatter.level
    chatter.setLevel(logging.ERROR)  # it misses torchvision, which we do not
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            torch.autocast('cpu', torch.float16, enabled=half, cache_enabled=False),
        ):
            warnings.simplefilter('ignore', FutureWarning)
            program = torch.onnx.export(
                module,
                blank,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        chatter.setLevel(level)
    if program is None:  # only the older exporter gives none
        raise ValueError('the exporter gave no program; install what requirements/ pins')
    model = onnxslim.slim(program.model_proto)
    onnx.checker.check_model(model)
    return model


def write_bundle(
    bundle: Path, parts: list[Part], facts: Mapping[str, Any], card: Mapping[str, Any],
    version: str,
) -> list[Row]:  # fmt: skip
    """
    Write a bundle as a whole, or nothing at all.

    :param bundle: folder to write; its name is the model's. An older bundle there is replaced.
    :param parts: graphs; a part of several sizes is one file.
    :param facts: the manifest's keys of the model: channels, depth_range, unit_mm, intrinsics, ...
    :param card: what people must know: what, limits, training_data, metrics.
    :return: how far each runtime is from the networks.
    :raises ValueError: the folder holds something else, or a runtime is too far off.
    """
    with new_folder(bundle) as folder:
        graphs: dict[str, list[dict[str, Any]]] = {'depth': [], 'motion': []}
        for part in parts:
            graphs[part.kind] += _saved(part, folder)
        manifest = {
            'name': bundle.name, 'version': version, 'graphs': graphs, **facts, 'card': dict(card)
        }  # fmt: skip
        write_manifest(folder, manifest)
        opened = open_bundle(str(folder))
        rows = [
            row for part in parts for row in parity(opened, part.kind, part.reference, part.bound)
        ]
        check_parity(rows)
        manifest['card'] = {**card, 'parity': {row.name: row.error for row in rows}}
        write_manifest(folder, manifest)
    return rows


def read_card(path: Path) -> dict[str, Any]:
    """
    Read what people must know of a model.

    :raises ValueError: it is no JSON object; names it.
    """
    try:
        card = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path}: no JSON ({error})') from error
    if not isinstance(card, dict):
        raise ValueError(
            f'{path}: needed an object of what, limits, training_data, found {card!r}'
        )
    return card


def check_target(target: Path) -> None:
    """
    Refuse, before any work, to write where something else is.

    :raises ValueError: the target is there, not empty, and no bundle.
    """
    if (target / MANIFEST).is_file() or not target.exists():
        return
    if not target.is_dir() or any(target.iterdir()):
        raise ValueError(
            f'{target}: is there and no model bundle; name another folder, or remove it'
        )


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """
    A folder beside the target that takes its place when all went well, and vanishes otherwise.

    :raises ValueError: the target is there and no bundle.
    """
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f'.{target.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        old = target.with_name(f'.{target.name}.old')
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        part.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def print_parity(rows: list[Row]) -> None:
    """A table for people: the worst over pictures."""
    for row in rows:
        print(f'  {row.name:<52} {row.error:.1e}  (allowed {row.bound:g})')


def _saved(part: Part, folder: Path) -> list[dict[str, Any]]:
    """Save a part's files: the manifest's entries, one for each size."""
    height, width = part.sizes[0]
    stem = f'{part.kind}_{height}x{width}' if len(part.sizes) == 1 else part.kind
    files = {}
    for precision, model in part.models.items():
        files[precision] = f'{stem}.onnx' if precision == 'fp32' else f'{stem}_{precision}.onnx'
        (folder / files[precision]).write_bytes(model.SerializeToString(deterministic=True))
    variants = {name: {'file': file} for name, file in files.items() if name != 'fp32'}
    return [
        {
            'file': files['fp32'],
            'height': height,
            'width': width,
            **({'variants': variants} if variants else {}),
        }
        for height, width in part.sizes
    ]
