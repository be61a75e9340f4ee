"""What the processes of ``ray-hixl bringup`` do, by the public API alone: one engine each, tensors out of seeds, every byte compared.

Runs in a helper (see helper.py), so functions take and give plain values. Descriptors and metadata are secrets: only helpers see them.
"""

from __future__ import annotations

import gc
import importlib
import os
import time
from pathlib import Path
from typing import Any

import ray_hixl

torch: Any = None  # imported by open_engine(), since it needs CANN where torch_npu is installed
_engine: ray_hixl.Engine | None = None
_held: dict[str, Any] = {}  # what stays alive from one call to the next, by a name of the caller's


def open_engine(host: str | None = None) -> None:
    """Imports torch and torch_npu and starts the engine; no device yet."""
    global torch, _engine
    torch = importlib.import_module("torch")
    importlib.import_module("torch_npu")
    _engine = ray_hixl.Engine(ray_hixl.Options(host=host) if host else None)


def engine() -> ray_hixl.Engine:
    assert _engine is not None
    return _engine


def close_engine() -> None:
    engine().close()


def descriptor() -> bytes:
    return engine().descriptor


def stats() -> dict[str, Any]:
    return engine().stats()


def pattern(nbytes: int, seed: int) -> Any:
    """Bytes out of a seed, on the CPU."""
    return torch.randint(0, 256, (nbytes,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def compare(got: Any, expected: Any) -> str:
    """What is wrong with bytes that arrived; empty if nothing."""
    here = got.cpu()
    if torch.equal(here, expected):
        return ""
    wrong = (here != expected).nonzero().flatten()
    return f"{len(wrong)} of {len(expected)} bytes are wrong, the first at {int(wrong[0])}"


def empty(device: int, nbytes: int) -> tuple[Any, Any]:
    """Memory of a device's slabs: its region, and the same as a tensor."""
    buffer = engine().empty(nbytes, f"npu:{device}")
    return buffer.region, torch.utils.dlpack.from_dlpack(buffer.__dlpack__())


def take(device: int, nbytes: int) -> dict[str, Any]:
    """A block of a device's slabs, which starts the device: how long that takes, and where it lies."""
    begin = time.perf_counter()
    buffer = engine().empty(nbytes, f"npu:{device}")
    return {"seconds": time.perf_counter() - begin, "address": buffer.address}


def show_region(device: int, nbytes: int, seed: int) -> tuple[bytes, bytes]:
    """A region with a pattern in it: descriptors of the engine and of the region."""
    region, tensor = empty(device, nbytes)
    tensor.copy_(pattern(nbytes, seed))
    torch.npu.synchronize(device)
    _held["region"] = region, tensor
    return engine().descriptor, region.descriptor


def read_region(device: int, owner: bytes, region: bytes, nbytes: int, seed: int, times: int) -> dict[str, Any]:
    """Reads a peer's region into this device, ``times`` times: seconds of each, of the connect, and what is wrong."""
    local, target = empty(device, nbytes)
    begin = time.perf_counter()
    peer = engine().connect(owner)
    remote = peer.region(region)
    connect = time.perf_counter() - begin
    expected = pattern(nbytes, seed)
    seconds, by_transport, wrong = [], {}, ""
    for _ in range(times):
        target.fill_(0)
        torch.npu.synchronize(device)
        begin = time.perf_counter()
        transfer = peer.read_async([(local, 0, remote, 0, nbytes)])
        transfer.wait()
        seconds.append(time.perf_counter() - begin)
        by_transport = transfer.bytes_by_transport()
        wrong = wrong or compare(target, expected)
    peer.close()
    return {"connect": connect, "seconds": seconds, "by_transport": by_transport, "wrong": wrong}


def publish(device: int, count: int, nbytes: int, seed: int) -> bytes:
    """An object of ``count`` ordinary tensors of torch's allocator. Its metadata."""
    rows = pattern(count * nbytes, seed).view(count, nbytes)
    metadata = engine().publish([row.to(f"npu:{device}") for row in rows])
    _held[f"object {seed}"] = metadata
    return metadata


def release(seed: int) -> None:
    engine().release(_held.pop(f"object {seed}"))


def fetch(metadata: bytes, count: int, nbytes: int, seed: int, times: int) -> dict[str, Any]:
    """Fetches an object ``times`` times: seconds of each, where it arrived, and what is wrong."""
    expected = pattern(count * nbytes, seed)
    seconds, by_transport, wrong, devices = [], {}, "", set()
    for _ in range(times):
        begin = time.perf_counter()
        fetching = engine().fetch(metadata)
        tensors = fetching.result()
        seconds.append(time.perf_counter() - begin)
        by_transport = fetching.bytes_by_transport()
        devices |= {str(tensor.device) for tensor in tensors}
        if len(tensors) != count:
            wrong = wrong or f"{len(tensors)} tensors instead of {count}"
        wrong = wrong or compare(torch.cat([tensor.cpu() for tensor in tensors]), expected)
    return {"seconds": seconds, "by_transport": by_transport, "wrong": wrong, "devices": sorted(devices)}


def settled_levels(device: int) -> dict[str, int]:
    """``levels``, once they have stood still for a moment: owners are dropped on threads of their own."""
    gc.collect()
    torch.npu.synchronize(device)
    found, since, end = levels(device), time.monotonic(), time.monotonic() + 10
    while time.monotonic() < min(since + 0.3, end):
        time.sleep(0.02)
        now = levels(device)
        if now != found:
            found, since = now, time.monotonic()
    return found


def levels(device: int) -> dict[str, int]:
    """What a soak has to leave as it was."""
    figures = engine().stats()
    slabs = {key: 0 for key in ("used_bytes", "live_blocks", "mapped_bytes")}
    registrations = 0
    for each in figures["devices"]:
        registrations += each["registrations"]
        for key in slabs:
            slabs[key] += each["slabs"][key]
    free, _ = torch.npu.mem_get_info(device)
    return {
        "slab bytes in use": slabs["used_bytes"],
        "slab blocks": slabs["live_blocks"],
        "slab bytes": slabs["mapped_bytes"],
        "registrations": registrations,
        "objects": figures["objects"],
        "transfers in flight": figures["transfers_in_flight"],
        "quarantined bytes": figures["quarantined_bytes"],
        "links": figures["links"],
        "sessions": figures["sessions"],
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "torch bytes": int(torch.npu.memory_allocated(device)),
        "device bytes free": int(free),
    }
