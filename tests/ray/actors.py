"""The actor class of these tests, in a module that every worker imports: registration at import, as docs/ray.md advises."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray
import torch
from ray._private.worker import global_worker

import ray_hixl
from waiting import eventually as eventually

ray_hixl.register()

kept: dict[str, Any] = {}  # what a test keeps alive in an actor from one call to the next


@ray.remote(enable_tensor_transport=True)
class Peer:
    """Runs what a test sends it; source and consumer at once."""

    def call(self, function: Callable[..., Any], *values: Any) -> Any:
        """Calls it on the values that arrived. The result goes through the object store."""
        return function(*values)

    @ray.method(tensor_transport="hixl")
    def give(self, function: Callable[..., Any], *values: Any) -> Any:
        """Calls it; the tensors of the result stay here until somebody fetches them."""
        return function(*values)


def put(value: Any) -> ray.ObjectRef:
    """``ray.put`` by hixl."""
    return ray.put(value, _tensor_transport="hixl")


def put_all(make: Callable[[], list[Any]]) -> list[ray.ObjectRef]:
    """``put`` of each value; the references stay borrowable since they travel in a list."""
    return [put(value) for value in make()]


def get(references: Any) -> Any:
    """``ray.get`` of borrowed references."""
    return ray.get(references)


def ray_manager() -> Any:
    """Ray's own manager of tensor transports in this process."""
    return getattr(global_worker, "rdt_manager", None) or global_worker.gpu_object_manager


def ray_store() -> Any:
    """Ray's own store of tensors in this process."""
    manager = ray_manager()
    return getattr(manager, "rdt_store", None) or manager.gpu_object_store


def created(*references: ray.ObjectRef) -> None:
    """Waits in the owner until it knows the metadata of its actors' results. Only then may the references be borrowed (ray#59644)."""
    for reference in references:
        if ray_manager().wait_for_tensor_transport_metadata(reference.hex(), 10.0) is None:
            raise TimeoutError(f"waiting for object {reference.hex()} to be created")


def waits_for_metadata(object_id: str) -> bool:
    """Does this process own an object whose metadata never came?"""
    manager = ray_manager()
    managed = getattr(manager, "_managed_rdt_metadata", None) or getattr(manager, "_managed_gpu_object_metadata", {})
    known = managed.get(object_id)
    return object_id in manager._queued_frees or (known is not None and known.tensor_transport_meta is None)


def _objects_with_tensors() -> int:
    """Ray itself keeps the empty list of an object without tensors in the consumer for ever: those do not count."""
    store = ray_store()
    queues = getattr(store, "_rdt_store", None) or getattr(store, "_gpu_object_store", {})
    return sum(bool(entry.data) for queue in list(queues.values()) for entry in list(queue))


def left(collect: bool = True) -> dict[str, int]:
    """What this process still holds for others: 0 everywhere once every reference is gone. ``collect``: also those of dead cycles."""
    if collect:
        gc.collect()
    stats = ray_hixl.stats()
    return {
        "objects of the engine": stats.get("objects", 0),
        "objects of Ray": _objects_with_tensors(),
        "transfers": stats.get("transfers_in_flight", 0),
    }


def fetched() -> int:
    """Bytes that this process has fetched so far."""
    return sum(ray_hixl.stats()["fetched"].values())


def receives() -> int:
    """How often Ray has asked this process's transport to receive."""
    return ray_hixl.stats()["ray"].get("receive", {"calls": 0})["calls"]


@dataclass
class Batch:
    """A value with tensors inside."""

    tokens: torch.Tensor
    name: str
    more: list[torch.Tensor] = field(default_factory=list)


class Pair(NamedTuple):
    """Another."""

    first: torch.Tensor
    second: torch.Tensor


def numbers(count: int, seed: int) -> torch.Tensor:
    """Random bytes out of a seed: source and test make the same ones."""
    return torch.randint(0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def of_type(dtype: torch.dtype, shape: list[int], seed: int) -> torch.Tensor:
    """A tensor of random bits, which no conversion touches: every dtype has them, also those that torch cannot compute with."""
    tensor = torch.empty(shape, dtype=dtype)
    count = tensor.untyped_storage().nbytes()
    content = numbers(count, seed) & 1 if dtype is torch.bool else numbers(count, seed)
    ctypes.memmove(tensor.data_ptr(), content.data_ptr(), count)
    return tensor


def describe(tensor: torch.Tensor) -> tuple[str, list[int], bytes]:
    """dtype, shape and bits of a contiguous tensor."""
    assert tensor.is_contiguous(), tensor.stride()
    return str(tensor.dtype), list(tensor.shape), ctypes.string_at(tensor.data_ptr(), tensor.nbytes) if tensor.nbytes else b""


def kill(pid: int) -> None:
    """Kills a process and waits until it is dead: a signal alone lets it serve a last reader."""
    os.kill(pid, signal.SIGKILL)

    def is_dead() -> bool:
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    eventually(is_dead)


@ray.remote(enable_tensor_transport=True, num_cpus=0)
class AsyncPeer:
    """A receiver whose calls run on an event loop, in no order."""

    async def call(self, function: Callable[..., Any], *values: Any) -> Any:
        """As ``Peer.call``."""
        return function(*values)
