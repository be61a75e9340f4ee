"""Which NPU a tensor comes to, and the caller's own buffers."""

from __future__ import annotations

import os
from typing import Any

import pytest
import ray
import torch
import values
from profiles import OVER_HCCS

import actors
import ray_hixl
from ray_hixl import process


def on(device: str) -> Any:
    """Makes a tensor on a device of the process that runs it."""
    return lambda: values.on_npu(torch.float32, [100], 3, device)


def use(*devices: str) -> None:
    """From then on torch has memory there."""
    for device in devices:
        torch.ones(1, device=device)


EXPECTED = values.bits(values.numbers(torch.float32, [100], 3))
arrival = lambda tensor: (str(tensor.device), values.bits(tensor))  # noqa: E731


def test_actors_see_what_ray_gave_them(npus: dict[str, Any]) -> None:
    seen = {name: ray.get(actor.call.remote(os.getenv, "ASCEND_RT_VISIBLE_DEVICES")) for name, actor in npus.items()}
    assert seen["half"] == seen["rest"]
    assert len(seen["two"].split(",")) == 2
    assert len({seen[name] for name in ("one", "other", "half", "two")}) == 4


def test_it_is_the_one_in_use_and_of_several_the_sources_index(npus: dict[str, Any]) -> None:
    use("npu:0", "npu:1")
    ray.get(npus["two"].call.remote(use, "npu:0", "npu:1"))
    second = npus["two"].give.remote(on("npu:1"))
    assert arrival(ray.get(second)) == ("npu:1", EXPECTED), "the driver sees six"
    assert ray.get(npus["one"].call.remote(arrival, second)) == ("npu:0", EXPECTED), "one sees only its own"
    assert ray.get(npus["two"].call.remote(arrival, npus["one"].give.remote(on("npu:0")))) == ("npu:0", EXPECTED)


def test_two_devices_in_one_object(npus: dict[str, Any]) -> None:
    use("npu:0", "npu:1")
    reference = npus["two"].give.remote(lambda: [torch.full((3,), float(i), device=f"npu:{i % 2}") for i in range(4)])
    look = lambda tensors: [(tensor.device.index, tensor.cpu().tolist()) for tensor in tensors]  # noqa: E731
    assert look(ray.get(reference)) == [(i % 2, [float(i)] * 3) for i in range(4)]
    assert ray.get(npus["other"].call.remote(look, reference)) == [(0, [float(i)] * 3) for i in range(4)]


def test_two_processes_on_one_npu(npus: dict[str, Any]) -> None:
    for source, consumer in (("half", "rest"), ("rest", "half")):
        reference = npus[source].give.remote(on("npu"))
        assert ray.get(npus[consumer].call.remote(arrival, reference)) == ("npu:0", EXPECTED)
        assert ray.get(npus[consumer].call.remote(lambda: ray_hixl.stats()["fetched"].get("staged", 0) > 0)) == OVER_HCCS


@pytest.mark.parametrize(("wanted", "arrived"), [("npu:1", "npu:1"), ("npu", "npu:0"), ("cpu", "cpu")])
@pytest.mark.parametrize("made_on", ["npu", "cpu"])
def test_target_device(source: Any, made_on: str, wanted: str, arrived: str) -> None:
    """Ray makes the buffers, which HIXL does not know: by way of the slabs."""
    reference = source.give.remote(on(made_on))
    ray.experimental.set_target_device_for_ref(reference, wanted)
    assert arrival(ray.get(reference)) == (arrived, EXPECTED)


def test_registered_buffers_are_received_into(source: Any) -> None:
    """By no copy at all: the slabs are not touched."""
    buffers = [ray_hixl.empty(100, device="npu:0"), torch.zeros(1000, device="npu:1")[100:200]]
    ray_hixl.register_memory(buffers[1])
    try:
        before = [values.slabs(process.engine(), device)["allocations"] for device in (0, 1)]
        reference = source.give.remote(lambda: [values.on_npu(torch.float32, [100], seed) for seed in (3, 4)])
        ray.experimental.set_target_for_ref(reference, buffers)
        arrived = ray.get(reference)
        assert [values.slabs(process.engine(), device)["allocations"] for device in (0, 1)] == before
        assert [tensor.data_ptr() for tensor in arrived] == [buffer.data_ptr() for buffer in buffers]
        assert [values.bits(buffer) for buffer in buffers] == [values.bits(values.numbers(torch.float32, [100], seed)) for seed in (3, 4)]
    finally:
        ray_hixl.deregister_memory(buffers[1])


@pytest.mark.parametrize("device", ["npu:0", "npu:3", "cpu"])
def test_other_buffers_are_copied_into(source: Any, device: str) -> None:
    buffer = torch.zeros(100, device=device)
    reference = source.give.remote(on("npu"))
    ray.experimental.set_target_for_ref(reference, [buffer])
    arrived = ray.get(reference)
    assert arrived.data_ptr() == buffer.data_ptr()
    assert arrival(buffer) == (device, EXPECTED)


def test_registered_sources_are_not_copied(source: Any, consumer: Any) -> None:
    def make() -> list[torch.Tensor]:
        x = values.on_npu(torch.float32, [100], 3)
        ray_hixl.register_memory(x)
        actors.kept["used"] = values.slabs(process.engine())["used_bytes"]
        actors.kept["x"] = x
        return [x, x[10:20]]

    def finish() -> bool:
        ray_hixl.deregister_memory(actors.kept.pop("x"))
        return values.slabs(process.engine())["used_bytes"] == actors.kept.pop("used")

    reference = source.give.remote(make)
    assert ray.get(consumer.call.remote(lambda tensors: values.bits(tensors[0]), reference)) == EXPECTED
    assert ray.get(source.call.remote(finish))
