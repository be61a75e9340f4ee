"""The other host, or the way to it, fails under Ray: the consumer gets one clear error in time, and goes on when it is back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import ray
import torch

import actors
import ray_hixl
from hosts import Host
from middle import LONG, in_the_middle
from yardstick import scaled


def long_tensor() -> torch.Tensor:
    return torch.arange(LONG // 8)


def streamed() -> int:
    found: int = ray_hixl.stats()["fetched"].get("stream", 0)
    return found


@contextmanager
def being_read(far: Host, reference: ray.ObjectRef) -> Iterator[Future[torch.Tensor]]:
    """A ``ray.get`` in the driver, in its middle."""
    actors.created(reference)
    with ThreadPoolExecutor(1) as thread, in_the_middle(far, far.cables[0], lambda: thread.submit(ray.get, reference), streamed) as got:
        yield got


def test_source_that_is_killed_while_it_is_read(far: Host, fresh: Callable[..., Any], peer_on: Callable[[str], Any]) -> None:
    doomed = fresh()
    pid = ray.get(doomed.call.remote(os.getpid))
    with being_read(far, doomed.give.remote(long_tensor)) as got:
        far.kill(pid)
        with pytest.raises(ray_hixl.PeerGone, match=f"process {pid} "):
            got.result(scaled(8))
    assert torch.equal(ray.get(peer_on("far").give.remote(torch.arange, 9)), torch.arange(9))


def test_source_that_ended_before_it_was_known(fresh: Callable[..., Any], far: Host) -> None:
    """From another host nobody can tell a dead process from a wrong address: the error says both."""
    doomed = fresh()
    pid = ray.get(doomed.call.remote(os.getpid))
    reference = doomed.give.remote(actors.numbers, 1000, 1)
    actors.created(reference)
    far.kill(pid)
    with pytest.raises(ray_hixl.ConnectError, match=rf"process {pid} at {far.cables[0].there}:\d+.* process (has )?ended"):
        ray.get(reference)


def test_cable_that_is_cut_under_a_fetch(far: Host, peer_on: Callable[[str], Any]) -> None:
    source = peer_on("far")
    pid = ray.get(source.call.remote(os.getpid))
    reference = source.give.remote(long_tensor)
    lost = ray_hixl.stats()["links_lost"]
    with being_read(far, reference) as got, far.cut(far.cables[0]):
        with pytest.raises(ray_hixl.PeerGone, match=f"process {pid} "):
            got.result(scaled(16))
        actors.eventually(lambda: ray_hixl.stats()["links_lost"] > lost)
    assert torch.equal(ray.get(reference), long_tensor())
