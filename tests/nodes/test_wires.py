"""Engines on two hosts: what becomes of them where the wire, a firewall or the other process fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import ray_hixl
from hosts import FarOwner, Host
from middle import LONG, in_the_middle
from ray_hixl import ConnectError, HixlError, PeerGone, TransferTimeout
from support import eventually, pattern
from yardstick import scaled

STALL_S = 3.0
PATIENT_S = 30.0


@contextmanager
def reader(host: Host, stall_timeout_s: float = PATIENT_S) -> Iterator[ray_hixl.Engine]:
    with ray_hixl.Engine(ray_hixl.Options(host=host.cables[0].here, stall_timeout_s=stall_timeout_s)) as made:
        yield made


def ends(transfer: ray_hixl.Transfer, within: float) -> HixlError:
    with pytest.raises(HixlError) as caught:
        assert transfer.wait(scaled(within)), "it did not end in time"
    return caught.value


@contextmanager
def being_read(engine: ray_hixl.Engine, owner: FarOwner, timeout: float = 60) -> Iterator[ray_hixl.Fetch]:
    """A fetch in its middle."""
    metadata = owner.get("engine.publish([bytearray(size)])", size=LONG)

    def arrived() -> int:
        found: int = engine.stats()["fetched"].get("stream", 0)
        return found

    with in_the_middle(owner.at, owner.at.cables[0], lambda: engine.fetch(metadata, timeout=timeout), arrived) as fetch:
        yield fetch


def reads(engine: ray_hixl.Engine, owner: FarOwner) -> None:
    fetch = engine.fetch(owner.get("engine.publish([given])", given=pattern(5000)))
    assert np.asarray(fetch.result()[0]).tobytes() == pattern(5000)
    assert fetch.bytes_by_transport() == {"stream": 5000}


def test_cut_in_the_middle(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    owner = new_owner(host)
    with reader(host, STALL_S) as engine:
        with being_read(engine, owner) as fetch, host.cut(host.cables[0]):
            assert type(ends(fetch, 4 * STALL_S)) is PeerGone
            eventually(lambda: engine.stats()["links"] == 0)
        reads(engine, owner)


def test_cut_that_outlasts_the_deadline(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    owner = new_owner(host)
    with reader(host) as engine, being_read(engine, owner, timeout=4) as fetch, host.cut(host.cables[0]):
        assert type(ends(fetch, 6)) is TransferTimeout


def test_cut_that_is_mended_in_time_is_not_seen(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    owner = new_owner(host)
    with reader(host) as engine:
        with being_read(engine, owner) as fetch, host.cut(host.cables[0]):
            assert not fetch.done
        assert fetch.wait()


def test_killed_while_it_is_read(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    owner = new_owner(host)
    with reader(host) as engine, being_read(engine, owner) as fetch:
        owner.kill()
        error = ends(fetch, 2)
    assert type(error) is PeerGone
    assert f"process {owner.pid} " in str(error)


def test_killed_before_it_was_known(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    owner = new_owner(host)
    owner.kill()
    with reader(host) as engine, pytest.raises(ConnectError, match=rf"process {owner.pid} at .* process (has )?ended") as caught:
        engine.connect(owner.descriptor)
    assert type(caught.value) is ConnectError


def test_another_engine_has_taken_its_port(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    host.set("ipv4/ip_local_port_range", "40000 40000")
    first = new_owner(host)
    first.kill()
    second = new_owner(host)
    with reader(host) as engine:
        with pytest.raises((ConnectError, PeerGone), match=rf"process {first.pid} at .*:40000"):
            engine.connect(first.descriptor)
        reads(engine, second)


def test_firewall_that_rejects(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    second = host.plug()
    owner = new_owner(host, host=second.there)
    host.reject(second.there)
    begin = time.monotonic()
    with reader(host) as engine, pytest.raises(ConnectError, match=rf"process {owner.pid} at {second.there}:\d+: it cannot be reached: "):
        engine.connect(owner.descriptor, timeout=30)
    assert time.monotonic() - begin < scaled(10)


def test_firewall_that_swallows(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    owner = new_owner(host)
    not_reached = pytest.raises(ConnectError, match=f"process {owner.pid} at .* in time: it was not reached")
    with reader(host) as engine, host.cut(host.cables[0]), not_reached:
        engine.connect(owner.descriptor, timeout=0.3)
