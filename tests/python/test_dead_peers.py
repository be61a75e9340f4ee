"""Owners that die or stand still: every call ends, soon, and says who is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ray_hixl
from ray_hixl import ConnectError, HixlError, PeerGone, TransferTimeout
from support import Owner, eventually, pattern
from yardstick import scaled

SOON_S = 2.0
TRANSPORTS = [("shm", "stream"), ("cma",), ("stream",)]


class Reader:
    """An engine that is connected to an owner, and has read there once."""

    def __init__(self, owner: Owner, **options: Any) -> None:
        owner.run(
            "region = engine.register(given); arena = engine.empty(1000).region; metadata = engine.publish([given])", given=pattern(1000)
        )
        self.metadata, region, arena = owner.get("(metadata, region.descriptor, arena.descriptor)")
        self.engine = ray_hixl.Engine(ray_hixl.Options(**options))
        self.peer = self.engine.connect(owner.descriptor)
        self.into = self.engine.register(bytearray(1000))
        remotes = [self.peer.region(descriptor) for descriptor in (region, arena)]
        self.batch = self.peer.prepare([(self.into, 0, remote, 0, 500) for remote in remotes])
        self.peer.read(self.batch)


def ends(expected: type[HixlError] | tuple[type[HixlError], ...], within: float, call: Callable[[], Any]) -> HixlError:
    begin = time.monotonic()
    with pytest.raises(expected) as caught:
        call()
    assert time.monotonic() - begin < scaled(within)
    return caught.value


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_killed_between_reads(new_owner: Callable[..., Owner], transports: tuple[str, ...]) -> None:
    owner = new_owner()
    reader = Reader(owner, transports=transports)
    owner.kill()
    for call in (lambda: reader.peer.read(reader.batch), lambda: reader.peer.read(reader.batch, timeout=10)):
        error = ends(PeerGone, SOON_S, call)
        assert type(error) is PeerGone
        assert f"process {owner.pid} " in str(error)
    ends(PeerGone, SOON_S, lambda: reader.engine.fetch(reader.metadata).result())
    ends(PeerGone, SOON_S, lambda: reader.engine.connect(owner.descriptor))
    eventually(lambda: reader.engine.stats()["links"] == 0)
    reader.engine.close()


def test_killed_while_reading(new_owner: Callable[..., Owner]) -> None:
    owner = new_owner()
    reader = Reader(owner, transports=("stream",))
    with owner.stopped():
        transfers: list[ray_hixl.Transfer] = [reader.peer.read_async(reader.batch), reader.engine.fetch(reader.metadata)]
        assert not any(transfer.done for transfer in transfers)
        owner.kill()
    for transfer in transfers:
        error = ends(PeerGone, SOON_S, transfer.wait)
        assert f"process {owner.pid} " in str(error)
    assert reader.engine.stats()["links_lost"] == 1
    reader.engine.close()


def test_killed_while_others_are_read(owner: Owner, new_owner: Callable[..., Owner]) -> None:
    """Only the dead one's transfers fail."""
    victim = new_owner()
    reader = Reader(victim)
    good = owner.get("engine.publish([given])", given=pattern(100_000))
    victim.kill()
    for _ in range(20):
        assert np.asarray(reader.engine.fetch(good).result()[0]).tobytes() == pattern(100_000)
    ends(PeerGone, SOON_S, lambda: reader.peer.read(reader.batch))
    reader.engine.close()


def test_what_was_fetched_outlives_its_owner(new_owner: Callable[..., Owner]) -> None:
    owner = new_owner()
    reader = Reader(owner)
    fetched = reader.engine.fetch(reader.metadata).result()
    owner.kill()
    ends(PeerGone, SOON_S, lambda: reader.peer.read(reader.batch))
    assert np.asarray(fetched[0]).tobytes() == pattern(1000)
    reader.engine.close()


def test_stopped_ends_by_the_stall_timeout(owner: Owner) -> None:
    reader = Reader(owner, transports=("stream",), stall_timeout_s=0.3)
    with owner.stopped():
        error = ends(PeerGone, SOON_S, lambda: reader.peer.read(reader.batch, timeout=20))
        assert f"process {owner.pid} " in str(error)
        assert "stall_timeout_s" in str(error)
    reader.engine.close()


def test_stopped_ends_by_the_deadline(owner: Owner) -> None:
    reader = Reader(owner, transports=("stream",))
    with owner.stopped():
        for call in (
            lambda: reader.peer.read(reader.batch, timeout=0.3),
            lambda: reader.engine.fetch(reader.metadata, timeout=0.3).result(),
            lambda: reader.engine.fetch(reader.metadata, targets=[bytearray(1000)], timeout=0.3).result(),
        ):
            error = ends(TransferTimeout, 1.5, call)
            assert f"process {owner.pid} " in str(error)
    reader.peer.read(reader.batch)  # it goes on where it stood
    assert np.asarray(reader.engine.fetch(reader.metadata).result()[0]).tobytes() == pattern(1000)
    reader.engine.close()


def test_stopped_when_somebody_connects(owner: Owner) -> None:
    metadata = owner.get("engine.publish([b'abc'])")
    with owner.stopped(), ray_hixl.Engine() as engine:
        error = ends(ConnectError, 1.5, lambda: engine.connect(owner.descriptor, timeout=0.3))
        assert f"process {owner.pid} " in str(error)
        ends((ConnectError, TransferTimeout), 1.5, lambda: engine.fetch(metadata, timeout=0.3).result())


def test_memory_mapped_or_read_directly_needs_no_owner_that_runs(owner: Owner) -> None:
    """One-sided: addresses that are known here are enough."""
    reader = Reader(owner, transports=("shm", "cma"))
    with owner.stopped():
        for _ in range(3):
            reader.peer.read(reader.batch, timeout=2.0)
    reader.engine.close()


def test_closed_engine_of_the_owner(new_owner: Callable[..., Owner]) -> None:
    owner = new_owner()
    reader = Reader(owner)
    owner.run("engine.close()")
    ends(PeerGone, SOON_S, lambda: reader.peer.read(reader.batch))
    ends(PeerGone, SOON_S, lambda: reader.engine.fetch(reader.metadata).result())
    reader.engine.close()


def test_next_life_of_the_owner(new_owner: Callable[..., Owner]) -> None:
    """A new engine in the same process is another one: nothing of the old one works, and it does."""
    owner = new_owner()
    reader = Reader(owner)
    owner.run("engine.close(); engine = ray_hixl.Engine()")
    ends(PeerGone, SOON_S, lambda: reader.peer.read(reader.batch))
    ends(PeerGone, SOON_S, lambda: reader.engine.connect(owner.descriptor))
    owner.descriptor = owner.get("engine.descriptor")
    again = Reader(owner)
    again.peer.read(again.batch)
    for one in (reader, again):
        one.engine.close()


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_readers_that_die_leave_nothing(owner: Owner, new_owner: Callable[..., Owner], transports: tuple[str, ...]) -> None:
    sessions = owner.get("engine.stats()['sessions']")
    reader = new_owner(options={"transports": transports})
    reader.run(
        "peer = engine.connect(descriptor); fetched = engine.fetch(metadata).result()",
        descriptor=owner.descriptor,
        metadata=owner.get("engine.publish([given])", given=pattern(1000)),
    )
    assert owner.get("engine.stats()['sessions']") == sessions + 1
    reader.kill()
    eventually(lambda: owner.get("engine.stats()['sessions']") == sessions, SOON_S)
