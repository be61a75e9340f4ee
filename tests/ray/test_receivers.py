"""Receivers of every kind: async and threaded actors, with many objects on their way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch

import actors
from ray_hixl.ray import compat

MANY = 40


@pytest.fixture
def async_peer(cluster: Any) -> Iterator[Any]:
    made = actors.AsyncPeer.remote()
    yield made
    ray.kill(made)


def total_of_many(source: Any, receiver: Any) -> int:
    """Of objects that are not made yet when they are handed over."""
    handed = [receiver.call.remote(lambda tensor: int(tensor[0]), source.give.remote(torch.full, (10,), i)) for i in range(MANY)]
    return sum(ray.get(handed, timeout=60))


def test_async_receiver_of_many(source: Any, async_peer: Any) -> None:
    assert [total_of_many(source, async_peer) for _ in range(3)] == [sum(range(MANY))] * 3


def test_threaded_receiver_of_many(source: Any, fresh: Any) -> None:
    assert total_of_many(source, fresh(max_concurrency=8, num_cpus=0)) == sum(range(MANY))


def test_async_receiver_without_the_wait(fresh: Any, source: Any) -> None:
    """What the wait is for: without it Ray blocks the actor. When this fails, Ray has mended it, and the wait can go."""
    submitter = fresh(runtime_env={"env_vars": {"RAY_HIXL_RAY_WAIT_FOR_SOURCE": "false"}}, num_cpus=0)

    def is_blocked(source: Any) -> bool:
        receiver = actors.AsyncPeer.remote()
        handed = [receiver.call.remote(lambda tensor: int(tensor[0]), source.give.remote(torch.full, (10,), i)) for i in range(MANY)]
        _, late = ray.wait(handed, num_returns=MANY, timeout=4)
        ray.kill(receiver)
        return bool(late)

    assert any(ray.get(submitter.call.remote(is_blocked, source)) for _ in range(5))


def test_a_task_that_fails_is_not_waited_for(source: Any, async_peer: Any) -> None:
    def fail() -> torch.Tensor:
        raise ZeroDivisionError("of the source")

    with pytest.raises(ray.exceptions.RayTaskError, match="of the source"):
        ray.get(async_peer.call.remote(len, source.give.remote(fail)), timeout=30)


def test_a_submitting_event_loop_is_not_blocked(source: Any, async_peer: Any) -> None:
    """It may be what has to run before the object is made."""

    async def submit() -> Any:
        return async_peer.call.remote(lambda tensor: int(tensor[0]), source.give.remote(torch.full, (10,), 7))

    assert ray.get(asyncio.run(submit()), timeout=30) == 7


def test_actors_in_order_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, source: Any, consumer: Any) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(compat, "is_to_come", lambda *arguments: asked.append(arguments))
    assert ray.get(consumer.call.remote(lambda tensor: int(tensor[0]), source.give.remote(torch.full, (10,), 7))) == 7
    assert asked == []
