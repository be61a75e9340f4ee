"""The actors of ``ray-hixl bringup``'s Ray steps, in a module that every worker imports."""

from __future__ import annotations

import importlib
import os
from typing import Any

import ray
import torch

import ray_hixl

importlib.import_module("torch_npu")
ray_hixl.register()


def make(count: int, nbytes: int, seed: int) -> Any:
    """Rows of bytes out of a seed, on the CPU."""
    return torch.randint(0, 256, (count, nbytes), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def judge(tensors: list[Any], count: int, nbytes: int, seed: int) -> str:
    """What is wrong with the tensors; empty if nothing."""
    if len(tensors) != count:
        return f"{len(tensors)} tensors instead of {count}"
    for number, (tensor, wanted) in enumerate(zip(tensors, make(count, nbytes, seed), strict=True)):
        if tensor.device.type != "npu":
            return f"tensor {number} is on {tensor.device}"
        if not torch.equal(tensor.cpu(), wanted):
            return f"tensor {number} has other bytes"
    return ""


@ray.remote(enable_tensor_transport=True)
class Source:
    """Returns npu tensors; they stay here until somebody fetches them."""

    @ray.method(tensor_transport="hixl")
    def make(self, count: int, nbytes: int, seed: int) -> list[Any]:
        return [row.npu() for row in make(count, nbytes, seed)]

    def pid(self) -> int:
        return os.getpid()


@ray.remote(enable_tensor_transport=True)
class Consumer:
    """Compares what it is handed with what the seed gives."""

    def check(self, tensors: list[Any], count: int, nbytes: int, seed: int) -> str:
        return judge(tensors, count, nbytes, seed)

    def fetched(self) -> dict[str, int]:
        moved: dict[str, int] = ray_hixl.stats()["fetched"]
        return moved
