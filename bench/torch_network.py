# SPDX-License-Identifier: Apache-2.0
"""
The shipped compact network as a torch module, its weights read back out of the ONNX graph.

The exporter merged each batch norm into the convolution before it and gave those weights names of
its own, so they are matched by the order in which the network runs, and held against the graph.
"""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from endosfm3d_ros.bundle import Graph, open_bundle
from endosfm3d_ros.engines.onnxruntime import OnnxRuntimeEngine
from training.export import DepthGraph
from training.networks.compact import CompactDepth

PARITY = 1e-3  # of depth, relative: half-precision weights are the same on both sides


def shipped_network(name: str = 'compact') -> DepthGraph:
    """
    The network of a shipped bundle in torch: uint8 picture in; depth, log sigma, focal out.

    :raises ValueError: it is not the architecture of `training.networks.compact`, or says
        something else than the graph.
    """
    graph = open_bundle(name).depth[0]
    network = CompactDepth().eval()
    with torch.inference_mode():
        _take_weights(network, onnx.load_model_from_string(graph.data))
        module = DepthGraph(network).eval()
        _check(module, graph)
    return module


def _take_weights(network: CompactDepth, model: onnx.ModelProto) -> None:
    stored = _stored(model)
    given = {n.removeprefix('network.'): v for n, v in stored.items() if n.startswith('network.')}
    parameters = dict(network.named_parameters())
    for name in parameters.keys() & given.keys():
        parameters[name].copy_(torch.from_numpy(given[name].copy()))
    order: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append(module))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
    ]
    network(torch.zeros(1, 3, 112, 140))
    for hook in hooks:
        hook.remove()
    nodes = [
        node
        for node in model.graph.node
        if node.op_type in ('Conv', 'Gemm', 'MatMul') and node.input[1] in stored
    ]
    layers = [module for module in order if not isinstance(module, nn.BatchNorm2d)]
    if len(layers) != len(nodes):
        raise ValueError(f'{len(nodes)} products in the graph, {len(layers)} in the network')
    for layer, node in zip(layers, nodes, strict=True):
        weight = stored[node.input[1]]
        if node.op_type == 'MatMul':
            weight = weight.T
        layer.weight.copy_(torch.from_numpy(weight.copy()))
        after = order[order.index(layer) + 1 :][:1]
        if after and isinstance(after[0], nn.BatchNorm2d):
            norm = after[0]  # what is left of it is the bias
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0 - norm.eps)
            norm.weight.fill_(1.0)
            norm.bias.copy_(torch.from_numpy(stored[node.input[2]].copy()))
        elif node.op_type != 'MatMul' and len(node.input) > 2:
            layer.bias.copy_(torch.from_numpy(stored[node.input[2]].copy()))


def _stored(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Weights by the name under which they are used, in single precision."""
    raw = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    cast = {
        node.output[0]: raw[node.input[0]].astype(np.float32)
        for node in model.graph.node
        if node.op_type == 'Cast' and node.input[0] in raw
    }
    return {**raw, **cast}


def _check(module: DepthGraph, graph: Graph) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (graph.height // 8, graph.width // 8, 3), np.uint8)
    picture = coarse.repeat(8, 0).repeat(8, 1)
    wanted = OnnxRuntimeEngine(graph).run(picture)
    said: tuple[Tensor, ...] = module(torch.from_numpy(picture))
    for value, name in zip(said, wanted, strict=True):
        off = float(np.max(np.abs(value.numpy() - wanted[name]) / (np.abs(wanted[name]) + 1e-2)))
        if off > PARITY:
            raise ValueError(f'{name} differs from the graph by {off:.1e}, allowed {PARITY:.0e}')
