"""Transfers under way: reads of a peer's memory, and fetches of objects."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from ray_hixl import _core, arguments
from ray_hixl.errors import HixlError
from ray_hixl.tensors import use_torch

_PHASES = ("connect", "resolve", "move", "check")


def phases(transfer: _core.Transfer) -> Iterator[tuple[str, float, float]]:
    """Those of a transfer that has ended, one after the other: name, begin and end, by the clock of ``time.perf_counter``."""
    moments = transfer.times()
    return zip(_PHASES, moments, moments[1:], strict=False)


class Transfer:
    """A read under way. Ends exactly once; its deadline belongs to it, not to ``wait``. Until its end was waited for, it keeps the engine
    and the peer that it reads with.
    """

    def __init__(self, core: _core.Transfer, origin: _core.Engine | _core.Peer) -> None:
        self._core = core
        self._origin: _core.Engine | _core.Peer | None = origin  # one that nobody keeps is closed, which would end it

    def wait(self, timeout: float | None = None) -> bool:
        """True once it succeeded; False if ``timeout`` seconds were not enough: it goes on.

        Once it returned True or raised ``HixlError``, nothing writes to the local memory any more, unless the error says so. Anything else
        that it raises (Ctrl-C) ends the waiting only: the transfer goes on.

        :raises HixlError: how it failed.
        """
        if not self._core.wait(arguments.patience(timeout)):
            return False
        self._origin = None
        self._core.raise_failure()
        return True

    @property
    def done(self) -> bool:
        """Has it ended, with or without success?"""
        return self._core.done

    def cancel(self) -> None:
        """Asks it to end early, with ``Cancelled``. A request: it may still succeed."""
        self._core.cancel()

    def seconds_by_phase(self) -> dict[str, float]:
        """Of a transfer that has ended, one after the other: ``"connect"`` until there was a link, ``"resolve"`` until it was known where
        the bytes lie, ``"move"`` until every byte was there, ``"check"`` until it was known that they are right. 0.0 for what it did not
        come to.
        """
        return {name: end - begin for name, begin, end in phases(self._core)}

    @property
    def core(self) -> _core.Transfer:
        """What the binding knows of it."""
        return self._core

    def bytes_by_transport(self) -> dict[str, int]:
        """Bytes moved so far, by the transport that moved them."""
        return self._core.bytes_by_transport()


class Fetch(Transfer):
    """An object on its way here."""

    def __init__(
        self, core: _core.Fetch, engine: _core.Engine, targets: list[Any] | None, copied: bool, exports: list[Any], timeout: float
    ) -> None:
        """``copied``: it goes into new memory, and from there to the targets. ``exports``: what keeps the targets' bytes where they are.
        ``timeout``: its own, which the copies to the targets have once more.
        """
        super().__init__(core.transfer, engine)
        self._fetch: _core.Fetch | None = core  # until the tensors were taken
        self._targets = targets
        self._copied = copied
        self._exports = exports
        self._timeout = timeout
        self._tensors: list[Any] | None = None
        self._taking = threading.Lock()

    def cancel_when_dropped(self) -> None:
        """Whoever drops this object does not want the tensors any more."""
        self._dropped = _core.CancelledWhenDropped(self._core)

    def end_with(self, block: _core.Begun, name: str) -> None:
        """Where ``block`` raises, this ends first; under ``name``."""
        block.add(name, self._core, self._targets is not None and not self._copied)

    def wait(self, timeout: float | None = None) -> bool:
        """As ``Transfer.wait``. Buffers that are targets cannot be resized before it succeeded, or failed and nothing writes any more."""
        try:
            ended = super().wait(timeout)
        except HixlError:
            self._exports = []  # the engine keeps them until nothing writes any more
            raise
        if ended:
            self._exports.clear()
        return ended

    def result(self, timeout: float | None = None) -> list[Any]:
        """Waits as ``wait``, and gives the tensors in published order (the targets, if there were any). The same list at every call.

        They are torch tensors if this process has imported torch, else buffers: ``memoryview(one)``, ``numpy.asarray(one)``.

        :raises TimeoutError: ``timeout`` seconds were not enough; the fetch goes on.
        :raises DeviceBusy: it is to be copied to its targets, which what is queued on their NPU may use for longer than the fetch's own
            timeout. Nothing was copied; the next call tries again.
        :raises HixlError: how it failed.
        """
        if self._tensors is None:
            if not self.wait(timeout):
                raise TimeoutError(f"the fetch is not done after {timeout:g} s; it goes on until its own deadline")
            with self._taking:
                if self._tensors is None:
                    self._tensors = self._take()
                    self._fetch = None  # the memory that it came by way of, if it did
        return self._tensors

    def _take(self) -> list[Any]:
        """Once."""
        assert self._fetch is not None
        use_torch()
        if self._targets is None:
            return self._fetch.take()
        if self._copied:
            _copy_into(self._targets, self._fetch.take(), time.monotonic() + self._timeout)
        return self._targets


def _copy_into(targets: list[Any], tensors: list[Any], deadline: float) -> None:
    from ray_hixl import npu

    npu.copy_into(targets, tensors, deadline)
