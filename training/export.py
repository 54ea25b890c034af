# SPDX-License-Identifier: Apache-2.0
"""
Make a model bundle of a trained run, held against the networks themselves before it is put in
place.

    python -m training export RUN BUNDLE --card CARD.json
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from training.bundle_writer import Part, check_target, print_parity, read_card, write_bundle
from training.networks.compact import LOG_RANGE, UNIT_MM, CompactDepth
from training.state_dicts import check_state_dict, read_state_dict

SIZES = ((224, 280), (224, 336), (224, 392))
SHRINK = 2  # the network sees area means of so many pixels a side, as it was trained
OPSET = 17
PARITY = 5e-3  # the graph's weights are stored in half precision, the network's are not
LARGE = 256  # weights of so many values and more are stored in half precision
TRIAL = {'what': 'a trial', 'limits': 'unknown', 'training_data': 'rendered'}


class DepthGraph(nn.Module):
    """
    What is exported: a uint8 picture in; depth, the sigma of its logarithm, and the focal length
    out.

    :param network: a trained network.
    """

    def __init__(self, network: CompactDepth) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = picture.permute(2, 0, 1)[None].float() / 255.0  # (1, 3, H, W)
        log_depth, log_sigma, focal = self.network(F.avg_pool2d(x, SHRINK))
        said = F.interpolate(
            torch.stack([log_depth, log_sigma], dim=1),
            size=x.shape[-2:],
            mode='bilinear',
            align_corners=False,
        )
        return said[0, 0].exp(), said[0, 1].exp(), focal[0, :1], focal[0, 1:].exp()


def compact_parts(run: Path) -> tuple[list[Part], dict[str, Any]]:
    """
    Read a run of training.compact depth: one graph, of any of its sizes.

    :param run: folder with weights.safetensors.
    :return: the parts, and what the manifest says of them.
    :raises WeightsError: they are no weights of the compact depth network.
    """
    network, path = CompactDepth(), run / 'weights.safetensors'
    found = read_state_dict(path)
    needed = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    check_state_dict(path, found, needed)
    network.load_state_dict(found)
    graph = DepthGraph(network.eval()).eval()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'depth.onnx'
        torch.onnx.export(
            graph,
            (torch.zeros(*SIZES[0], 3, dtype=torch.uint8),),
            path,
            input_names=['picture'],
            output_names=['depth', 'log_sigma', 'log_focal', 'log_focal_sigma'],
            dynamic_axes={
                name: {0: 'height', 1: 'width'} for name in ('picture', 'depth', 'log_sigma')
            },
            opset_version=OPSET,
            dynamo=False,  # sides stay open: one file for all sizes
        )
        model = with_half_weights(onnx.load(path))
    onnx.checker.check_model(model)
    facts = {
        'channels': 'rgb',
        'depth_range': [float(np.exp(-LOG_RANGE)), float(np.exp(LOG_RANGE))],
        'unit_mm': UNIT_MM,
        'intrinsics': 'none',
    }
    return [Part('depth', graph, {'fp32': model}, SIZES, PARITY)], facts


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """
    Store large weights in half precision, each cast back to single before its use: runtimes fold
    the casts when they load the graph, so the arithmetic stays in single precision.
    """
    nodes, stored = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < LARGE:
            stored.append(weight)
            continue
        half = f'{weight.name}_half'
        stored.append(numpy_helper.from_array(values.astype(np.float16), half))
        nodes.append(helper.make_node('Cast', [half], [weight.name], to=TensorProto.FLOAT))
    nodes.extend(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(stored)
    model.graph.node.extend(nodes)
    return model


def run_parts(run: Path, half: bool) -> tuple[list[Part], dict[str, Any], dict[str, Any]]:
    """
    Read a run of either family.

    :param run: a folder of training.compact, of the paper's networks (training.paper), or a
        checkpoint of training.train.
    :param half: make fp16 variants of the paper's.
    :return: the bundle's graphs, its facts, and what a card says where the user gives none.
    :raises ValueError: it is neither.
    """
    if (run / 'paper.json').is_file():
        from training import paper  # imports transformers, which a compact run does not need

        model = paper.load_run(run)
        return paper.bundle_parts(model, half), paper.bundle_facts(model), TRIAL | model.card
    if (run / 'checkpoint.json').is_file():
        from training import paper
        from training.networks_of import paper_model

        model = paper_model(run)
        return paper.bundle_parts(model, half), paper.bundle_facts(model), model.card
    if (run / 'weights.safetensors').is_file():
        return *compact_parts(run), TRIAL
    raise ValueError(
        f'{run}: no run; needed RUN/best of training.train, or a folder with weights.safetensors '
        '(compact) or paper.json (paper)'
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', type=Path, help='folder of a run, compact or paper')
    parser.add_argument('bundle', type=Path, help="folder to write; its name is the model's")
    parser.add_argument('--card', type=Path, help='JSON with what, limits, training_data, metrics')
    parser.add_argument('--version', default='0.0.0')
    parser.add_argument('--no-half', action='store_true', help='no fp16 variants (for TensorRT)')
    a = parser.parse_args()
    check_target(a.bundle)
    given = read_card(a.card) if a.card else None
    parts, facts, card = run_parts(a.run, not a.no_half)
    print_parity(write_bundle(a.bundle, parts, facts, given or card, a.version))
    return 0


if __name__ == '__main__':
    sys.exit(main())
