"""Transfers under way: waiting, cancelling, deadlines, Ctrl-C, and other threads meanwhile. The owner stands still to hold them up."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import ray_hixl
from support import Owner, eventually, pattern
from yardstick import scaled

DATA = pattern(1000)


class Slow:
    """A read by stream from an owner that can be stopped."""

    def __init__(self, engine: ray_hixl.Engine, owner: Owner) -> None:
        owner.run("region = engine.register(given)", given=DATA)
        self.engine, self.owner = engine, owner
        self.peer = engine.connect(owner.descriptor)
        self.into = bytearray(len(DATA))
        self.local = engine.register(self.into)
        self.batch = self.peer.prepare([(self.local, 0, self.peer.region(owner.get("region.descriptor")), 0, len(DATA))])

    def start(self, timeout: float | None = None) -> ray_hixl.Transfer:
        return self.peer.read_async(self.batch, timeout)


@pytest.fixture
def slow(owner: Owner) -> Iterator[Slow]:
    with ray_hixl.Engine(ray_hixl.Options(transports=("stream",))) as engine:
        yield Slow(engine, owner)


def test_wait_and_done(slow: Slow) -> None:
    with slow.owner.stopped():
        transfer = slow.start()
        assert transfer.wait(timeout=0) is False
        assert transfer.wait(0.05) is False
        assert transfer.done is False
        assert transfer.bytes_by_transport() == {}
        assert slow.into == bytes(len(DATA))
    assert transfer.wait() is True
    assert transfer.done is True
    assert transfer.wait(0) is True
    assert slow.into == DATA
    assert transfer.bytes_by_transport() == {"stream": len(DATA)}


def test_many_at_once_end_once_each(slow: Slow) -> None:
    with slow.owner.stopped():
        transfers = [slow.start() for _ in range(50)]
        assert not any(transfer.done for transfer in transfers)
    assert all(transfer.wait(5.0) for transfer in transfers)
    assert sum(transfer.bytes_by_transport()["stream"] for transfer in transfers) == 50 * len(DATA)


@pytest.mark.parametrize("transport", ["shm", "cma", "stream"])
def test_a_million_ops_are_one_batch_and_others_go_on(new_owner: Callable[..., Owner], transport: str) -> None:
    ops, step, length = 1_000_000, 64, 24
    owner = new_owner(prepare="import numpy")
    memory = "engine.empty(size)" if transport == "shm" else "bytearray(size)"
    owner.run(
        f"memory = {memory}; numpy.frombuffer(memory, numpy.int64)[:] = numpy.arange(size // 8); region = engine.register(memory)",
        size=ops * step,
    )
    with ray_hixl.Engine(ray_hixl.Options(transports=(transport,))) as engine:
        peer = engine.connect(owner.descriptor)
        remote = peer.region(owner.get("region.descriptor"))
        into = np.zeros(ops * length, np.uint8)
        local, beside = engine.register(into), engine.register(bytearray(step))
        zeros, numbers = np.zeros(ops, np.int64), np.arange(ops, dtype=np.int64)
        batch = peer.prepare([local], zeros, numbers * length, [remote], zeros, numbers[::-1] * step, zeros + length)
        small = peer.prepare([(beside, 0, remote, 0, step)])
        for _ in range(2):  # the second time it is known
            into[:] = 0xFF
            transfer = peer.read_async(batch)
            peer.read(small)
            assert transfer.wait() is True
            read = into.view(np.int64).reshape(ops, length // 8)
            first = numbers[::-1] * (step // 8)
            for column in range(length // 8):
                assert np.array_equal(read[:, column], first + column)
        assert transfer.bytes_by_transport() == {transport: ops * length}


def test_cancel(slow: Slow) -> None:
    with slow.owner.stopped():
        transfer = slow.start()
        transfer.cancel()
        for _ in range(2):
            with pytest.raises(ray_hixl.Cancelled, match="cancelled by its caller") as caught:
                transfer.wait(5.0)
            assert type(caught.value) is ray_hixl.Cancelled
        assert transfer.done
        transfer.cancel()
    slow.start().wait()  # the link is as good as before
    assert slow.into == DATA


def test_cancel_after_the_end_changes_nothing(slow: Slow) -> None:
    transfer = slow.start()
    assert transfer.wait()
    transfer.cancel()
    assert transfer.wait() is True


def test_deadline_belongs_to_the_transfer(slow: Slow) -> None:
    with slow.owner.stopped():
        begin = time.monotonic()
        transfer = slow.start(timeout=0.3)
        assert transfer.wait(0.1) is False
        with pytest.raises(ray_hixl.TransferTimeout, match=f"process {slow.owner.pid} ") as caught:
            transfer.wait(30)
        assert 0.25 < time.monotonic() - begin < scaled(1.5)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(ray_hixl.TransferTimeout):
            slow.peer.read(slow.batch, timeout=0)


def test_no_time_at_all(slow: Slow) -> None:
    """Says nothing of the peer, which is well."""
    metadata = slow.owner.get("engine.publish([bytearray(3)])")
    for call in (lambda: slow.peer.read(slow.batch, timeout=0), lambda: slow.engine.fetch(metadata, timeout=0).result()):
        with pytest.raises(
            ray_hixl.TransferTimeout,
            match=rf"the timeout left no time to read from the engine of process {slow.owner.pid} at .*, which was not asked for anything$",
        ):
            call()
    slow.peer.read([], timeout=0)


def test_deadline_of_the_options(owner: Owner) -> None:
    with ray_hixl.Engine(ray_hixl.Options(transports=("stream",), transfer_timeout_s=0.2)) as engine:
        slow = Slow(engine, owner)
        with owner.stopped(), pytest.raises(ray_hixl.TransferTimeout):
            slow.peer.read(slow.batch)
        metadata = owner.get("engine.publish([given])", given=DATA)
        with owner.stopped(), pytest.raises(ray_hixl.TransferTimeout):
            engine.fetch(metadata).result()


def test_result_of_a_fetch_that_is_not_done(slow: Slow) -> None:
    metadata = slow.owner.get("engine.publish([given])", given=DATA)
    with ray_hixl.Engine(ray_hixl.Options(transports=("stream",))) as engine:
        engine.connect(slow.owner.descriptor)
        with slow.owner.stopped():
            fetch = engine.fetch(metadata)
            with pytest.raises(TimeoutError, match=r"not done after 0\.05 s; it goes on") as caught:
                fetch.result(timeout=0.05)
            assert not isinstance(caught.value, ray_hixl.HixlError)
        assert bytes(np.asarray(fetch.result()[0])) == DATA
        assert fetch.result() is fetch.result()


@pytest.mark.parametrize("close", [lambda slow: slow.peer.close(), lambda slow: slow.peer._core.close()])
def test_closing_the_peer_ends_its_transfers(slow: Slow, close: Callable[[Slow], None]) -> None:
    with slow.owner.stopped():
        transfer = slow.start()
        close(slow)
        with pytest.raises(ray_hixl.Closed, match="peer was closed"):
            transfer.wait(5.0)


def test_closing_the_engine_ends_its_transfers(owner: Owner) -> None:
    engine = ray_hixl.Engine(ray_hixl.Options(transports=("stream",)))
    slow = Slow(engine, owner)
    with owner.stopped():
        transfer = slow.start()
        engine.close()
        with pytest.raises(ray_hixl.Closed):
            transfer.wait(5.0)


def test_an_engine_that_nobody_keeps_ends_no_transfer(owner: Owner) -> None:
    """Nor does such a peer. Once the end was waited for they are closed, as ever when they are dropped."""
    made = ray_hixl.Engine(ray_hixl.Options(transports=("stream",)))
    slow, metadata = Slow(made, owner), owner.get("engine.publish([given])", given=DATA)
    with owner.stopped():
        transfers = [slow.start(), made.fetch(metadata)]
        del made, slow.peer, slow.engine, slow.batch, slow.local
        gc.collect()
        assert [transfer.done for transfer in transfers] == [False, False]
    assert all(transfer.wait() for transfer in transfers)
    assert slow.into == DATA
    eventually(lambda: owner.get("engine.stats()['sessions']") == 0)
    assert ray_hixl.Engine().connect(owner.descriptor).path().transport == "cma"


def test_dropping_the_handle_does_not_cancel(slow: Slow) -> None:
    with slow.owner.stopped():
        slow.start()
    slow.start().wait()
    assert slow.into == DATA


def test_another_thread_may_wait_and_cancel(slow: Slow) -> None:
    seen: list[BaseException] = []

    def wait(transfer: ray_hixl.Transfer) -> None:
        try:
            transfer.wait()
        except ray_hixl.HixlError as error:
            seen.append(error)

    with slow.owner.stopped():
        transfer = slow.start()
        threads = [threading.Thread(target=wait, args=(transfer,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        transfer.cancel()
        for thread in threads:
            thread.join(5.0)
    assert [type(error) for error in seen] == [ray_hixl.Cancelled] * 4


@pytest.mark.parametrize("call", ["wait", "result", "connect", "path", "path after a pause"])
def test_other_threads_run_meanwhile(slow: Slow, call: str) -> None:
    """A thread counts while this one is inside of the call: it could not if the call kept the GIL, however long that takes."""
    assert any(_counted_meanwhile(slow, call, seconds) > 50 for seconds in (0.3, 3.0, 20.0))


def _counted_meanwhile(slow: Slow, call: str, seconds: float) -> int:
    metadata = slow.owner.get("engine.publish([given])", given=DATA)
    idle = 0.1 if call == "path after a pause" else 300
    options = ray_hixl.Options(transports=("shm", "cma", "stream"), connect_timeout_s=seconds, idle_timeout_s=idle)
    with ray_hixl.Engine(options) as engine:
        if "path" in call:
            peer = engine.connect(slow.owner.descriptor)
            remote = peer.region(slow.owner.get("region.descriptor"))
        if call == "path after a pause":
            eventually(lambda: engine.stats()["links"] == 0)
        calls: dict[str, Callable[[], Any]] = {
            "wait": lambda: slow.start(timeout=seconds).wait(),
            "result": lambda: engine.fetch(metadata, timeout=seconds).result(),
            "connect": lambda: engine.connect(slow.owner.descriptor, timeout=seconds),
            "path": lambda: peer.path("host", remote),
            "path after a pause": lambda: peer.path("host", "host"),
        }
        counted = 0
        stop = threading.Event()

        def count() -> None:
            nonlocal counted
            while not stop.wait(0.001):
                counted += 1

        thread = threading.Thread(target=count)
        with slow.owner.stopped():
            thread.start()
            with pytest.raises((ray_hixl.TransferTimeout, ray_hixl.ConnectError)):
                calls[call]()
            stop.set()
        thread.join()
    return counted


@pytest.mark.parametrize("waiting", ["peer.read(batch)", "peer.read_async(batch).wait()", "engine.fetch(metadata).result()"])
def test_ctrl_c_ends_the_wait(owner: Owner, new_owner: Callable[..., Owner], waiting: str) -> None:
    reader = new_owner(options={"transports": ("stream",)})
    owner.run("region = engine.register(given); metadata = engine.publish([given])", given=DATA)
    descriptor, region, metadata = owner.get("(engine.descriptor, region.descriptor, metadata)")
    reader.run(
        "import os, signal, threading, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells ignore it in what they start in the background
        "def interrupt_soon():\n    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "peer = engine.connect(descriptor); local = engine.register(bytearray(4))\n"
        "batch = peer.prepare([(local, 0, peer.region(region), 0, 4)])",
        descriptor=descriptor,
        region=region,
        metadata=metadata,
    )
    with owner.stopped():
        reader.run(
            "begin = time.monotonic()\n"
            f"try:\n    interrupt_soon()\n    {waiting}\n    ended = 'without'\n"
            "except KeyboardInterrupt:\n    ended = 'by Ctrl-C'\n"
            "took = time.monotonic() - begin"
        )
        ended, took = reader.get("(ended, took)")
    assert ended == "by Ctrl-C"
    assert took < scaled(1.0)
