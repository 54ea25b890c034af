# SPDX-License-Identifier: Apache-2.0
"""Choose a runtime for a bundle and make its depth network callable for the pipeline."""

from importlib.util import find_spec

import numpy as np

from endosfm3d_ros.bundle import Bundle, Graph
from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.engines.engine import Engine, EngineError

RUNTIMES = ('openvino', 'onnxruntime')  # in order of preference on a CPU
FOCAL_GUESS = ('log_focal', 'log_focal_sigma')  # outputs that a depth graph may have
UNSTATED_LOG_SIGMA = 0.5  # a bundle that says nothing about its error is not trusted much


class DepthGraphs:
    """
    A bundle's depth graphs, compiled: network picture in, depth in millimetres out.

    :param bundle: a checked bundle.
    :param runtime: 'auto', 'openvino' or 'onnxruntime'.
    :param threads: CPU threads; 0 lets the runtime choose.
    :raises EngineError: the runtime is not there, or does not take a graph.
    """

    def __init__(self, bundle: Bundle, runtime: str = 'auto', threads: int = 0) -> None:
        name = choose_runtime(runtime)
        self._bundle = bundle
        self._engines = {(g.height, g.width): load_engine(g, name, threads) for g in bundle.depth}
        self.runtime = next(iter(self._engines.values())).runtime
        for size, engine in self._engines.items():
            self._check(size, engine)

    def __call__(self, picture: np.ndarray) -> DepthMap:
        """
        Estimate depth.

        :param picture: (h, w, 3) uint8 RGB of one of the bundle's sizes, else ValueError.
        :return: depth [mm, nominal], NaN outside the bundle's depth range, the sigma of its
            logarithm, and what the network guesses of the focal length.
        """
        size = picture.shape[:2]
        if size not in self._engines:
            raise ValueError(
                f'picture of {size}, the bundle {self._bundle.name} takes {self._bundle.sizes}'
            )
        said = self._engines[size].run(np.ascontiguousarray(picture))
        depth = said['depth'] * np.float32(self._bundle.unit_mm)
        near, far = self._bundle.depth_range
        with np.errstate(invalid='ignore'):
            depth = np.where((depth >= near) & (depth <= far), depth, np.float32(np.nan))
        stated = said.get('log_sigma')
        log_sigma = (
            np.full(size, UNSTATED_LOG_SIGMA, np.float32) if stated is None else stated.copy()
        )
        guess = (float(said[name][0]) if name in said else np.nan for name in FOCAL_GUESS)
        return DepthMap(depth, log_sigma, *guess)

    def _check(self, size: tuple[int, int], engine: Engine) -> None:
        """
        One warm-up on noise: outputs of the right shape and finite, before anybody relies on them.
        """
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        said = engine.run(noise)
        depth = said.get('depth')
        if depth is None or depth.shape != size or not np.isfinite(depth).all():
            found = {name: value.shape for name, value in said.items()}
            raise EngineError(
                f'the {size[0]}x{size[1]} depth graph of {self._bundle.name} gives {found}, '
                'needed a finite '
                f"'depth' of {size}; export the bundle again"
            )


def choose_runtime(wanted: str) -> str:
    """
    Name the runtime to use.

    :param wanted: 'auto' or a runtime's name.
    :raises EngineError: it is unknown or not installed.
    """
    if wanted != 'auto' and wanted not in RUNTIMES:
        raise EngineError(f'unknown engine {wanted!r}; known engines: auto, {", ".join(RUNTIMES)}')
    for name in RUNTIMES if wanted == 'auto' else (wanted,):
        if find_spec(name):
            return name
    raise EngineError(
        f'engine {wanted!r}: not installed; run: pip install '
        f'{wanted if wanted != "auto" else RUNTIMES[0]}'
    )


def load_engine(graph: Graph, runtime: str, threads: int = 0) -> Engine:
    """
    Compile one graph.

    :param graph: a checked graph.
    :param runtime: a name that `choose_runtime` gave.
    :param threads: CPU threads; 0 lets the runtime choose.
    """
    if runtime == 'openvino':  # imported late: nobody pays for a runtime that is not used
        from endosfm3d_ros.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(graph, threads)
    from endosfm3d_ros.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(graph, threads)
