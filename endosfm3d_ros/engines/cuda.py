# SPDX-License-Identifier: Apache-2.0
"""CUDA as far as an engine needs it: is there a GPU at all, and memory, streams, one graph."""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from endosfm3d_ros.engines.engine import EngineError

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # names of cuda.h, CUdevice_attribute
_NAME_LENGTH = 256


@dataclass(frozen=True)
class Gpu:
    """
    A GPU that answers.

    :param name: as its driver says.
    :param capability: like '9.0'.
    :param driver: the newest CUDA that the driver speaks, like '13.0'.
    """

    name: str
    capability: str
    driver: str


def prove_gpu() -> Gpu:
    """
    Ask the driver itself whether there is a GPU, before any library that would crash without one.

    :return: the first GPU.
    :raises EngineError: there is no driver, or no GPU that works.
    """
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError as error:
        raise EngineError(
            'no CUDA driver (libcuda.so.1 does not load); needed an NVIDIA GPU and its driver: '
            'set the parameter `engine` to openvino, or install the driver'
        ) from error

    def ask(name: str, *arguments: Any) -> None:
        if code := getattr(driver, name)(*arguments):
            raise EngineError(
                f'no GPU that works ({name} says {code}); needed one: look at nvidia-smi, or set '
                'the parameter `engine` to openvino'
            )

    count, version, value = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_LENGTH)
    ask('cuInit', 0)
    ask('cuDeviceGetCount', ctypes.byref(count))
    if count.value < 1:
        raise EngineError(
            'the CUDA driver sees no GPU; needed one: look at nvidia-smi and '
            'CUDA_VISIBLE_DEVICES, or set the parameter `engine` to openvino'
        )
    ask('cuDriverGetVersion', ctypes.byref(version))
    ask('cuDeviceGetName', name, _NAME_LENGTH, 0)
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        ask('cuDeviceGetAttribute', ctypes.byref(value), attribute, 0)
        capability.append(value.value)
    return Gpu(name.value.decode(), '.'.join(map(str, capability)), _dotted(version.value))


def spoken_cuda() -> str:
    """The newest CUDA that the driver speaks, like '13.0'; '' where no GPU works."""
    try:
        return prove_gpu().driver
    except EngineError:
        return ''


def packaged_cuda() -> int:
    """The CUDA whose packages run here: 12 with a driver that speaks no newer one, else 13."""
    spoken = spoken_cuda()
    return 12 if spoken and int(spoken.split('.')[0]) < 13 else 13


class CudaFloor(Protocol):
    """
    What captured plans need of CUDA; handles and addresses are integers.

    Whatever it gives is its own and goes with `close`.
    """

    def stream(self) -> int:
        """Make a stream."""
        ...

    def event(self) -> int:
        """Make an event, for order only."""
        ...

    def device_memory(self, size: int) -> int:
        """Take memory on the GPU [bytes]; its address."""
        ...

    def pinned(self, shape: Sequence[int], dtype: np.dtype) -> tuple[np.ndarray, int]:
        """Take page-locked memory here, as an array, and its address."""
        ...

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        """Copy to the GPU, in the order of the stream."""
        ...

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        """Copy from the GPU, in the order of the stream."""
        ...

    def record(self, event: int, stream: int) -> None:
        """The event happens once the stream gets here."""
        ...

    def wait(self, stream: int, event: int) -> None:
        """The stream goes on once the event happened."""
        ...

    def begin_capture(self, stream: int) -> None:
        """What the stream is given from now on is written down, not done."""
        ...

    def end_capture(self, stream: int) -> int:
        """What was written down, ready to be launched as a whole."""
        ...

    def discard_capture(self, stream: int) -> None:
        """What was written down is forgotten, whole or not; the stream does again what it gets."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Do it."""
        ...

    def synchronize(self, stream: int) -> None:
        """Wait for all that the stream was given."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Cuda:
    """
    CUDA's runtime library through cuda-python; see `CudaFloor`.

    :raises EngineError: cuda-python is not there.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime as cudart
        except ImportError as error:
            raise EngineError(
                f'cuda-python can not be imported ({error}); '
                f"run: pip install 'cuda-python<{packaged_cuda() + 1}'"
            ) from error
        self._cudart, self._taken = cudart, ExitStack()

    def stream(self) -> int:
        """See `CudaFloor`."""
        cudart = self._cudart
        (stream,) = self._do(cudart.cudaStreamCreateWithFlags, cudart.cudaStreamNonBlocking)
        self._taken.callback(cudart.cudaStreamDestroy, stream)
        return int(stream)

    def event(self) -> int:
        """See `CudaFloor`."""
        cudart = self._cudart
        (event,) = self._do(cudart.cudaEventCreateWithFlags, cudart.cudaEventDisableTiming)
        self._taken.callback(cudart.cudaEventDestroy, event)
        return int(event)

    def device_memory(self, size: int) -> int:
        """See `CudaFloor`."""
        (address,) = self._do(self._cudart.cudaMalloc, size)
        self._taken.callback(self._cudart.cudaFree, address)
        return int(address)

    def pinned(self, shape: Sequence[int], dtype: np.dtype) -> tuple[np.ndarray, int]:
        """See `CudaFloor`."""
        cudart = self._cudart
        size = int(np.prod(shape)) * dtype.itemsize
        (address,) = self._do(cudart.cudaHostAlloc, size, cudart.cudaHostAllocDefault)
        self._taken.callback(cudart.cudaFreeHost, address)
        block = (ctypes.c_uint8 * size).from_address(int(address))
        return np.frombuffer(memoryview(block), dtype).reshape(shape), int(address)

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        """See `CudaFloor`."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do(self._cudart.cudaMemcpyAsync, device, host, size, kind, stream)

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        """See `CudaFloor`."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do(self._cudart.cudaMemcpyAsync, host, device, size, kind, stream)

    def record(self, event: int, stream: int) -> None:
        """See `CudaFloor`."""
        self._do(self._cudart.cudaEventRecord, event, stream)

    def wait(self, stream: int, event: int) -> None:
        """See `CudaFloor`."""
        self._do(self._cudart.cudaStreamWaitEvent, stream, event, 0)

    def begin_capture(self, stream: int) -> None:
        """See `CudaFloor`."""
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._do(self._cudart.cudaStreamBeginCapture, stream, mode)

    def end_capture(self, stream: int) -> int:
        """See `CudaFloor`."""
        cudart = self._cudart
        (written,) = self._do(cudart.cudaStreamEndCapture, stream)
        try:
            (graph,) = self._do(cudart.cudaGraphInstantiate, written, 0)
        finally:
            cudart.cudaGraphDestroy(written)
        self._taken.callback(cudart.cudaGraphExecDestroy, graph)
        return int(graph)

    def discard_capture(self, stream: int) -> None:
        """See `CudaFloor`."""
        code, written = self._cudart.cudaStreamEndCapture(stream)
        if not int(code):  # else nothing was begun, or it was broken: ended all the same
            self._cudart.cudaGraphDestroy(written)

    def launch(self, graph: int, stream: int) -> None:
        """See `CudaFloor`."""
        self._do(self._cudart.cudaGraphLaunch, graph, stream)

    def synchronize(self, stream: int) -> None:
        """See `CudaFloor`."""
        self._do(self._cudart.cudaStreamSynchronize, stream)

    def close(self) -> None:
        """See `CudaFloor`."""
        self._taken.close()

    def _do(self, call: Callable[..., tuple[Any, ...]], *arguments: Any) -> tuple[Any, ...]:
        """
        Call CUDA.

        :return: what it gives beside its code.
        :raises EngineError: the code is not 0.
        """
        code, *said = call(*arguments)
        if code == self._cudart.cudaError_t.cudaErrorInsufficientDriver:
            _, spoken = self._cudart.cudaDriverGetVersion()
            _, needed = self._cudart.cudaRuntimeGetVersion()
            raise EngineError(
                f'{call.__name__} says {code.name}: the driver speaks CUDA {_dotted(spoken)}, '
                f'cuda-python needs {_dotted(needed)}; update the driver, or '
                f"run: pip install 'cuda-python<{packaged_cuda() + 1}'"
            )
        if int(code):
            raise EngineError(
                f'{call.__name__} says {code.name}: the GPU does not answer as it should; look at '
                'nvidia-smi and the kernel log (dmesg), then start the node again'
            )
        return tuple(said)


def _dotted(version: int) -> str:
    """CUDA's own number of a version, 13010, as '13.1'; 0 is none."""
    major, minor = divmod(version, 1000)
    return f'{major}.{minor // 10}' if version else 'none'
