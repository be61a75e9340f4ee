"""Attempt: one transfer of a reader, in a thread of its own, and what it left in the destination."""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from bytes_of import tensor_bytes
from destination import BEFORE, Destination, HostMemory, NpuMemory, from_npu

import ray_hixl

_AFTER = 0xA5  # what the caller writes to a destination once a failed transfer gave it back
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Order:
    """What to read, and how. Travels to the reader's process."""

    how: str  # "fetch" into new memory, "targets" of the caller, or "read" of regions
    descriptor: bytes
    metadata: bytes
    regions: tuple[bytes, ...]
    sizes: tuple[int, ...]
    seed: int
    timeout_s: float
    npu: bool = False
    bare: bool = False  # the caller's buffers themselves, without canaries
    watch: str = ""  # the "first" or the "last" byte that arrives, or that NPUs are at "work"...
    signal: tuple[int, int] | None = None  # ... sends this signal to this process
    pause: bool = False  # between the end of the transfer and its result


@dataclass
class Outcome:
    """How it ended: with bytes, or with an error."""

    error: str = ""  # name of the class
    message: str = ""
    seconds: float = 0.0
    again: str = ""  # what asking once more gave instead of the same
    moved: int = 0  # bytes of the destination that were written although it failed


class Attempt:
    def __init__(self, engine: ray_hixl.Engine, order: Order) -> None:
        self.engine = engine
        self.order = order
        self.seen = threading.Event()  # the watched byte came, or the pause began
        self.go = threading.Event()  # ends the pause
        self.regions: list[Any] = []
        self.transfer: Any = None
        self.tensors: list[Any] = []
        self.outcome: Outcome | None = None
        self.destination: Destination | None = None
        if order.how != "fetch":
            self.destination = NpuMemory(engine, order.sizes) if order.npu else HostMemory(order.sizes, order.bare)
        self._requests = self._npu_requests()
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        if order.watch:
            self._threads.insert(0, threading.Thread(target=self._watch, daemon=True))
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self.go.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def left(self) -> str:
        """What is wrong with the destination now: canaries, the bytes of a success, what the caller wrote after a failure."""
        outcome = self.outcome
        assert outcome is not None
        if self.destination is not None and not self.destination.whole():
            return "a canary around a destination was written"
        if not outcome.error:
            return self._compare()
        if self.destination is None or "may still be written" in outcome.message:
            return ""
        for index, size in enumerate(self.order.sizes):
            if self.destination.content(index) != bytes([_AFTER]) * size:
                return f"destination {index} was written after the transfer had failed"
        return ""

    def drop(self) -> None:
        """Lets everything go that it received."""
        self.tensors = []
        self.transfer = None
        for region in self.regions:
            region.close()
        self.regions = []
        self.destination = None
        gc.collect()

    def _run(self) -> None:
        begin = time.monotonic()
        outcome = Outcome()
        try:
            self._read() if self.order.how == "read" else self._fetch()
            outcome.error, outcome.message = ("", "") if not (wrong := self._compare()) else ("WrongBytes", wrong)
        except Exception as error:
            outcome.error, outcome.message = type(error).__name__, str(error)
            outcome.again = self._same_again(error)
            if self.destination is not None:
                outcome.moved = sum(
                    size - bytes(self.destination.content(index)).count(BEFORE) for index, size in enumerate(self.order.sizes)
                )
                self.destination.fill(_AFTER)
        outcome.seconds = time.monotonic() - begin
        self.outcome = outcome

    def _fetch(self) -> None:
        order = self.order
        targets = self.destination.targets() if self.destination else None
        self.transfer = self.engine.fetch(order.metadata, targets, timeout=order.timeout_s)
        del targets
        self.transfer.wait()
        self._pause()
        self.tensors = self.transfer.result()

    def _read(self) -> None:
        order = self.order
        peer = self.engine.connect(order.descriptor, timeout=order.timeout_s)
        assert self.destination is not None
        places = self.destination.locals(self.engine)
        self.regions = [region for region, _ in places]
        remotes = [peer.region(region) for region in order.regions]
        ops = [(*place, remote, 0, size) for place, remote, size in zip(places, remotes, order.sizes, strict=True)]
        self.transfer = peer.read_async(ops, timeout=order.timeout_s)
        self.transfer.wait()
        self._pause()

    def _pause(self) -> None:
        if self.order.pause:
            self.seen.set()
            self.go.wait(_PATIENCE_S)

    def _same_again(self, first: Exception) -> str:
        """A transfer ends once: it says the same however often it is asked."""
        if self.transfer is None or not self.transfer.done:
            return ""
        try:
            self.transfer.wait()
        except Exception as error:
            return "" if (type(error), str(error)) == (type(first), str(first)) else f"{type(error).__name__}: {error}"
        return "success"

    def _compare(self) -> str:
        if self.destination is None and len(self.tensors) != len(self.order.sizes):
            return f"{len(self.tensors)} tensors instead of {len(self.order.sizes)}"
        for index, size in enumerate(self.order.sizes):
            if self._content(index) != tensor_bytes(self.order.seed, index, size):
                return f"tensor {index} of {size} bytes differs"
        return ""

    def _content(self, index: int) -> memoryview:
        if self.destination is not None:
            return self.destination.content(index)
        tensor = self.tensors[index]
        return memoryview(from_npu(tensor) if self.order.npu else tensor).cast("B")

    def _watch(self) -> None:
        """Until what is watched for happens: at a byte of the largest tensor, the first or last one that differs from what was there."""
        if self.order.watch == "work":
            arrived = lambda: self._npu_requests() != self._requests  # noqa: E731
        else:
            assert self.destination is not None
            index = max(range(len(self.order.sizes)), key=lambda each: self.order.sizes[each])
            view, expected = self.destination.content(index), tensor_bytes(self.order.seed, index, self.order.sizes[index])
            places = range(len(view)) if self.order.watch == "first" else range(len(view) - 1, -1, -1)
            place = next(each for each in places if expected[each] != BEFORE)
            arrived = lambda: view[place] != BEFORE  # noqa: E731
        end = time.monotonic() + _PATIENCE_S
        while not arrived() and self.outcome is None and time.monotonic() < end:
            pass
        if self.order.signal:
            os.kill(*self.order.signal)
        self.seen.set()

    def _npu_requests(self) -> int:
        """How often HIXL was asked to move something."""
        return sum(device["requests"] for device in self.engine.stats()["devices"]) if self.order.npu else 0
