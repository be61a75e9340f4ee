"""What ``ray-hixl doctor`` has done in a process of its own, see helper.py. Every function gives plain values."""

from __future__ import annotations

import importlib
import importlib.metadata
import time
from typing import Any

SLAB_ALIGNMENT = 2 << 20
FAKE_NOTE = "FAKE: the CANN of ray-hixl's tests, no NPU"


def probe() -> list[tuple[str, bool, str]]:
    """Each transport, whether it works on this machine, and why not, or what else is to be said of it."""
    from ray_hixl import _core

    probes = []
    for each in _core.probe_transports():
        fake = each.transport == "hixl" and each.usable and _core.cann_info()["is_fake"]
        probes.append((each.transport, each.usable, FAKE_NOTE if fake else each.reason or ""))
    return probes


def ray_gets() -> str:
    """Why a ``ray.get`` that fails does not end its fetches; empty if it does."""
    from ray_hixl.ray import compat

    return compat.why_gets_are_bare()


def cann() -> dict[str, Any]:
    """What of CANN is here, as ``ray_hixl._core.cann_info`` tells it."""
    from ray_hixl import _core

    info: dict[str, Any] = _core.cann_info()
    return info


def start_device(index: int) -> dict[str, Any]:
    """Starts HIXL on a device and takes a first block of device memory: where it lies, and the device's counters."""
    import ray_hixl

    with ray_hixl.Engine(ray_hixl.Options(transports=("hixl",))) as engine:  # without HIXL it would be staged
        begin = time.perf_counter()
        buffer = engine.empty(SLAB_ALIGNMENT, f"npu:{index}")
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "address": buffer.address, "stats": engine.stats()["devices"]}


def import_torch_npu() -> dict[str, Any]:
    """Imports torch and torch_npu, and asks them about devices."""
    torch: Any = importlib.import_module("torch")
    importlib.import_module("torch_npu")
    return {
        "torch": str(torch.__version__),
        "torch_npu": importlib.metadata.version("torch-npu"),
        "devices": torch.npu.device_count(),
        "table": hasattr(torch.Tensor, "__dlpack_c_exchange_api__"),
    }


def memory() -> dict[str, int]:
    """Bytes of npu:0: free now, and in all."""
    torch: Any = importlib.import_module("torch")
    importlib.import_module("torch_npu")
    free, total = torch.npu.mem_get_info(0)
    return {"free": free, "total": total}


def drop_a_tensor() -> dict[str, int]:
    """Makes an npu tensor over a slab's memory through torch_npu's DLPack door and drops it. Blocks in use before, meanwhile and after."""
    torch: Any = importlib.import_module("torch")
    importlib.import_module("torch_npu")
    import ray_hixl

    def blocks() -> int:
        return sum(device["slabs"]["live_blocks"] for device in ray_hixl.stats()["devices"])

    first = ray_hixl.empty(1 << 20, dtype=torch.uint8, device="npu:0")  # starts the device
    before = blocks()
    tensor = ray_hixl.empty(1 << 20, dtype=torch.uint8, device="npu:0")
    tensor.fill_(7)
    torch.npu.synchronize()
    meanwhile = blocks()
    del tensor
    end = time.monotonic() + 5
    while blocks() > before and time.monotonic() < end:  # the engine drops owners on a thread of its own
        time.sleep(0.01)
    after = blocks()
    del first
    ray_hixl.shutdown()
    return {"before": before, "meanwhile": meanwhile, "after": after}
