"""npu memory for users without torch: buffers that DLPack hands on, and the runtime's own copies and waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import values
from profiles import APART

import ray_hixl
from support import Owner


@pytest.fixture(scope="module")
def plain() -> Iterator[Owner]:
    """A process that has not imported torch."""
    made = Owner(prepare="import sys", environment=APART)
    yield made
    assert made.get("'torch' in sys.modules") is False
    made.close()


def test_there_and_back(plain: Owner, reader: ray_hixl.Engine) -> None:
    """It fetches npu tensors and publishes what it got, as it is and as plain bytes."""
    x = values.on_npu(torch.float32, [3, 4], 1)
    plain.run("got = engine.fetch(metadata).result()", metadata=reader.publish([x, x[0, :0], torch.ones(2)]))
    assert plain.get("[(each.dtype, each.shape, each.nbytes, each.__dlpack_device__()) for each in got]") == [
        ("float32", (3, 4), 48, (12, 0)),
        ("float32", (0,), 0, (12, 0)),
        ("float32", (2,), 8, (1, 0)),
    ]
    arrived = reader.fetch(plain.get("engine.publish(got)")).result()
    assert [tensor.device.type for tensor in arrived] == ["npu", "npu", "cpu"]
    assert values.bits(arrived[0]) == values.bits(x)


def test_device_buffers(plain: Owner, reader: ray_hixl.Engine) -> None:
    plain.run("buffer = engine.empty(1000, 'npu:1'); region = buffer.region")
    assert plain.get("(buffer.nbytes, buffer.__dlpack_device__(), region.kind, region.nbytes)") == (1000, (12, 1), "device", 1000)
    with pytest.raises(BufferError, match="the memory is an NPU's, which the CPU does not reach"):
        plain.run("memoryview(buffer)")
    x = values.on_npu(torch.uint8, [1000], 2, "npu:1")
    plain.run("engine.fetch(metadata, [buffer]).result()", metadata=reader.publish([x]))
    assert values.bits(reader.fetch(plain.get("engine.publish([buffer])")).result()[0]) == values.bits(x)


def test_targets_in_another_memory(plain: Owner, reader: ray_hixl.Engine) -> None:
    metadata = reader.publish([values.on_npu(torch.uint8, [10], 1)])
    plain.run("target = bytearray(10); engine.fetch(metadata, [target]).result()", metadata=metadata)
    assert list(plain.get("bytes(target)")) == values.numbers(torch.uint8, [10], 1).tolist()


def test_buffers_as_tensors(engine: ray_hixl.Engine) -> None:
    """With torch: a buffer becomes a tensor of that memory by DLPack."""
    buffer = engine.empty(1024, "npu:0")
    tensor = torch.from_dlpack(buffer)
    assert (tensor.data_ptr(), tensor.device, tensor.dtype) == (buffer.address, torch.device("npu", 0), torch.uint8)
    address = buffer.address
    del buffer
    tensor.fill_(5)
    other = engine.empty(1024, "npu:0")
    assert other.address != address, "the tensor keeps the memory"
    assert engine.fetch(engine.publish([other])).result()[0].nbytes == 1024
