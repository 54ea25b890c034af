# SPDX-License-Identifier: Apache-2.0
"""
Average two runs of a compact depth network that began at the same weights (Wortsman et al. 2022
call it a soup): what both learnt stays, what one made up fades. Batch norms are measured again, or
mixed like the weights (`--mix-norms`), which keeps more where PAIRS are unlike what one run saw.

    python -m training average OUT RUN OTHER --share 0.75 --pairs DATA

RUN and OTHER are folders of `training.compact`, or bundles of theirs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.compact_bundle import is_compact_bundle, network_of_bundle
from training.networks.compact import CompactDepth
from training.pairs import Pairs, batches

BATCHES, PAIRS = 40, 32  # that the norms are measured on


def averaged(ours: CompactDepth, theirs: CompactDepth, share: float) -> CompactDepth:
    """
    Mix two networks, their norms' statistics, too; `measure_norms` finds what they should be.

    :param share: of `ours`, 0 to 1.
    """
    mixed = CompactDepth()
    other = theirs.state_dict()
    mixed.load_state_dict(
        {
            name: torch.lerp(other[name], value, share) if value.is_floating_point() else value
            for name, value in ours.state_dict().items()
        }
    )
    return mixed


@torch.no_grad()
def measure_norms(network: nn.Module, pictures: list[Tensor]) -> None:
    """Statistics of every batch norm over batches (B, 3, H, W), each as heavy as the other."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    network.train()
    for batch in pictures:
        network(batch)
    network.eval()


def read(folder: Path, pictures: Tensor) -> CompactDepth:
    """
    Read a run or a bundle.

    A bundle's convolutions come back at unit length, as a run that began at a bundle had them.

    :param pictures: (B, 3, H, W) in [0, 1], see `network_of_bundle`.
    """
    if is_compact_bundle(folder):
        return network_of_bundle(folder, pictures)
    network = CompactDepth()
    network.load_state_dict(load_file(folder / 'weights.safetensors'))
    return network


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder for weights.safetensors')
    parser.add_argument('run', type=Path)
    parser.add_argument('other', type=Path)
    parser.add_argument('--share', type=float, default=0.75, help='of RUN')
    parser.add_argument('--pairs', type=Path, required=True, help='of training.synthesize')
    parser.add_argument('--mix-norms', action='store_true', help='do not measure the norms again')
    a = parser.parse_args()
    if not 0.0 <= a.share <= 1.0:
        raise ValueError(f'--share is {a.share:g}, needed 0 to 1')
    drawn = batches(Pairs(a.pairs), PAIRS, 1, single=True)
    pictures = [next(drawn).images.flatten(0, 1) for _ in range(BATCHES)]
    mixed = averaged(read(a.run, pictures[0]), read(a.other, pictures[0]), a.share)
    if not a.mix_norms:
        measure_norms(mixed, pictures)
    a.out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in mixed.state_dict().items()}
    save_file(weights, a.out / 'weights.safetensors')
    seen = np.sum([len(batch) for batch in pictures])
    norms = 'norms mixed' if a.mix_norms else f'norms of {seen} pictures'
    print(f'{a.out}: {a.share:g} of {a.run}, {norms}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
