"""What the tests of npu tensors stand on: the vendor's plugin works over the fake, and what the fake cannot do fails loudly."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch_npu

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool]


def test_every_symbol_that_the_wheel_needs_is_there(runtime: ctypes.CDLL) -> None:
    """An upgrade of torch_npu that needs more fails here with names."""
    folder = Path(torch_npu.__file__).parent / "lib"
    needed = set()
    for library in folder.glob("*.so"):
        if library.name == "libop_plugin_atb.so":  # needs libatb; not loaded by torch_npu's import
            continue
        lines = subprocess.run(
            ["nm", "-D", "--undefined-only", str(library)], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        names = [line.split()[1].partition("@")[0] for line in lines if line.split()[0] == "U"]
        needed |= {name for name in names if name.startswith(("acl", "rt", "Msprof", "Hccl")) and not name.startswith("aclnn")}
    assert needed
    assert sorted(name for name in needed if not hasattr(runtime, name)) == []


def test_devices(runtime: ctypes.CDLL) -> None:
    assert torch.npu.device_count() == 2
    assert torch.npu.get_device_name().startswith(os.environ.get("FAKE_CANN_SOC", "Ascend950PR"))
    tensor = torch.zeros(3, device="npu:1")
    assert tensor.device == torch.device("npu", 1)
    assert tensor.to("npu:0").cpu().tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_there_and_back(dtype: torch.dtype) -> None:
    here = torch.arange(10).to(dtype).view(2, 5)
    assert torch.equal(here.npu().cpu(), here)
    assert torch.equal(here.npu().t().contiguous().cpu(), here.t())
    assert torch.equal(here.npu()[:, 1::2].clone().cpu(), here[:, 1::2])


def test_the_few_kernels() -> None:
    x = torch.arange(6, device="npu", dtype=torch.float32)
    assert (x + 1).cpu().tolist() == [1, 2, 3, 4, 5, 6]
    assert (x * 2).cpu().tolist() == [0, 2, 4, 6, 8, 10]
    assert x.sum().item() == 15
    assert torch.cat([x, x]).cpu().tolist() == [*range(6), *range(6)]
    assert torch.stack([x[:2], x[2:4]]).cpu().tolist() == [[0, 1], [2, 3]]
    assert torch.equal(x, x.clone())
    assert not torch.equal(x, x + 1)
    assert x.half().cpu().dtype == torch.float16
    assert torch.full((2,), 7, device="npu").cpu().tolist() == [7, 7]


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x @ x.transpose(1, 2),  # batches of matrices, one of them by strides
        lambda x: x @ x[0].t(),
        lambda x: x[0] @ x[1].t(),
        lambda x: torch.softmax(x, -1),
        lambda x: x.mean(-1, keepdim=True),
        lambda x: x.argmax(-1),
        lambda x: torch.relu(x),
        lambda x: torch.rsqrt(x * x + 1e-6),
        lambda x: torch.nn.functional.embedding(torch.tensor([3, 0], device=x.device), x[1]),
    ],
    ids=["batches", "batch and matrix", "matrices", "softmax", "mean", "argmax", "relu", "rsqrt", "embedding"],
)
def test_the_kernels_of_a_transformer(compute: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(compute(x.npu()).cpu(), compute(x))


def test_what_it_cannot_compute_says_so() -> None:
    x = torch.ones(2, 2, device="npu")
    with pytest.raises(RuntimeError, match="Tanh"):
        torch.tanh(x)
    assert x.cpu().tolist() == [[1, 1], [1, 1]], "and poisons nothing"


def test_memory_goes_back(runtime: ctypes.CDLL) -> None:
    torch.npu.empty_cache()
    before = runtime.fake_cann_live_blocks()
    tensor = torch.empty(50 << 20, dtype=torch.uint8, device="npu")
    assert runtime.fake_cann_live_blocks() > before
    del tensor
    torch.npu.empty_cache()
    assert runtime.fake_cann_live_blocks() == before


def test_out_of_memory_is_torchs_own_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(1 << 40, dtype=torch.uint8, device="npu")


def test_streams_and_events() -> None:
    side = torch.npu.Stream()
    x = torch.ones(1000, device="npu")
    torch.npu.synchronize()
    with torch.npu.stream(side):
        y = x + 1
        done = side.record_event()
    done.synchronize()
    assert y.cpu().sum().item() == 2000


def test_device_memory_is_out_of_the_cpus_reach() -> None:
    """The product cannot cheat: who touches device memory from the CPU dies."""
    script = "import torch, ctypes; t = torch.ones(4, device='npu'); torch.npu.synchronize(); ctypes.string_at(t.data_ptr(), 4)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, env=os.environ)
    assert done.returncode == -11
