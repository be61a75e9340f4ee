"""Readers that have the key and are greedy: what they ask for costs the owner no more than its bounds, and others are served meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import pytest
from attacked import Attacked

import wire
from support import eventually
from wire import Frame, Handle, HungUp, Type, frames

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


def test_slow_takers(new_victim: Callable[..., Attacked], over_unix: bool) -> None:
    """Two hundred that ask for 16 MiB each and take nothing: they cost their sockets, and no thread."""
    victim = new_victim()
    victim.owner.run("large = engine.register(bytearray(16 << 20))")
    large = wire.RegionDescriptor.unpack(victim.owner.get("large.descriptor")).handle
    with victim.unharmed(rss_mib=96, descriptors=280), contextlib.ExitStack() as held:
        for _ in range(200):
            data = held.enter_context(victim.data(over_unix))
            data.send(frames.read(1, [(large, 0, 16 * MIB)]))
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
