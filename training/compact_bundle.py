# SPDX-License-Identifier: Apache-2.0
"""
The weights of a compact bundle, to train on from: the graph has them, its batch norms folded.

    python -m training.compact depth DATA RUN --start endosfm3d_ros/models/compact
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.networks.compact import CompactDepth

NORM_OF = {'conv': 'norm', 'first': 'first_norm', 'second': 'second_norm', '0': '1'}
ROOT = 'network'  # what the exporter calls the network inside its graph


def is_compact_bundle(folder: Path) -> bool:
    return (folder / 'model.json').is_file() and (folder / 'depth.onnx').is_file()


def network_of_bundle(folder: Path, pictures: Tensor) -> CompactDepth:
    """
    Read a network that says what the bundle's depth graph says, and can be trained.

    A folded batch norm leaves a convolution with a bias. Here it becomes a batch norm again whose
    statistics are those of `pictures`, so that the first steps of training find it as it was; the
    scale that a convolution before it has no say in is set to one.

    :param folder: a bundle that `training.export` made of a compact run.
    :param pictures: (B, 3, H, W) in [0, 1], typical ones, some dozens.
    :raises ValueError: the graph is another network's.
    """
    graph = onnx.load(folder / 'depth.onnx').graph
    network = CompactDepth().eval()
    modules = dict(network.named_modules())
    found = {}
    try:
        for name, values in _values(graph).items():
            found.update(_placed(name, values, modules))
        network.load_state_dict({**_plain_norms(modules), **found})
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f'{folder / "depth.onnx"}: found another network, needed one that training.compact '
            f'made: {str(error).splitlines()[0]}'
        ) from error
    _measure_norms(network, pictures)
    return network


def _values(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Every parameter by its name in the network: 'MODULE.weight', 'MODULE.bias'."""
    stored = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    cast = {n.output[0]: stored[n.input[0]] for n in graph.node
            if n.op_type == 'Cast' and n.input[0] in stored}  # fmt: skip
    stored = {**stored, **cast}
    values = {}
    for name, value in stored.items():  # those that nothing was folded into keep their names
        if name.startswith(f'{ROOT}.'):
            values[name.removeprefix(f'{ROOT}.')] = value
    for node in graph.node:
        if node.op_type not in ('Conv', 'MatMul') or node.input[1] not in stored:
            continue
        module = _module_of(node.name)
        weight = stored[node.input[1]]
        values[f'{module}.weight'] = weight.T if node.op_type == 'MatMul' else weight
        if len(node.input) > 2:
            values[f'{module}.bias'] = stored[node.input[2]]
    return {name: v.astype(np.float32) for name, v in values.items() if not name.endswith('_half')}


def _module_of(node: str) -> str:
    """'/network/encoder/stages.0/stages.0.1/first/Conv' -> 'encoder.stages.0.1.first'."""
    parts: list[str] = []
    for part in node.strip('/').split('/')[1:-1]:
        if parts and part.startswith(f'{parts[-1]}.'):
            parts.pop()
        parts.append(part)
    return '.'.join(parts)


def _placed(name: str, value: np.ndarray, modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The state's entries for one value; a bias that a norm was folded into is the norm's."""
    module, _, kind = name.rpartition('.')
    tensor = torch.from_numpy(np.array(value))
    if kind == 'bias' and isinstance(modules[module], nn.Conv2d) and modules[module].bias is None:
        above, _, own = module.rpartition('.')
        return {f'{above}.{NORM_OF[own]}.bias': tensor}
    return {name: tensor}


def _plain_norms(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Batch norms that change nothing but by their bias."""
    state = {}
    for name, norm in modules.items():
        if isinstance(norm, nn.BatchNorm2d):
            one = torch.ones(norm.num_features)
            state[f'{name}.weight'] = one
            state[f'{name}.running_mean'] = torch.zeros_like(one)
            state[f'{name}.running_var'] = one - norm.eps
            state[f'{name}.num_batches_tracked'] = torch.tensor(0)
    return state


@torch.no_grad()
def _measure_norms(network: CompactDepth, pictures: Tensor) -> None:
    """Give each batch norm the statistics of what comes in; what goes out stays the same."""
    seen: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[norm] = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))

    modules = dict(network.named_modules())
    norms = {name: m for name, m in modules.items() if isinstance(m, nn.BatchNorm2d)}
    hooks = [norm.register_forward_pre_hook(look) for norm in norms.values()]
    network(pictures)
    for hook in hooks:
        hook.remove()
    convolution_of = {norm: own for own, norm in NORM_OF.items()}
    for name, norm in norms.items():
        above, _, own = name.rpartition('.')
        weight = modules[f'{above}.{convolution_of[own]}'].weight
        size = weight.flatten(1).norm(dim=1).clamp(min=1e-6)
        weight /= size[:, None, None, None]
        mean, variance = seen[norm]
        norm.bias += mean
        norm.weight.copy_(size * (variance / size**2 + norm.eps).sqrt())
        norm.running_mean.copy_(mean / size)
        norm.running_var.copy_(variance / size**2)
