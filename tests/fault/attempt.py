"""Attempt: one transfer of a reader, in a thread of its own, and what it left in the destination."""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from bytes_of import tensor_bytes

import ray_hixl

_CANARY = 4096  # bytes around every destination
_BEFORE, _AFTER = 0x5A, 0xA5  # what canaries and destinations hold; what the caller writes once a failed transfer gave them back
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
    watch: str = ""  # the "first" or the "last" byte that arrives...
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
        self.region: Any = None
        self.transfer: Any = None
        self.tensors: list[Any] = []
        self.outcome: Outcome | None = None
        self._buffers: list[bytearray] = []
        if order.how != "fetch":
            self._buffers = [bytearray([_BEFORE]) * (2 * _CANARY + size) for size in order.sizes]
        self.views = [memoryview(buffer)[_CANARY:-_CANARY] for buffer in self._buffers]
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        if order.watch:
            self._threads.insert(0, threading.Thread(target=self._watch, daemon=True))
        for thread in self._threads:
            thread.start()

    def resize(self) -> str:
        """Tries to take a target's memory away. What did not refuse it, or nothing."""
        for index, buffer in enumerate(self._buffers):
            try:
                buffer.clear()
                return f"target {index} was cleared while its view was out"
            except BufferError:
                pass
        return ""

    def join(self) -> None:
        self.go.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def left(self) -> str:
        """What is wrong with the destination now: canaries, the bytes of a success, what the caller wrote after a failure."""
        outcome = self.outcome
        assert outcome is not None
        for index, buffer in enumerate(self._buffers):
            if buffer[:_CANARY] != bytes([_BEFORE]) * _CANARY or buffer[-_CANARY:] != bytes([_BEFORE]) * _CANARY:
                return f"a canary around destination {index} was written"
        if not outcome.error:
            return self._compare()
        if "may still be written" in outcome.message:
            return ""
        for index, view in enumerate(self.views):
            if view != bytes([_AFTER]) * len(view):
                return f"destination {index} was written after the transfer had failed"
        return ""

    def drop(self) -> None:
        """Lets everything go that it received."""
        self.tensors = []
        self.transfer = None
        if self.region is not None:
            self.region = [each.close() for each in self.region] and None
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
            outcome.moved = sum(len(view) - bytes(view).count(_BEFORE) for view in self.views)
            for view in self.views:
                view[:] = bytes([_AFTER]) * len(view)
        outcome.seconds = time.monotonic() - begin
        self.outcome = outcome

    def _fetch(self) -> None:
        order = self.order
        self.transfer = self.engine.fetch(order.metadata, self.views if order.how == "targets" else None, timeout=order.timeout_s)
        self.transfer.wait()
        self._pause()
        self.tensors = self.transfer.result()

    def _read(self) -> None:
        order = self.order
        peer = self.engine.connect(order.descriptor, timeout=order.timeout_s)
        self.region = [self.engine.register(view) for view in self.views]
        remotes = [peer.region(region) for region in order.regions]
        ops = [(local, 0, remote, 0, size) for local, remote, size in zip(self.region, remotes, order.sizes, strict=True)]
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
        got = [memoryview(tensor) for tensor in self.tensors] if self.order.how == "fetch" else self.views
        if len(got) != len(self.order.sizes):
            return f"{len(got)} tensors instead of {len(self.order.sizes)}"
        for index, (view, size) in enumerate(zip(got, self.order.sizes, strict=True)):
            if view.cast("B") != tensor_bytes(self.order.seed, index, size):
                return f"tensor {index} of {size} bytes differs"
        return ""

    def _watch(self) -> None:
        """Until a byte of the destination is another than before: the largest tensor's first or last one that can differ."""
        index = max(range(len(self.views)), key=lambda each: len(self.views[each]))
        view, expected = self.views[index], tensor_bytes(self.order.seed, index, len(self.views[index]))
        places = range(len(view)) if self.order.watch == "first" else range(len(view) - 1, -1, -1)
        place = next(each for each in places if expected[each] != _BEFORE)
        end = time.monotonic() + _PATIENCE_S
        while view[place] == _BEFORE and self.outcome is None and time.monotonic() < end:
            pass
        if self.order.signal:
            os.kill(*self.order.signal)
        self.seen.set()
