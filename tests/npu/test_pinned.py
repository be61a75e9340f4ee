"""Host memory that HIXL moves: KV caches of NPUs that are loaded off to pinned memory of another process, and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import values
from profiles import OVER_HCCS

import ray_hixl
from ray_hixl import Options
from support import Owner

MIB = 1 << 20
over_hccs = pytest.mark.skipif(not OVER_HCCS, reason="about HCCS, which this NPU does not take")
not_over_hccs = pytest.mark.skipif(OVER_HCCS, reason="HCCS of A2 reaches no host memory")
BY_HIXL = "staged" if OVER_HCCS else "hixl"


def read(engine: ray_hixl.Engine, owner: Owner, local: Any, remote: bytes) -> dict[str, int]:
    """All of the owner's region of those bytes; how they came."""
    peer = engine.connect(owner.descriptor)
    region = peer.region(remote)
    transfer = peer.read_async([(local, 0, region, 0, region.nbytes)])
    assert transfer.wait(30)
    return transfer.bytes_by_transport()


def test_from_pinned_memory_to_an_npu(owner: Owner) -> None:
    owner.run("store = engine.empty(1 << 20, pinned=True); memoryview(store)[:] = bytes(range(256)) * 4096")
    assert owner.get("store.region.kind") == "pinned"
    with ray_hixl.Engine() as engine:
        buffer = engine.empty(MIB, "npu")
        assert list(read(engine, owner, buffer.region, owner.get("store.region.descriptor"))) == [BY_HIXL]
        arrived = torch.utils.dlpack.from_dlpack(buffer)
        assert bytes(arrived.cpu().numpy()) == bytes(range(256)) * 4096


def test_from_an_npu_to_pinned_memory(owner: Owner) -> None:
    """By a batch, and as the target of a fetch."""
    owner.run("cache = engine.empty(1 << 20, 'npu'); torch.utils.dlpack.from_dlpack(cache).fill_(7); torch.npu.synchronize()")
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [1000], 3)])")
    with ray_hixl.Engine() as engine:
        store = engine.empty(MIB, pinned=True)
        assert list(read(engine, owner, store.region, owner.get("cache.region.descriptor"))) == [BY_HIXL]
        assert bytes(memoryview(store)) == b"\7" * MIB
        target = torch.frombuffer(memoryview(store), dtype=torch.float32, count=1000)
        fetch = engine.fetch(owner.get("metadata"), [target])
        assert values.bits(fetch.result()[0]) == values.bits(values.numbers(torch.float32, [1000], 3))
        assert list(fetch.bytes_by_transport()) == [BY_HIXL]


@not_over_hccs
def test_between_hosts_memories(owner: Owner) -> None:
    owner.run("store = engine.empty(1 << 20, pinned=True); memoryview(store)[:] = b'x' * (1 << 20)")
    with ray_hixl.Engine() as engine:
        store = engine.empty(MIB, pinned=True)
        assert list(read(engine, owner, store.region, owner.get("store.region.descriptor"))) == ["hixl"]
        assert bytes(memoryview(store)) == b"x" * MIB
        path = engine.connect(owner.descriptor).path("pinned", "pinned")
        assert path.transport == "hixl"


@over_hccs
def test_hccs_is_named(owner: Owner) -> None:
    """Before HIXL would fail the transfer, and its link with it: it goes as any host memory does."""
    owner.run("store = engine.empty(1 << 20, pinned=True); memoryview(store)[:] = b'x' * (1 << 20)")
    with ray_hixl.Engine() as engine:
        store = engine.empty(MIB, pinned=True)
        ways = [list(read(engine, owner, store.region, owner.get("store.region.descriptor"))) for _ in range(2)]
        assert ways == [["cma"], ["cma"]]
        path = engine.connect(owner.descriptor).path("pinned", "pinned")
        assert path.transport == "cma"
        assert "HCCS" in path.refused["hixl"]
        assert "HCCL_INTRA_ROCE_ENABLE=1" in path.refused["hixl"]
        assert engine.connect(owner.descriptor).path("device", "device").transport == "hixl", "what their NPUs have is linked as ever"


@over_hccs
def test_where_hixl_refuses_it(owner: Owner) -> None:
    """HCCS alone takes no host memory on A2: it is memory of the host as any other, and the counters say why."""
    with ray_hixl.Engine(Options(hixl_protocol_desc=("hccs:device",))) as engine:
        store = engine.empty(MIB, pinned=True)
        assert store.region.kind == "host"
        [device] = engine.stats()["devices"]
        assert "PARAM_INVALID (103900)" in device["unpinned"]
        owner.run("plain = engine.empty(1 << 20); memoryview(plain)[:] = b'y' * (1 << 20)")
        read(engine, owner, store.region, owner.get("plain.region.descriptor"))
        assert bytes(memoryview(store)) == b"y" * MIB


def test_tensors(own_process: None) -> None:
    tensor = ray_hixl.empty((3, 5), dtype=torch.float32, pinned=True)
    assert tensor.device.type == "cpu"
    assert tensor.shape == (3, 5)
    tensor.fill_(2)


def test_what_is_no_host_memory(engine: ray_hixl.Engine) -> None:
    with pytest.raises(ray_hixl.InvalidArgument, match=r"pinned memory is the CPU's: device='cpu', not 'npu:0'"):
        engine.empty(5, "npu:0", pinned=True)
