"""Descriptors are secrets: what is printed, logged or raised must not hold the keys inside of them."""

from __future__ import annotations

from typing import Any

import pytest

import ray_hixl
from support import Owner

INCARNATION = slice(6, 22)
ENGINE_KEY = slice(22, 54)
REGION_KEY = slice(34, 42)
OBJECT_KEY = slice(18, 26)


def spellings(secret: bytes) -> list[str]:
    """How a secret could look in a text."""
    assert len(set(secret)) > 2
    number, big = int.from_bytes(secret, "little"), int.from_bytes(secret, "big")
    return [secret.hex(), repr(secret)[2:-1], str(number), f"{number:x}", str(big), str(list(secret))[1:-1], secret.decode("latin1")]


def assert_silent(text: str, secrets: list[bytes]) -> None:
    for secret in secrets:
        for spelled in spellings(secret):
            assert spelled not in text


@pytest.fixture
def secrets(owner: Owner) -> list[bytes]:
    owner.run("region = engine.register(bytearray(64)); metadata = engine.publish([b'abc'])")
    descriptor, region, metadata = owner.get("(engine.descriptor, region.descriptor, metadata)")
    assert descriptor[ENGINE_KEY] in metadata
    return [descriptor[ENGINE_KEY], region[REGION_KEY], metadata[OBJECT_KEY]]


def test_repr(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner, secrets: list[bytes]) -> None:
    remote = peer.region(owner.get("region.descriptor"))
    local = engine.register(bytearray(64))
    batch = peer.prepare([(local, 0, remote, 0, 64)])
    transfer = peer.read_async(batch)
    fetch = engine.fetch(owner.get("metadata"))
    buffer = engine.empty(4)
    decoded = ray_hixl._core.Metadata.decode(owner.get("metadata"))
    own = [engine.descriptor[ENGINE_KEY], local.descriptor[REGION_KEY]]
    shown: list[Any] = [engine, engine._core, engine._objects, engine.options, engine.stats(), peer, peer._core, peer.path(), remote, local]
    shown += [
        batch,
        transfer,
        transfer._core,
        fetch,
        fetch._fetch,
        fetch.result(),
        buffer,
        buffer.region,
        decoded,
        decoded.layouts,
        decoded.runs,
    ]
    for one in shown:
        for text in (repr(one), str(one), f"{one}"):
            assert_silent(text, secrets + own)


def test_errors(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner, secrets: list[bytes]) -> None:
    descriptor, region, metadata = owner.get("(engine.descriptor, region.descriptor, metadata)")
    local = engine.register(bytearray(100))
    remote = peer.region(region)
    calls: list[Any] = [
        lambda: peer.read([(local, 0, remote, 60, 10)]),
        lambda: peer.read([(local, 99, remote, 0, 10)]),
        lambda: peer.region(region[:-1]),
        lambda: peer.region(descriptor),
        lambda: engine.connect(region),
        lambda: engine.connect(descriptor[:-1]),
        lambda: ray_hixl.Engine().connect(descriptor[:40] + b"wrong" + descriptor[45:]),
        lambda: engine.fetch(metadata, targets=[bytearray(1)]),
        lambda: engine.fetch(metadata[:-1]).result(),
        lambda: engine.publish([object()]),
    ]
    with pytest.raises(TypeError) as wrong_type:
        peer.region(descriptor.hex())
    assert_silent(str(wrong_type.value), secrets)
    owner.run("region.close(); engine.release(metadata)")
    calls += [lambda: peer.read([(local, 0, remote, 0, 10)]), lambda: engine.fetch(metadata).result()]
    for call in calls:
        with pytest.raises(ray_hixl.HixlError) as caught:
            call()
        assert_silent(str(caught.value), secrets)
        assert_silent(repr(caught.value), secrets)


def test_keys_differ(engine: ray_hixl.Engine) -> None:
    """Nobody guesses one from another."""
    with ray_hixl.Engine() as other:
        assert engine.descriptor[ENGINE_KEY] != other.descriptor[ENGINE_KEY]
        assert engine.descriptor[INCARNATION] != other.descriptor[INCARNATION]
    regions = [engine.register(bytearray(1)) for _ in range(64)]
    assert len({region.descriptor[REGION_KEY] for region in regions}) == 64
    assert len({engine.publish([b"a"])[OBJECT_KEY] for _ in range(64)}) == 64
