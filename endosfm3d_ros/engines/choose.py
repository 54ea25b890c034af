# SPDX-License-Identifier: Apache-2.0
"""Choose a runtime for a bundle and make its networks callable for the pipeline."""

import numpy as np

from endosfm3d_ros.bundle import K_OFFSETS, Bundle
from endosfm3d_ros.core.depth_map import DepthMap
from endosfm3d_ros.core.geometry import motion_from_vector
from endosfm3d_ros.core.network_motion import NetworkMotion
from endosfm3d_ros.engines import loading
from endosfm3d_ros.engines.engine import Engine, EngineError
from endosfm3d_ros.engines.loading import Options

RUNTIMES = ('openvino', 'onnxruntime')  # those that run on every machine
FOCAL_GUESS = ('log_focal', 'log_focal_sigma')  # outputs that a depth graph may have
UNSTATED_LOG_SIGMA = 0.5  # a bundle that says nothing about its error is not trusted much
ROUNDING = 1e-5  # depth at the very end of its range is still in it
MOTION_OUTPUTS = {'axis_angle': (3,), 'translation': (3,), 'intrinsics': (4,)}


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
            known = (depth >= near * (1 - ROUNDING)) & (depth <= far * (1 + ROUNDING))
            depth = np.where(known, depth, np.float32(np.nan))
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


class MotionGraphs:
    """
    A bundle's motion graphs, compiled: two network pictures in, the step and K out.

    :param bundle: a checked bundle that has motion graphs.
    :param runtime: 'auto', 'tensorrt', 'onnxruntime' or 'openvino'.
    :param options: how engines are made.
    :raises EngineError: the runtime is not there, or does not take a graph.
    """

    def __init__(
        self, bundle: Bundle, runtime: str = 'auto', options: Options | None = None
    ) -> None:
        loaded = loading.load(bundle.motion, runtime, options)
        self._bundle = bundle
        sizes = [(graph.height, graph.width) for graph in bundle.motion]
        self._engines = dict(zip(sizes, loaded.engines, strict=True))
        for size, engine in self._engines.items():
            self._check(size, engine)

    def __call__(self, previous: np.ndarray, current: np.ndarray) -> NetworkMotion:
        """
        Estimate the step between two pictures and the camera that took them.

        :param previous: (h, w, 3) uint8 RGB of one of the bundle's sizes, else ValueError.
        :param current: the same, later.
        :return: T_prev_cam [mm, nominal] and normalised K, whatever the bundle's own formula.
        """
        size = current.shape[:2]
        if size not in self._engines or previous.shape != current.shape:
            raise ValueError(
                f'pictures of {previous.shape[:2]} and {size}, the bundle {self._bundle.name} '
                f'takes {self._bundle.sizes}'
            )
        pair = (np.ascontiguousarray(picture) for picture in (previous, current))
        said = self._engines[size].run(*pair)
        translation = said['translation'].astype(np.float64) * self._bundle.unit_mm
        T_prev_cam = motion_from_vector(said['axis_angle'], translation)
        K = said['intrinsics'].astype(np.float64)
        K[2:] += (0.5 - K_OFFSETS[self._bundle.intrinsics]) / np.array(size[::-1])
        return NetworkMotion(T_prev_cam, K)

    def _check(self, size: tuple[int, int], engine: Engine) -> None:
        """One warm-up on noise: outputs of the right shape and finite."""
        rng = np.random.default_rng(0)
        said = engine.run(*(rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(2)))
        shapes = {name: value.shape for name, value in said.items()}
        fits = all(shapes.get(name) == shape for name, shape in MOTION_OUTPUTS.items())
        if not fits or not all(np.isfinite(said[name]).all() for name in MOTION_OUTPUTS):
            raise EngineError(
                f'the {size[0]}x{size[1]} motion graph of {self._bundle.name} gives {shapes}, '
                f'needed finite {MOTION_OUTPUTS}; export the bundle again'
            )


def motion_network(
    bundle: Bundle, runtime: str = 'auto', options: Options | None = None
) -> MotionGraphs | None:
    """The bundle's motion network, compiled; None where it has none, as depth-only imports do."""
    return MotionGraphs(bundle, runtime, options) if bundle.motion else None
