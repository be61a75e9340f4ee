"""From publish to free: memory goes when the last reference does, targets receive in place, nothing is left behind."""

from __future__ import annotations

from typing import Any

import ray
import torch

import actors
import ray_hixl
from versions import target_for_ref


def keep_and_put() -> list[ray.ObjectRef]:
    actors.kept["tensor"] = torch.arange(1000)
    return [actors.put(actors.kept["tensor"])]


def wait_until_freed(seconds: float) -> str:
    try:
        ray.experimental.wait_tensor_freed(actors.kept["tensor"], timeout=seconds)
    except TimeoutError:
        return "still held"
    return "freed"


def test_wait_tensor_freed(source: Any, consumer: Any) -> None:
    references = ray.get(source.call.remote(keep_and_put))
    assert ray.get(source.call.remote(wait_until_freed, 0.2)) == "still held"
    assert torch.equal(ray.get(consumer.call.remote(actors.get, references))[0], torch.arange(1000))
    references.clear()
    assert ray.get(source.call.remote(wait_until_freed, 10.0)) == "freed"
    ray.get(source.call.remote(actors.kept.clear))


def test_free_ends_the_engine_object(source: Any, consumer: Any) -> None:
    reference = source.give.remote(actors.numbers, 100_000, 1)
    assert ray.get(consumer.call.remote(len, reference)) == 100_000
    assert ray.get(source.call.remote(actors.left))["objects of the engine"] == 1
    del reference
    actors.eventually(lambda: ray.get(source.call.remote(actors.left))["objects of the engine"] == 0)


def test_twenty_handoffs_leave_nothing(source: Any, consumer: Any) -> None:
    for seed in range(20):
        arrived = ray.get(consumer.call.remote(lambda tensor: tensor, source.give.remote(actors.numbers, 10_000, seed)))
        assert torch.equal(arrived, actors.numbers(10_000, seed))
    actors.eventually(lambda: not any(ray.get(source.call.remote(actors.left)).values()))


def test_received_tensors_outlive_the_object(source: Any) -> None:
    reference = source.give.remote(actors.numbers, 100_000, 5)
    arrived = ray.get(reference)
    del reference
    actors.eventually(lambda: ray.get(source.call.remote(actors.left))["objects of the engine"] == 0)
    again = ray.get(source.give.remote(actors.numbers, 100_000, 6))
    assert torch.equal(arrived, actors.numbers(100_000, 5))
    assert torch.equal(again, actors.numbers(100_000, 6))


@target_for_ref
def test_set_target_for_ref(source: Any) -> None:
    targets = [torch.zeros(1000, dtype=torch.uint8), torch.zeros(50, dtype=torch.uint8)]
    reference = source.give.remote(lambda: [actors.numbers(1000, 1), actors.numbers(50, 2)])
    ray.experimental.set_target_for_ref(reference, targets)
    arrived = ray.get(reference)
    assert [tensor.data_ptr() for tensor in arrived] == [tensor.data_ptr() for tensor in targets]
    assert torch.equal(targets[0], actors.numbers(1000, 1))
    assert torch.equal(targets[1], actors.numbers(50, 2))


def test_counters_equal_the_payload(source: Any, consumer: Any) -> None:
    before = ray.get(consumer.call.remote(actors.fetched))
    resolved = ray.get(source.call.remote(ray_hixl.stats))["resolved"]
    assert ray.get(consumer.call.remote(len, source.give.remote(actors.numbers, 123_457, 1))) == 123_457
    assert ray.get(consumer.call.remote(actors.fetched)) - before == 123_457
    assert ray.get(source.call.remote(ray_hixl.stats))["resolved"] == resolved + 1
