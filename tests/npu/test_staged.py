"""NPU tensors to and from processes and memory that HIXL does not reach: staged through pinned host memory, which is mapped here."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import values
from commands import FAKE_LIBRARIES

import ray_hixl
from ray_hixl import Options
from support import Owner
from wire import EngineDescriptor

SHAPES = [[3], [1 << 20], [700, 33]]  # the second of several buffers
PUBLISH = f"metadata = engine.publish([values.on_npu(torch.float32, shape, seed) for seed, shape in enumerate({SHAPES})])"
WITHOUT_CANN = {"LD_LIBRARY_PATH": "", "ASCEND_HOME_PATH": "", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}


def expected() -> list[tuple[str, list[int], bytes]]:
    return [values.bits(values.numbers(torch.float32, shape, seed)) for seed, shape in enumerate(SHAPES)]


@pytest.fixture(scope="module")
def metadata(owner: Owner) -> bytes:
    """Of tensors on npu:0 of another process."""
    owner.run(PUBLISH)
    made: bytes = owner.get("metadata")
    return made


@pytest.fixture(scope="module")
def without_cann() -> Iterator[Owner]:
    """A process that has torch and ray_hixl, and neither an NPU nor a library of CANN."""
    made = Owner(environment=WITHOUT_CANN, prepare="import torch")
    yield made
    made.close()


@pytest.mark.parametrize("chosen", [{"device": "cpu"}, {"device": "cpu:0"}, {"device": torch.device("cpu")}, {}])
def test_to_the_cpu(metadata: bytes, chosen: dict[str, Any]) -> None:
    """By the argument, or the option. No NPU is opened for it."""
    options = Options() if chosen else Options(landing_device="cpu")
    with ray_hixl.Engine(options) as engine:
        fetch = engine.fetch(metadata, **chosen)
        arrived = fetch.result()
        assert [tensor.device.type for tensor in arrived] == ["cpu"] * 3
        assert [values.bits(tensor) for tensor in arrived] == expected()
        assert list(fetch.bytes_by_transport()) == ["staged"]
        assert engine.stats()["devices"] == []
        assert engine.stats()["staged_mapped_bytes"] == sum(len(data) for *_, data in expected())


def test_to_targets_on_the_cpu(metadata: bytes) -> None:
    """Written directly."""
    with ray_hixl.Engine() as engine:
        targets = [torch.zeros(shape) for shape in SHAPES]
        fetch = engine.fetch(metadata, targets)
        assert [values.bits(tensor) for tensor in fetch.result()] == expected()
        assert all(arrived is target for arrived, target in zip(fetch.result(), targets, strict=True))
        assert (list(fetch.bytes_by_transport()), engine.stats()["devices"]) == (["staged"], [])
        assert engine.stats()["landing"]["allocations"] == 0


def test_to_a_process_without_cann(without_cann: Owner, metadata: bytes) -> None:
    without_cann.run("arrived = engine.fetch(metadata, device='cpu').result()", metadata=metadata)
    assert without_cann.get("[bytes(memoryview(tensor.numpy()).cast('B')) for tensor in arrived]") == [data for *_, data in expected()]
    assert without_cann.get("(list(engine.stats()['fetched']), engine.stats()['devices'])") == (["staged"], [])
    with pytest.raises(ray_hixl.NotAvailable, match=r"need torch_npu.*device='cpu'"):
        without_cann.run("engine.fetch(metadata).result()")


def test_to_an_npu_from_a_process_without_cann(without_cann: Owner) -> None:
    without_cann.run("metadata = engine.publish([torch.arange(1 << 20, dtype=torch.int32)])")
    target = torch.zeros(1 << 20, dtype=torch.int32, device="npu")
    with ray_hixl.Engine() as engine, engine.register(target):
        fetch = engine.fetch(without_cann.get("metadata"), [target])
        assert torch.equal(fetch.result()[0].cpu(), torch.arange(1 << 20, dtype=torch.int32))
        assert list(fetch.bytes_by_transport()) == ["staged"]


def test_to_the_cpu_over_a_connection(owner: Owner, metadata: bytes) -> None:
    """Where the owner's Unix socket cannot be reached, which passes what is mapped, as from another network namespace."""
    whole = owner.descriptor
    by_tcp = EngineDescriptor.unpack(whole).tcp_only().pack()
    unreachable = metadata.replace(struct.pack("<I", len(whole)) + whole, struct.pack("<I", len(by_tcp)) + by_tcp)
    with ray_hixl.Engine() as engine:
        fetch = engine.fetch(unreachable, device="cpu")
        assert [values.bits(tensor) for tensor in fetch.result()] == expected()
        assert list(fetch.bytes_by_transport()) == ["staged"]
        assert engine.stats()["staged_mapped_bytes"] == 0


def test_what_leaves_an_npu_is_pinned(owner: Owner, metadata: bytes) -> None:
    """By the runtime's own entry, also where the arena's memory came from elsewhere; a few buffers, however much leaves."""
    with ray_hixl.Engine() as engine:
        engine.fetch(metadata, device="cpu").result()
    owner.run("import ctypes; registered = ctypes.CDLL('libascendcl.so').fake_cann_registered_hosts()")
    assert 1 <= owner.get("registered") <= 16


def test_between_npus_without_hixl(metadata: bytes, hixl: ctypes.CDLL) -> None:
    """No engine of HIXL is started for it, and the counters say why."""
    started = hixl.fake_hixl_calls(b"Initialize")
    with ray_hixl.Engine(Options(transports=("shm", "stream", "staged"))) as engine:
        fetch = engine.fetch(metadata)
        arrived = fetch.result()
        assert [tensor.device.type for tensor in arrived] == ["npu"] * 3
        assert [values.bits(tensor) for tensor in arrived] == expected()
        assert list(fetch.bytes_by_transport()) == ["staged"]
        assert {device["unlinkable"] for device in engine.stats()["devices"]} == {
            "Options.transports does not allow hixl; add it there to use it"
        }
        assert hixl.fake_hixl_calls(b"Initialize") == started


WITHOUT_HIXL = {
    "no library": ({"RAY_HIXL_CANN_PATH": str(FAKE_LIBRARIES)}, {}, "cannot load libcann_hixl.so", "npu:0 has no HIXL"),
    "no start": ({"FAKE_HIXL_FAIL_INITIALIZE": "kernel"}, {}, "HIXL does not start", "npu:0 has no HIXL"),
    "ruled out": ({}, {"transports": ("shm", "stream", "staged")}, "the peer runs without it", ""),
}


@pytest.mark.parametrize("without", WITHOUT_HIXL)
def test_an_npu_without_hixl(new_owner: Callable[..., Owner], metadata: bytes, without: str) -> None:
    """It publishes to NPUs and CPUs and fetches from NPUs: by the runtime alone, and path() says why."""
    environment, options, why, says = WITHOUT_HIXL[without]
    other = new_owner(environment, **options)
    other.says = says
    other.run(PUBLISH)
    with ray_hixl.Engine() as engine:
        for device in (None, "cpu"):
            fetch = engine.fetch(other.get("metadata"), device=device)
            assert [values.bits(tensor) for tensor in fetch.result()] == expected()
            assert list(fetch.bytes_by_transport()) == ["staged"]
        path = engine.connect(other.descriptor).path("device", "device")
        assert path.transport == "staged"
        assert why in path.refused["hixl"]
    other.run("arrived = engine.fetch(theirs).result()", theirs=metadata)
    assert other.get("[values.bits(tensor) for tensor in arrived]") == expected()
    assert other.get("[tensor.device.type for tensor in arrived]") == ["npu"] * 3
    assert other.get("list(engine.stats()['fetched'])") == ["staged"]
    assert all(other.get("[device['unlinkable'] for device in engine.stats()['devices']]"))


def test_not_without_staged(metadata: bytes) -> None:
    """Ruled out, targets on the CPU are copied to from an NPU, as far as there is one."""
    with ray_hixl.Engine(Options(transports=("shm", "stream", "hixl"))) as engine:
        with pytest.raises(ray_hixl.NotAvailable, match=r"hixl: .*Allow another one in Options\.transports"):
            engine.fetch(metadata, device="cpu").result()
        targets = [torch.zeros(shape) for shape in SHAPES]
        fetch = engine.fetch(metadata, targets)
        assert [values.bits(tensor) for tensor in fetch.result()] == expected()
        assert list(fetch.bytes_by_transport()) == ["hixl"]


def test_freed(owner: Owner) -> None:
    owner.run("freed = engine.publish([values.on_npu(torch.float32, [100], 1)]); engine.release(freed)")
    with ray_hixl.Engine() as engine, pytest.raises(ray_hixl.ObjectFreed, match="the owner freed it"):
        engine.fetch(owner.get("freed"), device="cpu").result()


def test_path(owner: Owner) -> None:
    with ray_hixl.Engine() as engine:
        path = engine.connect(owner.descriptor).path("host", "device")
        assert path.transport == "staged"
        assert path.refused["hixl"] == "it moves between device memory and host memory that is pinned; staged moves any"
