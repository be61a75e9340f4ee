"""Actors hand npu tensors to each other and to the driver, by Ray's own means."""

from __future__ import annotations

from typing import Any

import pytest
import ray
import torch
import values

import actors

DTYPES = [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.complex64, torch.uint16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(source: Any, consumer: Any, dtype: torch.dtype) -> None:
    """As an argument, and by ``ray.get`` in the driver."""
    reference = source.give.remote(values.on_npu, dtype, [30, 7], 1)
    expected = values.bits(values.numbers(dtype, [30, 7], 1))
    assert ray.get(consumer.call.remote(values.bits, reference)) == expected
    arrived = ray.get(reference)
    assert (values.bits(arrived), arrived.device) == (expected, torch.device("npu", 0))


def test_views(source: Any, consumer: Any) -> None:
    def make() -> list[torch.Tensor]:
        x = values.on_npu(torch.float32, [10, 12], 1)
        return [x[3:], x.t(), x[:, ::3], x[2, 3], x[:1].expand(4, -1), x[:0]]

    x = values.numbers(torch.float32, [10, 12], 1)
    expected = [values.bits(view.contiguous()) for view in (x[3:], x.t(), x[:, ::3], x[2, 3], x[:1].expand(4, -1), x[:0])]
    reference = source.give.remote(make)
    assert ray.get(consumer.call.remote(lambda tensors: [values.bits(tensor) for tensor in tensors], reference)) == expected
    arrived = ray.get(reference)
    assert [values.bits(tensor) for tensor in arrived] == expected
    assert {tensor.device.type for tensor in arrived} == {"npu"}


def test_many_tensors(source: Any, consumer: Any) -> None:
    reference = source.give.remote(lambda: [values.on_npu(torch.uint8, [1024], seed) for seed in range(1000)])

    def look(tensors: list[torch.Tensor]) -> tuple[int, bool]:
        here = torch.stack([tensor.cpu() for tensor in tensors])
        return len(tensors), torch.equal(here, torch.stack([values.numbers(torch.uint8, [1024], seed) for seed in range(1000)]))

    assert ray.get(consumer.call.remote(look, reference)) == (1000, True)


def test_values_around_tensors(source: Any, consumer: Any) -> None:
    """Dataclasses, modules, and tensors of both kinds of memory in one value."""

    def make() -> dict[str, Any]:
        module = torch.nn.Linear(3, 2)
        module.weight.data.fill_(2)
        module.to("npu")
        batch = actors.Batch(values.on_npu(torch.int32, [5], 1), "name", [torch.arange(4), torch.full((2,), 7, device="npu")])
        return {"module": module, "batch": batch, "state": module.state_dict()}

    def look(value: dict[str, Any]) -> list[Any]:
        batch = value["batch"]
        tensors = [value["module"].weight, value["state"]["weight"], batch.tokens, *batch.more]
        return [(type(tensor).__name__, tensor.device.type, tensor.detach().cpu().tolist()) for tensor in tensors]

    expected = [
        ("Parameter", "npu", [[2.0] * 3] * 2),
        ("Tensor", "npu", [[2.0] * 3] * 2),
        ("Tensor", "npu", values.numbers(torch.int32, [5], 1).tolist()),
        ("Tensor", "cpu", [0, 1, 2, 3]),
        ("Tensor", "npu", [7, 7]),
    ]
    reference = source.give.remote(make)
    assert ray.get(consumer.call.remote(look, reference)) == expected
    assert look(ray.get(reference)) == expected


@pytest.mark.parametrize("first", ["npu", "cpu"])
def test_both_kinds_of_memory(source: Any, consumer: Any, first: str) -> None:
    """Whichever tensor comes first; each arrives where it was."""

    def make(first: str) -> list[torch.Tensor]:
        other = "cpu" if first == "npu" else "npu"
        return [torch.full((100,), 1, device=first), torch.full((100,), 2, device=other), torch.full((3, 4), 3, device=first).t()]

    def look(tensors: list[torch.Tensor]) -> list[tuple[str, list[int]]]:
        return [(tensor.device.type, tensor.cpu().unique().tolist()) for tensor in tensors]

    other = "cpu" if first == "npu" else "npu"
    reference = source.give.remote(make, first)
    assert ray.get(consumer.call.remote(look, reference)) == [(first, [1]), (other, [2]), (first, [3])]
    assert look(ray.get(reference)) == [(first, [1]), (other, [2]), (first, [3])]


def test_the_same_tensor_twice_stays_the_same(source: Any, consumer: Any) -> None:
    def make() -> list[torch.Tensor]:
        x = torch.ones(5, device="npu")
        return [x, x]

    assert ray.get(consumer.call.remote(lambda pair: pair[0] is pair[1], source.give.remote(make)))


def test_put_and_get_of_borrowed_references(source: Any, consumer: Any) -> None:
    references = ray.get(source.call.remote(actors.put_all, lambda: [values.on_npu(torch.float32, [50], seed) for seed in range(5)]))
    expected = [values.bits(values.numbers(torch.float32, [50], seed)) for seed in range(5)]
    look = lambda references: [values.bits(tensor) for tensor in ray.get(references)]  # noqa: E731
    assert ray.get(consumer.call.remote(look, references)) == expected
    assert look(references) == expected


def test_put_in_the_driver(consumer: Any) -> None:
    reference = actors.put([values.on_npu(torch.float32, [50], 1), torch.arange(3)])
    look = lambda tensors: [values.bits(tensor) for tensor in tensors]  # noqa: E731
    assert ray.get(consumer.call.remote(look, reference)) == look([values.numbers(torch.float32, [50], 1), torch.arange(3)])
