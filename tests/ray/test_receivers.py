"""Receivers of every kind: async and threaded actors, with many objects on their way at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

import actors
from ray_hixl.ray import compat, handoffs

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


def test_async_receiver_without_the_wait(fresh: Any) -> None:
    """What the wait is for: without it Ray blocks the actor, sooner or later. When this fails, Ray has mended it, and the wait can go."""
    source = fresh(num_cpus=0)  # which may keep what Ray does not free behind a receiver that is killed
    submitter = fresh(runtime_env={"env_vars": {"RAY_HIXL_RAY_WAIT_FOR_SOURCE": "false"}}, num_cpus=0)

    def is_blocked(source: Any) -> bool:
        receiver = actors.AsyncPeer.remote()
        handed = [receiver.call.remote(lambda tensor: int(tensor[0]), source.give.remote(torch.full, (10,), i)) for i in range(5 * MANY)]
        _, late = ray.wait(handed, num_returns=len(handed), timeout=4)
        ray.kill(receiver)
        return bool(late)

    deadline = time.monotonic() + 60
    while not ray.get(submitter.call.remote(is_blocked, source)):
        assert time.monotonic() < deadline


def test_a_task_that_fails_is_not_waited_for(source: Any, async_peer: Any) -> None:
    def fail() -> torch.Tensor:
        raise ZeroDivisionError("of the source")

    with pytest.raises(ray.exceptions.RayTaskError, match="of the source"):
        ray.get(async_peer.call.remote(len, source.give.remote(fail)), timeout=30)


def test_the_same_reference_twice(source: Any, async_peer: Any) -> None:
    reference = source.give.remote(lambda: (time.sleep(0.2), torch.full((10,), 7))[1])
    assert ray.get(async_peer.call.remote(lambda one, two: int(one[0] + two[0]), reference, reference), timeout=30) == 14


def hand_over(itself: Any, receiver: Any) -> tuple[Any, float]:
    start = time.monotonic()
    return receiver.call.remote(lambda tensor: int(tensor[0]), itself.give.remote(torch.full, (10,), 7)), time.monotonic() - start


def test_what_an_actor_is_to_make_itself_is_not_waited_for(fresh: Any, async_peer: Any) -> None:
    maker = fresh(num_cpus=0)
    asked, took = ray.get(maker.call.remote(hand_over, maker, async_peer), timeout=90)
    assert took < 10
    assert ray.get(asked, timeout=30) == 7


def test_a_submitting_event_loop_is_not_blocked(fresh: Any, async_peer: Any) -> None:
    """It may be what has to run before the object is made."""
    source = fresh(max_concurrency=2, num_cpus=0)

    def make_when_told() -> torch.Tensor:
        actors.eventually(lambda: "told" in actors.kept)
        return torch.full((10,), 7)

    async def submit() -> Any:
        asked = async_peer.call.remote(lambda tensor: int(tensor[0]), source.give.remote(make_when_told))
        await source.call.remote(lambda: actors.kept.update(told=True))
        return asked

    assert ray.get(asyncio.run(submit()), timeout=30) == 7


def test_a_wait_ends_with_the_fetch_timeout(source: Any, fresh: Any) -> None:
    busy = fresh(num_cpus=0)
    reference = busy.give.remote(lambda: (time.sleep(5), torch.zeros(1))[1])
    start = time.monotonic()
    handoffs._wait(actors.ray_manager(), [reference], 0.5)
    assert time.monotonic() - start < 4


def test_metadata_follow_what_was_made(cluster: Any) -> None:
    """The object may be there a moment before them. Those of tasks that failed never come, which is waited for once, however many."""
    references = [ray.put(i) for i in range(30)]
    asked: dict[str, float] = {}

    def wait_for_metadata(name: str, timeout: float) -> None:
        asked[name] = timeout
        time.sleep(timeout)

    handoffs._wait(SimpleNamespace(wait_for_tensor_transport_metadata=wait_for_metadata), references, 30)
    assert list(asked) == [reference.hex() for reference in references]
    assert max(asked.values()) > 0
    assert sum(asked.values()) < 1


def test_actors_in_order_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, source: Any, consumer: Any) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(compat, "is_to_come", lambda *arguments: asked.append(arguments))
    assert ray.get(consumer.call.remote(lambda tensor: int(tensor[0]), source.give.remote(torch.full, (10,), 7))) == 7
    assert asked == []


def test_threaded_receiver_of_a_hundred_calls(source: Any, fresh: Any) -> None:
    """Each takes an object and one that another call takes, too."""
    receiver = fresh(max_concurrency=16, num_cpus=0)
    shared = source.give.remote(torch.full, (10,), 1000)
    handed = [
        receiver.call.remote(lambda one, two: int(one[0] + two[0]), source.give.remote(torch.full, (10,), i), shared) for i in range(100)
    ]
    assert ray.get(handed, timeout=60) == [1000 + i for i in range(100)]


@ray.remote(enable_tensor_transport=True, num_cpus=0, concurrency_groups={"aside": 2})
class Grouped:
    """Receives and gives in a concurrency group of its own while its other calls wait."""

    def __init__(self) -> None:
        self.end = threading.Event()

    def wait(self) -> bool:
        return self.end.wait(60)

    @ray.method(concurrency_group="aside")
    def take(self, tensor: torch.Tensor) -> int:
        return int(tensor[0])

    @ray.method(concurrency_group="aside", tensor_transport="hixl")
    def give(self, number: int) -> torch.Tensor:
        return torch.full((10,), number)

    @ray.method(concurrency_group="aside")
    def finish(self) -> None:
        self.end.set()


def test_concurrency_groups(source: Any, consumer: Any) -> None:
    grouped = Grouped.remote()
    waiting = grouped.wait.remote()
    handed = [grouped.take.remote(source.give.remote(torch.full, (10,), i)) for i in range(MANY)]
    assert ray.get(handed, timeout=60) == list(range(MANY))
    assert ray.get(consumer.call.remote(lambda tensor: int(tensor[0]), grouped.give.remote(7)), timeout=60) == 7
    assert not ray.wait([waiting], timeout=0)[0]
    ray.get(grouped.finish.remote())
    assert ray.get(waiting)
    ray.kill(grouped)


def read_in_forked_workers(tensors: list[torch.Tensor]) -> bool:
    """By a DataLoader, while this process lets the tensors go."""
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    batches = iter(DataLoader(list(tensors), batch_size=4, num_workers=2, multiprocessing_context="fork"))
    first = next(batches)
    tensors.clear()
    return torch.equal(torch.cat([first, *batches]), torch.arange(40).view(40, 1).expand(40, 1000))


def test_workers_of_a_data_loader_in_an_actor(source: Any, fresh: Any) -> None:
    receiver = fresh(num_cpus=0)
    for _ in range(2):
        reference = source.give.remote(lambda: [torch.full((1000,), i) for i in range(40)])
        assert ray.get(receiver.call.remote(read_in_forked_workers, reference), timeout=60)
