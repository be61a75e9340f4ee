"""Tensors in expandable segments of torch's allocator: what they are registered as, and that it stays mapped while HIXL has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import values
from modes import once

import ray_hixl
from support import Owner

pytestmark = once  # each test has a process of its own, whose allocator is as it needs it
MIB = 1 << 20
EXPANDABLE = {"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}
PREPARE = """
import sys, gc
sys.path.insert(0, folder)
import torch, torch_npu, values
from ray_hixl import npu, process

def aligned(nbytes):
    "A tensor that begins at a multiple of 2 MiB, in a storage that does not."
    whole = torch.empty(nbytes + (2 << 20), dtype=torch.uint8, device="npu")
    return whole[-whole.data_ptr() % (2 << 20):][:nbytes]
"""


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> Iterator[Owner]:
    """A process whose allocator maps pages as it needs them."""
    made = Owner(prepare=f"folder = {str(request.path.parent)!r}\n{PREPARE}", environment=EXPANDABLE)
    made.run("x = torch.zeros(9, device='npu')")
    assert made.get("all(each['is_expandable'] for each in torch.npu.memory_snapshot())")
    yield made
    made.close()


def expect(arrived: list[torch.Tensor], *tensors: torch.Tensor) -> None:
    assert [values.bits(each) for each in arrived] == [values.bits(each) for each in tensors]


def test_published_as_they_are_and_received_into(owner: Owner, engine: ray_hixl.Engine) -> None:
    x = values.numbers(torch.uint8, [5 * MIB], 1)
    owner.run("x = values.on_npu(torch.uint8, [5 << 20], 1); region = engine.register(x); used = values.slabs(engine)['used_bytes']")
    owner.run("metadata = engine.publish([x, x[100:200]])")
    assert owner.get("values.slabs(engine)['used_bytes'] == used")
    expect(engine.fetch(owner.get("metadata")).result(), x, x[100:200])
    given = engine.publish([torch.full((1000,), 7, dtype=torch.uint8, device="npu")])
    owner.run("allocations = values.slabs(engine)['allocations']; engine.fetch(given, [x[MIB:][:1000]]).result()", given=given, MIB=MIB)
    assert owner.get("values.slabs(engine)['allocations'] == allocations"), "not by way of a slab"
    x[MIB:][:1000] = 7
    expect(engine.fetch(owner.get("metadata")).result(), x, x[100:200])


def test_what_is_registered(owner: Owner) -> None:
    """The storage, from its first whole page on: the page that it begins in is a neighbour's, too. Of small ones the page they share."""
    owner.run("filler = torch.zeros((3 << 20) + 512, dtype=torch.uint8, device='npu'); tensor = aligned(5 << 20)")
    owner.run("storage = tensor.untyped_storage(); whole = torch.empty(0, dtype=torch.uint8, device='npu').set_(storage)")
    address, nbytes, first = owner.get("(storage.data_ptr(), storage.nbytes(), tensor.data_ptr())")
    assert address % (2 * MIB) != 0
    for view in ("tensor", "tensor[3 << 20:]"):
        assert owner.get(f"npu.segment_of({view})") == (first, address + nbytes - first)
    with pytest.raises(ray_hixl.NotAvailable, match=r"lies in an expandable segment .* allocate 2 MiB more and take the slice"):
        owner.get("npu.segment_of(whole)")
    mapped = owner.get("[(each['address'], each['address'] + each['total_size']) for each in torch.npu.memory_snapshot()]")
    assert any(start <= first and address + nbytes <= end for start, end in mapped)
    owner.run("x, y = (torch.zeros(9, device='npu') for _ in range(2))")
    assert owner.get("npu.segment_of(x)") == owner.get("npu.segment_of(y)") == (owner.get("x.data_ptr()") // (2 * MIB) * 2 * MIB, 2 * MIB)


def test_caches_behind_each_other(owner: Owner, engine: ray_hixl.Engine) -> None:
    """As users of Mooncake make them: each begins at a multiple of 2 MiB, in a storage of its own."""
    owner.run("caches = [aligned((3 << 20) + 1000 * i) for i in range(3)]")
    owner.run("for i, cache in enumerate(caches): cache.fill_(i + 1); ray_hixl.register_memory(cache)")
    owner.run("own = process.engine(); used = values.slabs(own)['used_bytes']; metadata = own.publish(caches)")
    assert owner.get("(ray_hixl.stats()['regions'], values.slabs(own)['used_bytes'] == used)") == (3, True)
    arrived = engine.fetch(owner.get("metadata")).result()
    assert [(tensor.numel(), tensor.cpu().unique().tolist()) for tensor in arrived] == [(3 * MIB + 1000 * i, [i + 1]) for i in range(3)]
    owner.run("for cache in caches: ray_hixl.register_memory(cache[1 << 20:][:10]); ray_hixl.deregister_memory(cache[:1])")
    assert owner.get("ray_hixl.stats()['regions']") == 3, "by storage"
    owner.run("for cache in caches: ray_hixl.deregister_memory(cache)")
    assert owner.get("ray_hixl.stats()['regions']") == 0
    owner.run("own.release(metadata)")


def test_small_tensors_in_a_page(owner: Owner) -> None:
    owner.run("few = [torch.zeros(100, device='npu') for _ in range(3)]")
    owner.run("for each in few: ray_hixl.register_memory(each)")
    owner.run("used = values.slabs(process.engine())['used_bytes']; metadata = process.engine().publish(few)")
    assert owner.get("values.slabs(process.engine())['used_bytes'] == used")
    assert owner.get("values.device_stats(process.engine())['registrations']") == 2, "a slab and the page"
    owner.run("process.engine().release(metadata)")


def test_a_page_that_two_tensors_share(owner: Owner, engine: ray_hixl.Engine) -> None:
    """Only the first tensor in a segment begins at a page by itself: the other is packed, as ever."""
    owner.run("a, b = (torch.zeros((3 << 20) + 512, dtype=torch.uint8, device='npu').fill_(i) for i in (1, 2))")
    owner.run("first, second = sorted((a, b), key=lambda each: each.data_ptr()); assert second.data_ptr() % (2 << 20)")
    owner.run("ray_hixl.register_memory(first)")
    for call in ("ray_hixl.register_memory(second)", "process.engine().register(second)"):
        with pytest.raises(ray_hixl.NotAvailable, match="what lies before it is its neighbour's"):
            owner.run(call)
    owner.run("ray_hixl.register_memory(second[2 << 20:])")
    assert owner.get("ray_hixl.stats()['regions']") == 2
    owner.run("metadata = process.engine().publish([first, second])")
    arrived = engine.fetch(owner.get("metadata")).result()
    assert [(tensor.numel(), tensor.cpu().unique().tolist()) for tensor in arrived] == [(3 * MIB + 512, [1]), (3 * MIB + 512, [2])]
    owner.run("process.engine().release(metadata); ray_hixl.deregister_memory(first); ray_hixl.deregister_memory(second)")
    assert owner.get("ray_hixl.stats()['regions']") == 0


def test_neighbours_of_what_is_registered_are_packed(owner: Owner, engine: ray_hixl.Engine) -> None:
    """Otherwise they would keep its registration, but not its pages: torch gives them back while HIXL has them."""
    owner.run("before = torch.zeros(3 << 20, dtype=torch.uint8, device='npu').fill_(3); x = aligned(9 << 20)")
    owner.run("behind = torch.zeros(2 << 20, dtype=torch.uint8, device='npu').fill_(4); ray_hixl.register_memory(x)")
    owner.run("metadata = process.engine().publish([before[2 << 20:], behind])")
    assert owner.get("values.slabs(process.engine())['used_bytes']") >= 3 * MIB
    arrived = engine.fetch(owner.get("metadata")).result()
    assert [tensor.cpu().unique().tolist() for tensor in arrived] == [[3], [4]]


def test_what_is_registered_stays_mapped(owner: Owner, engine: ray_hixl.Engine) -> None:
    """Whatever torch gives back around it, and whatever becomes of the tensor."""
    owner.run("before = torch.empty(19 << 20, dtype=torch.uint8, device='npu'); x = aligned(7 << 20).fill_(5)")
    owner.run("behind = torch.empty(40 << 20, dtype=torch.uint8, device='npu'); ray_hixl.register_memory(x)")
    owner.run("metadata = process.engine().publish([x]); mapped = torch.npu.memory_reserved()")
    engine.fetch(owner.get("metadata")).result()  # a link is up: freeing registered memory would end the process
    owner.run("del before, behind, x; gc.collect(); torch.npu.synchronize(); torch.npu.empty_cache()")
    assert owner.get("torch.npu.memory_reserved() < mapped"), "the rest went"
    assert engine.fetch(owner.get("metadata")).result()[0].cpu().unique().tolist() == [5]
    owner.run("process.engine().release(metadata)")
