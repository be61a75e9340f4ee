"""Publishing tensors that HIXL does not know: one batched copy into a slab, and one transfer, however many there are."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
import values

import ray_hixl
from ray_hixl import npu
from support import Owner, eventually


def test_many_tensors_are_one_transfer(reader: ray_hixl.Engine, owner: Owner, hixl: ctypes.CDLL) -> None:
    owner.run("many = [values.on_npu(torch.uint8, [1024], seed) for seed in range(2000)]; metadata = engine.publish(many)")
    reader.fetch(owner.get("engine.publish(many[:1])")).result()  # the link is there
    hixl.fake_hixl_reset_counters()
    arrived = reader.fetch(owner.get("metadata")).result()
    assert (hixl.fake_hixl_calls(b"TransferAsync"), hixl.fake_hixl_ops(), hixl.fake_hixl_bytes()) == (1, 1, 2000 * 1024)
    assert len(owner.get("metadata")) < 1000, "neither addresses nor layouts are repeated"
    here = torch.stack([tensor.cpu() for tensor in arrived])
    assert torch.equal(here, torch.stack([values.numbers(torch.uint8, [1024], seed) for seed in range(2000)]))
    assert len({tensor.data_ptr() for tensor in arrived}) == 2000
    owner.run("engine.release(metadata); del many")


def test_tensors_of_all_sizes(reader: ray_hixl.Engine, owner: Owner) -> None:
    """Small ones share a block, large ones have their own; in between each keeps its place."""
    owner.run("sizes = [1, 511, 512, 513, 0, 4096, 1 << 20, 3, (5 << 20) + 7, 1000]")
    owner.run("metadata = engine.publish([values.on_npu(torch.int8, [size], size) for size in sizes])")
    arrived = reader.fetch(owner.get("metadata")).result()
    assert [values.bits(tensor) for tensor in arrived] == [values.bits(values.numbers(torch.int8, [n], n)) for n in owner.get("sizes")]
    owner.run("engine.release(metadata)")


def test_runs_and_what_breaks_them(reader: ray_hixl.Engine, owner: Owner) -> None:
    """Layouts that repeat, change and come back; contiguous and strided ones in turn."""
    make = "[values.on_npu([torch.float32, torch.int16, torch.float8_e5m2][i // 4 % 3], [[4, 6], [24]][i // 5 % 2], i) for i in range(60)]"
    owner.run(f"made = {make}; made = [x.t() if i % 7 == 0 and x.dim() == 2 else x for i, x in enumerate(made)]")
    arrived = reader.fetch(owner.get("engine.publish(made)")).result()
    assert [values.bits(tensor) for tensor in arrived] == owner.get("[values.bits(x.cpu().contiguous()) for x in made]")


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many tensors each batched copy took, and how often memory was wrapped."""
    seen: dict[str, list[int]] = {"batches": [], "imports": []}
    foreach_copy, capsule = torch._foreach_copy_, ray_hixl._core.npu_capsule

    def count_copies(into: list[torch.Tensor], out_of: list[torch.Tensor]) -> None:
        seen["batches"].append(len(into))
        foreach_copy(into, out_of)

    def count_imports(address: int, device: int, dtype: str, shape: list[int], step: int) -> Any:
        seen["imports"].append(shape[0])
        return capsule(address, device, dtype, shape, step)

    monkeypatch.setattr(torch, "_foreach_copy_", count_copies)
    monkeypatch.setattr(ray_hixl._core, "npu_capsule", count_imports)
    return seen


def test_one_batched_copy_for_an_object(engine: ray_hixl.Engine, copies: dict[str, list[int]]) -> None:
    engine.publish([torch.ones(256, device="npu") for _ in range(500)])
    assert copies == {"batches": [500], "imports": [500]}


def test_one_batched_copy_for_each_type(engine: ray_hixl.Engine, copies: dict[str, list[int]]) -> None:
    engine.publish([torch.ones(8, device="npu", dtype=torch.float32 if i < 10 else torch.int32) for i in range(15)])
    assert copies == {"batches": [10, 5], "imports": [10, 5]}


def test_registered_memory_is_not_copied(engine: ray_hixl.Engine, copies: dict[str, list[int]]) -> None:
    buffer = torch.utils.dlpack.from_dlpack(engine.empty(4096, "npu:0"))
    engine.publish([buffer, buffer[512:], buffer.view(2, 2048)])
    assert copies == {"batches": [], "imports": []}
    engine.publish([buffer.view(64, 64).t()])
    assert copies["imports"] == [1], "what is not contiguous is packed, wherever it is"


def test_memory_goes_back(engine: ray_hixl.Engine) -> None:
    metadata = engine.publish([torch.ones(1 << 20, device="npu")])
    assert values.slabs(engine)["used_bytes"] == 4 << 20
    engine.release(metadata)
    eventually(lambda: values.slabs(engine)["used_bytes"] == 0)


def test_a_graph_of_gradients_is_left_alone(engine: ray_hixl.Engine) -> None:
    x = torch.ones(4, 6, device="npu", requires_grad=True)
    y = (x * 2).t()
    [arrived] = engine.fetch(engine.publish([y])).result()
    assert not arrived.requires_grad
    assert (y.requires_grad, y.grad_fn is not None) == (True, True)


def test_tensors_of_inference_mode(reader: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("with torch.inference_mode(): x = values.on_npu(torch.float32, [4, 6], 9); metadata = engine.publish([x, x.t()])")
    with torch.inference_mode():
        arrived = reader.fetch(owner.get("metadata")).result()
    x = values.numbers(torch.float32, [4, 6], 9)
    assert [values.bits(tensor) for tensor in arrived] == [values.bits(x), values.bits(x.t().contiguous())]


def test_subclasses_are_read_as_plain_tensors(engine: ray_hixl.Engine) -> None:
    class Noisy(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            raise AssertionError(f"{function} was called on the subclass")

    x = values.on_npu(torch.float32, [5], 1)
    npu.pack([x.as_subclass(Noisy)], [0], [engine.empty(20, "npu:0").address], 0)


def test_a_snapshot_packs_what_is_registered_too(reader: ray_hixl.Engine, owner: Owner) -> None:
    """Registered or not, contiguous or not, and on the host: nothing that is written afterwards is seen."""
    owner.run(
        "taking = ray_hixl.Engine(ray_hixl.Options(publish='snapshot'))\n"
        "x, y, z = values.on_npu(torch.float32, [1000], 1), values.on_npu(torch.float32, [20, 30], 2), torch.arange(1000.)\n"
        "region = taking.register(x)\n"
        "metadata = taking.publish([x, y.t(), z])\n"
        "for each in (x, y, z): each.fill_(7)\n"
        "torch.npu.synchronize()"
    )
    x, y = values.numbers(torch.float32, [1000], 1), values.numbers(torch.float32, [20, 30], 2)
    arrived = reader.fetch(owner.get("metadata")).result()
    expected = (x, y.t().contiguous(), torch.arange(1000.0))
    assert [values.bits(each) for each in arrived] == [values.bits(each) for each in expected]
    owner.run("taking.release(metadata); taking.close(); del region")
