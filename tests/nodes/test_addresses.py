"""Which address an engine listens on and tells to others: the node's, a chosen one, IPv6, one of several interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch

import actors
from hosts import FarOwner, Host
from ray_hixl import ConnectError, Engine, Options, _core
from ray_hixl.process import engine as engine_of_the_process
from support import Owner, pattern


def listens_on(peer: Any) -> str:
    found: str = ray.get(peer.call.remote(lambda: engine_of_the_process().options.host))
    return found


def read_from(owner: Owner, engine: Engine, descriptor: bytes | None = None) -> dict[str, int]:
    """Reads from it, and gives the transport."""
    owner.run("region = engine.register(given)", given=pattern(5000))
    into = bytearray(5000)
    peer = engine.connect(descriptor or owner.descriptor)
    with engine.register(into) as local:
        transfer = peer.read_async([(local, 0, peer.region(owner.get("region.descriptor")), 0, len(into))])
        assert transfer.wait()
    peer.close()
    assert bytes(into) == pattern(5000)
    return transfer.bytes_by_transport()


def test_address_of_the_node(peer_on: Callable[[str], Any], far: Host) -> None:
    assert [listens_on(peer_on(node)) for node in ("here", "beside", "far")] == [far.cables[0].here] * 2 + [far.cables[0].there]


def test_chosen_address_of_an_actor(far: Host, fresh: Callable[..., Any]) -> None:
    """Its node has two interfaces, and Ray uses the other one: cut, what goes by this one goes on."""
    source = fresh(runtime_env={"env_vars": {"RAY_HIXL_HOST": far.cables[1].there}})
    assert listens_on(source) == far.cables[1].there
    reference = source.give.remote(actors.numbers, 1000, 1)
    actors.created(reference)
    with far.cut(far.cables[0]):
        arrived = ray.get(reference)
    assert torch.equal(arrived, actors.numbers(1000, 1))


def test_chosen_address_that_is_not_the_hosts(fresh: Callable[..., Any], far: Host) -> None:
    source = fresh(runtime_env={"env_vars": {"RAY_HIXL_HOST": far.cables[0].here}})
    with pytest.raises(Exception, match=f"cannot bind to {far.cables[0].here}"):
        listens_on(source)


def test_ipv6_between_hosts(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    cable = host.cables[0]
    with Engine(Options(host=cable.here6)) as engine:
        assert read_from(new_owner(host, host=cable.there6), engine) == {"stream": 5000}


def test_ipv6_of_one_host() -> None:
    owner = Owner({"host": "::1"})
    with Engine(Options(host="::1")) as engine:
        assert read_from(owner, engine, _core.tcp_only(owner.descriptor)) == {"stream": 5000}
    owner.close()


def test_reader_and_owner_of_different_families(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    """The reader's own address says where it is read from, not where it reads."""
    cable = host.cables[0]
    with Engine(Options(host=cable.here)) as engine:
        assert read_from(new_owner(host, host=cable.there6), engine) == {"stream": 5000}


def test_each_of_several_interfaces(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    cables = [host.cables[0], host.plug()]
    with Engine() as engine:
        for cable, other in (cables, cables[::-1]):
            owner = new_owner(host, host=cable.there)
            with host.cut(other):
                assert read_from(owner, engine) == {"stream": 5000}
            with host.cut(cable), pytest.raises(ConnectError, match=cable.there), Engine() as another:
                another.connect(owner.descriptor, timeout=0.3)


def test_loopback_is_not_reached_from_another_host(host: Host, new_owner: Callable[..., FarOwner]) -> None:
    owner = new_owner(host, host="127.0.0.1")
    with Engine() as engine, pytest.raises(ConnectError, match=rf"process {owner.pid} at 127\.0\.0\.1:\d+.* process (has )?ended"):
        engine.connect(owner.descriptor)


def test_container_with_a_network_of_its_own(new_host: Callable[..., Host], new_owner: Callable[..., FarOwner]) -> None:
    """On this machine, but its Unix socket is in another network."""
    owner = new_owner(new_host(container=True))
    with Engine() as engine:
        assert read_from(owner, engine) == {"stream": 5000}
        refused = engine.connect(owner.descriptor).path().refused
    assert all("the peer is in another network namespace (another container)" in refused[name] for name in ("shm", "cma")), refused
