"""The reporter: a thread that hands on what the transport did in this process, to Ray's metrics and to a trace if one is asked for.

It starts with the first record, sleeps until there is another one, for as long as that takes, and hands on a second later what came in
that second. Being read makes no record: while this process has something to be read, the thread looks at the counters every few seconds.
A process that neither does nor holds anything is not woken up.

A transfer pays for a put into a queue, which has a bound. Nothing that goes wrong here reaches a transfer, and nothing that Ray raises
ends the thread: what cannot take records any more is dropped, with one line in the log.
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

from ray_hixl import process
from ray_hixl.ray import compat
from ray_hixl.ray.metrics import Metrics
from ray_hixl.ray.records import FetchRecord, PublishRecord, Record
from ray_hixl.ray.trace import trace_of_environment

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0  # from the first record until it is handed on, with what came meanwhile
_LOOK_S = 5.0  # between two looks at the counters, while others may read
_LAST_S = 1.0  # that others wait until all is handed on: at the end of the process, of its cluster, of its engine
_MOST = 1 << 16  # records that wait at a time: more than a process makes in a pause
_LOOK, _END = object(), object()


class Sink(Protocol):
    """Where records go. Used by one thread."""

    def take(self, records: Sequence[Record], actor: str) -> None:
        """What was done since the last call; nothing at a look at the counters. ``actor``: as ``compat.actor_name`` says."""

    def close(self) -> None:
        """Nothing comes any more."""


class Reporter:
    """A thread with its sinks. ``put`` may be called from any thread, also by a destructor in the middle of itself."""

    def __init__(self, sinks: list[Sink]) -> None:
        """:raises RuntimeError: the system has no thread."""
        self._sinks = sinks
        self._records: SimpleQueue[object] = SimpleQueue()  # the one queue that destructors may put into
        self._most = _MOST
        self._dropped = 0
        self._hurry = threading.Event()  # no pause: somebody waits
        self._thread = threading.Thread(target=self._run, name="hixl-report", daemon=True)
        self._thread.start()

    def put(self, record: object) -> None:
        """To be handed on; dropped, and counted, where so many wait that the thread does not keep up."""
        if self._records.qsize() < self._most:
            self._records.put(record)
        else:
            self._dropped += 1

    def flush(self) -> None:
        """Hands on at once what there is; returns when that is done, or after a second."""
        if self._thread.is_alive():
            handed_on = threading.Event()
            self._put_at_once(handed_on)
            handed_on.wait(_LAST_S)

    def end(self) -> None:
        """Hands on what is left, and ends the thread; or leaves it alone after a second."""
        self._put_at_once(_END)
        self._thread.join(_LAST_S)

    def _put_at_once(self, mark: object) -> None:
        self._records.put(mark)
        self._hurry.set()

    def _run(self) -> None:
        try:
            self._hand_on_until_the_end()
        finally:
            self._most = 0  # nobody takes records any more
            self._left()

    def _hand_on_until_the_end(self) -> None:
        ended, actor, told = False, "", 0
        while not ended:
            first = self._next()
            if first is not _END:
                actor = actor or _actor_name()  # now, since Ray may end meanwhile
            if first is not _LOOK:
                self._hurry.wait(_PAUSE_S)  # or it would want Python's lock in the middle of a ray.get that goes on
            self._hurry.clear()  # whoever has set it is among what came
            came = [first, *self._left()]
            records = [record for record in came if isinstance(record, PublishRecord | FetchRecord)]
            self._hand_on(records, actor)
            told = self._tell_of_dropped(told)
            for waiting in came:
                if isinstance(waiting, threading.Event):
                    waiting.set()
            ended = _END in came
        self._each(lambda sink: sink.close())

    def _next(self) -> object:
        """A record, for which it waits; or ``_LOOK``, when others may have read in the meantime."""
        try:
            return self._records.get(timeout=_LOOK_S if self._sinks and _may_be_read() else None)
        except Empty:
            return _LOOK

    def _left(self) -> list[object]:
        left: list[object] = []
        with suppress(Empty):
            while True:
                left.append(self._records.get_nowait())
        return left

    def _hand_on(self, records: list[Record], actor: str) -> None:
        self._each(lambda sink: sink.take(records, actor))

    def _tell_of_dropped(self, told: int) -> int:
        """What was dropped so far, with a line in the log if that is more than was told."""
        dropped = self._dropped
        if dropped > told:
            why = f"more than {self._most} waited for their thread"
            logger.warning("metrics and trace lack %d fetches and publishes of this process: %s", dropped - told, why)
        return dropped

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                call(sink)
            except Exception as error:
                self._sinks.remove(sink)
                logger.warning("no more %s of this process, transfers go on: %r", type(sink).__name__.lower(), error)


def _may_be_read() -> bool:
    """Has this process published something, or is a consumer connected to it? Costs 2 us."""
    stats = process.stats()
    return bool(stats.get("objects") or stats.get("sessions"))


def _actor_name() -> str:
    """``compat.actor_name``; where Ray does not tell, as while another thread shuts it down, it is asked again the next time."""
    try:
        return compat.actor_name()
    except Exception as error:
        logger.debug("the name of this process's actor is not known yet: %r", error)
        return ""


_lock = threading.Lock()  # guards the start
_reporter: Reporter | None = None
_off = False  # for ever: no thread, the process is ending, or it is a forked child, in which Ray does not work


def report(record: Record) -> None:
    """Hands a record on, by the reporter of this process, which is started if there is none. Any thread."""
    if (current := _reporter) is not None:
        current.put(record)
    elif not _off:
        _start(record)


def flush() -> None:
    """Hands on at once what was done: a cluster or an engine, of which it is to be counted, is about to end. Waits a second at most."""
    if (current := _reporter) is not None:
        current.flush()


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
