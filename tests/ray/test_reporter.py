"""The reporter: hands on once a second, sleeps while nothing is done, and fails nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.util.metrics

import actors
import ray_hixl
from ray_hixl import process
from ray_hixl.ray import compat, reporter
from ray_hixl.ray.metadata import TransferMetadata
from ray_hixl.ray.metrics import Metrics
from ray_hixl.ray.records import FetchRecord, PublishRecord, Record
from ray_hixl.ray.reporter import Reporter
from yardstick import scaled


class Collected:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[list[Record]] = []
        self.actors: list[str] = []
        self.closed = False

    def take(self, records: Sequence[Record], actor: str) -> None:
        self.calls.append(list(records))
        self.actors.append(actor)

    def close(self) -> None:
        self.closed = True


class Broken(Collected):
    """One that cannot."""

    def take(self, records: Sequence[Record], actor: str) -> None:
        raise OSError("the disk is full")


class Stopped(Collected):
    """One that stops in the middle of the first records, until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped, self.go_on = threading.Event(), threading.Event()

    def take(self, records: Sequence[Record], actor: str) -> None:
        super().take(records, actor)
        self.stopped.set()
        self.go_on.wait(60.0)


@pytest.fixture
def start() -> Iterator[Callable[..., Reporter]]:
    """Starts reporters, which end with the test."""
    started: list[Reporter] = []

    def make(*sinks: Any) -> Reporter:
        started.append(Reporter(list(sinks)))
        return started[-1]

    yield make
    for one in started:
        one.end()


@pytest.fixture
def none_yet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has reported nothing; undone afterwards."""
    monkeypatch.setattr(reporter, "_reporter", None)
    monkeypatch.setattr(reporter, "_off", False)
    yield
    reporter._end()


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the counters say that this process holds, for a test to change; with pauses and looks that take no time."""
    held: dict[str, int] = {}
    monkeypatch.setattr(process, "stats", lambda: held)
    monkeypatch.setattr(reporter, "_PAUSE_S", 0.01)
    monkeypatch.setattr(reporter, "_LOOK_S", 0.01)
    return held


def published(name: str) -> PublishRecord:
    return PublishRecord(name, started=1.0, ended=1.5)


@pytest.mark.usefixtures("holds")
def test_hands_on_what_came_in_a_pause(start: Callable[..., Reporter]) -> None:
    sink = Collected()
    own = start(sink)
    for count in (1, 2):
        own.put(published("an object"))
        actors.eventually(lambda count=count: len(sink.calls) == count)


def test_hands_on_what_is_left_at_the_end(start: Callable[..., Reporter], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a pause."""
    monkeypatch.setattr(reporter, "_PAUSE_S", 3600.0)
    sink, records = Collected(), [published("first"), published("second")]
    own = start(sink)
    for record in records:
        own.put(record)
    own.end()
    assert [record for call in sink.calls for record in call] == records
    assert sink.closed


def eventually_sleeps(own: Reporter) -> None:
    """Its thread is not scheduled once in so many of its pauses and looks."""
    status = Path(f"/proc/self/task/{own._thread.native_id}/status")

    def wake_ups() -> list[str]:
        return [line for line in status.read_text().splitlines() if "ctxt_switches" in line]

    def sleeps() -> bool:
        before = wake_ups()
        time.sleep(50 * 0.01)
        return wake_ups() == before

    actors.eventually(sleeps)


def test_a_flush_hands_on_at_once_and_ends_nothing(start: Callable[..., Reporter], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a pause, and where there is nothing to hand on."""
    monkeypatch.setattr(reporter, "_PAUSE_S", 3600.0)
    monkeypatch.setattr(reporter, "_LAST_S", 60.0)
    sink, records = Collected(), [published("first"), published("second")]
    own = start(sink)
    for record in records:
        own.put(record)
        own.flush()
        assert sink.calls[-1] == [record]
    own.flush()
    assert own._thread.is_alive()


@pytest.mark.usefixtures("holds")
def test_a_process_that_does_and_holds_nothing_is_not_woken(start: Callable[..., Reporter]) -> None:
    sink = Collected()
    own = start(sink)
    own.put(published("an object"))
    actors.eventually(lambda: sink.calls)
    eventually_sleeps(own)
    assert len(sink.calls) == 1


@pytest.mark.parametrize("what", ["objects", "sessions"])
def test_a_source_that_is_only_read_looks_at_its_counters(start: Callable[..., Reporter], holds: dict[str, int], what: str) -> None:
    """For as long as it has objects or consumers."""
    sink = Collected()
    holds[what] = 1
    own = start(sink)
    own.put(published("an object"))
    actors.eventually(lambda: len(sink.calls) > 3)
    assert sink.calls[1:4] == [[], [], []]
    holds[what] = 0
    eventually_sleeps(own)


def test_what_takes_nothing_is_not_looked_at(start: Callable[..., Reporter], holds: dict[str, int]) -> None:
    holds["objects"] = 1
    own = start(Broken())
    own.put(published("an object"))
    actors.eventually(lambda: not own._sinks)
    eventually_sleeps(own)


def test_what_cannot_take_records_is_dropped_with_one_line(start: Callable[..., Reporter], caplog: pytest.LogCaptureFixture) -> None:
    sink = Collected()
    own = start(Broken(), sink)
    own.put(published("first"))
    actors.eventually(lambda: sink.calls)
    own.put(published("second"))
    own.end()
    assert sum(map(len, sink.calls)) == 2
    assert caplog.messages == ["no more broken of this process, transfers go on: OSError('the disk is full')"]


@pytest.mark.usefixtures("cluster")
def test_metrics_that_ray_refuses_fail_nothing(
    start: Callable[..., Reporter], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ValueError("no metrics today")

    monkeypatch.setattr(ray.util.metrics, "Histogram", refuse)
    sink = Collected()
    own = start(Metrics(), sink)
    for name in ("first", "second"):
        own.put(published(name))
    own.end()
    assert sum(map(len, sink.calls)) == 2
    assert caplog.messages == ["no more metrics of this process, transfers go on: ValueError('no metrics today')"]


@pytest.mark.usefixtures("holds")
def test_what_ray_raises_does_not_end_the_thread(start: Callable[..., Reporter], monkeypatch: pytest.MonkeyPatch) -> None:
    """As while another thread shuts Ray down. The actor's name is asked for again."""
    names = iter([RuntimeError("core worker is gone"), "by its name"])

    def name() -> str:
        answer = next(names)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(compat, "actor_name", name)
    sink = Collected()
    own = start(sink)
    for count in (1, 2):
        own.put(published("an object"))
        actors.eventually(lambda count=count: len(sink.calls) == count)
    assert sink.actors == ["", "by its name"]


def test_more_than_the_thread_hands_on_is_dropped_counted_and_told(
    start: Callable[..., Reporter], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each time, while it is in the middle of something."""
    monkeypatch.setattr(reporter, "_MOST", 3)
    monkeypatch.setattr(reporter, "_PAUSE_S", 0.0)
    sink = Stopped()
    own = start(sink)
    own.put(published("first"))
    assert sink.stopped.wait(60.0)
    for number in range(5):
        own.put(published(f"object {number}"))
    sink.go_on.set()
    actors.eventually(lambda: caplog.messages)
    own.put(published("last"))
    own.end()
    names = [record.object_id for call in sink.calls for record in call]
    assert names == ["first", "object 0", "object 1", "object 2", "last"]
    assert caplog.messages == ["metrics and trace lack 2 fetches and publishes of this process: more than 3 waited for their thread"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nothing_waits_for_a_thread_that_has_ended(start: Callable[..., Reporter]) -> None:
    class Ending(Collected):
        def take(self, records: Sequence[Record], actor: str) -> None:
            own.put(published("meanwhile"))
            raise SystemExit

    own = start(Ending())
    own.put(published("first"))
    own.end()
    assert not own._thread.is_alive()
    own.put(published("second"))
    assert own._records.empty()


@pytest.mark.usefixtures("none_yet")
def test_no_thread_fails_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for name in ("first", "second"):
            reporter.report(published(name))
    assert caplog.messages == ["no metrics of this process: can't start new thread"]


def test_a_forked_child_reports_nothing() -> None:
    """Not what its parent did, nor what it does itself, which would pile up: the thread is the parent's."""
    program = """
import os
from ray_hixl.ray import compat, reporter
from ray_hixl.ray.records import PublishRecord
taken = []
class Sink:
    def take(self, records, actor): taken.extend(records); os.write(1, b'%d ' % len(records))
    def close(self): os.write(1, b'closed ')
reporter._PAUSE_S = 3600.0
reporter._reporter = reporter.Reporter([Sink()])
reporter.report(PublishRecord('of the parent'))
reporter.report(PublishRecord('still in the queue'))
if os.fork() == 0:
    reporter.report(PublishRecord('of the child'))
    os._exit(0 if reporter._reporter is None and len(os.listdir('/proc/self/task')) == 1 else 1)
print('child', os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
reporter._end()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert ended.stdout.split() == ["child", "0", "2", "closed"], ended.stderr


def test_a_transfer_pays_a_microsecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of CPU time, in the thread that fetches; the best of 20."""
    with ray_hixl.Engine() as owner, ray_hixl.Engine() as reader:
        metadata = owner.publish([np.ones(1000)])
        fetch = reader.fetch(metadata)
        fetch.result()
        monkeypatch.setattr(reporter, "_reporter", Reporter([Collected()]))
        communicator = TransferMetadata()

        def cost() -> float:
            begin = time.thread_time()
            for _ in range(1000):
                record = FetchRecord("an object", metadata, communicator)
                record.arrive()
                record.end(fetch)
                reporter.report(record)
            return (time.thread_time() - begin) / 1000

        best = min(cost() for _ in range(20))
        assert reporter._reporter is not None
        reporter._reporter.end()
    print(f"{best * 1e6:.2f} us a fetch")
    assert best < scaled(1e-6)


def test_a_fetch_that_succeeds_is_a_line_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    with ray_hixl.Engine() as owner, ray_hixl.Engine() as reader:
        metadata = owner.publish([np.ones(1000)])
        fetch = reader.fetch(metadata)
        fetch.result()
        record = FetchRecord("an object", metadata, TransferMetadata())
        record.end(fetch)
        assert caplog.messages == []
        with caplog.at_level(logging.DEBUG, "ray_hixl"):
            record.end(fetch)
    (line,) = caplog.messages
    assert line.startswith("object an object came from the engine of process ")
    assert line.endswith("8000 bytes by local")
