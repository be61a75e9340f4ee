"""What a received npu tensor is: a plain tensor with storage of its own, whose memory goes back to the slab when nobody uses it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
import torch_npu
import values
from modes import once

import ray_hixl
from support import Owner, eventually, run_python

npu: Any = torch.npu


@pytest.fixture
def received(engine: ray_hixl.Engine, owner: Owner) -> list[torch.Tensor]:
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [50, 20], seed) for seed in range(3)])")
    return engine.fetch(owner.get("metadata")).result()


def test_like_any_other_tensor(received: list[torch.Tensor]) -> None:
    assert [type(tensor) for tensor in received] == [torch.Tensor] * 3
    assert not any(tensor.requires_grad or tensor._is_view() or tensor.is_inference() for tensor in received)
    assert [int(torch_npu.get_npu_format(tensor)) for tensor in received] == [2] * 3
    x = received[0]
    expected = values.numbers(torch.float32, [50, 20], 0)
    assert values.bits((x + 0).contiguous()) == values.bits(expected + 0)
    assert values.bits(x.t().contiguous()) == values.bits(expected.t().contiguous())
    y = torch.nn.Parameter(x)
    (y * 2).sum().backward()
    assert y.grad.cpu().unique().tolist() == [2]
    x.record_stream(npu.current_stream())


def test_storages_are_their_own(received: list[torch.Tensor]) -> None:
    storages = [tensor.untyped_storage() for tensor in received]
    assert [storage.nbytes() for storage in storages] == [4000] * 3
    assert [storage.data_ptr() for storage in storages] == [tensor.data_ptr() for tensor in received]
    received[0].fill_(1)
    assert received[1]._version == 0
    assert values.bits(received[1]) == values.bits(values.numbers(torch.float32, [50, 20], 1))


@pytest.mark.filterwarnings("ignore:Warning. The torch.npu:UserWarning")
def test_pickle_copies(received: list[torch.Tensor]) -> None:
    packed = pickle.dumps(received[0])
    assert len(packed) < 5000, "only its own bytes"
    copied = pickle.loads(packed)
    assert copied.device == received[0].device
    assert values.bits(copied) == values.bits(received[0])


def test_memory_goes_back(engine: ray_hixl.Engine, owner: Owner) -> None:
    """The block of small neighbours when the last one is gone, that of a large one with it; views count."""
    owner.run("metadata = engine.publish([torch.ones(8, device='npu'), torch.ones(8, device='npu'), torch.ones(1 << 20, device='npu')])")
    small, view, large = engine.fetch(owner.get("metadata")).result()
    view = view[2:].detach()
    assert (values.slabs(engine)["live_blocks"], values.slabs(engine)["used_bytes"]) == (2, (4 << 20) + 1024)
    del large
    eventually(lambda: values.slabs(engine)["used_bytes"] == 1024)
    del small
    assert values.slabs(engine)["live_blocks"] == 1
    del view
    eventually(lambda: values.slabs(engine)["live_blocks"] == 0)
    recycled = values.slabs(engine)["recycled"]
    engine.fetch(owner.get("metadata")).result()
    assert values.slabs(engine)["recycled"] == recycled + 2
    owner.run("engine.release(metadata)")


def test_resizing_moves_to_torchs_memory(engine: ray_hixl.Engine, received: list[torch.Tensor]) -> None:
    x = received.pop()
    received.clear()
    x.resize_(200, 20)
    assert values.bits(x[:50]) == values.bits(values.numbers(torch.float32, [50, 20], 2))
    eventually(lambda: values.slabs(engine)["live_blocks"] == 0)


def test_outlives_the_engine(engine: ray_hixl.Engine, received: list[torch.Tensor]) -> None:
    engine.close()
    assert [values.bits(x) for x in received] == [values.bits(values.numbers(torch.float32, [50, 20], seed)) for seed in range(3)]
    received.clear()


def test_a_result_that_nobody_took(engine: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("metadata = engine.publish([torch.ones(8, device='npu')])")
    fetch = engine.fetch(owner.get("metadata"))
    fetch.wait()
    del fetch
    eventually(lambda: values.slabs(engine)["live_blocks"] == 0)


EXITS = {
    "engine open": "engine = ray_hixl.Engine(); x = engine.fetch(engine.publish([torch.ones(9, device='npu')])).result()",
    "engine closed": "engine = ray_hixl.Engine(); x = engine.fetch(engine.publish([torch.ones(9, device='npu')])).result(); engine.close()",
    "of the process": "x = ray_hixl.empty(9, device='npu'); x.fill_(1); y = x + 1; ray_hixl.register_memory(y)",
    "imported first": "engine = ray_hixl.Engine(); x = torch.ones(9, device='npu'); engine.register(x); engine.publish([x])",
}


@once
@pytest.mark.parametrize("how", EXITS)
def test_exit_with_live_tensors(how: str) -> None:
    first = "import ray_hixl\nimport torch" if how == "imported first" else "import torch, ray_hixl"
    run_python(f"{first}\n{EXITS[how]}\nprint('end')")


def test_room_for_one_is_enough(owner: Owner) -> None:
    """Memory comes back on other threads; whoever needs it at once still gets it."""
    mib = 1 << 20
    owner.run(f"metadata = engine.publish([torch.ones({3 * mib}, dtype=torch.uint8, device='npu')])")
    with ray_hixl.Engine(ray_hixl.Options(slab_bytes=4 * mib, slab_cap_bytes=4 * mib)) as small:
        for _ in range(50):
            received = small.fetch(owner.get("metadata")).result()
            del received
            small.release(small.publish([torch.ones(3 * mib, dtype=torch.uint8, device="npu")]))
            made = small.empty(3 * mib, "npu:0")
            del made
    owner.run("engine.release(metadata)")
