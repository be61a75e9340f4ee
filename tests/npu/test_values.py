"""What arrives is what was published: every dtype, every kind of view, by every door of torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import values

import ray_hixl
from support import Owner

VIEWS = {
    "whole": "x",
    "rows": "x[3:7]",
    "offset": "x.view(-1)[5:77]",
    "one element": "x[2, 3]",
    "columns": "x[:, 2:5]",
    "every second": "x[::2, 1::3]",
    "transposed": "x.t()",
    "expanded": "x[:1].expand(6, -1)",
    "permuted": "x.view(2, 5, 12).permute(2, 0, 1)",
    "of size one": "x.as_strided((1, 12, 1), (999, 1, 7))",
    "strided": "x.as_strided((3, 4), (24, 2), 5)",
    "without elements": "x[:0]",
    "parameter": "torch.nn.Parameter(x)",
    "requires grad": "(x.requires_grad_() * 1)",
    "detached": "x.detach().view(-1)",
}


@pytest.fixture(params=("table", "attributes"))
def door(request: pytest.FixtureRequest, owner: Owner) -> Iterator[str]:
    """How the owner reads tensors."""
    owner.run(f"ray_hixl._core.use_torch(torch, exchange_api={request.param == 'table'})")
    yield request.param
    owner.run("ray_hixl._core.use_torch(torch)")


@pytest.mark.parametrize("dtype", values.DTYPES, ids=str)
def test_dtypes(reader: ray_hixl.Engine, owner: Owner, door: str, dtype: torch.dtype) -> None:
    """Contiguous, and not: the copies on the NPU take every dtype."""
    owner.run("x = values.on_npu(dtype, [6, 10], 1); metadata = engine.publish([x, x.t(), x[:, 3:7]])", dtype=dtype)
    arrived = reader.fetch(owner.get("metadata")).result()
    expected = values.numbers(dtype, [6, 10], 1)
    assert [tensor.device for tensor in arrived] == [torch.device("npu", 0)] * 3
    assert [values.bits(tensor) for tensor in arrived] == [
        values.bits(view.contiguous()) for view in (expected, expected.t(), expected[:, 3:7])
    ]
    owner.run("engine.release(metadata)")


@pytest.mark.parametrize("view", VIEWS)
def test_views(reader: ray_hixl.Engine, owner: Owner, door: str, view: str) -> None:
    owner.run(f"x = values.on_npu(torch.float32, [10, 12], 2); metadata = engine.publish([{VIEWS[view]}])")
    [arrived] = reader.fetch(owner.get("metadata")).result()
    x = values.numbers(torch.float32, [10, 12], 2)  # noqa: F841  # what the view is of
    assert values.bits(arrived) == values.bits(eval(VIEWS[view]).detach().contiguous())
    assert (type(arrived), arrived.requires_grad, arrived.device.type) == (torch.Tensor, False, "npu")


@pytest.mark.parametrize("view", ["x.conj()", "x.conj().t()", "x.conj().imag", "x.real", "torch._neg_view(x.real)"])
def test_lazy_bits(reader: ray_hixl.Engine, owner: Owner, door: str, view: str) -> None:
    """torch resolves conjugated and negated views where they are published."""
    x = torch.arange(48.0).view(torch.complex64).view(4, 6) + 1  # noqa: F841  # what the view is of
    expected = eval(view).resolve_conj().resolve_neg().contiguous()
    owner.run("x = (torch.arange(48.0).view(torch.complex64).view(4, 6) + 1).npu()")
    [arrived] = reader.fetch(owner.get(f"engine.publish([{view}])")).result()
    assert values.bits(arrived) == values.bits(expected)


def test_without_elements(reader: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("x = torch.empty(0, 3, device='npu'); y = torch.empty(2, 0, dtype=torch.int8, device='npu'); z = torch.ones(2, device='npu')")
    for names in ("[x]", "[x, y]", "[x, z, y]"):
        arrived = reader.fetch(owner.get(f"engine.publish({names})")).result()
        assert [str(tensor.device) for tensor in arrived] == ["npu:0"] * len(arrived)
        assert [tensor.shape for tensor in arrived] == owner.get(f"[each.shape for each in {names}]")


def test_both_kinds_of_memory(reader: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("tensors = [values.numbers(torch.float32, [5], 1), values.on_npu(torch.float32, [5], 2), torch.zeros(0)]")
    owner.run("tensors += [values.on_npu(torch.int8, [7], 3), values.numbers(torch.int8, [9], 4)]")
    fetch = reader.fetch(owner.get("engine.publish(tensors)"))
    arrived = fetch.result()
    assert [tensor.device.type for tensor in arrived] == ["cpu", "npu", "cpu", "npu", "cpu"]
    assert [values.bits(tensor) for tensor in arrived] == owner.get("[values.bits(tensor) for tensor in tensors]")
    moved = fetch.bytes_by_transport()
    assert moved.pop("hixl") == 27
    assert sum(moved.values()) == 29


def test_two_devices(reader: ray_hixl.Engine, owner: Owner) -> None:
    here = [torch.ones(1, device=f"npu:{index}") for index in range(2)]  # uses both
    owner.run("tensors = [values.on_npu(torch.int32, [300], seed, f'npu:{seed % 2}') for seed in range(5)]")
    arrived = reader.fetch(owner.get("engine.publish(tensors)")).result()
    assert [tensor.device.index for tensor in arrived] == [0, 1, 0, 1, 0], here
    assert [values.bits(tensor) for tensor in arrived] == owner.get("[values.bits(tensor) for tensor in tensors]")


def test_within_a_process(engine: ray_hixl.Engine) -> None:
    """The reader's own engine, and another engine of the same process."""
    x = values.on_npu(torch.float32, [1000], 5, "npu:1")
    with ray_hixl.Engine() as other:
        for source in (engine, other):
            [arrived] = engine.fetch(source.publish([x])).result()
            assert values.bits(arrived) == values.bits(x)
            assert (arrived.device, arrived.data_ptr() != x.data_ptr()) == (x.device, True)
