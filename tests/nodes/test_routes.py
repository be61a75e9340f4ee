"""Every way in which a tensor gets from one node to another, between two raylets of one host and between two hosts; by which transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch

import actors
import ray_hixl
from cluster import NODES
from ray_hixl.findings import REFUSED, WORKS
from versions import driver_put

COUNT = 100_000
WAY = {"beside": "cma", "far": "stream"}


def sent() -> torch.Tensor:
    return actors.numbers(COUNT, 1)


def moved(receive: Callable[..., torch.Tensor], *values: Any) -> dict[str, int]:
    """What this process fetches, by transport, while it receives what was sent."""
    before = ray_hixl.stats()["fetched"]
    assert torch.equal(receive(*values), sent())
    after = ray_hixl.stats()["fetched"]
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


def received_by_argument(consumer: Any, reference: ray.ObjectRef) -> dict[str, int]:
    before = ray.get(consumer.call.remote(lambda: ray_hixl.stats()["fetched"]))
    assert ray.get(consumer.call.remote(lambda tensor: torch.equal(tensor, sent()), reference))
    after = ray.get(consumer.call.remote(lambda: ray_hixl.stats()["fetched"]))
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


@pytest.mark.parametrize("node", NODES)
def test_argument_to_another_node_and_back(peer_on: Callable[[str], Any], node: str) -> None:
    here, there = peer_on("here"), peer_on(node)
    nodes = ray.get([peer.call.remote(lambda: ray.get_runtime_context().get_node_id()) for peer in (here, there)])
    assert nodes[0] != nodes[1]
    for source, consumer in ((here, there), (there, here)):
        assert received_by_argument(consumer, source.give.remote(sent)) == {WAY[node]: COUNT}


@pytest.mark.parametrize("node", NODES)
def test_get_in_the_driver(peer_on: Callable[[str], Any], node: str) -> None:
    assert moved(ray.get, peer_on(node).give.remote(sent)) == {WAY[node]: COUNT}


@pytest.mark.parametrize("node", NODES)
def test_borrowed_reference(peer_on: Callable[[str], Any], node: str) -> None:
    reference = peer_on("here").give.remote(sent)
    actors.created(reference)
    assert ray.get(peer_on(node).call.remote(lambda references: moved(ray.get, references[0]), [reference])) == {WAY[node]: COUNT}


@driver_put
@pytest.mark.parametrize("node", NODES)
def test_put_in_the_driver(peer_on: Callable[[str], Any], node: str) -> None:
    assert received_by_argument(peer_on(node), actors.put(sent())) == {WAY[node]: COUNT}


@pytest.mark.parametrize("node", NODES)
def test_put_in_an_actor(peer_on: Callable[[str], Any], node: str) -> None:
    references = ray.get(peer_on(node).call.remote(actors.put_all, lambda: [sent()]))
    assert ray.get(peer_on("here").call.remote(lambda values: moved(ray.get, values[0]), references)) == {WAY[node]: COUNT}


def test_raylets_of_one_host_map_the_source_arena(peer_on: Callable[[str], Any]) -> None:
    reference = peer_on("beside").give.remote(lambda: ray_hixl.empty(COUNT, dtype=torch.uint8).copy_(sent()))
    assert received_by_argument(peer_on("here"), reference) == {"shm": COUNT}


def test_why_another_host_is_read_by_stream(peer_on: Callable[[str], Any]) -> None:
    findings = ray_hixl.check(peer_on("far"), timeout=20.0)
    assert [finding.found.split(";")[0] for finding in findings if (finding.name, finding.verdict) == ("host memory", WORKS)] == [
        "by stream"
    ]
    refused = {finding.name: finding.found for finding in findings if finding.verdict == REFUSED}
    assert refused.keys() == {"local", "shm", "cma"}
    assert "the peer is another process" in refused["local"]
    assert all("the peer is on another host" in refused[name] for name in ("shm", "cma"))
