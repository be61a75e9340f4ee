"""Memory comes back: the source's when the last reference is gone, the consumer's when its tensors are, and both when an actor dies."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch

import actors
import ray_hixl
from waiting import stop
from yardstick import scaled

MIB = 1 << 20


def resident() -> int:
    """Bytes of memory that this process has, without what malloc keeps for later: that is most of it after some large tensors."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def large() -> torch.Tensor:
    """A tensor of 96 MiB that only its object keeps alive."""
    tensor = torch.ones(96 * MIB, dtype=torch.uint8)
    actors.kept["weak"] = weakref.ref(tensor)
    return tensor


def test_source_memory_comes_back(source: Any, consumer: Any) -> None:
    before = ray.get(source.call.remote(resident))
    reference = source.give.remote(large)
    assert ray.get(consumer.call.remote(len, reference)) == 96 * MIB
    assert ray.get(source.call.remote(resident)) > before + 90 * MIB
    del reference
    actors.eventually(lambda: ray.get(source.call.remote(resident)) < before + 16 * MIB)
    assert ray.get(source.call.remote(lambda: actors.kept.pop("weak")() is None))


def landing() -> int:
    """Blocks of the landing arena that tensors here still use."""
    return ray_hixl.stats()["landing"]["live_blocks"]


def test_consumer_memory_comes_back(source: Any, consumer: Any) -> None:
    before = ray.get(consumer.call.remote(landing))
    reference = source.give.remote(actors.numbers, 8 * MIB, 1)
    assert ray.get(consumer.call.remote(lambda tensor: actors.kept.update(got=tensor) or landing(), reference)) > before
    del reference
    assert ray.get(consumer.call.remote(lambda: torch.equal(actors.kept.pop("got"), actors.numbers(8 * MIB, 1))))
    actors.eventually(lambda: ray.get(consumer.call.remote(landing)) <= before)


def test_fifty_large_handoffs_need_no_more_memory_than_ten(source: Any, consumer: Any) -> None:
    def hand_over(times: int) -> list[int]:
        for _ in range(times):
            assert ray.get(consumer.call.remote(len, source.give.remote(torch.zeros, 4 * MIB))) == 4 * MIB
        actors.eventually(lambda: ray.get(source.call.remote(actors.left))["objects of the engine"] == 0)
        return ray.get([peer.call.remote(resident) for peer in (source, consumer)])

    before, after = hand_over(10), hand_over(50)
    assert all(now < was + 40 * MIB for now, was in zip(after, before, strict=True)), "50 times 16 MiB would be 800 MiB"


def in_flight() -> int:
    return ray_hixl.stats()["transfers_in_flight"]


def test_source_that_dies_while_it_is_read(fresh: Callable[..., Any], source: Any) -> None:
    """The source stands still when the fetch starts, so that it is under way for certain when the source dies."""
    stream = {"env_vars": {"RAY_HIXL_TRANSPORTS": "stream", "RAY_HIXL_STALL_TIMEOUT_S": "60"}}
    doomed, receiver = fresh(runtime_env=stream), fresh(runtime_env=stream, max_concurrency=2)
    pid = ray.get(doomed.call.remote(os.getpid))
    (reference,) = ray.get(doomed.call.remote(actors.put_all, lambda: [actors.numbers(MIB, 1)]))
    assert ray.get(receiver.call.remote(lambda refs: len(ray.get(refs[0])), [reference])) == MIB
    stop(pid)
    waiting = receiver.call.remote(lambda refs: ray.get(refs[0]), [reference])
    actors.eventually(lambda: ray.get(receiver.call.remote(in_flight)) == 1)
    actors.kill(pid)
    start = time.monotonic()
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(waiting)
    assert time.monotonic() - start < scaled(3)
    assert isinstance(caught.value.cause, ray_hixl.PeerGone), caught.value.cause
    assert torch.equal(ray.get(receiver.call.remote(lambda tensor: tensor, source.give.remote(torch.arange, 9))), torch.arange(9))
    assert ray.get(receiver.call.remote(in_flight)) == 0


def test_consumer_that_dies_leaves_the_source_clean(fresh: Callable[..., Any], source: Any, consumer: Any) -> None:
    doomed = fresh()
    pid = ray.get(doomed.call.remote(os.getpid))
    reference = source.give.remote(actors.numbers, MIB, 2)
    assert ray.get(doomed.call.remote(lambda tensor: actors.kept.update(got=tensor) or len(tensor), reference)) == MIB
    sessions = ray.get(source.call.remote(lambda: ray_hixl.stats()["sessions"]))
    actors.kill(pid)
    actors.eventually(lambda: ray.get(source.call.remote(lambda: ray_hixl.stats()["sessions"])) < sessions)
    assert torch.equal(ray.get(consumer.call.remote(lambda tensor: tensor, reference)), actors.numbers(MIB, 2))


def test_consumer_that_dies_while_it_reads(fresh: Callable[..., Any], consumer: Any) -> None:
    """The source stands still when the fetch starts, so that it is under way for certain when the consumer dies."""
    stream = {"env_vars": {"RAY_HIXL_TRANSPORTS": "stream", "RAY_HIXL_STALL_TIMEOUT_S": "60"}}
    read, doomed = fresh(runtime_env=stream), fresh(runtime_env=stream, max_concurrency=2)
    pids = ray.get([actor.call.remote(os.getpid) for actor in (read, doomed)])
    references = ray.get(read.call.remote(actors.put_all, lambda: [actors.numbers(8 * MIB, 1)]))
    assert ray.get(doomed.call.remote(lambda refs: len(ray.get(refs[0])), references)) == 8 * MIB
    stop(pids[0])
    waiting = doomed.call.remote(lambda refs: ray.get(refs[0]), references)
    actors.eventually(lambda: ray.get(doomed.call.remote(in_flight)) == 1)
    actors.kill(pids[1])
    os.kill(pids[0], signal.SIGCONT)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(waiting)
    actors.eventually(lambda: ray.get(read.call.remote(lambda: ray_hixl.stats()["sessions"])) == 0)
    assert torch.equal(ray.get(consumer.call.remote(actors.get, references))[0], actors.numbers(8 * MIB, 1))
    references.clear()
    actors.eventually(lambda: not any(ray.get(read.call.remote(actors.left)).values()))


@pytest.mark.long
def test_more_than_four_gib_in_one_tensor(source: Any, consumer: Any) -> None:
    size = (4 << 30) + 12_345

    def make() -> torch.Tensor:
        tensor = torch.zeros(size, dtype=torch.uint8)
        tensor[:1000] = actors.numbers(1000, 1)
        tensor[(4 << 30) - 500 : (4 << 30) + 500] = actors.numbers(1000, 2)
        tensor[-1000:] = actors.numbers(1000, 3)
        return tensor

    def look(tensor: torch.Tensor) -> list[torch.Tensor]:
        return [tensor[:1000].clone(), tensor[(4 << 30) - 500 : (4 << 30) + 500].clone(), tensor[-1000:].clone()]

    arrived = ray.get(consumer.call.remote(look, source.give.remote(make)))
    assert all(torch.equal(part, actors.numbers(1000, seed)) for seed, part in enumerate(arrived, 1))
