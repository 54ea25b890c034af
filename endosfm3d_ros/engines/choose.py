# SPDX-License-Identifier: Apache-2.0
"""Choose a runtime for a bundle and make its depth network callable for the pipeline."""

import numpy as np

from endosfm3d_ros.bundle import Bundle
from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.engines import loading
from endosfm3d_ros.engines.engine import Engine, EngineError
from endosfm3d_ros.engines.loading import Options

RUNTIMES = ('openvino', 'onnxruntime')  # those that run on every machine
UNSTATED_LOG_SIGMA = 0.5  # a bundle that says nothing about its error is not trusted much


class DepthGraphs:
    """
    A bundle's depth graphs, compiled: network picture in, depth in millimetres out.

    :param bundle: a checked bundle.
    :param runtime: 'auto', 'tensorrt', 'onnxruntime' or 'openvino'.
    :param options: how engines are made.
    :ivar runtime: name and version of what runs the graphs.
    :ivar why: one line: why it is that one.
    :raises EngineError: the runtime is not there, or does not take a graph.
    """

    def __init__(
        self, bundle: Bundle, runtime: str = 'auto', options: Options | None = None
    ) -> None:
        loaded = loading.load(bundle.depth, runtime, options)
        self._bundle = bundle
        self._engines = dict(zip(bundle.sizes, loaded.engines, strict=True))
        self.runtime, self.why = loaded.engines[0].runtime, loaded.why
        for size, engine in self._engines.items():
            self._check(size, engine)

    def __call__(self, picture: np.ndarray) -> DepthMap:
        """
        Estimate depth.

        :param picture: (h, w, 3) uint8 RGB of one of the bundle's sizes, else ValueError.
        :return: depth [mm, nominal], NaN outside the bundle's depth range, and the sigma of its
            logarithm.
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
        return DepthMap(depth, log_sigma)

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
