"""Readers that have the key and are greedy: what they ask for costs the owner no more than its bounds, and others are served meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import pytest
from attacked import Attacked, look_at

import wire
from support import eventually
from wire import Frame, Handle, HungUp, Purpose, Transport, Type, frames

MIB = 1 << 20


def flood(connection: wire.Connection, data: bytes) -> threading.Thread:
    """Sends it all from a thread, and reads no answer."""

    def run() -> None:
        with contextlib.suppress(HungUp, OSError):
            connection.send(data)

    made = threading.Thread(target=run, daemon=True)
    made.start()
    return made


def drain(connection: wire.Connection) -> threading.Thread:
    def run() -> None:
        with contextlib.suppress(HungUp, OSError, TimeoutError):
            while connection.socket.recv(1 << 20):
                pass

    made = threading.Thread(target=run, daemon=True)
    made.start()
    return made


@pytest.mark.parametrize("reads_answers", [True, False])
def test_a_flood_of_requests(victim: Attacked, over_unix: bool, reads_answers: bool) -> None:
    checks = b"".join(frames.check(n, [victim.region.handle] * 100).pack() for n in range(1, 2000))
    strange = b"".join(Frame(999, n, bytes(100)).pack() for n in range(1, 20_000))
    with victim.unharmed(rss_mib=96), victim.session(over_unix) as session:
        threads = [flood(session, checks + strange)]
        if reads_answers:
            threads.append(drain(session))
        threads[0].join(1.0)


@pytest.mark.parametrize("reads_answers", [True, False])
def test_a_flood_of_small_reads(victim: Attacked, over_unix: bool, reads_answers: bool) -> None:
    """Behind one long request, so that parsing what is behind it must not move it each time."""
    long = frames.read(1, [(Handle(999, 1, 1), 0, 1)] * 300_000).pack()
    short = frames.read(2, [(victim.region.handle, 0, 16)]).pack() * 100_000
    with victim.unharmed(rss_mib=96), victim.data(over_unix) as data:
        threads = [flood(data, long + short)]
        if reads_answers:
            threads.append(drain(data))
        threads[0].join(1.0)


def test_pipelined_resolves_of_a_large_object(new_victim: Callable[..., Attacked]) -> None:
    """Each answer is a thousand times its request; who takes none of them does not make the owner keep them."""
    victim = new_victim()
    victim.owner.run("object_ = engine.publish([bytes(8)] * 50_000)")
    handle = Handle.of_object(victim.owner.get("object_"))
    requests = b"".join(frames.resolve(n, handle).pack() for n in range(1, 2000))
    with victim.unharmed(rss_mib=96), victim.session(over_unix=True) as session:
        flood(session, requests).join(1.5)


def test_slow_takers(new_victim: Callable[..., Attacked], over_unix: bool) -> None:
    """A hundred that ask for 4 MiB each and take nothing: they cost their sockets, and no thread."""
    victim = new_victim()
    victim.owner.run("large = engine.register(bytearray(4 << 20))")
    large = wire.RegionDescriptor.unpack(victim.owner.get("large.descriptor")).handle
    with victim.unharmed(rss_mib=96, descriptors=180), contextlib.ExitStack() as held:
        for _ in range(100):
            data = held.enter_context(victim.data(over_unix))
            data.send(frames.read(1, [(large, 0, 4 * MIB)]))
        victim.owner.run("large.close()")


def test_slow_takers_hold_no_freed_object(new_victim: Callable[..., Attacked], over_unix: bool) -> None:
    """What was released goes, whoever has begun to read it and takes no more."""
    victim = new_victim(options={"stall_timeout_s": 1.0})
    victim.owner.run("import numpy, weakref; memory = numpy.ones(16 << 20, 'uint8'); gone = weakref.ref(memory)")
    victim.owner.run("metadata = engine.publish([memory]); del memory")
    handle = Handle.of_object(victim.owner.get("metadata"))
    with contextlib.ExitStack() as held:
        for _ in range(4):
            data = held.enter_context(victim.data(over_unix))
            data.send(frames.read(1, [(handle, 0, 16 * MIB)]))
            assert data.frame().type == Type.READING
        victim.owner.run("engine.release(metadata)")
        eventually(lambda: victim.owner.get("gone() is None"), 10)


def test_more_connections_than_the_engine_may_have(new_victim: Callable[..., Attacked], over_unix: bool) -> None:
    """Of one reader with the key. It can keep others out for as long as it is there, but not take what the process itself needs."""
    victim = new_victim(most_descriptors=256)
    before = look_at(victim.pid)
    with contextlib.ExitStack() as held:
        for _ in range(400):
            with contextlib.suppress(HungUp, OSError):
                connection = held.enter_context(victim.connect(over_unix))
                connection.socket.settimeout(0.2)
                wire.authenticate(connection, victim.descriptor, victim.hello(Purpose.DATA, Transport.STREAM))
        assert victim.owner.get("open('/dev/null').close()") is None
    with victim.unharmed():
        eventually(lambda: look_at(victim.pid).descriptors <= before.descriptors + 16, 10)
