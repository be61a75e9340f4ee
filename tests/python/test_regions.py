"""Regions: every kind of memory that can be registered, read by another process with batches of every shape."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
import torch

import ray_hixl
from support import Owner, pattern

DATA = pattern(10_000)


@pytest.fixture
def remote(peer: ray_hixl.Peer, owner: Owner) -> Any:
    """10,000 bytes of the owner: DATA."""
    owner.run("data = bytearray(given); region = engine.register(data)", given=DATA)
    return peer.region(owner.get("region.descriptor"))


def read_all(engine: ray_hixl.Engine, peer: ray_hixl.Peer, descriptor: bytes) -> bytes:
    remote = peer.region(descriptor)
    into = bytearray(remote.nbytes)
    with engine.register(into) as local:
        peer.read([(local, 0, remote, 0, remote.nbytes)], timeout=5.0)
    return bytes(into)


@pytest.mark.parametrize(
    ("made", "read_only"),
    [
        ("bytearray(given)", False),
        ("bytes(given)", True),
        ("memoryview(bytes(given))", True),
        ("memoryview(bytearray(given))", False),
        ("__import__('array').array('B', given)", False),
        ("__import__('numpy').frombuffer(bytearray(given), 'int32').reshape(50, 50)", False),
        ("__import__('numpy').frombuffer(given, 'uint8')", True),
        ("__import__('mmap').mmap(-1, len(given))", False),
    ],
)
def test_register_buffers(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner, made: str, read_only: bool) -> None:
    owner.run(f"memory = {made}", given=DATA)
    if "mmap" in made:
        owner.run("memory[:] = given")
    owner.run("region = engine.register(memory)")
    assert owner.get("(region.nbytes, region.open, region.read_only)") == (len(DATA), True, read_only)
    assert read_all(engine, peer, owner.get("region.descriptor")) == DATA


@pytest.mark.parametrize(
    "made",
    [
        "torch.frombuffer(bytearray(given), dtype=torch.float32)",
        "torch.frombuffer(bytearray(given), dtype=torch.bfloat16).view(50, 100)",
        "torch.nn.Parameter(torch.frombuffer(bytearray(given), dtype=torch.float32))",
        "OnlyDlpack(torch.frombuffer(bytearray(given), dtype=torch.int64))",
        "OnlyDlpack(numpy.frombuffer(bytearray(given), 'int16'))",
    ],
)
def test_register_tensors_and_dlpack(engine: ray_hixl.Engine, made: str) -> None:
    class OnlyDlpack:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __dlpack__(self, **arguments: Any) -> Any:
            return self.inner.__dlpack__(**arguments)

    region = engine.register(eval(made, {"torch": torch, "numpy": np, "OnlyDlpack": OnlyDlpack, "given": DATA}))
    with ray_hixl.Engine() as reader:
        peer = reader.connect(engine.descriptor)
        assert read_all(reader, peer, region.descriptor) == DATA


def test_region_keeps_the_memory_alive(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner) -> None:
    owner.run(
        "import gc, numpy, weakref\n"
        "memory = numpy.frombuffer(bytearray(given), 'uint8'); gone = weakref.ref(memory)\n"
        "region = engine.register(memory); descriptor = region.descriptor; del memory; gc.collect()",
        given=DATA,
    )
    assert owner.get("gone() is not None")
    assert read_all(engine, peer, owner.get("descriptor")) == DATA
    owner.run(
        "import time; region.close(); end = time.monotonic() + 5\nwhile gone() is not None and time.monotonic() < end: time.sleep(0.001)"
    )
    assert owner.get("gone() is None")


def test_remote_write_is_shown(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner) -> None:
    owner.run("one = engine.register(bytearray(4)); two = engine.register(bytearray(4), remote_write=True)")
    assert [peer.region(owner.get(f"{name}.descriptor")).remote_write for name in ("one", "two")] == [False, True]
    with pytest.raises(ray_hixl.InvalidArgument, match="memory is read-only"):
        engine.register(b"constant", remote_write=True)


def test_empty_is_registered_memory_of_the_source_arena(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner) -> None:
    owner.run("buffer = engine.empty(len(given)); memoryview(buffer)[:] = given", given=DATA)
    assert owner.get("(len(buffer), buffer.nbytes, buffer.shape, buffer.dtype, buffer.region.open, buffer.region.nbytes)") == (
        len(DATA),
        len(DATA),
        (len(DATA),),
        "uint8",
        True,
        len(DATA),
    )
    descriptor = owner.get("buffer.region.descriptor")
    assert read_all(engine, peer, descriptor) == DATA
    assert peer.path("host", peer.region(descriptor)).transport == "shm"
    assert engine.empty(0).nbytes == 0
    assert owner.get("buffer.address % 64") == 0


def test_fields_of_a_remote_region(remote: Any) -> None:
    assert (remote.nbytes, remote.kind, remote.remote_write) == (len(DATA), "host", False)


def test_region_is_a_context_manager(engine: ray_hixl.Engine) -> None:
    with engine.register(bytearray(8)) as region:
        assert region.open
        assert engine.stats()["regions"] == 1
    assert not region.open
    assert engine.stats()["regions"] == 0
    region.close()


def test_ops(engine: ray_hixl.Engine, peer: ray_hixl.Peer, remote: Any) -> None:
    into = bytearray(100)
    local = engine.register(into)
    ops = [(local, 10, remote, 500, 20), (local, 50, remote, 0, 5), (local, 0, remote, 9_999, 1), (local, 100, remote, 10_000, 0)]
    batch = peer.prepare(ops)
    assert (len(batch), batch.nbytes) == (4, 26)
    expected = bytearray(100)
    expected[10:30], expected[50:55], expected[0] = DATA[500:520], DATA[:5], DATA[9_999]
    for given in (ops, batch, batch):
        into[:] = bytes(100)
        assert peer.read(given) is None  # type: ignore[func-returns-value]
        assert into == expected


def test_no_ops(peer: ray_hixl.Peer) -> None:
    batch = peer.prepare([])
    assert (len(batch), batch.nbytes) == (0, 0)
    peer.read(batch, timeout=5.0)


@pytest.mark.parametrize("kind", ["numpy", "torch", "array", "memoryview"])
def test_arrays(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner, remote: Any, kind: str) -> None:
    makers: dict[str, Any] = {
        "numpy": lambda values: np.array(values, np.int64),
        "torch": lambda values: torch.tensor(values, dtype=torch.int64),
        "array": lambda values: array.array("q", values),
        "memoryview": lambda values: memoryview(array.array("l", values)),
    }
    make = makers[kind]
    owner.run("second = engine.register(bytes(range(256)))")
    other = peer.region(owner.get("second.descriptor"))
    into = bytearray(64), bytearray(64)
    locals_ = [engine.register(one) for one in into]
    batch = peer.prepare(locals_, make([0, 1, 1]), make([0, 4, 60]), [remote, other], make([1, 0, 1]), make([10, 20, 252]), make([3, 8, 4]))
    assert (len(batch), batch.nbytes) == (3, 15)
    peer.read(batch)
    assert into[0] == bytes([10, 11, 12]) + bytes(61)
    assert into[1] == bytes(4) + DATA[20:28] + bytes(48) + bytes([252, 253, 254, 255])


def test_region_registered_after_connect(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner) -> None:
    for round_number in range(3):
        owner.run("late = engine.register(given)", given=pattern(100, round_number))
        assert read_all(engine, peer, owner.get("late.descriptor")) == pattern(100, round_number)


def test_reads_see_what_the_memory_holds_now(engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner, remote: Any) -> None:
    into: Any = bytearray(4)
    local = engine.register(into)
    batch = peer.prepare([(local, 0, remote, 0, 4)])
    for word in (b"abcd", b"efgh"):
        owner.run("data[:4] = word", word=word)
        peer.read(batch)
        assert into == word


def test_peers_share_a_link(engine: ray_hixl.Engine, owner: Owner) -> None:
    one, two = engine.connect(owner.descriptor), engine.connect(owner.descriptor, timeout=5.0)
    assert engine.stats()["links"] == 1
    one.close()
    one.close()
    owner.run("region = engine.register(given)", given=DATA)
    assert read_all(engine, two, owner.get("region.descriptor")) == DATA


def test_reading_its_own_memory(engine: ray_hixl.Engine) -> None:
    peer = engine.connect(engine.descriptor)
    assert read_all(engine, peer, engine.register(DATA).descriptor) == DATA
    assert peer.path().transport == "local"


@pytest.mark.parametrize("shift", [-64, -1, 1, 64, 255])
def test_what_is_read_and_where_it_goes_are_apart(engine: ray_hixl.Engine, shift: int) -> None:
    """In one process they may be the same memory; then neither is changed, but where each byte is copied onto itself."""
    peer = engine.connect(engine.descriptor)
    memory = bytearray(range(256)) * 4
    before = bytes(memory)
    region = engine.register(memory)
    remote = peer.region(region.descriptor)
    refused = pytest.raises(ray_hixl.InvalidArgument, match="what is read and where it goes share memory: take a target apart from it")
    with refused:
        peer.read([(region, 256 + shift, remote, 256, 256)])
    with refused:
        peer.read([(region, 0, remote, 512, 64), (region, 900, remote, 63, 1)])  # one op writes what the other reads
    with refused:
        engine.fetch(engine.publish([memoryview(memory)[256:512]]), [memoryview(memory)[256 + shift : 512 + shift]]).result()
    assert memory == before
    peer.read([(region, 256, remote, 256, 256), (region, 0, remote, 512, 256), (region, 768, remote, 512, 256)])
    assert memory == before
    assert engine.fetch(engine.publish([memory]), [memory]).result()[0] is memory
