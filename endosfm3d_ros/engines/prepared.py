# SPDX-License-Identifier: Apache-2.0
"""
A bundle's graph, prepared for TensorRT: same function, static sides, precision written into it.

TensorRT 11 knows strongly typed networks only: whatever shall run in half precision must say so in
the graph. What must not overflow stays in single precision: normalisation, softmax, exponentials,
and the sums that run along a transformer.
"""

from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper, shape_inference

from endosfm3d_ros.bundle import Graph
from endosfm3d_ros.engines.engine import EngineError

# What TensorRT documents (onnx-tensorrt, docs/operators.md of release 10.1, opsets 9 to 20).
OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast
    CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
    DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool
    GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish
    Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu
    Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu
    Pad Pow QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ReverseSequence RoiAlign Round Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid
    Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan
    Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
    """.split()  # noqa: SIM905  a list to be read
)
OPSETS = range(9, 21)
RESIZE_MODES = ('nearest', 'linear')

_PRODUCTS = {'Conv', 'ConvTranspose', 'MatMul', 'Gemm'}  # where half precision pays
_FOLLOWERS = {
    'Relu', 'LeakyRelu', 'Resize', 'MaxPool', 'AveragePool', 'Transpose', 'Reshape', 'Slice',
    'Squeeze', 'Unsqueeze', 'Flatten', 'Gather', 'Identity', 'ReduceMax', 'Expand',
}  # fmt: skip  # only move or compare what they are given first
_SUMS = {'Add', 'Concat'}  # half where all are half and maps, not tokens
_MAP_RANK = 4


def prepared(graph: Graph, precision: str) -> bytes:
    """
    Prepare a graph.

    :param graph: a checked graph.
    :param precision: 'graph' keeps what it says, 'half' runs its products in half precision.
    :return: the ONNX model.
    :raises EngineError: it is no ONNX model, or has something that TensorRT does not document.
    """
    try:
        model = onnx.load_model_from_string(graph.data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        why = ' '.join(str(error).split())[:120]
        raise EngineError(
            f'{graph.path}: no ONNX model ({why}); export the bundle again'
        ) from error
    _fix_sides(model, graph)
    _fold_stored_halves(model)
    _cast_pictures_first(model)
    try:
        _infer(model)
    except shape_inference.InferenceError as error:
        why = ' '.join(str(error).split())[:120]
        raise EngineError(
            f'{graph.path}: its shapes do not agree ({why}); export the bundle again'
        ) from error
    if precision == 'half' and not has_half_products(model):
        _to_half(model)
    if found := lint(model):
        raise EngineError(f'{graph.path}: {found[0]}: TensorRT does not take it; export it anew')
    return bytes(model.SerializeToString())


def lint(model: onnx.ModelProto) -> list[str]:
    """
    Walk a model and say what TensorRT does not document.

    :return: a sentence for each finding; empty when there is none.
    """
    found = []
    for opset in model.opset_import:
        if opset.domain in ('', 'ai.onnx') and opset.version not in OPSETS:
            found.append(f'opset {opset.version}, documented are {OPSETS[0]} to {OPSETS[-1]}')
    constants = {one.name for one in model.graph.initializer} | {
        node.output[0] for node in model.graph.node if node.op_type == 'Constant'
    }
    bytes_ = {i.name for i in model.graph.input if _element(i) == TensorProto.UINT8}
    for node in model.graph.node:
        if node.domain not in ('', 'ai.onnx') or node.op_type not in OPERATORS:
            found.append(f'operator {node.domain or "ai.onnx"}.{node.op_type}')
        if node.op_type != 'Cast' and bytes_ & set(node.input):
            found.append(f'{node.op_type} of a uint8 picture; only Cast may take one')
        words = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == 'Resize':
            mode = words.get('mode', b'nearest').decode()
            if mode not in RESIZE_MODES or words.get('antialias', 0):
                found.append(f'Resize {mode}, antialias {words.get("antialias", 0)}')
        if node.op_type == 'Pad' and not set(node.input[1:2]) <= constants:
            found.append('Pad by amounts that are no constants')
    return found


def has_half_products(model: onnx.ModelProto) -> bool:
    """Whether a convolution or product of the model is in half precision already."""
    types = _types(model)
    return any(
        types.get(node.output[0]) == TensorProto.FLOAT16
        for node in model.graph.node
        if node.op_type in _PRODUCTS
    )


def _fix_sides(model: onnx.ModelProto, graph: Graph) -> None:
    """Write the size into the pictures; what follows from it is found anew."""
    for value in model.graph.input:
        sides = value.type.tensor_type.shape.dim
        for side, length in zip(sides, (graph.height, graph.width, 3), strict=False):
            if not side.dim_value:
                side.dim_value = length
    symbols = {'height': graph.height, 'width': graph.width}
    for value in model.graph.output:
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param in symbols:
                side.dim_value = symbols[side.dim_param]
    del model.graph.value_info[:]


def _fold_stored_halves(model: onnx.ModelProto) -> None:
    """Weights that are stored in half precision and cast before their use: cast them here."""
    stored = {one.name: one for one in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == 'Cast' and node.input[0] in stored:
            to = helper.tensor_dtype_to_np_dtype(helper.get_attribute_value(node.attribute[0]))
            values = numpy_helper.to_array(stored[node.input[0]]).astype(to)
            model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    _replace_nodes(model, kept)
    used = {name for node in kept for name in node.input}
    weights = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)


def _cast_pictures_first(model: onnx.ModelProto) -> None:
    """TensorRT reads uint8 pictures only to cast them: what moved bytes moves floats now."""
    nodes = []
    for value in model.graph.input:
        if _element(value) != TensorProto.UINT8:
            continue
        name = f'{value.name}/float'
        nodes.append(helper.make_node('Cast', [value.name], [name], to=TensorProto.FLOAT))
        for node in model.graph.node:
            for i, one in enumerate(node.input):
                if one == value.name:
                    node.input[i] = name
    _replace_nodes(model, [*nodes, *model.graph.node])


def _to_half(model: onnx.ModelProto) -> None:
    """Run the products, and what only moves their results, in half precision."""
    types, ranks = _types(model), _ranks(model)
    weights = {one.name: one for one in model.graph.initializer}
    half: dict[str, str] = {}  # name of a float tensor -> of its half
    singles: set[str] = set()  # float tensors that are there
    nodes: list[Any] = []

    def is_float(name: str) -> bool:
        return types.get(name) == TensorProto.FLOAT

    def as_half(name: str) -> str:
        if name in half:
            return half[name]
        half[name] = f'{name}/half'
        if name in weights:
            values = numpy_helper.to_array(weights[name]).astype(np.float16)
            model.graph.initializer.append(numpy_helper.from_array(values, half[name]))
        else:
            nodes.append(helper.make_node('Cast', [name], [half[name]], to=TensorProto.FLOAT16))
        return half[name]

    def as_single(name: str) -> str:
        if name in half and name not in singles and name not in weights and name in produced:
            nodes.append(helper.make_node('Cast', [half[name]], [name], to=TensorProto.FLOAT))
            singles.add(name)
        return name

    produced: set[str] = set()  # what exists in half only, until somebody asks
    for node in model.graph.node:
        places = _half_places(node, half, weights, is_float, ranks)
        for i, name in enumerate(node.input):
            if name and is_float(name):
                node.input[i] = as_half(name) if i in places else as_single(name)
        nodes.append(node)
        if places:
            name = node.output[0]
            half[name] = node.output[0] = f'{name}/half'
            produced.add(name)
    for value in model.graph.output:
        as_single(value.name)
    _replace_nodes(model, nodes)
    used = {name for node in nodes for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
    _infer(model)


def _half_places(
    node: Any, half: dict[str, str], weights: dict[str, Any], is_float: Any, ranks: dict[str, int]
) -> set[int]:
    """Which inputs of a node are to be half; none where it stays in single precision."""
    floats = {i for i, name in enumerate(node.input) if name and is_float(name)}
    if not node.output or not is_float(node.output[0]):
        return set()
    if node.op_type in _PRODUCTS:
        return floats
    if node.op_type in _FOLLOWERS:
        return {0} if node.input[0] in half and node.input[0] not in weights else set()
    if node.op_type in _SUMS and floats:
        all_half = all(n in half and n not in weights for n in node.input)
        return floats if all_half and ranks.get(node.output[0]) == _MAP_RANK else set()
    return set()


def _infer(model: onnx.ModelProto) -> None:
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    types = {v.name: _element(v) for v in [*graph.input, *graph.value_info, *graph.output]}
    return types | {one.name: one.data_type for one in graph.initializer}


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    return {v.name: len(v.type.tensor_type.shape.dim) for v in [*graph.value_info, *graph.output]}


def _element(value: Any) -> int:
    return int(value.type.tensor_type.elem_type)


def _replace_nodes(model: onnx.ModelProto, nodes: list[Any]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
