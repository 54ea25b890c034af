# SPDX-License-Identifier: Apache-2.0
"""Plans of a GPU, captured once as one CUDA graph, which is all that a frame launches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from endosfm3d_ros.engines.cuda import CudaFloor
from endosfm3d_ros.engines.engine import EngineError


@dataclass(frozen=True)
class Tensor:
    """
    An input or an output of a plan.

    :param shape: static sides.
    :param dtype: numpy's.
    """

    name: str
    is_input: bool
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class Plan(Protocol):
    """
    A compiled graph that is ready to run on the GPU.

    :param tensors: its inputs, in order, and its outputs.
    """

    tensors: tuple[Tensor, ...]

    def bind(self, name: str, address: int) -> None:
        """Say where on the GPU a tensor lies; for good."""
        ...

    def enqueue(self, stream: int) -> None:
        """Run it once, in the order of the stream."""
        ...


class CapturedPlans:
    """
    One or more plans that look at the same pictures, run side by side.

    All memory is taken here. A frame copies its pictures into page-locked memory, launches the
    one graph (copy in; each plan on a stream of its own, forked and joined again; copy out) and
    waits for it. Where CUDA captures no graph, a frame gives all of that to the streams itself:
    slower, and the same.

    :param cuda: CUDA.
    :param plans: a plan of k inputs takes the last k pictures.
    :ivar why_not_captured: one line; empty where there is a graph.
    :raises EngineError: the plans disagree on the pictures, or two outputs have one name.
    """

    def __init__(self, cuda: CudaFloor, plans: Sequence[Plan]) -> None:
        self._cuda, self._plans = cuda, tuple(plans)
        self._streams = [cuda.stream() for _ in self._plans]
        self._pictures, self._copies_in = self._take_inputs()
        self._said, self._copies_out = self._take_outputs()
        self._forked = cuda.event()
        self._joined = [cuda.event() for _ in self._plans[1:]]
        for plan, stream in zip(self._plans, self._streams, strict=True):
            plan.enqueue(stream)  # a plan may set itself up in its first run: never captured
            cuda.synchronize(stream)
        self._graph, self.why_not_captured = self._capture()
        if self._graph is None:
            self._frame()
            cuda.synchronize(self._streams[0])

    def run(self, *pictures: np.ndarray) -> dict[str, np.ndarray]:
        """
        Run all plans once; see `Engine`.

        :return: the same arrays at every call, with this call's values.
        """
        for place, picture in zip(self._pictures, pictures, strict=True):
            np.copyto(place, picture)
        stream = self._streams[0]
        if self._graph is None:
            self._frame()
        else:
            self._cuda.launch(self._graph, stream)
        self._cuda.synchronize(stream)
        return self._said

    def _take_inputs(self) -> tuple[list[np.ndarray], list[tuple[int, int, int]]]:
        """Memory for the pictures; (device, host, bytes) of each copy."""
        inputs = [[t for t in plan.tensors if t.is_input] for plan in self._plans]
        most = max(inputs, key=len)
        pictures, copies, addresses = [], [], []
        for tensor in most:
            array, host = self._cuda.pinned(tensor.shape, tensor.dtype)
            array[...] = 0  # the first run shall not look at what lay there before
            addresses.append(self._cuda.device_memory(tensor.size))
            copies.append((addresses[-1], host, tensor.size))
            pictures.append(array)
        for plan, own in zip(self._plans, inputs, strict=True):
            last = len(most) - len(own)
            for tensor, like, address in zip(own, most[last:], addresses[last:], strict=True):
                if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
                    raise EngineError(
                        f'{tensor.name} takes {tensor.shape} {tensor.dtype}, {like.name} takes '
                        f'{like.shape} {like.dtype}; needed plans of one size'
                    )
                plan.bind(tensor.name, address)
        return pictures, copies

    def _take_outputs(self) -> tuple[dict[str, np.ndarray], list[list[tuple[int, int, int]]]]:
        """Memory for what is said; for each plan (host, device, bytes) of its copies."""
        said: dict[str, np.ndarray] = {}
        copies: list[list[tuple[int, int, int]]] = []
        for plan in self._plans:
            copies.append([])
            for tensor in (t for t in plan.tensors if not t.is_input):
                if tensor.name in said:
                    raise EngineError(f'two plans have an output {tensor.name!r}; needed one each')
                array, host = self._cuda.pinned(tensor.shape, tensor.dtype)
                device = self._cuda.device_memory(tensor.size)
                plan.bind(tensor.name, device)
                copies[-1].append((host, device, tensor.size))
                said[tensor.name] = array
        return said, copies

    def _capture(self) -> tuple[int | None, str]:
        """A frame as one graph, or why there is none; no stream is left writing down."""
        main = self._streams[0]
        try:
            self._cuda.begin_capture(main)
            try:
                self._frame()
            except BaseException:
                self._cuda.discard_capture(main)
                raise
            return self._cuda.end_capture(main), ''
        except EngineError as error:
            return None, str(error).split(';')[0]

    def _frame(self) -> None:
        """Copies in; fork; every plan and its copies out on its own stream; join."""
        cuda, (main, *others) = self._cuda, self._streams
        for copy in self._copies_in:
            cuda.copy_in(*copy, main)
        if others:
            cuda.record(self._forked, main)
        for stream in others:
            cuda.wait(stream, self._forked)
        for plan, stream, copies in zip(self._plans, self._streams, self._copies_out, strict=True):
            plan.enqueue(stream)
            for copy in copies:
                cuda.copy_out(*copy, stream)
        for stream, joined in zip(others, self._joined, strict=True):
            cuda.record(joined, stream)
            cuda.wait(main, joined)
