# SPDX-License-Identifier: Apache-2.0
"""The real CUDA, where there is a GPU: what test_captured.py shows with a recording one."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from endosfm3d_ros.engines.captured import CapturedPlans, Tensor
from endosfm3d_ros.engines.cuda import Cuda, prove_gpu
from endosfm3d_ros.engines.engine import EngineError

pytestmark = pytest.mark.gpu
U8 = np.dtype(np.uint8)
SIZE = (64, 80, 3)


class Copying:
    """A plan that gives back its last picture."""

    def __init__(self, cuda: Cuda, name: str, inputs: int) -> None:
        self._cuda, self._at = cuda, {}
        names = [f'{name}_{i}' for i in range(inputs)]
        self.tensors = (
            *(Tensor(one, True, SIZE, U8) for one in names), Tensor(name, False, SIZE, U8),
        )  # fmt: skip

    def bind(self, name: str, address: int) -> None:
        self._at[name] = address

    def enqueue(self, stream: int) -> None:
        *_, source, target = self.tensors
        kind = self._cuda._cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._cuda._do(
            self._cuda._cudart.cudaMemcpyAsync,
            self._at[target.name], self._at[source.name], source.size, kind, stream,
        )  # fmt: skip


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    try:
        prove_gpu()
    except EngineError as error:
        pytest.skip(str(error))
    floor = Cuda()
    yield floor
    floor.close()


def test_captured_plans_say_on_a_gpu_what_they_say_without(cuda: Cuda) -> None:
    plans = [Copying(cuda, 'depth', 1), Copying(cuda, 'motion', 2)]
    captured = CapturedPlans(cuda, plans)
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, now = rng.integers(0, 256, (2, *SIZE), np.uint8)
        said = captured.run(before, now)
        assert np.array_equal(said['depth'], now) and np.array_equal(said['motion'], now)


class Waiting(Copying):
    """A plan that waits for its stream, which CUDA does not capture."""

    def enqueue(self, stream: int) -> None:
        super().enqueue(stream)
        self._cuda.synchronize(stream)


def test_plans_that_can_not_be_captured_run_all_the_same(cuda: Cuda) -> None:
    captured = CapturedPlans(cuda, [Copying(cuda, 'depth', 1), Waiting(cuda, 'motion', 2)])
    assert 'cudaErrorStreamCapture' in captured.why_not_captured
    before, now = np.random.default_rng(0).integers(0, 256, (2, *SIZE), np.uint8)
    said = captured.run(before, now)
    assert np.array_equal(said['depth'], now) and np.array_equal(said['motion'], now)


def test_memory_is_given_back_with_the_engine(cuda: Cuda) -> None:
    floor = Cuda()
    captured = CapturedPlans(floor, [Copying(floor, 'depth', 1)])
    weakref.finalize(captured, floor.close)
    del captured  # frees while nothing runs; an error would come out of the next call
    cuda.synchronize(cuda.stream())
