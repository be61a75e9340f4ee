"""Tensors go from process to process: by task arguments, by ``ray.get``, by borrowed references, to one and to many."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray
import torch

import actors
import ray_hixl
from versions import driver_put


def test_task_return_to_argument(source: Any, consumer: Any) -> None:
    reference = source.give.remote(actors.numbers, 100_000, 1)
    arrived = ray.get(consumer.call.remote(lambda tensor: tensor, reference))
    assert torch.equal(arrived, actors.numbers(100_000, 1))


def test_task_return_to_driver(source: Any) -> None:
    assert torch.equal(ray.get(source.give.remote(actors.numbers, 100_000, 2)), actors.numbers(100_000, 2))


def test_put_in_an_actor_get_in_another(source: Any, consumer: Any) -> None:
    references = source.call.remote(actors.put_all, lambda: [actors.numbers(5000, 3)])
    assert torch.equal(ray.get(consumer.call.remote(lambda refs: ray.get(refs[0]), references)), actors.numbers(5000, 3))


def test_put_in_an_actor_get_in_the_driver(source: Any) -> None:
    (reference,) = ray.get(source.call.remote(actors.put_all, lambda: [actors.numbers(5000, 4)]))
    assert torch.equal(ray.get(reference), actors.numbers(5000, 4))
    assert torch.equal(ray.get(reference), actors.numbers(5000, 4)), "a second get is a second fetch"


@driver_put
def test_put_in_the_driver_as_an_argument(consumer: Any) -> None:
    reference = actors.put(actors.numbers(5000, 5))
    assert torch.equal(ray.get(consumer.call.remote(lambda tensor: tensor, reference)), actors.numbers(5000, 5))


@driver_put
def test_put_in_the_driver_get_in_an_actor(consumer: Any) -> None:
    reference = actors.put(actors.numbers(5000, 6))
    assert torch.equal(ray.get(consumer.call.remote(lambda refs: ray.get(refs[0]), [reference])), actors.numbers(5000, 6))
    assert actors.left()["objects of the engine"] == 1
    del reference
    actors.eventually(lambda: not any(actors.left().values()))


def test_reference_borrowed_in_a_list(source: Any, consumer: Any) -> None:
    references = [source.give.remote(actors.numbers, 3000, seed) for seed in (7, 8)]
    actors.created(*references)
    arrived = ray.get(consumer.call.remote(actors.get, references))
    assert all(torch.equal(tensor, actors.numbers(3000, seed)) for tensor, seed in zip(arrived, (7, 8), strict=True))


def test_reference_borrowed_in_a_dict(source: Any, consumer: Any) -> None:
    reference = source.give.remote(actors.numbers, 3000, 9)
    actors.created(reference)
    arrived = ray.get(consumer.call.remote(lambda box: ray.get(box["deep"]["reference"]), {"deep": {"reference": reference}}))
    assert torch.equal(arrived, actors.numbers(3000, 9))


def test_actor_known_by_its_name_puts(fresh: Any, consumer: Any) -> None:
    """Ray refuses its hixl methods where only the name is known; references that it makes itself can be had, and it can receive."""
    by_name = fresh(name="known by its name")
    ray.get(by_name.call.remote(actors.left))

    def use() -> tuple[Any, Any, str]:
        actor: Any = ray.get_actor("known by its name")
        (reference,) = ray.get(actor.call.remote(actors.put_all, lambda: [actors.numbers(500, 19)]))
        own = actors.put(actors.numbers(500, 20))
        received = ray.get(actor.call.remote(lambda references: ray.get(references[0]), [own]))
        try:
            actor.give.remote(actors.numbers, 500, 19)
        except ValueError as error:
            return ray.get(reference), received, str(error)
        return ray.get(reference), received, ""

    got, received, refused = ray.get(consumer.call.remote(use))
    assert torch.equal(got, actors.numbers(500, 19))
    assert torch.equal(received, actors.numbers(500, 20))
    assert "enable_tensor_transport=False" in refused


def test_awaited_in_a_thread(source: Any) -> None:
    """``await reference`` would start no transfer."""

    async def wait() -> torch.Tensor:
        return await asyncio.to_thread(ray.get, source.give.remote(actors.numbers, 500, 21))

    assert torch.equal(asyncio.run(wait()), actors.numbers(500, 21))


def test_received_tensor_refuses_to_grow(source: Any) -> None:
    received = ray.get(source.give.remote(actors.numbers, 500, 22))
    view = received[:]
    with pytest.raises(RuntimeError, match="not resizable"):
        received.resize_(5000)
    assert torch.equal(view, actors.numbers(500, 22))


def test_an_actor_that_made_neither_side_hands_over(source: Any, consumer: Any, third: Any) -> None:
    """It has their handles from the driver, and owns the object."""

    def hand_over(giver: Any, taker: Any) -> torch.Tensor:
        return ray.get(taker.call.remote(lambda tensor: tensor, giver.give.remote(actors.numbers, 3000, 14)))

    assert torch.equal(ray.get(third.call.remote(hand_over, source, consumer)), actors.numbers(3000, 14))


def test_transport_that_the_call_names(source: Any, consumer: Any) -> None:
    """The method itself has none."""
    before = ray.get(consumer.call.remote(actors.fetched))
    reference = source.call.options(tensor_transport="hixl").remote(actors.numbers, 3000, 15)
    assert torch.equal(ray.get(consumer.call.remote(lambda tensor: tensor, reference)), actors.numbers(3000, 15))
    assert ray.get(consumer.call.remote(actors.fetched)) == before + 3000


def test_a_busy_source_is_read(fresh: Any, consumer: Any) -> None:
    """Its Python takes no part."""
    busy = fresh(max_concurrency=2)
    reference = busy.give.remote(actors.numbers, 3000, 16)
    actors.created(reference)
    ray.get(busy.call.remote(lambda: actors.kept.update(end=threading.Event())))
    working = busy.call.remote(lambda: actors.kept["end"].wait(60))
    assert torch.equal(ray.get(consumer.call.remote(lambda tensor: tensor, reference)), actors.numbers(3000, 16))
    assert not ray.wait([working], timeout=0)[0]
    ray.get(busy.call.remote(lambda: actors.kept["end"].set()))
    assert ray.get(working)


def test_result_of_a_consumer_goes_on(source: Any, consumer: Any, third: Any) -> None:
    first = source.give.remote(actors.numbers, 3000, 10)
    second = consumer.give.remote(lambda tensor: tensor.flip(0), first)
    assert torch.equal(ray.get(third.call.remote(lambda tensor: tensor, second)), actors.numbers(3000, 10).flip(0))


def test_back_to_its_source_is_no_transfer(source: Any) -> None:
    before = ray.get(source.call.remote(actors.fetched))
    reference = source.give.remote(lambda: actors.kept.setdefault("mine", actors.numbers(3000, 11)))
    assert ray.get(source.call.remote(lambda tensor: tensor is actors.kept.pop("mine"), reference))
    assert ray.get(source.call.remote(actors.fetched)) == before


def test_same_reference_twice(source: Any, consumer: Any) -> None:
    reference = source.give.remote(actors.numbers, 3000, 12)
    both = consumer.call.remote(lambda one, two: (one, two), reference, reference)
    again = [consumer.call.remote(lambda tensor: tensor, reference) for _ in range(3)]
    expected = actors.numbers(3000, 12)
    assert all(torch.equal(tensor, expected) for tensor in [*ray.get(both), *ray.get(again)])


def test_several_references_in_one_call(source: Any, consumer: Any, third: Any) -> None:
    references = [owner.give.remote(actors.numbers, 2000, seed) for seed, owner in enumerate([source, third] * 5)]
    arrived = ray.get(consumer.call.remote(lambda *tensors: list(tensors), *references))
    assert all(torch.equal(tensor, actors.numbers(2000, seed)) for seed, tensor in enumerate(arrived))


def test_many_references_in_one_get(source: Any, consumer: Any) -> None:
    references = ray.get(source.call.remote(actors.put_all, lambda: [actors.numbers(4096, seed) for seed in range(60)]))
    expected = [actors.numbers(4096, seed) for seed in range(60)]
    for arrived in (ray.get(references), ray.get(consumer.call.remote(actors.get, references))):
        assert all(torch.equal(*pair) for pair in zip(arrived, expected, strict=True))


def test_duplicates_in_one_get(source: Any) -> None:
    one, two = ray.get(source.call.remote(actors.put_all, lambda: [actors.numbers(64, 1), actors.numbers(64, 2)]))
    arrived = ray.get([one, two, one])
    assert [torch.equal(tensor, actors.numbers(64, seed)) for tensor, seed in zip(arrived, (1, 2, 1), strict=True)] == [True] * 3


def test_fan_out(source: Any, consumer: Any, third: Any) -> None:
    """Eight fetches of one object by two consumers, and the driver meanwhile."""
    reference = source.give.remote(actors.numbers, 4 << 20, 13)
    calls = [actor.call.remote(lambda tensor: tensor.to(torch.int64).sum().item(), reference) for actor in [consumer, third] * 4]
    expected = actors.numbers(4 << 20, 13)
    assert torch.equal(ray.get(reference), expected)
    assert ray.get(calls) == [expected.to(torch.int64).sum().item()] * 8


def test_gets_of_a_hundred_threads(source: Any) -> None:
    references = ray.get(source.call.remote(actors.put_all, lambda: [actors.numbers(30_000, seed) for seed in range(100)]))
    with ThreadPoolExecutor(100) as pool:
        arrived = list(pool.map(ray.get, references))
    assert all(torch.equal(tensor, actors.numbers(30_000, seed)) for seed, tensor in enumerate(arrived))


def test_consumer_counts_the_payload(source: Any, consumer: Any) -> None:
    before = ray.get(consumer.call.remote(actors.fetched))
    mine = actors.fetched()
    resolved = ray.get(source.call.remote(ray_hixl.stats))["resolved"]
    sizes = [1, 1000, 65_536, 3 << 20]
    reference = source.give.remote(lambda: [torch.zeros(size, dtype=torch.uint8) for size in sizes])
    ray.get(consumer.call.remote(len, reference))
    ray.get(reference)
    assert ray.get(consumer.call.remote(actors.fetched)) - before == sum(sizes)
    assert actors.fetched() - mine == sum(sizes)
    assert ray.get(source.call.remote(ray_hixl.stats))["resolved"] == resolved + 2
    assert set(ray_hixl.stats()["fetched"]) <= {"local", "shm", "cma", "stream"}


def test_twenty_handoffs_leave_nothing(source: Any, consumer: Any) -> None:
    published = ray.get(source.call.remote(lambda: ray_hixl.stats().get("objects_published", 0)))
    for seed in range(20):
        reference = source.give.remote(actors.numbers, 10_000, seed)
        assert torch.equal(ray.get(consumer.call.remote(lambda tensor: tensor, reference)), actors.numbers(10_000, seed))
    del reference
    assert ray.get(source.call.remote(lambda: ray_hixl.stats().get("objects_published", 0))) == published + 20
    for peer in (source, consumer):
        actors.eventually(lambda peer=peer: not any(ray.get(peer.call.remote(actors.left)).values()))


def reused() -> dict[str, int]:
    """What a consumer needs for its first fetch and has for the next."""
    stats = ray_hixl.stats()
    return {"links": stats["links"], "lost": stats["links_lost"], "mapped": stats["landing"]["mapped_bytes"]}


def test_the_same_layout_again_and_again(fresh: Any, source: Any) -> None:
    """As weights are sent step by step: one link, the memory of the step before last, and one question for each object."""
    receiver = fresh(num_cpus=0)

    def step(number: int) -> None:
        reference = source.give.remote(lambda: {f"layer.{index}": actors.numbers(100_000, number + index) for index in range(20)})
        actors.created(reference)

        def take(weights: dict[str, torch.Tensor]) -> bool:
            actors.kept["weights"] = weights
            return all(torch.equal(weights[f"layer.{index}"], actors.numbers(100_000, number + index)) for index in range(20))

        assert ray.get(receiver.call.remote(take, reference))

    for number in range(3):
        step(number)
    before = ray.get(receiver.call.remote(reused))
    sessions = ray.get(source.call.remote(lambda: ray_hixl.stats()["sessions"]))
    resolved, recycled = (
        ray.get(source.call.remote(lambda: ray_hixl.stats()["resolved"])),
        ray.get(receiver.call.remote(lambda: ray_hixl.stats()["landing"]["recycled"])),
    )
    for number in range(10):
        step(number)
    assert before["links"] == 1
    assert ray.get(receiver.call.remote(reused)) == before
    assert ray.get(source.call.remote(lambda: ray_hixl.stats()["sessions"])) == sessions
    assert ray.get(source.call.remote(lambda: ray_hixl.stats()["resolved"])) == resolved + 10
    assert ray.get(receiver.call.remote(lambda: ray_hixl.stats()["landing"]["recycled"])) >= recycled + 10
