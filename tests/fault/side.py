"""What runs in a process of the suite: engines by name, what they publish, their transfers, and the faults that come from within."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
import threading
import time
from typing import Any

from attempt import Attempt, Order, Outcome
from bytes_of import tensor_bytes
from destination import HostMemory, to_npu

import ray_hixl
from ray_hixl import HixlError, Options

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_PR_SET_DUMPABLE = 4
_TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
_STORM_S = 0.0003  # from one signal to the next

signal.signal(signal.SIGUSR2, lambda *_: None)


class Offer:
    """What an engine shows: an object, and each of its tensors as a region, too."""

    def __init__(self, engine: ray_hixl.Engine, memory: str, sizes: tuple[int, ...], seed: int) -> None:
        """``memory``: "ordinary", "arena", "npu", or "raw", which can be unmapped under everybody."""
        self.engine = engine
        self._raw: list[tuple[int, int]] = []
        self.tensors = [self._make(memory, size) for size in sizes]
        for index, tensor in enumerate(self.tensors):
            data = tensor_bytes(seed, index, sizes[index])
            if memory == "npu":
                to_npu(tensor.address, bytes(data))
            else:
                memoryview(tensor).cast("B")[:] = data
        self.metadata = engine.publish(self.tensors)
        self.regions = [tensor.region if memory in ("arena", "npu") else engine.register(tensor) for tensor in self.tensors]

    def _make(self, memory: str, size: int) -> Any:
        if memory == "ordinary":
            return bytearray(size)
        if memory == "arena":
            return self.engine.empty(size)
        if memory == "npu":
            return self.engine.empty(size, "npu:0")
        address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self._raw.append((address, size))
        return (ctypes.c_ubyte * size).from_address(address)

    def free(self) -> None:
        self.engine.release(self.metadata)
        for region in self.regions:
            region.close()

    def unmap(self) -> None:
        for address, size in self._raw:
            assert _libc.munmap(address, size) == 0
        self._raw = []

    def resize(self) -> str:
        """Tries to take published memory away. What did not refuse it, or nothing."""
        for index, tensor in enumerate(self.tensors):
            if isinstance(tensor, bytearray):
                try:
                    tensor.clear()
                    return f"tensor {index} was cleared while it was published"
                except BufferError:
                    pass
        return ""


class Side:
    """All of one process. Each case uses names of its own and leaves none."""

    def __init__(self) -> None:
        self.engines: dict[str, ray_hixl.Engine] = {}
        self.offers: dict[str, Offer] = {}
        self.attempt: Attempt | None = None
        self._fillers: list[Any] = []
        self._storm: threading.Event | None = None
        self._stormer: threading.Thread | None = None
        self._child: tuple[int, int] | None = None

    def open(self, name: str, options: dict[str, Any]) -> bytes:
        self.engines[name] = ray_hixl.Engine(Options(**options))
        return self.engines[name].descriptor

    def close(self, name: str) -> float:
        """Closes an engine; gives the seconds that it took."""
        begin = time.monotonic()
        self.engines[name].close()
        return time.monotonic() - begin

    def forget(self) -> None:
        """Closes what a case opened, and lets go what it made."""
        if self.attempt is not None:
            self.attempt.join()
            self.attempt.drop()
        self.attempt = None
        self._fillers = []
        for offer in self.offers.values():
            offer.free()
        self.offers = {}
        for engine in self.engines.values():
            engine.close()
        self.engines = {}
        gc.collect()

    def offer(self, name: str, engine: str, memory: str, sizes: tuple[int, ...], seed: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Publishes; gives the object's metadata and the regions' descriptors."""
        made = self.offers[name] = Offer(self.engines[engine], memory, sizes, seed)
        return made.metadata, tuple(region.descriptor for region in made.regions)

    def shown(self, name: str) -> tuple[bytes, tuple[bytes, ...]] | None:
        """What ``offer`` gave under this name, if it did."""
        made = self.offers.get(name)
        return None if made is None else (made.metadata, tuple(region.descriptor for region in made.regions))

    def begin(self, engine: str, order: Order) -> None:
        self.attempt = Attempt(self.engines[engine], order)

    def seen(self, seconds: float) -> bool:
        """Was what the attempt watches for seen, or did it end? Waits so long for it."""
        assert self.attempt is not None
        end = time.monotonic() + seconds
        while not self.attempt.seen.wait(0.01) and self.attempt.outcome is None and time.monotonic() < end:
            pass
        return self.attempt.seen.is_set() or self.attempt.outcome is not None

    def go_on(self) -> None:
        assert self.attempt is not None
        self.attempt.go.set()

    def outcome(self, seconds: float) -> Outcome | None:
        assert self.attempt is not None
        end = time.monotonic() + seconds
        while self.attempt.outcome is None and time.monotonic() < end:
            time.sleep(0.001)
        return self.attempt.outcome

    def left(self) -> str:
        assert self.attempt is not None
        return self.attempt.left()

    def drop(self) -> None:
        assert self.attempt is not None
        self.attempt.join()
        self.attempt.drop()

    def fetch(self, engine: str, order: Order) -> str:
        """A whole transfer beside the case's own. What was wrong, or nothing."""
        attempt = Attempt(self.engines[engine], order)
        attempt.join()
        if attempt.outcome is None:
            return "it did not end"
        wrong = f"{attempt.outcome.error}: {attempt.outcome.message}" if attempt.outcome.error else attempt.left()
        attempt.drop()
        return wrong

    def stats(self, name: str) -> dict[str, Any]:
        return self.engines[name].stats()

    # Faults from within.

    def fill(self, engine: str, order: Order) -> None:
        """Holds fetched memory and source memory beyond what the arenas keep."""
        self._fillers += [self.engines[engine].fetch(order.metadata, timeout=order.timeout_s).result() for _ in range(3)]
        self._fillers += [self.engines[engine].empty(1 << 20) for _ in range(3)]

    def free(self, name: str) -> None:
        """Takes back what is published under a name."""
        self.offers[name].free()

    def unmap(self, name: str) -> None:
        """Its memory goes, and nobody was asked."""
        self.offers[name].unmap()

    def close_local(self) -> None:
        """Takes back the regions that a read goes to."""
        assert self.attempt is not None
        for region in self.attempt.regions:
            region.close()

    def resize(self, name: str) -> str:
        """Tries to take away memory that is published under a name, or, without one, a fetch's targets."""
        if name:
            return self.offers[name].resize()
        assert self.attempt is not None
        assert isinstance(self.attempt.destination, HostMemory)
        return self.attempt.destination.resize()

    def undumpable(self, on: bool) -> None:
        """From now on, processes of the same user may not read this one."""
        _libc.prctl(_PR_SET_DUMPABLE, 0 if on else 1, 0, 0, 0)

    def become(self, uid: int) -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        self.undumpable(False)  # as a program has it that was started by that user

    def fake(self, name: str, value: str) -> None:
        """Sets a switch of the FAKE HIXL."""
        ctypes.CDLL("libcann_hixl.so").fake_hixl_set(name.encode(), value.encode())

    def storm(self) -> None:
        """Signals, to every thread, again and again."""
        stop = self._storm = threading.Event()

        def run() -> None:
            own = threading.get_native_id()
            while not stop.wait(_STORM_S):
                for task in map(int, os.listdir("/proc/self/task")):
                    if task != own:
                        _libc.syscall(_TGKILL, os.getpid(), task, signal.SIGUSR2)

        self._stormer = threading.Thread(target=run, daemon=True)
        self._stormer.start()

    def calm(self) -> None:
        assert self._storm is not None
        assert self._stormer is not None
        self._storm.set()
        self._stormer.join()

    def fork(self, engine: str) -> str:
        """Forks; the child stays until ``reap``. What the engine said there: "closed" is right."""
        answer, said = os.pipe()
        end, ends = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ends)
            os.close(answer)
            signal.alarm(10)  # ends a child that hangs, without a word
            os.write(said, self._in_the_child(engine).encode())
            os.close(said)
            os.read(end, 1)
            time.sleep(2.0)  # outlives a parent that was killed
            os._exit(0)
        os.close(said)
        os.close(end)
        self._child = child, ends
        with open(answer, "rb") as told:
            return told.read().decode()

    def _in_the_child(self, engine: str) -> str:
        try:
            self.engines[engine].publish([b"abc"])
        except HixlError as error:
            return error.code
        except BaseException as error:
            return repr(error)
        return "it published"

    def reap(self) -> None:
        assert self._child is not None
        os.close(self._child[1])
        os.kill(self._child[0], signal.SIGKILL)
        os.waitpid(self._child[0], 0)
        self._child = None
