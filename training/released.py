# SPDX-License-Identifier: Apache-2.0
"""
Import weights in the layout that EndoSfM3D released them in, as a model bundle a robot can run.

    python -m training import-released FOLDER BUNDLE [--size 256x320]

FOLDER holds depth_model.pth and, if motion and intrinsics were released too, pose_encoder.pth and
pose.pth. Nothing in the files is run, every key must fit, and BUNDLE is written as a whole or not
at all.
"""

import argparse
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from transformers import DepthAnythingConfig

from training.bundle_writer import check_target, print_parity, read_card, write_bundle
from training.networks.attention_motion import AttentionMotion
from training.networks.depth_anything import PATCH, DepthAnything
from training.paper import PaperModel, bundle_facts, bundle_parts
from training.spelling import Spelling
from training.state_dicts import WeightsError, check_state_dict, read_state_dict

DEPTH, ENCODER, DECODER = 'depth_model.pth', 'pose_encoder.pth', 'pose.pth'
SIZE = 256, 320  # what they were trained at
UNIT_MM = 240.0  # their translations need 230 to 250 on SCARED to be millimetres
CLASSIFIER = {'encoder.fc.weight': (1000, 512), 'encoder.fc.bias': (1000,)}  # there, and unused
CARD = {
    'what': 'imported weights of the method EndoSfM3D: Depth Anything V2 Small with low-rank '
    'adapters merged',
    'training_data': 'as whoever released the weights says',
    'limits': 'unknown to us; pixels move by up to 12 where the size is no multiple of 14; depth '
    'and translation are right up to one scale (unit_mm is a guess)',
}


def read_depth(
    path: Path, config: DepthAnythingConfig | None = None, old_positions: bool = False
) -> DepthAnything:
    """
    Read a released depth network and merge its adapters, if it has some.

    :param path: a state dict in any of the known spellings.
    :param config: of the network; Depth Anything V2 Small when None.
    :param old_positions: they were trained with an older transformers: `OldPositionEmbeddings`.
    :return: the network without adapters, as it was trained: on RGB in [0, 1], no mean or std.
    :raises WeightsError: naming the key or the file that does not fit.
    """
    found = read_state_dict(path)
    spelling = Spelling.of(found)
    network = DepthAnything(imagenet=False, config=config, old_positions=old_positions)
    if spelling.adapters != 'none':
        network.adapt(dora=spelling.adapters == 'dora')
    _take(path, network, found, {name: spelling.spell(name) for name in network.state_dict()})
    return network.merge().eval()


def read_motion(encoder: Path, decoder: Path) -> AttentionMotion:
    """
    Read a released motion and intrinsics network.

    :param encoder: pose_encoder.pth; decoder: pose.pth.
    :raises WeightsError: naming the key or the file that does not fit.
    """
    network = AttentionMotion()
    for path, part, unused in (
        (encoder, network.encoder, CLASSIFIER),
        (decoder, network.decoder, {}),
    ):
        found = read_state_dict(path)
        module = sum(name.startswith('module.') for name in found) > len(found) / 2
        prefix = 'module.' if module else ''
        names = {name: prefix + name for name in part.state_dict()}
        left_out = {prefix + name: shape for name, shape in unused.items()}
        _take(path, part, found, names, left_out)
    return network.eval()


def read_released(
    folder: Path,
    size: tuple[int, int] = SIZE,
    unit_mm: float = UNIT_MM,
    old_positions: bool = False,
) -> PaperModel:
    """
    Read a folder of released weights; depth alone is enough.

    :param folder: see this module.
    :param size: (height, width) the networks shall see [px].
    :param unit_mm: nominal millimetres of the networks' unit.
    :param old_positions: see `read_depth`.
    :raises WeightsError: naming what does not fit.
    """
    if not folder.is_dir():
        raise WeightsError(f'{folder}: no such folder; needed one with {DEPTH}')
    if not (folder / DEPTH).is_file():
        there = ', '.join(sorted(path.name for path in folder.glob('*.pth'))) or 'no .pth file'
        raise WeightsError(f'{folder}: {DEPTH} is missing, found {there}')
    pair = [(folder / name).is_file() for name in (ENCODER, DECODER)]
    if any(pair) and not all(pair):
        here, lacking = (ENCODER, DECODER) if pair[0] else (DECODER, ENCODER)
        raise WeightsError(
            f'{folder}: {lacking} is missing beside {here}; needed both for motion, or neither '
            'for depth alone'
        )
    depth = read_depth(folder / DEPTH, old_positions=old_positions)
    motion = read_motion(folder / ENCODER, folder / DECODER) if all(pair) else None
    return PaperModel(depth, motion, *size, unit_mm, CARD)


def size_from(text: str) -> tuple[int, int]:
    """
    Read HEIGHTxWIDTH.

    :raises argparse.ArgumentTypeError: it is not of that form, or too small.
    """
    match = re.fullmatch(r'(\d{1,4})x(\d{1,4})', text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 4 * PATCH:
        raise argparse.ArgumentTypeError(f'{text!r}: needed HEIGHTxWIDTH [px] such as 256x320')
    return size


def length_from(text: str) -> float:
    """
    Read a length.

    :raises argparse.ArgumentTypeError: it is not above 0, or not finite.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r}: needed millimetres above 0')
    return value


def _take(
    path: Path,
    network: nn.Module,
    found: Mapping[str, Tensor],
    names: Mapping[str, str],
    unused: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Load what a file calls by other names, strictly; `unused` must be there, and is dropped."""
    needed = {names[name]: tuple(value.shape) for name, value in network.state_dict().items()}
    check_state_dict(path, found, {**needed, **(unused or {})})
    network.load_state_dict({name: found[spelled] for name, spelled in names.items()})


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='released weights')
    parser.add_argument('bundle', type=Path, help="folder to write; its name is the model's")
    parser.add_argument(
        '--size', type=size_from, default=SIZE, help='HEIGHTxWIDTH of the networks (256x320)'
    )
    parser.add_argument(
        '--unit-mm', type=length_from, default=UNIT_MM,
        help=f'millimetres of their unit ({UNIT_MM:g})',
    )  # fmt: skip
    parser.add_argument('--card', type=Path, help='JSON with what, limits, training_data, metrics')
    parser.add_argument('--version', default='0.0.0')
    parser.add_argument(
        '--old-positions', action='store_true',
        help='the weights were trained with an older transformers 4, whose DINOv2 stretched its '
        'positions by a factor with 0.1 added',
    )  # fmt: skip
    parser.add_argument('--no-half', action='store_true', help='no fp16 variants (for TensorRT)')
    a = parser.parse_args()
    check_target(a.bundle)
    card = {**CARD, **(read_card(a.card) if a.card else {})}
    model = read_released(a.folder, a.size, a.unit_mm, a.old_positions)
    rows = write_bundle(a.bundle, bundle_parts(model, not a.no_half), bundle_facts(model), card,
                        a.version)  # fmt: skip
    print_parity(rows)
    what = 'depth and motion' if model.motion else 'depth only'
    print(f'{a.bundle}: {what}; run it with: endosfm3d replay VIDEO OUT.mcap --set '
          f'model={a.bundle}')  # fmt: skip
    return 0


if __name__ == '__main__':
    sys.exit(main())
