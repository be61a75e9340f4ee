"""Which transport a read takes, and what is said of those it does not take."""

from __future__ import annotations

import re
from typing import Any

import pytest

import ray_hixl
from ray_hixl import NotAvailable, Options, _core
from support import Owner

FORBIDDEN = "Options.transports does not allow it; add it there to use it"
ORDINARY = "the source is ordinary memory"
OTHER = "the peer is another process"


@pytest.fixture(scope="module")
def descriptors(owner: Owner) -> tuple[bytes, bytes]:
    """Regions of the owner: ordinary memory, and of the source arena."""
    owner.run("ordinary = engine.register(bytearray(64)); arena = engine.empty(64).region")
    found: tuple[bytes, bytes] = owner.get("(ordinary.descriptor, arena.descriptor)")
    return found


@pytest.mark.parametrize(
    ("transports", "ordinary", "arena"),
    [
        (None, "cma", "shm"),
        (("local", "shm", "cma", "stream", "hixl"), "cma", "shm"),
        (("hixl", "local", "shm", "cma", "stream"), "cma", "shm"),
        (("stream", "cma", "shm"), "stream", "stream"),
        (("cma", "shm", "stream"), "cma", "cma"),
        (("shm", "stream"), "stream", "shm"),
        (("shm",), None, "shm"),
        (("cma",), "cma", "cma"),
        (("stream",), "stream", "stream"),
    ],
)
def test_choice_follows_the_options(
    owner: Owner, descriptors: tuple[bytes, bytes], transports: Any, ordinary: str | None, arena: str | None
) -> None:
    with ray_hixl.Engine(Options(transports=transports)) as engine:
        peer = engine.connect(owner.descriptor)
        regions = [peer.region(descriptor) for descriptor in descriptors]
        paths = [peer.path(), peer.path("host", "host"), *(peer.path("host", region) for region in regions)]
        assert [path.transport for path in paths] == [ordinary, ordinary, ordinary, arena]
        allowed = engine.options.transports
        for path in paths:
            forbidden = {name for name, reason in path.refused.items() if reason == FORBIDDEN}
            assert forbidden == {"local", "shm", "cma", "stream", "hixl", "staged"} - set(allowed)
            tried = allowed[: allowed.index(path.transport)] if path.transport else allowed
            assert set(path.refused) == forbidden | set(tried)
        if "local" in allowed:
            assert paths[0].refused["local"].startswith(OTHER)
        if ordinary is None:
            assert paths[0].refused["shm"].startswith(ORDINARY)
        for region, expected in zip(regions, (ordinary, arena), strict=True):
            with engine.register(bytearray(64)) as local:
                if expected is None:
                    with pytest.raises(NotAvailable, match=r"no transport can read .*shm: the source is ordinary memory"):
                        peer.read([(local, 0, region, 0, 64)])
                else:
                    transfer = peer.read_async([(local, 0, region, 0, 64)])
                    assert transfer.wait()
                    assert transfer.bytes_by_transport() == {expected: 64}


def test_no_transport_at_all(owner: Owner) -> None:
    with ray_hixl.Engine(Options(transports=("local",))) as engine:
        path = engine.connect(owner.descriptor).path()
        assert path.transport is None
        assert path.refused["local"] == OTHER
        assert repr(path) == "<path by nothing>"


def test_as_if_on_another_host(engine: ray_hixl.Engine, owner: Owner) -> None:
    path = engine.connect(_core.tcp_only(owner.descriptor)).path()
    assert path.transport == "stream"
    assert set(path.refused) == {"local", "shm", "cma"}
    assert all("names no Unix socket" in reason for reason in path.refused.values())


def test_owner_in_this_process(engine: ray_hixl.Engine) -> None:
    with ray_hixl.Engine() as other:
        path = other.connect(engine.descriptor).path()
        assert (path.transport, path.refused) == ("local", {})


@pytest.mark.parametrize("kinds", [("device", "host"), ("host", "device")])
def test_memory_of_two_kinds(peer: ray_hixl.Peer, kinds: tuple[str, str]) -> None:
    path = peer.path(*kinds)
    assert path.transport == "staged"
    assert path.refused.pop("hixl") == "it moves between device memory and host memory that is pinned; staged moves any"


def test_device_memory_where_there_is_none(peer: ray_hixl.Peer) -> None:
    path = peer.path("device", "device")
    assert path.transport is None
    refused = path.refused
    assert refused.pop("local") == OTHER
    for name in ("hixl", "staged"):
        assert re.fullmatch(r"cannot load libacl_rt\.so .* source CANN's set_env\.sh.*", refused.pop(name))
    assert refused == dict.fromkeys(("shm", "cma", "stream"), "it moves host memory; hixl and staged move device memory")


@pytest.mark.parametrize("kinds", [("gpu", "host"), ("host", "gpu"), ("", "host"), ("host", "npu:0")])
def test_unknown_kind(peer: ray_hixl.Peer, kinds: tuple[str, str]) -> None:
    with pytest.raises(ray_hixl.InvalidArgument, match=r"memory is 'host' \(the CPU's\), 'device' \(an NPU's\) or 'pinned', not '"):
        peer.path(*kinds)


def test_what_is_no_kind(peer: ray_hixl.Peer, owner: Owner) -> None:
    descriptor = owner.get("engine.register(bytearray(4)).descriptor")
    with pytest.raises(TypeError, match=r"^local takes a kind of memory, 'host', 'device' or 'pinned'; this is 5$"):
        peer.path(5)  # type: ignore[arg-type]
    for remote, said in ((descriptor, "of type bytes"), (None, "of type NoneType"), (3, "3")):
        with pytest.raises(
            TypeError, match=rf"^remote takes a kind .*, or a region of the peer: peer.region\(descriptor\); this is {said}$"
        ):
            peer.path("host", remote)  # type: ignore[arg-type]


def test_stale_region(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner) -> None:
    owner.run("brief = engine.register(bytearray(4)); descriptor = brief.descriptor; brief.close()")
    with pytest.raises(ray_hixl.InvalidRegion):
        peer.path("host", peer.region(owner.get("descriptor")))
