"""Where a reader's bytes go: memory with canaries around, the caller's own or an NPU's (over the FAKE CANN)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import ray_hixl

CANARY = 4096  # bytes around every destination
BEFORE = 0x5A  # what canaries hold, and destinations at first
_TO_DEVICE, _TO_HOST = 1, 2


class Destination(Protocol):
    def targets(self) -> list[Any]:
        """What a fetch takes."""

    def locals(self, engine: ray_hixl.Engine) -> list[tuple[Any, int]]:
        """What a read takes: regions, and where in them."""

    def content(self, index: int) -> memoryview: ...

    def fill(self, value: int) -> None:
        """Writes over all destinations, not the canaries."""

    def whole(self) -> bool:
        """Are all canaries what they were?"""


class HostMemory:
    def __init__(self, sizes: Sequence[int], bare: bool) -> None:
        """``bare``: no canaries, and nobody but the engine keeps the buffers from being resized."""
        self._canary = 0 if bare else CANARY
        self.buffers = [bytearray([BEFORE]) * (2 * self._canary + size) for size in sizes]

    def targets(self) -> list[Any]:
        return [self.content(index) for index in range(len(self.buffers))] if self._canary else list(self.buffers)

    def locals(self, engine: ray_hixl.Engine) -> list[tuple[Any, int]]:
        return [(engine.register(target), 0) for target in self.targets()]

    def content(self, index: int) -> memoryview:
        buffer = self.buffers[index]
        return memoryview(buffer)[self._canary : len(buffer) - self._canary]

    def fill(self, value: int) -> None:
        for index in range(len(self.buffers)):
            view = self.content(index)
            view[:] = bytes([value]) * len(view)

    def whole(self) -> bool:
        edge = bytes([BEFORE]) * self._canary
        return all(buffer.startswith(edge) and buffer.endswith(edge) for buffer in self.buffers)

    def resize(self) -> str:
        """Tries to take a buffer away. What did not refuse it, or nothing."""
        for index, buffer in enumerate(self.buffers):
            try:
                buffer.clear()
                return f"target {index} was cleared during the fetch"
            except BufferError:
                pass
        return ""


class NpuMemory:
    def __init__(self, engine: ray_hixl.Engine, sizes: Sequence[int]) -> None:
        self.buffers = [engine.empty(2 * CANARY + size, "npu:0") for size in sizes]
        for buffer in self.buffers:
            to_npu(buffer.address, bytes([BEFORE]) * buffer.nbytes)

    def targets(self) -> list[Any]:
        raise AssertionError("a part of an NPU's buffer is no target without torch")

    def locals(self, engine: ray_hixl.Engine) -> list[tuple[Any, int]]:
        return [(buffer.region, CANARY) for buffer in self.buffers]

    def content(self, index: int) -> memoryview:
        return memoryview(from_npu(self.buffers[index]))[CANARY:-CANARY]

    def fill(self, value: int) -> None:
        for buffer in self.buffers:
            to_npu(buffer.address + CANARY, bytes([value]) * (buffer.nbytes - 2 * CANARY))

    def whole(self) -> bool:
        edge = bytes([BEFORE]) * CANARY
        contents = [from_npu(buffer) for buffer in self.buffers]
        return all(content[:CANARY] == edge and content[-CANARY:] == edge for content in contents)


@cache
def _runtime() -> ctypes.CDLL:
    runtime = ctypes.CDLL("libacl_rt.so")
    runtime.aclrtMemcpy.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return runtime


def to_npu(address: int, data: bytes) -> None:
    _runtime().aclrtSetDevice(0)
    assert _runtime().aclrtMemcpy(address, len(data), data, len(data), _TO_DEVICE) == 0


def from_npu(buffer: Any) -> bytes:
    _runtime().aclrtSetDevice(0)
    copied = ctypes.create_string_buffer(buffer.nbytes)
    assert _runtime().aclrtMemcpy(copied, buffer.nbytes, buffer.address, buffer.nbytes, _TO_HOST) == 0
    return copied.raw
