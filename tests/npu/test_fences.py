"""Nothing is read before it is computed, and nothing is overwritten before it was used: on streams where every task starts 20 ms late.

A forgotten wait shows every time then; without the delay it would be luck.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
import torch
import values
from profiles import APART

import ray_hixl
from ray_hixl import npu
from support import Owner

LATE = {"FAKE_CANN_STREAM_DELAY_US": "20000", "FAKE_CANN_SIDE_DELAY_US": "10000"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def late() -> Iterator[Owner]:
    """A process with late streams, and room for one tensor of 3 MiB in its slab."""
    options = {"slab_bytes": 4 * MIB, "slab_cap_bytes": 4 * MIB}
    made = Owner(options, prepare="import time, torch, torch_npu; from ray_hixl import npu", environment=LATE | APART)
    made.run("side = torch.npu.Stream(); x = torch.ones(1000, device='npu'); y = torch.empty(0, device='npu'); torch.npu.synchronize()")
    yield made
    made.close()


@pytest.fixture(params=("packed", "registered"))
def memory(request: pytest.FixtureRequest, late: Owner) -> Iterator[str]:
    """Are the tensors that are published packed, or read where they are?"""
    if request.param == "registered":
        late.run("region = engine.register(x)")
    yield request.param
    late.run("region = None; engine.release(metadata); torch.npu.set_stream(torch.npu.default_stream())")


MAKERS = {
    "computed": "y = x + n",
    "computed on a side stream": "with torch.npu.stream(side): y = x + n\ntorch.npu.current_stream().wait_stream(side)",
    "computed on a side stream, where it is published": "torch.npu.set_stream(side); y = x + n",
    "computed in place": "y = x * 0; y += n; y += 1",
    "strided": "y = (x + n).view(10, 100).t()",
    "strided, on a side stream": "torch.npu.set_stream(side); y = (x + n).view(10, 100).t()",
    "copied from pinned memory": "y = torch.full((1000,), n + 1.0).pin_memory().to('npu', non_blocking=True)",
    "changed on a side stream": "y = x + 0; side.wait_stream(torch.npu.current_stream())\nwith torch.npu.stream(side): y.add_(n)\n"
    "torch.npu.current_stream().wait_stream(side)",
}
numbers = itertools.count(1)  # another one each time: what is stale must not look right


@pytest.mark.parametrize("maker", MAKERS)
def test_published_when_computed(reader: ray_hixl.Engine, late: Owner, memory: str, maker: str) -> None:
    n = next(numbers)
    late.run(f"{MAKERS[maker]}\nmetadata = engine.publish([y])", n=n)
    [arrived] = reader.fetch(late.get("metadata")).result()
    assert arrived.cpu().unique().tolist() == [n + 1]


@pytest.mark.parametrize("published", ["y", "y.view(10, 100).t()"])
def test_only_the_chosen_stream_is_waited_for(reader: ray_hixl.Engine, late: Owner, memory: str, published: str) -> None:
    late.run("import ctypes, time; runtime = ctypes.CDLL('libascendcl.so'); runtime.fake_cann_calls.restype = ctypes.c_uint64")
    late.run("ray_hixl.set_stream(side); torch.npu.synchronize(); runtime.fake_cann_reset_calls()")
    n = next(numbers)
    late.run(f"for _ in range(50): z = x * 3\nwith torch.npu.stream(side): y = x + n\nmetadata = engine.publish([{published}])", n=n)
    calls = "sum(runtime.fake_cann_calls(name) for name in (b'aclrtSynchronizeDevice', b'aclrtSynchronizeDeviceWithTimeout'))"
    late.run("is_done = side.query(), torch.npu.default_stream().query(); ray_hixl.set_stream(None)")
    assert late.get("is_done") == (True, False)
    assert late.get(calls) == 0
    assert reader.fetch(late.get("metadata")).result()[0].cpu().unique().tolist() == [n + 1]


@pytest.fixture
def metadata(engine: ray_hixl.Engine) -> list[bytes]:
    """Two objects of 3 MiB each: all tens, all twenties."""
    return [engine.publish([torch.full((3 * MIB,), value, dtype=torch.uint8, device="npu")]) for value in (10, 20)]


USES = {
    "on the default stream": "y = x + 1",
    "on a side stream": "with torch.npu.stream(side): y = x + 1",
    "by a copy": "y = torch.empty(0, dtype=torch.uint8, device='npu').resize_(3 << 20); y.copy_(x); y += 1",
}


@pytest.mark.parametrize("use", USES)
def test_received_memory_is_not_reused_too_early(metadata: list[bytes], late: Owner, use: str) -> None:
    late.run("x = engine.fetch(tens).result()[0]; address = x.data_ptr()", tens=metadata[0], twenties=metadata[1])
    late.run(f"torch.npu.synchronize()\n{USES[use]}\ndel x\nz = engine.fetch(twenties).result()[0]")
    assert late.get("abs(z.data_ptr() - address)") < 3 * MIB, "the slab has no room for another one"
    assert late.get("(y.cpu().unique().tolist(), z.cpu().unique().tolist())") == ([11], [20])
    late.run("del z; x = torch.ones(1000, device='npu')")


def test_targets_are_not_written_too_early(metadata: list[bytes], late: Owner) -> None:
    late.run("t = torch.full((3 << 20,), 5, dtype=torch.uint8, device='npu'); region = engine.register(t); torch.npu.synchronize()")
    late.run("y = t + 1; engine.fetch(tens, [t]).result()", tens=metadata[0])
    assert late.get("(y.cpu().unique().tolist(), t.cpu().unique().tolist())") == ([6], [10])
    late.run("t2 = torch.full((3 << 20,), 5, dtype=torch.uint8, device='npu'); y = t2 + 1; engine.fetch(tens, [t2]).result()")
    assert late.get("(y.cpu().unique().tolist(), t2.cpu().unique().tolist())") == ([6], [10]), "by way of a slab"
    late.run("region.close()")


@pytest.mark.parametrize("source", ["s", "s.cpu()"])
def test_copies_into_targets_keep_to_the_chosen_stream(late: Owner, source: str) -> None:
    """Behind what still uses the targets there, and done when the call returns."""
    late.run("t, s = (torch.full((1000,), value, device='npu') for value in (5.0, 10.0)); torch.npu.synchronize()")
    late.run(f"s = {source}; ray_hixl.set_stream(side)")
    late.run("with torch.npu.stream(side): y = t + 1\nnpu.copy_into([t], [s], time.monotonic() + 9); found = t.cpu().unique().tolist()")
    late.run("ray_hixl.set_stream(None); torch.npu.synchronize()")
    assert late.get("(y.cpu().unique().tolist(), found, t.cpu().unique().tolist())") == ([6], [10], [10])
    assert late.get("torch.npu.current_stream() == torch.npu.default_stream()")


def test_memory_of_empty_is_not_reused_too_early(metadata: list[bytes], late: Owner) -> None:
    """It is received into at once: what the engine hands out is not in use any more."""
    late.run("e = torch.utils.dlpack.from_dlpack(engine.empty(3 << 20, 'npu:0')); address = e.data_ptr(); e.fill_(7)")
    late.run("with torch.npu.stream(side): side.wait_stream(torch.npu.default_stream()); y = e + 1", tens=metadata[0])
    late.run("del e; e = torch.utils.dlpack.from_dlpack(engine.empty(3 << 20, 'npu:0')); e.fill_(9)")
    assert late.get("(abs(e.data_ptr() - address) < 3 << 20, y.cpu().unique().tolist())") == (True, [8])
    late.run("del e")


def test_a_fence_of_a_stream_that_has_nothing_to_do() -> None:
    """set_stream() is for one device; on others the current stream counts."""
    stream = torch.npu.Stream(device="npu:1")
    npu.set_stream(stream)
    try:
        for device in (0, 1):
            npu.wait_for(device, time.monotonic() + 9, "the test")
        assert set(npu._streams) == {1}
        x = values.on_npu(torch.float32, [5], 1, "npu:1")
        target = torch.zeros(5, device="npu:1")
        torch.npu.synchronize(1)
        npu.pack([x], [0], [target.data_ptr()], 1)
        npu.wait_for(1, time.monotonic() + 9, "the test")
        assert torch.equal(target.cpu(), x.cpu())
    finally:
        npu.set_stream(None)
    assert npu._streams == {}


def test_what_is_no_stream_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"a torch\.npu\.Stream is wanted, or None, this is of type str"):
        npu.set_stream("side")  # type: ignore[arg-type]
