# SPDX-License-Identifier: Apache-2.0
"""
The bundle without weights: depth from light falloff, as an ONNX graph.

An endoscope carries its light, so tissue of one colour looks darker with the square of its
distance: linear brightness L is proportional to 1 / r^2, hence r to 1 / sqrt(L). Brightness is
smoothed inside the field of view and off wet highlights (a normalised convolution), so that
neither border nor glints bleed into the depth.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from endosfm3d_ros.bundle import write_manifest

SIZES = ((224, 280), (224, 336), (224, 392))  # 5:4, 3:2 and 7:4 (for 16:9)
OPSET = 17
SRGB = (
    0.0125,
    0.6822,
    0.3053,
)  # sRGB to linear as a cubic without constant term, within 0.001; cheaper than a power
LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709, linear
POOL = 4  # smooth depth is made at a quarter of the size
BLUR_SHARE = 0.03  # sigma of the smoothing, of the picture's height
BORDER_LEVEL = 12 / 255  # darker than this is border, or too dark to say
HIGHLIGHT_LEVEL = 235 / 255  # brighter than this in every channel is a glint
FLOOR = 1e-3  # smallest linear brightness that is believed
LOG_SIGMA = 0.3  # of log depth in the light: 0.2 on rendered tissue, more where colours differ
UNIT_MM = 12.0  # rendered worlds come out at their own size with it
CARD = {
    'what': 'depth from light falloff: proportional to 1 / sqrt(smoothed linear brightness); no '
    'training',
    'limits': 'dark tissue looks far and pale tissue near; exposure control changes the scale; '
    'no motion, no intrinsics',
    'training_data': 'none',
}


def gaussian(sigma: float) -> np.ndarray:
    """One-dimensional Gaussian kernel, (2 r + 1,) float32 with r = 3 sigma, sum 1."""
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


def photometric_graph(height: int, width: int) -> onnx.ModelProto:
    """
    Build the graph.

    :param height: rows of the picture [px].
    :param width: columns [px].
    :return: uint8 (h, w, 3) `picture` -> float32 (h, w) `depth` [unit_mm mm] and (h, w)
        `log_sigma`.
    """
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(
        name: str,
        value: np.ndarray | float | tuple[float, ...] | list[int],
        dtype: type = np.float32,
    ) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def smooth(x: str, output: str) -> str:
        pad = (len(kernel) - 1) // 2
        pooled = node(
            'AveragePool', [x], f'{output}_pooled', kernel_shape=[POOL, POOL], strides=[POOL, POOL]
        )
        across = node('Conv', [pooled, 'kernel_across'], f'{output}_across', pads=[0, pad, 0, pad])
        return node('Conv', [across, 'kernel_down'], output, pads=[pad, 0, pad, 0])

    def enlarged(x: str, output: str) -> str:
        large = node(
            'Resize', [x, '', '', 'image_shape'], f'{output}_large', mode='linear',
            coordinate_transformation_mode='half_pixel',
        )  # fmt: skip
        return node('Reshape', [large, 'map_shape'], output)

    kernel = gaussian(BLUR_SHARE * height / POOL)
    constant('kernel_across', kernel.reshape(1, 1, 1, -1))
    constant('kernel_down', kernel.reshape(1, 1, -1, 1))
    constant('image_shape', [1, 1, height, width], np.int64)
    constant('map_shape', [height, width], np.int64)
    constant('channel', [2], np.int64)

    as_float = node('Cast', ['picture'], 'as_float', to=TensorProto.FLOAT)
    unit = node('Mul', [as_float, constant('levels', 1 / 255)], 'unit')
    cubic = node('Mul', [unit, constant('srgb_3', SRGB[2])], 'cubic')
    square = node('Add', [cubic, constant('srgb_2', SRGB[1])], 'square')
    slope = node(
        'Add', [node('Mul', [square, unit], 'bent'), constant('srgb_1', SRGB[0])], 'slope'
    )
    linear = node('Mul', [slope, unit], 'linear')
    weighted = node('Mul', [linear, constant('luma_weights', LUMA)], 'weighted')
    luma = node('ReduceSum', [weighted, 'channel'], 'luma', keepdims=0)
    brightest = node('ReduceMax', [unit], 'brightest', axes=[2], keepdims=0)
    darkest = node('ReduceMin', [unit], 'darkest', axes=[2], keepdims=0)
    lit = node('Greater', [brightest, constant('border_level', BORDER_LEVEL)], 'lit')
    dull = node('Less', [darkest, constant('highlight_level', HIGHLIGHT_LEVEL)], 'dull')
    believed = node('And', [lit, dull], 'believed')
    weight_map = node('Cast', [believed], 'weight_map', to=TensorProto.FLOAT)
    weight = node('Reshape', [weight_map, 'image_shape'], 'weight')
    luma_image = node('Reshape', [luma, 'image_shape'], 'luma_image')
    numerator = smooth(node('Mul', [luma_image, weight], 'weighted_luma'), 'numerator')
    support = smooth(weight, 'support')
    mean = node(
        'Div', [numerator, node('Add', [support, constant('tiny', 1e-6)], 'support_safe')], 'mean'
    )
    floored = node('Max', [mean, constant('floor', FLOOR)], 'floored')
    enlarged(node('Reciprocal', [node('Sqrt', [floored], 'root')], 'distance'), 'depth')
    doubt = node(
        'Sub', [constant('two', 2.0), support], 'doubt'
    )  # 1 in the open, towards 2 where little is believed
    enlarged(node('Mul', [doubt, constant('sigma_floor', LOG_SIGMA)], 'scaled_doubt'), 'log_sigma')

    picture = helper.make_tensor_value_info('picture', TensorProto.UINT8, [height, width, 3])
    outputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [height, width])
        for n in ('depth', 'log_sigma')
    ]
    graph = helper.make_graph(nodes, 'photometric', [picture], outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', OPSET)], producer_name='endosfm3d'
    )
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def write_bundle(folder: Path) -> None:
    """Write the whole bundle: graphs of every size and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for height, width in SIZES:
        file = f'depth_{height}x{width}.onnx'
        (folder / file).write_bytes(
            photometric_graph(height, width).SerializeToString(deterministic=True)
        )
        entries.append({'file': file, 'height': height, 'width': width})
    manifest = {
        'name': 'photometric',
        'version': '0.1.0',
        'channels': 'rgb',
        'graphs': {'depth': entries, 'motion': []},
        'depth_range': [1.0, 1.0 / FLOOR**0.5 + 1.0],
        'unit_mm': UNIT_MM,
        'intrinsics': 'none',
        'card': CARD,
    }
    write_manifest(folder, manifest)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'folder',
        type=Path,
        help='where the bundle is written, e.g. endosfm3d_ros/models/photometric',
    )
    write_bundle(parser.parse_args().folder)
