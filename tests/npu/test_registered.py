"""Memory that HIXL knows: published without a copy, received into without a copy; and what HIXL cannot have."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch
import values

import ray_hixl
from ray_hixl import NotAvailable, npu, process
from support import Owner, eventually

HUGE_PAGE = 2 << 20


def test_registered_tensors_are_published_as_they_are(reader: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("x = values.on_npu(torch.float32, [1000], 1); region = engine.register(x)")
    used = owner.get("values.slabs(engine)['used_bytes']")
    owner.run("metadata = engine.publish([x, x[10:20], x.view(10, 100)[3:]])")
    assert owner.get("values.slabs(engine)['used_bytes']") == used
    arrived = reader.fetch(owner.get("metadata")).result()
    x = values.numbers(torch.float32, [1000], 1)
    assert [values.bits(tensor) for tensor in arrived] == [values.bits(each) for each in (x, x[10:20], x.view(10, 100)[3:])]
    owner.run("x.fill_(7); torch.npu.synchronize()")
    assert reader.fetch(owner.get("metadata")).result()[0].cpu().unique().tolist() == [7], "it is the tensor's own memory"
    owner.run("engine.release(metadata); region.close()")


def test_neighbours_in_the_segment_need_no_copy(owner: Owner) -> None:
    """HIXL knows the whole segment of torch's allocator."""
    owner.run("x, y = (torch.ones(100, device='npu') for _ in range(2)); segments = {npu.segment_of(each) for each in (x, y)}")
    assert owner.get("len(segments)") == 1
    owner.run("used = values.slabs(engine)['used_bytes']; region = engine.register(x); metadata = engine.publish([y])")
    assert owner.get("values.slabs(engine)['used_bytes'] == used")
    owner.run("engine.release(metadata); region.close()")


def test_segments(owner: Owner) -> None:
    owner.run("small, large = torch.ones(10, device='npu'), torch.ones(6 << 20, device='npu', dtype=torch.float32)")
    for name, size in (("small", 40), ("large", 24 << 20)):
        start, found = owner.get(f"npu.segment_of({name})")
        assert (start % HUGE_PAGE, found % HUGE_PAGE) == (0, 0)
        address = owner.get(f"{name}.data_ptr()")
        assert start <= address < address + size <= start + found
    assert owner.get("npu.segment_of(torch.utils.dlpack.from_dlpack(engine.empty(64, 'npu:0')))") is None, "not torch's memory"


def test_targets_are_written_directly(engine: ray_hixl.Engine, owner: Owner) -> None:
    """No slab, no copy: whether registered, out of ``empty`` or received before."""
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [1000], 1), values.on_npu(torch.int8, [300], 2)])")
    own = torch.zeros(2000, device="npu")
    with engine.register(own):
        slab = torch.utils.dlpack.from_dlpack(engine.empty(300, "npu:0")).view(torch.int8)
        targets = [own[500:1500], slab]
        before = values.slabs(engine)
        fetch = engine.fetch(owner.get("metadata"), targets)
        arrived = fetch.result()
        assert fetch.bytes_by_transport() == {"hixl": 4300}
        assert values.slabs(engine)["allocations"] == before["allocations"]
        assert [tensor.data_ptr() for tensor in arrived] == [own.data_ptr() + 2000, slab.data_ptr()]
        expected = [values.numbers(torch.float32, [1000], 1), values.numbers(torch.int8, [300], 2)]
        assert [values.bits(tensor) for tensor in arrived] == [values.bits(tensor) for tensor in expected]
        assert (own[:500].sum().item(), own[1500:].sum().item()) == (0, 0), "nothing beside the target"
        received = engine.fetch(owner.get("metadata")).result()
        before = values.slabs(engine)
        again = engine.fetch(owner.get("metadata"), received).result()
        assert [tensor.data_ptr() for tensor in again] == [tensor.data_ptr() for tensor in received]
        assert values.slabs(engine)["allocations"] == before["allocations"]


TARGETS = {
    "npu, not registered": "torch.zeros(1000, device='npu')",
    "npu, another device": "torch.zeros(1000, device='npu:1')",
    "with gradients": "torch.zeros(1000, device='npu', requires_grad=True)",
}


@pytest.mark.parametrize("target", TARGETS)
def test_other_targets_are_copied_into(reader: ray_hixl.Engine, owner: Owner, target: str) -> None:
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [1000], 1)])")
    [given] = [eval(TARGETS[target])]
    device = max(given.get_device(), 0)
    use = torch.ones(1, device="npu:0"), torch.ones(1, device="npu:1")  # of both, so that it is the source's where no target says it
    before = values.slabs(reader, device).get("allocations", 0)
    [arrived] = reader.fetch(owner.get("metadata"), [given]).result()
    assert arrived is given
    assert values.bits(given) == values.bits(values.numbers(torch.float32, [1000], 1))
    assert values.slabs(reader, device)["allocations"] == before + 1, ("by way of a slab", use)


def test_npu_targets_of_tensors_from_the_cpu(reader: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("metadata = engine.publish([values.numbers(torch.float32, [1000], 1), values.on_npu(torch.float32, [10], 2)])")
    targets = [torch.zeros(1000, device="npu"), torch.zeros(10)]
    arrived = reader.fetch(owner.get("metadata"), targets).result()
    expected = [values.numbers(torch.float32, [1000], 1), values.numbers(torch.float32, [10], 2)]
    assert [values.bits(tensor) for tensor in arrived] == [values.bits(tensor) for tensor in expected]
    assert [tensor.device.type for tensor in arrived] == ["npu", "cpu"]


def test_targets_on_another_device_directly(engine: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [1000], 1)])")
    target = torch.zeros(1000, device="npu:1")
    with engine.register(target):
        before = values.slabs(engine, 1)["allocations"]
        engine.fetch(owner.get("metadata"), [target]).result()
        assert values.bits(target) == values.bits(values.numbers(torch.float32, [1000], 1))
        assert values.slabs(engine, 1)["allocations"] == before


def test_targets_that_do_not_fit(reader: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("metadata = engine.publish([torch.ones(8, device='npu'), torch.ones(2, device='npu')])")
    for targets, what in (
        ([torch.zeros(7, device="npu"), torch.zeros(2, device="npu")], r"target 0 has shape \(7\), the tensor's is \(8\)"),
        ([torch.zeros(8), torch.zeros(2, dtype=torch.int32)], "target 1 has elements of type int32, the tensor's are float32"),
        ([torch.zeros(8)], "1 targets were given for an object of 2 tensors"),
        ([torch.zeros(8, 2, device="npu")[:, 0], torch.zeros(2)], "target 0 is not contiguous"),
    ):
        with pytest.raises(ray_hixl.InvalidArgument, match=what):
            reader.fetch(owner.get("metadata"), targets)


def test_registered_after_the_link(engine: ray_hixl.Engine, owner: Owner) -> None:
    """Source or target: HIXL's peers see what was registered before they connected, so the link is made anew."""
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [1000], 1)])")
    engine.fetch(owner.get("metadata")).result()
    assert values.device_stats(engine)["refreshes"] == 0
    owner.run("late = torch.full((3 << 20,), 5.0, device='npu'); region = engine.register(late); metadata = engine.publish([late[:10]])")
    assert engine.fetch(owner.get("metadata")).result()[0].cpu().tolist() == [5] * 10
    assert values.device_stats(engine)["refreshes"] == 1
    target = torch.zeros(3 << 20, device="npu")
    with engine.register(target):
        assert engine.fetch(owner.get("metadata"), [target[5:15]]).result()[0].cpu().tolist() == [5] * 10
        assert values.device_stats(engine)["refreshes"] == 2
    owner.run("region.close()")


def test_an_object_keeps_its_registration(new_owner: Callable[..., Owner], engine: ray_hixl.Engine) -> None:
    """Until it is released, whatever becomes of the region."""
    owner = new_owner()
    owner.run("x = values.on_npu(torch.float32, [1000], 1); region = engine.register(x); metadata = engine.publish([x]); region.close()")
    owner.run("del x, region; gc.collect(); torch.npu.empty_cache()")
    assert values.bits(engine.fetch(owner.get("metadata")).result()[0]) == values.bits(values.numbers(torch.float32, [1000], 1))
    assert owner.get("values.device_stats(engine)['registrations']") == 2
    owner.run("engine.release(metadata)")
    engine.close()
    eventually(lambda: owner.get("values.device_stats(engine)['registrations']") == 1)


def test_register_memory_counts_by_storage(own_process: None) -> None:
    """HIXL gets the segment once, and keeps it for the last one in it."""
    x, y = (torch.ones(100, device="npu") for _ in range(2))
    assert npu.segment_of(x) == npu.segment_of(y)
    for tensor in (x, y, x[50:]):
        ray_hixl.register_memory(tensor)
    assert ray_hixl.stats()["regions"] == 2
    engine = process.engine()
    used = values.slabs(engine)["used_bytes"]
    for tensor, left in ((x, 2), (y, 1), (x[10:], 0)):
        assert values.device_stats(engine)["registrations"] == 2, "a slab and the segment"
        metadata = engine.publish([x, y])
        assert values.slabs(engine)["used_bytes"] == used, "not copied"
        engine.release(metadata)
        ray_hixl.deregister_memory(tensor)
        assert ray_hixl.stats()["regions"] == left
    eventually(lambda: engine.stats()["devices"][0]["registrations"] == 1)  # taken out by another thread
    engine.publish([x])
    assert values.slabs(engine)["used_bytes"] > used
    for tensor in (x, y):
        with pytest.raises(ray_hixl.InvalidRegion, match="called more often than register_memory"):
            ray_hixl.deregister_memory(tensor)


def test_a_resized_storage_is_the_same_one(own_process: None) -> None:
    """In place, into other memory of torch's."""
    x = torch.ones(100, device="npu")
    ray_hixl.register_memory(x)
    address = x.data_ptr()
    x.resize_(3 << 20)
    assert x.data_ptr() != address
    ray_hixl.register_memory(x)
    assert ray_hixl.stats()["regions"] == 1
    engine = process.engine()
    used = values.slabs(engine)["used_bytes"]
    engine.release(engine.publish([x[:10]]))
    assert values.slabs(engine)["used_bytes"] == used, "registered where it is now"
    for left in (1, 0):
        ray_hixl.deregister_memory(x)
        assert ray_hixl.stats()["regions"] == left
    eventually(lambda: values.device_stats(engine)["registrations"] == 1)


def test_registration_keeps_the_segment(own_process: None, runtime: ctypes.CDLL) -> None:
    """torch cannot give registered memory back to the driver."""
    x = torch.ones(30 << 20, device="npu", dtype=torch.uint8)
    ray_hixl.register_memory(x)
    torch.npu.empty_cache()
    blocks = runtime.fake_cann_live_blocks()
    address = x.data_ptr()
    del x
    torch.npu.empty_cache()
    assert runtime.fake_cann_live_blocks() == blocks
    assert torch.ones(30 << 20, device="npu", dtype=torch.uint8).data_ptr() != address
    ray_hixl.shutdown()
    eventually(lambda: torch.npu.empty_cache() or runtime.fake_cann_live_blocks() < blocks)


def test_empty(own_process: None, owner: Owner) -> None:
    made = ray_hixl.empty((3, 4), dtype=torch.bfloat16, device="npu:1")
    assert (made.shape, made.dtype, made.device, made.is_contiguous()) == ((3, 4), torch.bfloat16, torch.device("npu", 1), True)
    assert ray_hixl.empty(3, device="npu").device == torch.device("npu", 0)
    torch.npu.set_device(1)
    assert ray_hixl.empty(3, device="npu").device == torch.device("npu", 1)
    torch.npu.set_device(0)
    assert ray_hixl.empty((0, 2), dtype=torch.float8_e4m3fn, device="npu:0").shape == (0, 2)
    made.fill_(3)
    engine = process.engine()
    allocations = values.slabs(engine, 1)["allocations"]
    owner.run("arrived = engine.fetch(metadata, device='npu:1').result()[0]", metadata=engine.publish([made]))
    assert values.slabs(engine, 1)["allocations"] == allocations
    assert owner.get("(arrived.device.index, arrived.float().cpu().unique().tolist())") == (1, [3])
    with pytest.raises(ray_hixl.InvalidArgument, match="there is no npu:2: this process sees 2"):
        ray_hixl.empty(3, device="npu:2")


def test_register_memory_pool(own_process: None, owner: Owner) -> None:
    ray_hixl.register_memory_pool(200 << 20, "npu:0")
    engine = process.engine()
    assert values.slabs(engine)["mapped_bytes"] >= 200 << 20
    owner.run("metadata = engine.publish([torch.ones(35 << 20, device='npu')])")
    engine.fetch(owner.get("metadata"), device="npu:0").result()
    assert (values.device_stats(engine)["refreshes"], values.device_stats(engine)["connects"]) == (0, 1)
    with pytest.raises(ray_hixl.OutOfMemory, match="slab_cap_bytes"):
        ray_hixl.register_memory_pool(1 << 40, "npu:0")
    with pytest.raises(NotAvailable, match="arenas of the CPU grow by themselves"):
        ray_hixl.register_memory_pool(1 << 20, "cpu")


@pytest.mark.parametrize("expandable", [False, True])
def test_segment_that_begins_anywhere(monkeypatch: pytest.MonkeyPatch, engine: ray_hixl.Engine, expandable: bool) -> None:
    x = next(each for each in (torch.ones(10, device="npu") for _ in range(9)) if each.data_ptr() % HUGE_PAGE)
    segment = {"device": 0, "address": x.data_ptr(), "total_size": 4096, "is_expandable": expandable}
    monkeypatch.setattr(torch.npu, "memory_snapshot", lambda: [segment | {"device": 1}, segment])
    with pytest.raises(NotAvailable, match="multiple of 2 MiB"):
        engine.register(x)


def test_regions_of_devices(new_owner: Callable[..., Owner], engine: ray_hixl.Engine) -> None:
    """Without objects: a peer reads a region of device memory."""
    owner = new_owner()
    owner.run("x = values.on_npu(torch.uint8, [1000], 1); region = engine.register(x)")
    peer = engine.connect(owner.descriptor)
    remote = peer.region(owner.get("region.descriptor"))
    assert (remote.kind, remote.nbytes) == ("device", 1000)
    assert peer.path("device", remote).transport == "hixl"
    target = torch.zeros(1000, dtype=torch.uint8, device="npu")
    with engine.register(target) as local:
        assert local.kind == "device"
        peer.read([(local, 100, remote, 0, 500), (local, 0, remote, 900, 100)])
    x = values.numbers(torch.uint8, [1000], 1)
    assert torch.equal(target.cpu(), torch.cat([x[900:], x[:500], torch.zeros(400, dtype=torch.uint8)]))
    memory = bytearray(10)
    with engine.register(memory) as host:
        peer.read([(host, 0, remote, 0, 10)])
    assert bytes(memory) == bytes(x[:10].tolist())
