"""NPU tensors from Ray actor to Ray actor: hixl, and Ray's own floor on tensors of the same device.

Measured as at the Ray level; each actor has an NPU of its own if there are two. The consumer looks at a few elements only, since each look
waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
import torch
import torch_npu  # noqa: F401

import ray_hixl
from ray_hixl import _core
from ray_hixl.bench import floor
from ray_hixl.bench.rounds import Row, measure
from ray_hixl.bench.shapes import Shape

ray_hixl.register()
floor.register()


@ray.remote(enable_tensor_transport=True)
class NpuProducer:
    """Holds the tensors of a shape on its NPU and hands the same ones out at every call."""

    def __init__(self) -> None:
        self._tensors: list[torch.Tensor] = []

    def prepare(self, shape: Shape) -> None:
        self._tensors = []  # those of the shape before
        self._tensors = [torch.full((shape.block,), 7, dtype=torch.uint8, device="npu") for _ in range(shape.count)]

    @ray.method(tensor_transport="hixl")
    def hixl(self) -> list[torch.Tensor]:
        return self._tensors

    @ray.method(tensor_transport=floor.NAME)
    def floor(self) -> list[torch.Tensor]:
        return self._tensors

    def stats(self) -> dict[str, Any]:
        return ray_hixl.stats()


@ray.remote(enable_tensor_transport=True)
class NpuConsumer:
    """Looks at what it gets."""

    def use(self, tensors: list[torch.Tensor]) -> int:
        return sum(int(tensor[0].item()) for tensor in (tensors[0], tensors[-1]))

    def stats(self) -> dict[str, Any]:
        return ray_hixl.stats()


def run(shapes: list[Shape], rounds: int, progress: Callable[[str], None]) -> tuple[list[Row], dict[str, Any]]:
    """Rows of both contestants, and the seconds that hixl's own class took for a handoff of each shape."""
    devices = int(_core.cann_info()["devices"])
    ray.init(log_to_driver=False, include_dashboard=False, num_cpus=4, resources={"NPU": devices})
    share = {"NPU": 1 if devices >= 4 else devices / 4}
    try:
        pairs = {
            name: (NpuProducer.options(resources=share).remote(), NpuConsumer.options(resources=share).remote())  # type: ignore[attr-defined]
            for name in ("hixl", "floor")
        }
        rows, own = [], {}
        for shape in shapes:
            progress(f"Ray level on NPUs, {shape.name}")
            for producer, _ in pairs.values():
                ray.get(producer.prepare.remote(shape))
            contestants = {name: _handoff(getattr(producer, name), consumer) for name, (producer, consumer) in pairs.items()}
            contestants["hixl"]()  # devices are started and links made outside of what is counted as our share
            before = _own_seconds(pairs["hixl"])
            rows += measure(shape.name, shape.bytes, contestants, rounds)
            own[shape.name] = (_own_seconds(pairs["hixl"]) - before) / (rounds + 2)
        return rows, {"our_seconds_per_handoff": own}
    finally:
        ray.shutdown()


def _handoff(method: Any, consumer: Any) -> Callable[[], None]:
    return lambda: ray.get(consumer.use.remote(method.remote()))


def _own_seconds(pair: tuple[Any, Any]) -> float:
    stats = ray.get([actor.stats.remote() for actor in pair])
    return float(sum(timer["seconds"] for one in stats for timer in one["ray"].values()))
