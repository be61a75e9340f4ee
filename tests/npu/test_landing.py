"""Which NPU a tensor comes to: its target's, the one that the caller chose, the one that the process uses; never a neighbour's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import values

import ray_hixl
from ray_hixl import npu
from support import Owner

EXPECTED = values.bits(values.numbers(torch.float32, [100], 3))
ON_1 = "torch.npu.set_device(1); weight = torch.ones(4, device='npu')"
USED = "[each['device'] for each in engine.stats()['devices']]"
# What torch has memory on, what the thread has set, the source's: where it comes to. There are four.
RULE: list[tuple[list[int], int, int, int]] = [
    ([1], -1, 0, 1),
    ([1], 0, 0, 1),
    ([0, 1], -1, 1, 1),
    ([0, 1], 0, 1, 1),
    ([1, 2], 2, 0, 2),
    ([1, 2], 0, 0, 1),
    ([1, 2], -1, 9, 1),
    ([], 1, 0, 1),
    ([], -1, 1, 1),
    ([], -1, 9, 0),
]


@pytest.fixture
def metadata(owner: Owner) -> bytes:
    """Of a tensor on npu:0 of another process."""
    made: bytes = owner.get("engine.publish([values.on_npu(torch.float32, [100], 3)])")
    return made


@pytest.mark.parametrize(("used", "own", "source", "expected"), RULE)
def test_the_rule(monkeypatch: pytest.MonkeyPatch, used: list[int], own: int, source: int, expected: int) -> None:
    monkeypatch.setattr(npu, "_used", ([], 0.0))
    monkeypatch.setattr(torch.npu, "device_count", lambda: 4)
    monkeypatch.setattr(npu, "_reserved", lambda device: int(device in used))
    monkeypatch.setattr(npu, "_own_device", lambda: own)
    assert [npu.landing_device(source) for _ in range(2)] == [expected] * 2


def test_what_torch_uses_is_believed_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second, but where the source's own comes to be used; what uses none yet, for less than it takes to open a device."""
    used, now = [1], [100.0]
    asked: list[int] = []

    def reserved(device: int) -> int:
        asked.append(device)
        return int(device in used)

    monkeypatch.setattr(npu, "_used", ([], 0.0))
    monkeypatch.setattr(torch.npu, "device_count", lambda: 4)
    monkeypatch.setattr(npu, "_reserved", reserved)
    monkeypatch.setattr(npu, "_own_device", lambda: -1)
    monkeypatch.setattr(npu.time, "monotonic", lambda: now[0])
    assert npu.landing_device(0) == 1
    used[:] = [2]
    assert npu.landing_device(0) == 1
    now[0] += 1
    assert npu.landing_device(0) == 2
    used[:] = [0, 2]
    assert (npu.landing_device(3), npu.landing_device(0)) == (2, 0)
    asked.clear()
    assert [npu.landing_device(source) for source in (0, 2, 9)] == [0, 2, 0]
    assert asked == []
    used[:] = []
    now[0] += 1
    assert [npu.landing_device(3) for _ in range(2)] == [3, 3]
    assert asked == [0, 1, 2, 3]
    used[:] = [1]
    now[0] += 0.01
    assert npu.landing_device(3) == 1


@pytest.mark.parametrize("fetch", ["engine.fetch(metadata).result()", "values.received_elsewhere(engine, metadata)"])
def test_the_neighbours_npu_is_left_alone(new_owner: Callable[..., Owner], metadata: bytes, fetch: str) -> None:
    """As under NOSET, where all of them are visible: by the thread that set its own, and by one that set none."""
    consumer = new_owner()
    consumer.run(ON_1)
    consumer.run("asked = []; torch.npu.current_device = lambda: asked.append(1)")  # which opens npu:0 in a thread that has set none
    consumer.run(f"[arrived] = {fetch}; total = (arrived[:4] + weight).cpu()", metadata=metadata)
    assert consumer.get("(arrived.device.index, values.bits(arrived))") == (1, EXPECTED)
    assert consumer.get(f"(asked, {USED})") == ([], [1])


@pytest.mark.parametrize("chosen", [{"options": {"landing_device": "npu:1"}}, {"device": "npu:1"}])
def test_whoever_has_not_begun_chooses(new_owner: Callable[..., Owner], metadata: bytes, chosen: dict[str, Any]) -> None:
    """The option, and the argument."""
    consumer = new_owner(**chosen.pop("options", {}))
    consumer.run("[arrived] = values.received_elsewhere(engine, metadata, **chosen)", metadata=metadata, chosen=chosen)
    assert consumer.get("(arrived.device.index, values.bits(arrived))") == (1, EXPECTED)
    assert consumer.get(USED) == [1]


def test_the_argument_is_before_the_option(metadata: bytes) -> None:
    with ray_hixl.Engine(ray_hixl.Options(landing_device="npu:1")) as engine:
        assert engine.fetch(metadata).result()[0].device.index == 1
        assert engine.fetch(metadata, device="npu:0").result()[0].device.index == 0
    with ray_hixl.Engine(ray_hixl.Options(landing_device="npu:0")) as engine, torch.npu.device(1):
        assert engine.fetch(metadata, device="npu").result()[0].device.index == 1  # the current one


def test_targets_are_before_both(metadata: bytes) -> None:
    """Also those that HIXL does not know, by way of a slab of their own NPU."""
    target = torch.zeros(100, device="npu:1")
    with ray_hixl.Engine(ray_hixl.Options(landing_device="npu:0")) as engine:
        [arrived] = engine.fetch(metadata, [target], device="npu:0").result()
        assert (arrived is target, values.bits(target)) == (True, EXPECTED)
        assert (values.slabs(engine, 0), values.slabs(engine, 1)["allocations"]) == ({}, 1)


def test_mixed_targets(owner: Owner) -> None:
    """Each where its own is."""
    seeds = range(4)
    targets = [torch.zeros(100, device=device) for device in ("npu:1", "npu:0", "npu:1", "cpu")]
    metadata = owner.get("engine.publish([values.on_npu(torch.float32, [100], seed) for seed in range(4)])")
    with ray_hixl.Engine() as engine:
        engine.fetch(metadata, targets).result()
        assert [values.bits(target) for target in targets] == [values.bits(values.numbers(torch.float32, [100], seed)) for seed in seeds]
        assert [values.slabs(engine, device)["allocations"] for device in (0, 1)] == [1, 1]


@pytest.mark.parametrize(
    ("device", "kind", "what"),
    [
        ("npu:2", ray_hixl.InvalidArgument, "there is no npu:2: this process sees 2"),
        ("cuda:0", ray_hixl.InvalidArgument, "device takes 'cpu', .*.*'cuda:0'"),
        ("npu:1000000", ray_hixl.InvalidArgument, "device takes 'cpu', .*"),
        ("cpu:1", ray_hixl.InvalidArgument, "device takes 'cpu', .*.*'cpu:1'"),
    ],
)
def test_refused(reader: ray_hixl.Engine, metadata: bytes, device: str, kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=what):
        reader.fetch(metadata, device=device).result()


def test_an_option_that_is_not_visible(metadata: bytes) -> None:
    with (
        ray_hixl.Engine(ray_hixl.Options(landing_device="npu:2")) as engine,
        pytest.raises(ray_hixl.InvalidArgument, match="there is no npu:2: this process sees 2"),
    ):
        engine.fetch(metadata).result()
