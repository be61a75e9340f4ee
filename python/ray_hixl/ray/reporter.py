"""The reporter: a thread that hands on what the transport did in this process, to Ray's metrics and to a trace if one is asked for.

It starts with the first record, sleeps until there is another one, for as long as that takes, and hands on at most once a second: a process
that does nothing is not woken up. A transfer pays for a put into a queue. Nothing that goes wrong here reaches a transfer: what cannot take
records any more is dropped, with one line in the log.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from ray_hixl.ray.metrics import Metrics
from ray_hixl.ray.records import Record
from ray_hixl.ray.trace import trace_of_environment

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0  # from one handing on to the next
_LAST_S = 1.0  # for the last one, when the process ends


class Sink(Protocol):
    """Where records go. Used by one thread."""

    def take(self, records: Sequence[Record]) -> None:
        """What was done since the last call, in no strict order; none where only counters have changed."""

    def close(self) -> None:
        """Nothing comes any more."""


class Reporter:
    """A thread with its sinks. ``put`` may be called from any thread, also by a destructor in the middle of itself."""

    def __init__(self, sinks: list[Sink]) -> None:
        """:raises RuntimeError: the system has no thread."""
        self._sinks = sinks
        self._records: SimpleQueue[Record | None] = SimpleQueue()  # the one queue that destructors may put into
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hixl-report", daemon=True)
        self.put = self._records.put
        self._thread.start()

    def end(self) -> None:
        """Hands on what is left, and ends the thread; or leaves it alone after a second."""
        self._ending.set()
        self.put(None)
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._hand_on([self._records.get(), *self._left()])
            self._ending.wait(_PAUSE_S)
        self._hand_on(self._left())
        self._each(lambda sink: sink.close())

    def _left(self) -> list[Record | None]:
        left = []
        with suppress(Empty):
            while True:
                left.append(self._records.get_nowait())
        return left

    def _hand_on(self, records: list[Record | None]) -> None:
        happened = [record for record in records if record is not None]
        self._each(lambda sink: sink.take(happened))

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                call(sink)
            except Exception as error:
                self._sinks.remove(sink)
                logger.warning("no more %s of this process, transfers go on: %r", type(sink).__name__.lower(), error)


_lock = threading.Lock()  # guards the start
_reporter: Reporter | None = None
_off = False  # for ever: no thread, the process is ending, or it is a forked child, in which Ray does not work


def report(record: Record) -> None:
    """Hands a record on, by the reporter of this process, which is started if there is none. Any thread."""
    if (current := _reporter) is not None:
        current.put(record)
    elif not _off:
        _start(record)


def touch() -> None:
    """Counters have changed; without a record. Any thread, also a destructor: takes no lock and starts nothing."""
    if (current := _reporter) is not None:
        current.put(None)


def _start(first: Record) -> None:
    global _reporter, _off
    with _lock:
        if _reporter is None and not _off:
            try:
                _reporter = Reporter([Metrics(), *trace_of_environment()])
                atexit.register(_end)  # so late that it runs before Ray and the engines end
            except RuntimeError as error:
                _off = True
                logger.warning("no metrics of this process: %s", error)
    if (current := _reporter) is not None:
        current.put(first)


def _end() -> None:
    global _reporter, _off
    ending, _reporter, _off = _reporter, None, True
    if ending is not None:
        ending.end()


def _forget() -> None:
    """In a forked child: the records, the metrics and the trace are the parent's, whose thread is not here."""
    global _reporter, _off, _lock
    _reporter, _off, _lock = None, True, threading.Lock()


os.register_at_fork(after_in_child=_forget)
