# SPDX-License-Identifier: Apache-2.0
"""A CUDA and a plan that need no GPU: they write down what they are asked to do."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from endosfm3d_ros.engines.captured import Tensor

U8, F32 = np.dtype(np.uint8), np.dtype(np.float32)
SIZE = (4, 6, 3)


class RecordingCuda:
    """Writes down every call; memory is real, and what is captured is done when launched."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.memory: dict[int, np.ndarray] = {}
        self.captured: list[tuple[object, ...]] | None = None
        self.plans: list[RecordingPlan] = []
        self.last = 100

    def _new(self, what: str, *facts: object) -> int:
        self.last += 1
        self.calls.append((what, self.last, *facts))
        return self.last

    def _note(self, *call: object) -> None:
        self.calls.append(call)
        if self.captured is not None:
            self.captured.append(call)
        else:
            self._do(*call)

    def _do(self, what: object, *facts: Any) -> None:
        if what in ('in', 'out'):
            to, source, size = facts[:3]
            self.memory[to][:size] = self.memory[source][:size]
        elif what == 'enqueue':
            next(p for p in self.plans if p.name == facts[0]).compute()

    def stream(self) -> int:
        return self._new('stream')

    def event(self) -> int:
        return self._new('event')

    def device_memory(self, size: int) -> int:
        address = self._new('device', size)
        self.memory[address] = np.full(size, 255, np.uint8)
        return address

    def pinned(self, shape: Sequence[int], dtype: np.dtype) -> tuple[np.ndarray, int]:
        address = self._new('pinned', tuple(shape))
        array = np.full(shape, 77, dtype)
        self.memory[address] = array.reshape(-1).view(np.uint8)
        return array, address

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        self._note('in', device, host, size, stream)

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        self._note('out', host, device, size, stream)

    def record(self, event: int, stream: int) -> None:
        self._note('record', event, stream)

    def wait(self, stream: int, event: int) -> None:
        self._note('wait', stream, event)

    def begin_capture(self, stream: int) -> None:
        self._note('begin', stream)
        self.captured = []

    def end_capture(self, stream: int) -> int:
        self.graph, self.captured = self.captured, None
        return self._new('end', stream)

    def discard_capture(self, stream: int) -> None:
        self.captured = None
        self._note('discard', stream)

    def launch(self, graph: int, stream: int) -> None:
        self._note('launch', graph, stream)
        for call in self.graph:
            self._do(*call)

    def synchronize(self, stream: int) -> None:
        self._note('synchronize', stream)

    def close(self) -> None:
        self._note('close')


class RecordingPlan:
    """Says the mean of its pictures, each multiplied by its place."""

    def __init__(self, cuda: RecordingCuda, name: str, inputs: int, output: str) -> None:
        self.cuda, self.name = cuda, name
        self.tensors = (
            *(Tensor(f'{name}_{i}', True, SIZE, U8) for i in range(inputs)),
            Tensor(output, False, (2,), F32),
        )
        self.at: dict[str, int] = {}
        cuda.plans.append(self)

    def bind(self, name: str, address: int) -> None:
        self.at[name] = address

    def enqueue(self, stream: int) -> None:
        self.cuda._note('enqueue', self.name, stream)

    def compute(self) -> None:
        *inputs, output = self.tensors
        means = [float(self.cuda.memory[self.at[t.name]].mean()) for t in inputs]
        value = np.float32(sum(mean * 10**i for i, mean in enumerate(means)))
        self.cuda.memory[self.at[output.name]][:] = np.full(2, value, F32).view(np.uint8)
