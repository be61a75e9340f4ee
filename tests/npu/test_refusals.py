"""What cannot be published or received is refused by name, with what to do; and where it is fetched, if it was published quietly."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch_npu
import values
from modes import once

import ray_hixl
from ray_hixl import NotAvailable, OutOfMemory, UnsupportedTensor, npu
from support import Owner, eventually, run_python

MIB = 1 << 20
PRIVATE = r"{} is in the NPU's private format 29 \(FRACTAL_NZ\): .* Take torch_npu\.npu_format_cast\(tensor, 2\)"


@pytest.fixture
def nz() -> Iterator[torch.Tensor]:
    """A tensor in FRACTAL_NZ, which this NPU's fake cannot compute with: only its name is needed."""
    torch.npu.config.allow_internal_format = True
    yield torch_npu.empty_with_format((64, 64), dtype=torch.float16, device="npu", acl_format=29)
    torch.npu.config.allow_internal_format = False


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "itself": lambda x: x,
    "a row": lambda x: x[3],
    "flat": lambda x: x.view(-1),
    "flat and detached": lambda x: x.view(-1).detach(),
    "transposed": lambda x: x.t(),
    "as other elements": lambda x: x.view(torch.int16),
    "parameter": lambda x: torch.nn.Parameter(x),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("exchange_api", [True, False], ids=["table", "attributes"])
def test_private_formats(engine: ray_hixl.Engine, nz: torch.Tensor, view: str, exchange_api: bool) -> None:
    """Views have the format of their storage, also flat ones."""
    plain = torch.ones(64, 64, device="npu")
    ray_hixl._core.use_torch(torch, exchange_api=exchange_api)
    try:
        with pytest.raises(UnsupportedTensor, match=PRIVATE.format("tensor 2")):
            engine.publish([plain, plain[1], VIEWS[view](nz), plain])
    finally:
        ray_hixl._core.use_torch(torch)


def test_private_formats_elsewhere(engine: ray_hixl.Engine, owner: Owner, nz: torch.Tensor) -> None:
    with pytest.raises(UnsupportedTensor, match=PRIVATE.format("the memory to register")):
        engine.register(nz)
    metadata = engine.publish([torch.ones(64, 64, device="npu", dtype=torch.float16)])
    with pytest.raises(UnsupportedTensor, match=PRIVATE.format("target 0")):
        engine.fetch(metadata, [nz])
    quiet = engine.publish_quietly([nz])
    with pytest.raises(UnsupportedTensor, match=r"its source could not publish it: .*FRACTAL_NZ"):
        owner.run("engine.fetch(metadata).result()", metadata=quiet)


def test_formats_are_asked_for_once_a_storage(engine: ray_hixl.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(npu, "_format_of", lambda tensor: asked.append(tensor.data_ptr()) or 2)
    x, y = torch.ones(100, 10, device="npu"), torch.ones(50, device="npu")
    engine.publish([*x.unbind(0), y, x, y[3:], *x.split(7)])
    assert asked == [x.data_ptr(), y.data_ptr()]


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.npu, "is_current_stream_capturing", lambda: True)


def test_graph_capture(engine: ray_hixl.Engine, owner: Owner, capturing: None) -> None:
    refused = pytest.raises(NotAvailable, match=r"while a graph is captured is not possible: do it before or after the capture")
    with refused:
        engine.publish([torch.ones(3, device="npu")])
    with refused:
        engine.fetch(owner.get("engine.publish([torch.ones(3, device='npu')])"))
    with refused:
        owner.run("engine.fetch(metadata).result()", metadata=engine.publish_quietly([torch.ones(3, device="npu")]))
    [arrived] = engine.fetch(owner.get("engine.publish([torch.ones(3)])")).result()
    assert arrived.tolist() == [1, 1, 1], "memory of the CPU waits for no stream"


def test_no_room(owner: Owner) -> None:
    """The remedy is named, at the source and at the consumer; it works again once there is room."""
    large = "torch.ones(5 << 20, dtype=torch.uint8, device='npu')"
    with ray_hixl.Engine(ray_hixl.Options(slab_bytes=2 * MIB, slab_cap_bytes=4 * MIB)) as small:
        with pytest.raises(OutOfMemory, match="at most 4194304 bytes altogether; raise slab_cap_bytes or hold fewer tensors"):
            small.publish([eval(large)])
        with pytest.raises(MemoryError, match="raise slab_cap_bytes"):
            small.fetch(owner.get(f"engine.publish([{large}])")).result()
        with pytest.raises(OutOfMemory, match="raise slab_cap_bytes"):
            small.empty(5 * MIB, "npu:0")
        [arrived] = small.fetch(small.publish([eval(large)[: 2 * MIB]])).result()
        assert arrived.cpu().unique().tolist() == [1]


@once
def test_the_npu_is_full() -> None:
    script = """
import time, torch, torch_npu, ray_hixl
x = torch.empty(100 << 20, dtype=torch.uint8, device="npu")
with ray_hixl.Engine() as engine:
    try:
        engine.publish([x])
    except ray_hixl.OutOfMemory as error:
        print(error)
    del x
    while torch.npu.memory_allocated():  # the engine lets go of it on another thread
        time.sleep(0.001)
    torch.npu.empty_cache()
    print(engine.fetch(engine.publish([torch.ones(3, device="npu")])).result()[0].tolist())
"""
    refused, works = run_python(script, environment={"FAKE_CANN_HBM_MB": "128"}).splitlines()
    assert refused.startswith("cannot use npu:0: ")
    assert "taking 64 MiB of npu:0 for ray-hixl's slabs (aclrtMalloc); give torch less, or lower slab_bytes" in refused
    assert works == "[1.0, 1.0, 1.0]"


def test_a_torch_npu_that_cannot_import(engine: ray_hixl.Engine, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its patch of torch, an import gives tensors that operators fail on."""
    owner.run("metadata = engine.publish([torch.ones(3, device='npu'), torch.ones(2)])")
    metadata = owner.get("metadata")
    monkeypatch.setattr(torch.utils.dlpack, "from_dlpack", torch._C._from_dlpack)
    with pytest.raises(NotAvailable, match=r"torch_npu 2\.13\.0\S* does not make npu tensors out of DLPack.* use torch_npu 2\.7\.1\.post2"):
        engine.fetch(metadata).result()
    monkeypatch.setattr(torch.utils.dlpack, "from_dlpack", lambda capsule: ctypes.c_int().no_such_thing)
    with pytest.raises(NotAvailable, match="does not make npu tensors out of DLPack"):
        engine.fetch(metadata).result()
    monkeypatch.undo()
    assert [tensor.device.type for tensor in engine.fetch(metadata).result()] == ["npu", "cpu"]


def test_errors_of_torch_are_one_line(engine: ray_hixl.Engine, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the device is tired\n[ERROR] and so on")

    monkeypatch.setattr(torch, "_foreach_copy_", fail)
    with pytest.raises(NotAvailable, match=r"^copying tensors on npu:0: RuntimeError: the device is tired$"):
        engine.publish([torch.ones(3, device="npu")])
    monkeypatch.undo()
    monkeypatch.setattr(npu, "set_fence", lambda device: fail())
    with pytest.raises(NotAvailable, match=r"^waiting for npu:0: RuntimeError: the device is tired$"):
        engine.publish([torch.utils.dlpack.from_dlpack(engine.empty(3, "npu:0"))])
    monkeypatch.undo()
    eventually(lambda: values.slabs(engine)["used_bytes"] == 0)  # what failed keeps no memory


WITHOUT = """
import sys
{before}
import torch, ray_hixl
engine = ray_hixl.Engine()
try:
    {call}
except ray_hixl.NotAvailable as error:
    print(error)
"""


@once
@pytest.mark.parametrize(
    ("before", "environment", "said"),
    [
        ("sys.modules['torch_npu'] = None", {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}, "npu tensors need torch_npu, which cannot be imported"),
        ("", {"RAY_HIXL_ALLOW_FAKE_CANN": "0"}, "is the FAKE CANN of ray-hixl's tests, which is no NPU"),
        ("", {"RAY_HIXL_TRANSPORTS": "shm,cma,stream"}, "NPU memory moves by hixl and staged, of which Options.transports allows neither"),
    ],
    ids=["without torch_npu", "without HIXL", "not allowed"],
)
def test_processes_that_cannot(owner: Owner, before: str, environment: dict[str, str], said: str) -> None:
    metadata = owner.get("engine.publish([torch.ones(3, device='npu')])")
    script = WITHOUT.format(before=before, call=f"engine.fetch({metadata!r}).result()")
    assert said in run_python(script, environment=environment)


@once
def test_a_process_without_hixl_publishes_nothing(engine: ray_hixl.Engine) -> None:
    """Its consumers are told what is missing there."""
    script = """
import torch, torch_npu, ray_hixl
engine = ray_hixl.Engine()
print(engine.publish_quietly([torch.ones(3, device="npu")]).hex())
"""
    packed = run_python(script, environment={"RAY_HIXL_ALLOW_FAKE_CANN": "0"})
    with pytest.raises(NotAvailable, match=r"its source could not publish it: .*is the FAKE CANN"):
        engine.fetch(bytes.fromhex(packed)).result()
