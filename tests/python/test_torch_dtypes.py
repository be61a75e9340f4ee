"""Every element type that torch has, there and back between processes, with torch's DLPack table and without it."""

from __future__ import annotations

import pytest
import torch

import ray_hixl
from support import Owner

ALL = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
QUANTIZED = [dtype for dtype in ALL if str(dtype).startswith("torch.q")]
PLAIN = [dtype for dtype in ALL if dtype not in QUANTIZED]
RAW = torch.arange(96, dtype=torch.uint8) % 2  # what every type can hold, bool too


def test_there_are_exotic_ones() -> None:
    names = {str(dtype).removeprefix("torch.") for dtype in PLAIN}
    assert {"bfloat16", "complex32", "float8_e4m3fn", "float8_e8m0fnu", "uint64", "int4", "uint7", "bits1x8", "bits16"} <= names


@pytest.mark.parametrize("dtype", PLAIN, ids=str)
def test_there_and_back(engine: ray_hixl.Engine, torch_owner: Owner, dtype: torch.dtype) -> None:
    source = RAW.view(dtype)
    torch_owner.run(
        "source = (torch.arange(96, dtype=torch.uint8) % 2).view(dtype)\nmetadata = engine.publish([source, source[:0], source[3]])",
        dtype=dtype,
    )
    metadata = torch_owner.get("metadata")
    fetched = engine.fetch(metadata).result()
    assert [(one.dtype, one.shape) for one in fetched] == [(dtype, one.shape) for one in (source, source[:0], source[3])]
    assert torch.equal(fetched[0].view(torch.uint8), RAW)
    assert torch.equal(fetched[2].reshape(1).view(torch.uint8), source[3].reshape(1).view(torch.uint8))

    torch_owner.run("back = engine.fetch(again).result()", again=engine.publish(fetched))
    assert torch_owner.get("[(one.dtype, one.shape) for one in back]") == [(one.dtype, one.shape) for one in fetched]
    assert torch_owner.get("torch.equal(back[0].view(torch.uint8), source.view(torch.uint8))")

    into = torch.zeros(96, dtype=torch.uint8).view(dtype)
    assert engine.fetch(torch_owner.get("engine.publish([source])"), targets=[into]).result()[0] is into
    assert torch.equal(into.view(torch.uint8), RAW)
    torch_owner.run("engine.release(metadata)")


@pytest.mark.parametrize("dtype", [torch.int16, torch.bfloat16, torch.complex64, torch.float8_e5m2, torch.int3], ids=str)
def test_register_and_read(engine: ray_hixl.Engine, torch_owner: Owner, dtype: torch.dtype) -> None:
    torch_owner.run("source = (torch.arange(96, dtype=torch.uint8) % 2).view(dtype); region = engine.register(source)", dtype=dtype)
    peer = engine.connect(torch_owner.descriptor)
    remote = peer.region(torch_owner.get("region.descriptor"))
    into = torch.zeros(96, dtype=torch.uint8).view(dtype)
    with engine.register(into) as local:
        peer.read([(local, 0, remote, 0, 96)])
    assert torch.equal(into.view(torch.uint8), RAW)


@pytest.mark.parametrize("dtype", QUANTIZED, ids=str)
def test_quantized_types_are_refused_by_name(torch_owner: Owner, dtype: torch.dtype) -> None:
    torch_owner.run("import warnings; warnings.simplefilter('ignore')")
    with pytest.raises(ray_hixl.UnsupportedTensor, match=rf"tensor 1 .* quantized \({dtype}\); take tensor\.int_repr\(\)"):
        torch_owner.run("engine.publish([b'', torch.zeros(8, dtype=torch.uint8).view(dtype)])", dtype=dtype)


def test_a_type_that_the_reader_does_not_have(engine: ray_hixl.Engine) -> None:
    """As if the source had a newer torch."""
    metadata = engine.publish([torch.zeros(3, dtype=torch.bfloat16)]).replace(b"bfloat16", b"bfloat99")
    with pytest.raises(ray_hixl.UnsupportedTensor, match=r"this torch has no dtype 'bfloat99'.* use the same torch on both sides"):
        engine.fetch(metadata).result()


def test_a_name_in_torch_that_is_no_type(engine: ray_hixl.Engine) -> None:
    metadata = engine.publish([torch.zeros(3, dtype=torch.float32)]).replace(b"float32", b"compile")
    with pytest.raises(ray_hixl.UnsupportedTensor):
        engine.fetch(metadata).result()
