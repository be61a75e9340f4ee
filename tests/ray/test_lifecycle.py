"""From publish to free: an object lives as long as its references, what was received as long as its tensors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import ray
import torch

import actors
import ray_hixl


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


def is_free(source: Any) -> bool:
    return bool(ray.get(source.call.remote(actors.left))["objects of the engine"] == 0)


def test_a_tensor_of_two_objects_is_freed_with_the_last_one(source: Any) -> None:
    def put_twice() -> list[ray.ObjectRef]:
        actors.kept["tensor"] = torch.arange(1000)
        return [actors.put(actors.kept["tensor"]) for _ in range(2)]

    references = ray.get(source.call.remote(put_twice))
    references.pop()
    actors.eventually(lambda: ray.get(source.call.remote(actors.left))["objects of the engine"] == 1)
    assert ray.get(source.call.remote(wait_until_freed, 0.1)) == "still held"
    references.clear()
    assert ray.get(source.call.remote(wait_until_freed, 10.0)) == "freed"
    ray.get(source.call.remote(actors.kept.clear))


def put_at_one_address(dtype: torch.dtype, count: int, seed: int) -> list[ray.ObjectRef]:
    """A new tensor in the memory of the one before."""
    memory = actors.kept.setdefault("memory", bytearray(8000))
    tensor = torch.frombuffer(memory, dtype=dtype, count=count)
    tensor.view(torch.uint8).copy_(actors.numbers(tensor.nbytes, seed))
    return [actors.put(tensor)]


def test_memory_that_is_used_again_is_another_object(source: Any, consumer: Any) -> None:
    """Of another type and size, of the same, and a part of it: none of them is taken for the one before at its address."""
    for seed, (dtype, count) in enumerate([(torch.uint8, 8000), (torch.int64, 1000), (torch.int64, 1000), (torch.int32, 10)]):
        references = ray.get(source.call.remote(put_at_one_address, dtype, count, seed))
        expected = actors.numbers(count * dtype.itemsize, seed).view(dtype)
        assert torch.equal(ray.get(references[0]), expected)
        assert torch.equal(ray.get(consumer.call.remote(actors.get, references))[0], expected)
        references.clear()
        actors.eventually(lambda: is_free(source))
    ray.get(source.call.remote(actors.kept.clear))


def test_a_storage_that_grew_is_put_again(source: Any, consumer: Any) -> None:
    def put_of(count: int) -> list[ray.ObjectRef]:
        tensor = actors.kept.setdefault("tensor", torch.zeros(0, dtype=torch.int64))
        tensor.resize_(count).copy_(torch.arange(count))
        return [actors.put(tensor)]

    for count in (10, 1_000_000, 5):
        references = ray.get(source.call.remote(put_of, count))
        assert torch.equal(ray.get(consumer.call.remote(actors.get, references))[0], torch.arange(count))
        references.clear()
        actors.eventually(lambda: is_free(source))
    ray.get(source.call.remote(actors.kept.clear))


def test_what_is_written_after_a_put(source: Any, consumer: Any) -> None:
    """Contiguous memory is referenced, so that later fetches see it; what was packed is a copy."""

    def put_both() -> list[ray.ObjectRef]:
        actors.kept["matrix"] = torch.zeros(4, 6)
        return [actors.put(actors.kept["matrix"]), actors.put(actors.kept["matrix"].T)]

    references = ray.get(source.call.remote(put_both))
    ray.get(source.call.remote(lambda: float(actors.kept["matrix"].fill_(1).sum())))
    whole, packed = ray.get(consumer.call.remote(actors.get, references))
    assert torch.equal(whole, torch.ones(4, 6))
    assert torch.equal(packed, torch.zeros(6, 4))
    ray.get(source.call.remote(actors.kept.clear))


def test_a_thousand_puts_of_one_weight_register_nothing(source: Any, consumer: Any) -> None:
    def put_views() -> tuple[list[ray.ObjectRef], list[int]]:
        weight = actors.kept["weight"] = torch.arange(1_000_000)
        ray_hixl.register_memory(weight)
        regions = ray_hixl.stats()["regions"]
        references = [actors.put(view) for view in weight.view(1000, 1000)]
        stats = ray_hixl.stats()
        return references, [regions, stats["regions"], stats["objects"]]

    references, counted = ray.get(source.call.remote(put_views))
    assert counted == [1, 1, 1000]
    arrived = ray.get(consumer.call.remote(actors.get, references[::250]))
    assert torch.equal(torch.cat(arrived), torch.arange(1_000_000).view(1000, 1000)[::250].flatten())
    references.clear()
    actors.eventually(lambda: is_free(source))

    def deregister() -> int:
        ray_hixl.deregister_memory(actors.kept.pop("weight"))
        return ray_hixl.stats()["regions"]

    assert ray.get(source.call.remote(deregister)) == 0


_EXIT = """
import os, sys, ray, torch, actors
from versions import RAY
from waiting import eventually

ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)
source, consumer = actors.Peer.options(num_cpus=0).remote(), actors.Peer.options(num_cpus=0).remote()
references = ray.get(source.call.remote(actors.put_all, lambda: [torch.arange(100_000)]))
received = ray.get(references)
pid = ray.get(consumer.call.remote(lambda refs: actors.kept.update(got=ray.get(refs), refs=refs) or os.getpid(), references))
consumer.__ray_terminate__.remote()
eventually(lambda: not os.path.exists(f"/proc/{pid}"), 30)
mine = actors.put(torch.ones(1000)) if RAY > (2, 56) else None
print("at the end", len(received[0]))
"""


def test_exit_with_tensors_alive(cluster: Any) -> None:
    """An actor that holds what it received and borrowed; then the driver that holds the same, and an object of its own."""
    command = [sys.executable, "-c", _EXIT, cluster.address_info["address"]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (0, "at the end 100000\n"), ended.stderr
    assert "Traceback" not in ended.stderr


_TWO_CLUSTERS = """
import sys, ray, torch, ray_hixl, actors

transport = ray_hixl.HiXLTensorTransport()
for _ in range(2):
    ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)
    ray.get(actors.Peer.remote().give.remote(torch.ones, 10))
    for name in ("first", "second"):
        transport.extract_tensor_transport_metadata(name, [torch.ones(10)])
    print(ray_hixl.stats()["objects"])
    ray.shutdown()
    print(ray_hixl.stats()["objects"])
"""


def test_ray_shutdown_frees_what_was_published(cluster: Any) -> None:
    """Ray does not, and a driver may live on, in another cluster."""
    address = cluster.address_info["address"]
    done = subprocess.run([sys.executable, "-c", _TWO_CLUSTERS, address], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "0", "2", "0"]
