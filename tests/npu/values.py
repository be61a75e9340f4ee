"""Tensors that both processes of a test can make, and what a test compares. Imported by the other process, too."""

from __future__ import annotations

import ctypes
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

DTYPES = [
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.complex32, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
]


def numbers(dtype: torch.dtype, shape: list[int], seed: int) -> torch.Tensor:
    """A tensor of the CPU with random bits, which no conversion touches: every dtype has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls complex32 experimental
        tensor = torch.empty(shape, dtype=dtype)
    count = tensor.untyped_storage().nbytes()
    content = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    if dtype is torch.bool:
        content &= 1
    ctypes.memmove(tensor.data_ptr(), content.data_ptr(), count)
    return tensor


def on_npu(dtype: torch.dtype, shape: list[int], seed: int, device: str = "npu:0") -> torch.Tensor:
    """The same on an NPU."""
    return numbers(dtype, shape, seed).to(device)


def bits(tensor: torch.Tensor) -> tuple[str, list[int], bytes]:
    """dtype, shape and bits of a contiguous tensor, wherever it is."""
    assert tensor.is_contiguous(), tensor.stride()
    here = tensor.detach().cpu()
    return str(here.dtype), list(here.shape), ctypes.string_at(here.data_ptr(), here.nbytes) if here.nbytes else b""


def received_elsewhere(engine: Any, metadata: bytes, **given: Any) -> list[torch.Tensor]:
    """Fetched by a thread that has set no device, as under Ray."""
    with ThreadPoolExecutor(1) as one:
        return one.submit(lambda: engine.fetch(metadata, **given).result()).result()


def slabs(engine: Any, device: int = 0) -> dict[str, int]:
    """Counters of an engine's slabs on a device; empty before its first use."""
    found: dict[str, int] = next((each["slabs"] for each in engine.stats()["devices"] if each["device"] == device), {})
    return found


def device_stats(engine: Any, device: int = 0) -> dict[str, Any]:
    """An engine's counters of a device."""
    found: dict[str, Any] = next(each for each in engine.stats()["devices"] if each["device"] == device)
    return found
