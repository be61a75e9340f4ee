"""From publish to free: an object lives as long as its references, what was received as long as its tensors."""

from __future__ import annotations

from typing import Any

import ray
import torch

import actors


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


def test_received_tensors_outlive_the_object(source: Any) -> None:
    reference = source.give.remote(actors.numbers, 100_000, 5)
    arrived = ray.get(reference)
    del reference
    actors.eventually(lambda: ray.get(source.call.remote(actors.left))["objects of the engine"] == 0)
    again = ray.get(source.give.remote(actors.numbers, 100_000, 6))
    assert torch.equal(arrived, actors.numbers(100_000, 5))
    assert torch.equal(again, actors.numbers(100_000, 6))
