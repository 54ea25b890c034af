# SPDX-License-Identifier: Apache-2.0
"""Every graph that ships, as TensorRT gets it: documented operators, and the same function."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='making graphs needs onnx: make setup-test')
from dataclasses import replace  # noqa: E402
from hashlib import sha256  # noqa: E402

from onnx import TensorProto, helper  # noqa: E402

from endosfm3d_ros.bundle import Graph, open_bundle, shipped_bundles  # noqa: E402
from endosfm3d_ros.engines.engine import EngineError  # noqa: E402
from endosfm3d_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from endosfm3d_ros.engines.prepared import has_half_products, lint, prepared  # noqa: E402
from endosfm3d_ros.engines.tensorrt_build import (  # noqa: E402
    ALLOWED_ERROR,
    difference,
    gate_pictures,
)

GRAPHS = [
    graph
    for name in shipped_bundles()
    for graph in (*open_bundle(name).depth, *open_bundle(name).motion)
]


def with_data(graph: Graph, data: bytes) -> Graph:
    return replace(graph, data=data, sha256=sha256(data).hexdigest())


@pytest.mark.parametrize('precision', ['graph', 'half'])
@pytest.mark.parametrize(
    'graph', GRAPHS, ids=lambda g: f'{g.path.parent.name}-{g.path.stem}-{g.width}'
)
def test_every_shipped_graph_is_one_that_tensorrt_documents_and_says_the_same(
    graph: Graph, precision: str
) -> None:
    data = prepared(graph, precision)
    model = onnx.load_model_from_string(data)
    assert lint(model) == []
    for value in model.graph.input:
        assert all(side.dim_value for side in value.type.tensor_type.shape.dim)
    wanted, found = OnnxRuntimeEngine(graph), OnnxRuntimeEngine(with_data(graph, data))
    inputs = len(model.graph.input)
    picture = gate_pictures(graph.height, graph.width)[-inputs:]
    for name, value in wanted.run(*picture).items():
        said = found.run(*picture)[name]
        assert said.dtype == np.float32
        off = difference(name, said, value)
        assert off <= (1e-6 if precision == 'graph' else ALLOWED_ERROR['half'] / 4), name


def test_half_precision_is_in_the_products_and_not_where_it_would_overflow() -> None:
    graph = open_bundle('compact').depth[0]
    assert not has_half_products(onnx.load_model_from_string(prepared(graph, 'graph')))
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(prepared(graph, 'half')))
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    for node in model.graph.node:
        kind = types.get(node.output[0])
        if node.op_type in ('Conv', 'MatMul', 'Gemm'):
            assert kind == TensorProto.FLOAT16, node.name
        if node.op_type in ('LayerNormalization', 'Softmax', 'Exp', 'Erf', 'ReduceMean'):
            assert kind in (TensorProto.FLOAT, None), node.name


def small_model(*nodes: 'onnx.NodeProto', opset: int = 17) -> bytes:
    graph = helper.make_graph(
        list(nodes), 'small',
        [helper.make_tensor_value_info('picture', TensorProto.UINT8, [8, 8, 3])],
        [helper.make_tensor_value_info('depth', TensorProto.FLOAT, [None] * 3)],
        [helper.make_tensor('scales', TensorProto.FLOAT, [3], [2.0, 2.0, 1.0])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)])
    return bytes(model.SerializeToString())


CAST = helper.make_node('Cast', ['picture'], ['x'], to=TensorProto.FLOAT)


@pytest.mark.parametrize(
    ('nodes', 'opset', 'said'),
    [
        ([CAST, helper.make_node('Det', ['x'], ['depth'])], 17, 'operator ai.onnx.Det'),
        (
            [CAST, helper.make_node('Resize', ['x', '', 'scales'], ['depth'], mode='cubic')],
            17, 'Resize cubic',
        ),
        (
            [CAST, helper.make_node(
                'Resize', ['x', '', 'scales'], ['depth'], mode='linear', antialias=1)],
            18, 'antialias 1',
        ),
        ([CAST, helper.make_node('Relu', ['x'], ['depth'])], 21, 'opset 21'),
    ],
)  # fmt: skip
def test_what_tensorrt_does_not_document_is_named(nodes: list, opset: int, said: str) -> None:
    model = onnx.load_model_from_string(small_model(*nodes, opset=opset))
    assert any(said in line for line in lint(model))


def test_bytes_that_are_moved_before_they_are_cast_are_found_and_mended() -> None:
    nodes = [
        helper.make_node('Transpose', ['picture'], ['t'], perm=[2, 0, 1]),
        helper.make_node('Cast', ['t'], ['depth'], to=TensorProto.FLOAT),
    ]
    data = small_model(*nodes)
    assert 'Transpose of a uint8 picture' in lint(onnx.load_model_from_string(data))[0]
    graph = replace(with_data(GRAPHS[0], data), height=8, width=8)
    assert lint(onnx.load_model_from_string(prepared(graph, 'graph'))) == []


def test_a_graph_whose_shapes_contradict_each_other_is_refused_in_one_line() -> None:
    nodes = [
        helper.make_node('Cast', ['picture'], ['f'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['f'], ['depth'], perm=[2, 0, 1]),
    ]
    model = onnx.load_model_from_string(small_model(*nodes))
    shape = model.graph.output[0].type.tensor_type.shape
    del shape.dim[:]
    for side in (5, 6, 7):
        shape.dim.add().dim_value = side
    graph = replace(with_data(GRAPHS[0], model.SerializeToString()), height=8, width=12)
    with pytest.raises(EngineError, match='its shapes do not agree') as refusal:
        prepared(graph, 'graph')
    assert '\n' not in str(refusal.value)


def test_what_is_no_graph_is_refused_in_one_line() -> None:
    with pytest.raises(EngineError, match='no ONNX model') as refusal:
        prepared(with_data(GRAPHS[0], b'not a graph'), 'half')
    assert '\n' not in str(refusal.value)
