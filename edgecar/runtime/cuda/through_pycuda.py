"""CUDA through pycuda."""

import ctypes
import threading
from collections.abc import Callable
from ctypes import byref, c_void_p
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from edgecar.errors import EngineError
from edgecar.runtime.cuda.device import DEVICE_FLAGS, FOLDER, KERNELS, THREADS, Memory

DRIVER = "libcuda.so.1"
EVENT_WITHOUT_TIME = 2  # CU_EVENT_DISABLE_TIMING

P = ParamSpec("P")
T = TypeVar("T")


def _in_context(method: Callable[P, T]) -> Callable[P, T]:
    """Make the context that of the calling thread, once, and put CUDA's failures in our words."""

    @wraps(method)
    def run(*arguments: P.args, **named: P.kwargs) -> T:
        device = cast("CudaDevice", arguments[0])
        try:
            device.enter()
            return method(*arguments, **named)
        except device.failure as error:
            raise EngineError(f"CUDA failed: {' '.join(str(error).split())[:200]}") from error

    return run


class CudaDevice:
    """A GPU, and the primary context that TensorRT and ONNX Runtime use as well.

    Kernels are compiled when they are first launched; pycuda keeps what was compiled. A device is
    used by one thread at a time, which need not be the one that made it.

    Args:
        ordinal: Which GPU.

    Raises:
        EngineError: pycuda is not installed, or there is no such GPU.
    """

    def __init__(self, ordinal: int = 0) -> None:
        try:
            import pycuda.compiler
            import pycuda.driver
        except ImportError as error:
            raise EngineError(
                "the CUDA runtime needs pycuda, which is not installed; pip install pycuda (see "
                "engines/README.md)"
            ) from error
        self._cuda, self._compiler = pycuda.driver, pycuda.compiler
        self.failure: Any = self._cuda.Error
        try:
            self._cuda.init()
            gpu = self._cuda.Device(ordinal)
            self._context = gpu.retain_primary_context()
            self._threads = threading.local()
            self.enter()
        except self._cuda.Error as error:
            raise EngineError(f"no CUDA device {ordinal}: {error}") from error
        self.shared = bool(gpu.integrated and gpu.can_map_host_memory)
        self._kernel = cache(self._compiled)

    def enter(self) -> None:
        """Make the context that of this thread, once."""
        if not getattr(self._threads, "entered", False):
            self._context.push()
            self._threads.entered = True

    @_in_context
    def memory(self, size: int) -> Memory:
        owner = self._cuda.mem_alloc(size)
        self._cuda.memset_d8(owner, 0, size)
        return Memory(int(owner), size, None, owner)

    @_in_context
    def staging(self, size: int) -> Memory:
        flags = self._cuda.host_alloc_flags.DEVICEMAP if self.shared else 0
        host = self._cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)
        host[:] = 0
        address = int(host.base.get_device_pointer()) if self.shared else 0
        return Memory(address, size, host, host)

    @_in_context
    def free_bytes(self) -> int:
        free: int = self._cuda.mem_get_info()[0]
        return free

    @_in_context
    def stream(self) -> Any:
        return self._cuda.Stream()

    def handle(self, stream: Any) -> int:
        handle: int = stream.handle
        return handle

    @_in_context
    def join(self, stream: Any, handle: int) -> None:
        # pycuda wraps no stream of others, so that the mark in it is set by the driver itself.
        driver, event = ctypes.CDLL(DRIVER), c_void_p()
        for what, failed in (
            ("create", driver.cuEventCreate(byref(event), EVENT_WITHOUT_TIME)),
            ("record", driver.cuEventRecord(event, c_void_p(handle))),
            ("wait", driver.cuStreamWaitEvent(c_void_p(stream.handle), event, 0)),
            ("destroy", driver.cuEventDestroy_v2(event)),  # once it was reached
        ):
            if failed:
                raise EngineError(f"CUDA failed to {what} an event of another stream: {failed}")

    @_in_context
    def event(self) -> Any:
        return self._cuda.Event(self._cuda.event_flags.DISABLE_TIMING)

    @_in_context
    def record(self, event: Any, stream: Any) -> None:
        event.record(stream)

    @_in_context
    def wait(self, stream: Any, event: Any) -> None:
        stream.wait_for_event(event)

    @_in_context
    def finish(self, event: Any) -> None:
        event.synchronize()

    @_in_context
    def upload(self, to: Memory, source: Memory, stream: Any) -> None:
        self._cuda.memcpy_htod_async(to.address, source.host, stream)

    @_in_context
    def download(self, to: Memory, source: Memory, stream: Any) -> None:
        self._cuda.memcpy_dtoh_async(to.host, source.address, stream)

    @_in_context
    def copy_rows(
        self, to: tuple[int, int], source: tuple[int, int], width: int, rows: int, stream: Any
    ) -> None:
        copy = self._cuda.Memcpy2D()
        copy.set_dst_device(to[0])
        copy.set_src_device(source[0])
        copy.dst_pitch, copy.src_pitch = to[1], source[1]
        copy.width_in_bytes, copy.height = width, rows
        copy(stream)

    @_in_context
    def launch(
        self, kernel: str, items: int, layers: int, arguments: tuple[Any, ...], stream: Any
    ) -> None:
        grid = (-(-items // THREADS), layers)
        given = [0 if argument is None else argument for argument in arguments]
        self._kernel(kernel).prepared_async_call(grid, (THREADS, 1, 1), stream, *given)

    @_in_context
    def close(self) -> None:
        self._context.pop()
        self._context.detach()

    def _compiled(self, kernel: str) -> Any:
        file = next(file for file, kernels in KERNELS.items() if kernel in kernels)
        try:
            module = self._compiler.SourceModule(
                (FOLDER / file).read_text(),
                options=list(DEVICE_FLAGS),
                include_dirs=[str(FOLDER)],
                no_extern_c=True,
            )
        except (self._cuda.CompileError, OSError) as error:
            raise EngineError(
                f"nvcc cannot compile {file}: {' '.join(str(error).split())[:300]}; put the CUDA "
                "toolkit's bin folder on PATH"
            ) from error
        function = module.get_function(kernel)
        function.prepare(KERNELS[file][kernel].replace("p", "P"))
        return function
