"""What a value is made of: nesting, many tensors or none, views, shared memory, gradients, torch's own containers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy
import ray
import torch

import actors
import ray_hixl
from versions import put_without_tensors, tensors_by_identity


def through(source: Any, consumer: Any, make: Any, look: Any = lambda value: value) -> Any:
    """``look`` in the consumer at what ``make`` made in the source."""
    return ray.get(consumer.call.remote(look, source.give.remote(make)))


def test_nested_containers(source: Any, consumer: Any) -> None:
    def make() -> dict[str, Any]:
        return {"layers": [torch.arange(4), (torch.ones(2, 2), "name")], "none": None, 7: {"deep": [[torch.zeros(3)]]}, "plain": 1.5}

    arrived = through(source, consumer, make)
    assert torch.equal(arrived["layers"][0], torch.arange(4))
    assert torch.equal(arrived["layers"][1][0], torch.ones(2, 2))
    assert torch.equal(arrived[7]["deep"][0][0], torch.zeros(3))
    assert (arrived["layers"][1][1], arrived["none"], arrived["plain"]) == ("name", None, 1.5)
    assert list(arrived) == ["layers", "none", 7, "plain"]


def test_dataclass_and_named_tuple(source: Any, consumer: Any) -> None:
    def make() -> Any:
        return actors.Pair(torch.arange(3), torch.arange(5)), actors.Batch(torch.arange(8), "batch", [torch.ones(1), torch.ones(2)])

    pair, batch = through(source, consumer, make)
    assert isinstance(pair, actors.Pair)
    assert torch.equal(pair.second, torch.arange(5))
    assert isinstance(batch, actors.Batch)
    assert batch.name == "batch"
    assert torch.equal(batch.tokens, torch.arange(8))
    assert [len(tensor) for tensor in batch.more] == [1, 2]


def test_large_plain_part(source: Any, consumer: Any) -> None:
    """What is no tensor goes through Ray's object store."""
    arrived = through(source, consumer, lambda: {"plain": numpy.arange(300_000), "tensor": torch.arange(10)})
    assert (arrived["plain"] == numpy.arange(300_000)).all()
    assert torch.equal(arrived["tensor"], torch.arange(10))


def test_no_tensors_from_a_task(source: Any, consumer: Any) -> None:
    for value in ([], {}, None, {"plain": [1, 2]}):
        reference = source.give.remote(lambda value=value: value)
        assert ray.get(consumer.call.remote(lambda value: value, reference)) == value
        assert ray.get(reference) == value


@put_without_tensors
def test_no_tensors_from_put(source: Any, consumer: Any) -> None:
    references = ray.get(source.call.remote(actors.put_all, lambda: [[], {"plain": 1}]))
    assert ray.get(references) == [[], {"plain": 1}]
    assert ray.get(consumer.call.remote(actors.get, references)) == [[], {"plain": 1}]


def test_two_thousand_tensors(source: Any, consumer: Any) -> None:
    reference = source.give.remote(lambda: [actors.numbers(1 + 7 * seed % 300, seed) for seed in range(2000)])
    expected = [actors.numbers(1 + 7 * seed % 300, seed) for seed in range(2000)]
    before = ray.get(consumer.call.remote(actors.fetched))
    arrived = ray.get(consumer.call.remote(lambda tensors: torch.cat(tensors), reference))
    assert torch.equal(arrived, torch.cat(expected))
    assert ray.get(consumer.call.remote(actors.fetched)) - before == sum(tensor.nbytes for tensor in expected)
    assert all(torch.equal(*pair) for pair in zip(ray.get(reference), expected, strict=True))


def test_ten_thousand_equal_tensors(source: Any) -> None:
    blocks = ray.get(source.give.remote(lambda: {f"layer.{index}": torch.full((16, 8), index) for index in range(10_000)}))
    assert all(torch.equal(blocks[f"layer.{index}"], torch.full((16, 8), index)) for index in range(10_000))


@tensors_by_identity
def test_many_tensors_without_elements(source: Any, consumer: Any) -> None:
    arrived = through(source, consumer, lambda: [torch.empty(0), torch.empty(0, 3), torch.ones(2), torch.empty(5, 0)])
    assert [list(tensor.shape) for tensor in arrived] == [[0], [0, 3], [2], [5, 0]]


def test_same_tensor_twice(source: Any, consumer: Any) -> None:
    def make() -> list[torch.Tensor]:
        tensor = torch.arange(6)
        return [tensor, torch.ones(1), tensor]

    def look(tensors: list[torch.Tensor]) -> tuple[bool, list[torch.Tensor]]:
        return tensors[0] is tensors[2], tensors

    same, arrived = through(source, consumer, make, look)
    assert same
    assert torch.equal(arrived[2], torch.arange(6))


def test_same_tensor_in_two_objects(source: Any) -> None:
    def make() -> list[torch.Tensor]:
        return [actors.kept.setdefault("both", torch.arange(9.0))] * 2

    one, two = ray.get(source.call.remote(actors.put_all, make))
    assert torch.equal(ray.get(one), torch.arange(9.0))
    del one
    actors.eventually(lambda: ray.get(source.call.remote(actors.left))["objects of the engine"] == 1)
    assert torch.equal(ray.get(two), torch.arange(9.0)), "freeing one object leaves the other"
    ray.get(source.call.remote(lambda: actors.kept.pop("both").shape))


def test_views_of_one_storage(source: Any, consumer: Any) -> None:
    def make() -> list[torch.Tensor]:
        base = torch.arange(100)
        return [base, base[10:20], base[15:40], base.view(10, 10), base[:5]]

    def look(tensors: list[torch.Tensor]) -> tuple[int, list[torch.Tensor]]:
        return len({tensor.untyped_storage().data_ptr() for tensor in tensors}), tensors

    storages, arrived = through(source, consumer, make, look)
    base = torch.arange(100)
    expected = [base, base[10:20], base[15:40], base.view(10, 10), base[:5]]
    assert all(torch.equal(*pair) for pair in zip(arrived, expected, strict=True))
    assert storages == 5, "each arrives in a storage of its own"


def not_contiguous() -> list[torch.Tensor]:
    matrix = torch.arange(24).view(4, 6)
    image = torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=torch.channels_last)
    return [matrix.T, matrix[:, 1:3], matrix[::2], torch.arange(3).expand(4, 3), torch.ones(()).expand(2, 2), image, matrix.diagonal()]


def test_not_contiguous(source: Any, consumer: Any) -> None:
    def look(tensors: list[torch.Tensor]) -> tuple[bool, list[torch.Tensor]]:
        return all(tensor.is_contiguous() for tensor in tensors), tensors

    contiguous, arrived = through(source, consumer, not_contiguous, look)
    assert contiguous
    assert all(torch.equal(*pair) for pair in zip(arrived, not_contiguous(), strict=True))


def lazy() -> list[torch.Tensor]:
    numbers = torch.complex(torch.arange(12.0), -torch.arange(12.0)).view(3, 4)
    return [numbers.conj(), numbers.conj().imag, numbers.conj().T[1:], torch._neg_view(torch.arange(5)), numbers.T.conj().imag]


def test_conjugate_and_negative_views(source: Any, consumer: Any) -> None:
    def look(tensors: list[torch.Tensor]) -> tuple[list[bool], list[torch.Tensor]]:
        return [tensor.is_conj() or tensor.is_neg() for tensor in tensors], tensors

    pending, arrived = through(source, consumer, lazy, look)
    assert not any(pending)
    assert all(torch.equal(*pair) for pair in zip(arrived, lazy(), strict=True))


def test_gradients_and_parameters(source: Any, consumer: Any) -> None:
    def make() -> dict[str, torch.Tensor]:
        leaf = torch.arange(4.0, requires_grad=True)
        return {"leaf": leaf, "result": leaf * 2, "parameter": torch.nn.Parameter(torch.ones(3)), "buffer": torch.nn.Buffer(torch.zeros(2))}

    def look(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[str, bool, list[float]]]:
        return {name: (type(tensor).__name__, tensor.requires_grad, tensor.tolist()) for name, tensor in tensors.items()}

    assert through(source, consumer, make, look) == {
        "leaf": ("Tensor", False, [0.0, 1.0, 2.0, 3.0]),
        "result": ("Tensor", False, [0.0, 2.0, 4.0, 6.0]),
        "parameter": ("Parameter", True, [1.0, 1.0, 1.0]),
        "buffer": ("Tensor", False, [0.0, 0.0]),
    }


def test_module_and_state_dict(source: Any, consumer: Any) -> None:
    def make() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        torch.manual_seed(5)
        module = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.BatchNorm1d(4))
        return module, module.state_dict()

    def look(value: tuple[torch.nn.Module, dict[str, torch.Tensor]]) -> tuple[list[list[float]], dict[str, list[float]]]:
        module, state = value
        return module.eval()(torch.ones(2, 8)).tolist(), {name: tensor.tolist() for name, tensor in state.items()}

    module, state = make()
    assert through(source, consumer, make, look) == look((module, state))


def test_read_only_source(source: Any, consumer: Any) -> None:
    def make() -> torch.Tensor:
        return torch.frombuffer(bytes(range(200)), dtype=torch.uint8)

    assert torch.equal(through(source, consumer, make), torch.arange(200, dtype=torch.uint8))


def test_source_in_the_object_store(source: Any, consumer: Any) -> None:
    """An array that Ray maps there, read-only."""
    array = ray.put(numpy.arange(200_000))

    def make() -> list[ray.ObjectRef]:
        mapped = ray.get(array)
        assert not mapped.flags.writeable
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of memory that must not be written
            return [actors.put(torch.from_numpy(mapped))]

    (arrived,) = ray.get(consumer.call.remote(actors.get, source.call.remote(make)))
    assert torch.equal(arrived, torch.arange(200_000))


def test_source_arena(source: Any, consumer: Any) -> None:
    """A tensor that was born in the source arena is pulled out of it."""

    def make() -> torch.Tensor:
        return ray_hixl.empty(200_000, dtype=torch.int64).copy_(torch.arange(200_000))

    assert torch.equal(through(source, consumer, make), torch.arange(200_000))


def test_what_arrives_is_the_consumers_own(source: Any, consumer: Any) -> None:
    reference = source.give.remote(torch.zeros, 1000)
    assert ray.get(consumer.call.remote(lambda tensor: tensor.add_(1).sum().item(), reference)) == 1000
    assert ray.get(reference).sum().item() == 0
    resized = ray.get(consumer.call.remote(lambda tensor: tensor.clone().resize_(2000)[:1000].sum().item(), reference))
    assert resized == 0
