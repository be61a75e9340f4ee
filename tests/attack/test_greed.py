"""Readers that have the key and are greedy: what they ask for costs the owner no more than its bounds, and others are served meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from attacked import Attacked

import wire
from support import eventually
from wire import Handle, Type, frames

MIB = 1 << 20


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
