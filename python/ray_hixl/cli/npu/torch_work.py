"""What ``ray-hixl bringup`` tries with torch_npu's tensors, in a helper that has peer.py's engine. Functions give evidence or raise."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray_hixl
from ray_hixl.cli.npu import peer

_FRACTAL_NZ = 29
_held: dict[str, Any] = {}


def _kinds(device: int) -> dict[str, Any]:
    """Tensors of every usual kind, out of nothing but their names."""
    torch = peer.torch
    base = torch.arange(6144)
    kinds = {
        str(dtype).removeprefix("torch."): (base % 2 == 0 if dtype is torch.bool else base % 100).to(dtype).view(96, 64)
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool)
    }
    made = {name: tensor.to(f"npu:{device}") for name, tensor in kinds.items()}
    whole = made["float32"]
    made |= {
        "transposed": whole.t(),
        "every second column": whole[:, ::2],
        "one row": whole[5],
        "a slice": whole[7:31],
        "0-dim": whole[3, 4],
    }
    made["no elements"] = torch.empty(0, 4, device=f"npu:{device}")
    return made


def publish_kinds(device: int) -> bytes:
    """An object with a tensor of each kind, and one on the CPU."""
    tensors = list(_kinds(device).values())
    metadata = peer.engine().publish([*tensors, peer.torch.arange(100)])
    _held["kinds"] = metadata
    return metadata


def fetch_kinds(metadata: bytes, device: int) -> list[str]:
    """Fetches it and compares values, shapes, dtypes and devices; then uses what arrived."""
    torch = peer.torch
    expected = _kinds(device)
    got = peer.engine().fetch(metadata).result()
    if len(got) != len(expected) + 1:
        raise AssertionError(f"{len(got)} tensors arrived instead of {len(expected) + 1}")
    for (name, wanted), tensor in zip(expected.items(), got, strict=False):
        if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype) or not torch.equal(tensor.cpu(), wanted.cpu()):
            raise AssertionError(f"{name}: {tensor.shape} {tensor.dtype} arrived, {wanted.shape} {wanted.dtype} was sent, or values differ")
        if tensor.device.type != "npu" or not tensor.is_contiguous():
            raise AssertionError(f"{name}: arrived on {tensor.device}, contiguous: {tensor.is_contiguous()}")
    if got[-1].device.type != "cpu" or not torch.equal(got[-1], torch.arange(100)):
        raise AssertionError(f"the CPU tensor of the object arrived on {got[-1].device}, or with other values")
    return [f"{len(got)} tensors are right: {', '.join(expected)}, and one of the CPU"]


def use(metadata: bytes, fake: bool) -> list[str]:
    """Operators on tensors over our memory: do they work as on any other?"""
    torch = peer.torch
    x = peer.engine().fetch(metadata).result()[0]  # float32, 96 x 64
    here = x.cpu()
    work: dict[str, Callable[[Any], Any]] = {
        "add": lambda t: t + 1,
        "mul": lambda t: t * 2,
        "sum": lambda t: t.sum(),
        "cat": lambda t: torch.cat([t, t]),
        "clone": lambda t: t.clone(),
        "transpose": lambda t: t.t().contiguous(),
        "in place": lambda t: t.clone().fill_(3),
    }
    if not fake:
        work |= {"matmul": lambda t: t @ t.t(), "softmax": lambda t: t.softmax(-1), "half": lambda t: t.half().float()}
    for name, function in work.items():
        result = function(x).cpu()
        if not torch.allclose(result, function(here), rtol=1e-3) if not fake else not torch.equal(result, function(here)):
            raise AssertionError(f"{name} of a received tensor gives other values than on the CPU")
    return [f"operators on a received tensor give what the CPU gives: {', '.join(work)}"]


def publish_registered(device: int, nbytes: int, seed: int) -> tuple[bytes, list[str]]:
    """Registers a tensor of torch's allocator and publishes it: no copy into a slab."""
    torch = peer.torch
    tensor = peer.pattern(nbytes, seed).to(f"npu:{device}")
    begin = time.perf_counter()
    region = peer.engine().register(tensor)
    seconds = time.perf_counter() - begin
    before = peer.levels(device)["slab bytes in use"]
    metadata = peer.engine().publish([tensor])
    copied = peer.levels(device)["slab bytes in use"] - before
    _held["registered"] = (tensor, region, metadata)
    torch.npu.synchronize(device)
    if copied:
        raise AssertionError(f"a tensor in registered memory was copied into a slab all the same: {copied} bytes")
    return metadata, [f"a tensor of {nbytes >> 20} MiB was registered in {seconds * 1e3:.1f} ms and published without a copy"]


def try_expandable(device: int, nbytes: int) -> list[str]:
    """What becomes of memory in expandable segments: published by packing; registering it, as far as that goes."""
    tensor = peer.pattern(nbytes, 1).to(f"npu:{device}")
    expandable = any(each.get("is_expandable") for each in peer.torch.npu.memory_snapshot())
    peer.engine().release(peer.engine().publish([tensor]))
    said = [f"expandable segments are {'on' if expandable else 'NOT on, although asked for'}; a tensor in one was packed and published"]
    try:
        peer.engine().register(tensor).close()
    except ray_hixl.HixlError as error:
        return [*said, f"registering it: {type(error).__name__}: {error}"]
    return [*said, "registering it: HIXL took it"]


def refuse_private_format(device: int) -> list[str]:
    """FRACTAL_NZ must be refused by name: its bytes are not the tensor's values in order."""
    import torch_npu

    torch = peer.torch
    torch.npu.config.allow_internal_format = True
    made = torch_npu.empty_with_format((64, 64), dtype=torch.float16, device=f"npu:{device}", acl_format=_FRACTAL_NZ)
    found = int(torch_npu.get_npu_format(made))
    if found != _FRACTAL_NZ:
        return [f"torch_npu made format {found} instead of FRACTAL_NZ (29): nothing to refuse"]
    try:
        peer.engine().publish([made])
    except ray_hixl.UnsupportedTensor as error:
        return [f"refused: {error}"]
    raise AssertionError("a tensor in FRACTAL_NZ was published: consumers would get wrong values silently")
