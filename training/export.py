# SPDX-License-Identifier: Apache-2.0
"""
Make a model bundle of a trained compact depth network; held against the network itself before it
is written.

    python -m training.export RUN BUNDLE --card CARD.json
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from endosfm3d_ros.bundle import open_bundle, write_manifest
from endosfm3d_ros.engines.choose import RUNTIMES, DepthGraphs
from training.networks.compact import LOG_RANGE, UNIT_MM, CompactDepth

SIZES = ((224, 280), (224, 336), (224, 392))
SHRINK = 2  # the network sees area means of so many pixels a side, as it was trained
OPSET = 17
PARITY = 5e-3  # of depth, relative, between the network here and each runtime there
LARGE = 256  # weights of so many values and more are stored in half precision


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


def export(run: Path, bundle: Path, card: dict[str, object], version: str) -> dict[str, float]:
    """
    Write the bundle: one graph, of any of its sizes.

    :param run: folder with weights.safetensors.
    :param bundle: folder to write; its name is the model's.
    :param card: what people must know: what, limits, training_data, metrics.
    :return: the largest relative difference of depth, by runtime and size.
    :raises ValueError: a runtime says something else than the network.
    """
    network = CompactDepth()
    network.load_state_dict(load_file(run / 'weights.safetensors'))
    graph = DepthGraph(network.eval()).eval()
    bundle.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        torch.onnx.export(
            graph,
            (torch.zeros(*SIZES[0], 3, dtype=torch.uint8),),
            bundle / 'depth.onnx',
            input_names=['picture'],
            output_names=['depth', 'log_sigma', 'log_focal', 'log_focal_sigma'],
            dynamic_axes={
                name: {0: 'height', 1: 'width'} for name in ('picture', 'depth', 'log_sigma')
            },
            opset_version=OPSET,
            dynamo=False,
        )
    model = with_half_weights(onnx.load(bundle / 'depth.onnx'))
    onnx.checker.check_model(model)
    onnx.save(model, bundle / 'depth.onnx')
    manifest = {
        'name': bundle.name,
        'version': version,
        'channels': 'rgb',
        'graphs': {
            'depth': [
                {'file': 'depth.onnx', 'height': height, 'width': width} for height, width in SIZES
            ],
            'motion': [],
        },
        'depth_range': [float(np.exp(-LOG_RANGE)), float(np.exp(LOG_RANGE))],
        'unit_mm': UNIT_MM,
        'intrinsics': 'none',
        'card': card,
    }
    write_manifest(bundle, manifest)
    return _parity(graph, bundle)


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


def _parity(graph: DepthGraph, folder: Path) -> dict[str, float]:
    bundle = open_bundle(str(folder))
    rng = np.random.default_rng(0)
    found = {}
    for runtime in RUNTIMES:
        network = DepthGraphs(bundle, runtime)
        for height, width in bundle.sizes:
            coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
            picture = coarse.repeat(8, 0).repeat(8, 1)
            with torch.no_grad():
                expected = graph(torch.from_numpy(picture))[0].numpy() * bundle.unit_mm
            off = float(np.nanmax(np.abs(network(picture).depth / expected - 1)))
            found[f'{runtime} {height}x{width}'] = off
            if off > PARITY:
                raise ValueError(
                    f'{runtime} at {height}x{width} differs from the network by {off:.1e}, '
                    f'allowed {PARITY:.0e}'
                )
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', type=Path, help='folder of a run of training.compact depth')
    parser.add_argument('bundle', type=Path, help='folder to write')
    parser.add_argument('--card', type=Path, help='JSON with what, limits, training_data, metrics')
    parser.add_argument('--version', default='0.0.0')
    a = parser.parse_args()
    trial = {'what': 'a trial', 'limits': 'unknown', 'training_data': 'rendered'}
    card = json.loads(a.card.read_text()) if a.card else trial
    print(json.dumps(export(a.run, a.bundle, card, a.version), indent=2))
    return 0


if __name__ == '__main__':
    sys.exit(main())
