"""A process that never imports torch: fetched tensors are Buffers, with shape and type, for every consumer of buffers and DLPack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ray_hixl
from support import Owner, run_python

NUMPY_TYPES = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 complex64 complex128"


@pytest.fixture(scope="module")
def reader(owner: Owner) -> Iterator[Owner]:
    """The process without torch; knows the owner's metadata functions only as bytes."""
    made = Owner(prepare="import gc, numpy, sys")
    yield made
    assert made.get("'torch' in sys.modules") is False
    assert made.get("ray_hixl._core.knows_torch()") is False
    made.close()


def fetch(owner: Owner, reader: Owner, tensors: str) -> None:
    """Publishes there, fetches here, as `fetched`."""
    reader.run("fetched = engine.fetch(metadata).result()", metadata=owner.get(f"engine.publish({tensors})"))


@pytest.mark.parametrize("dtype", NUMPY_TYPES.split())
def test_numpy_types(owner: Owner, reader: Owner, dtype: str) -> None:
    source = np.arange(12).reshape(3, 4).astype(dtype)
    owner.run("source = given", given=source)
    fetch(owner, reader, "[source]")
    assert reader.get("(fetched[0].dtype, fetched[0].shape, fetched[0].nbytes, len(fetched[0]))") == (
        dtype,
        (3, 4),
        source.nbytes,
        source.nbytes,
    )
    for view in ("numpy.asarray(fetched[0])", "numpy.from_dlpack(fetched[0])"):
        back = reader.get(view)
        assert (back.dtype, back.shape) == (source.dtype, source.shape)
        np.testing.assert_array_equal(back, source)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (1, 1, 5), (2, 3, 4, 5)])
def test_shapes(owner: Owner, reader: Owner, shape: tuple[int, ...]) -> None:
    source = np.arange(np.prod(shape, dtype=int)).astype("float32").reshape(shape)
    owner.run("source = given", given=source)
    fetch(owner, reader, "[source]")
    assert reader.get("fetched[0].shape") == shape
    for view in ("numpy.asarray(fetched[0])", "numpy.from_dlpack(fetched[0])"):
        back = reader.get(view)
        assert back.shape == shape
        np.testing.assert_array_equal(back, source)


def test_memoryview(owner: Owner, reader: Owner) -> None:
    fetch(owner, reader, "[__import__('numpy').arange(6, dtype='int32').reshape(2, 3)]")
    reader.run("view = memoryview(fetched[0])")
    described = reader.get(
        "(view.shape, view.strides, view.format, view.itemsize, view.nbytes, view.readonly, view.c_contiguous, view.ndim)"
    )
    assert described == ((2, 3), (12, 4), "i", 4, 24, False, True, 2)
    assert reader.get("view.tolist()") == [[0, 1, 2], [3, 4, 5]]


def test_writable_and_shared_by_its_views(owner: Owner, reader: Owner) -> None:
    fetch(owner, reader, "[__import__('numpy').zeros(4, 'uint8')]")
    reader.run("numpy.asarray(fetched[0])[1] = 7; numpy.from_dlpack(fetched[0])[2] = 8; memoryview(fetched[0])[3] = 9")
    assert reader.get("memoryview(fetched[0]).tolist()") == [0, 7, 8, 9]


def test_views_keep_the_memory(owner: Owner, reader: Owner) -> None:
    fetch(owner, reader, "[b'abcd' * 1000]")
    reader.run(
        "before = engine.stats()['landing']['live_blocks']\n"
        "one = fetched[0]; views = [memoryview(one), numpy.asarray(one), numpy.from_dlpack(one), one.__dlpack__(max_version=(1, 0))]\n"
        "del fetched, one; gc.collect()"
    )
    assert reader.get("[bytes(view) == b'abcd' * 1000 for view in views[:3]]") == [True] * 3
    assert reader.get("engine.stats()['landing']['live_blocks'] - before") == 0
    reader.run("del views; gc.collect()")
    assert reader.get("engine.stats()['landing']['live_blocks'] - before") == -1


def test_dlpack_protocol(owner: Owner, reader: Owner) -> None:
    fetch(owner, reader, "[b'abcd']")
    assert reader.get("fetched[0].__dlpack_device__()") == (1, 0)
    reader.run("names = [repr(fetched[0].__dlpack__(**given)) for given in ({}, {'max_version': (0, 8)}, {'max_version': (1, 1)})]")
    assert [name.split('"')[1] for name in reader.get("names")] == ["dltensor", "dltensor", "dltensor_versioned"]
    for arguments, error in (("stream=1", ValueError), ("dl_device=(2, 0)", BufferError), ("copy=True", BufferError)):
        with pytest.raises(error):
            reader.run(f"fetched[0].__dlpack__({arguments})")
    reader.run("fetched[0].__dlpack__(dl_device=(1, 0), copy=False, stream=None)")


def test_publishing_what_was_fetched(owner: Owner, reader: Owner) -> None:
    """Also types that neither numpy nor the buffer protocol knows: their name travels."""
    metadata = owner.get("engine.publish([__import__('numpy').array([1.5, 2.5], 'float16')])")
    reader.run("fetched = engine.fetch(metadata).result(); again = engine.publish(fetched)", metadata=metadata)
    owner.run("back = engine.fetch(again).result()[0]", again=reader.get("again"))
    assert owner.get("(back.dtype, back.shape, __import__('numpy').asarray(back).tolist())") == ("float16", (2,), [1.5, 2.5])


def test_publishing_dlpack_objects(owner: Owner, reader: Owner) -> None:
    owner.run(
        "import numpy\n"
        "class OnlyDlpack:\n"
        "    def __init__(self, array): self.array = array\n"
        "    def __dlpack__(self, **arguments): return self.array.__dlpack__(**arguments)\n"
    )
    fetch(owner, reader, "[OnlyDlpack(numpy.arange(5, dtype='uint16')), OnlyDlpack(numpy.array(True)), OnlyDlpack(numpy.zeros((2, 0)))]")
    described = reader.get("[(one.dtype, one.shape, numpy.asarray(one).tolist()) for one in fetched]")
    assert described == [("uint16", (5,), [0, 1, 2, 3, 4]), ("bool", (), True), ("float64", (2, 0), [[], []])]


@pytest.mark.parametrize(
    ("made", "error", "match"),
    [
        ("numpy.zeros((4, 4))[:, ::2]", "InvalidArgument", "tensor 1 is not contiguous"),
        ("numpy.array(['a', 'b'])", "UnsupportedTensor", "tensor 1 has elements of format"),
        ("numpy.array(['2020-01-01'], 'datetime64[D]')", "UnsupportedTensor", "tensor 1 gives no buffer: cannot include dtype 'M'"),
        ("object()", "InvalidArgument", "tensor 1 is neither a tensor nor a buffer but a object"),
        ("None", "InvalidArgument", "tensor 1 is neither a tensor nor a buffer but a NoneType"),
        ("[1, 2]", "InvalidArgument", "tensor 1 is neither a tensor nor a buffer but a list"),
        ("3", "InvalidArgument", "tensor 1 is neither a tensor nor a buffer but a int"),
        ("'text'", "InvalidArgument", "tensor 1 is neither a tensor nor a buffer but a str"),
    ],
)
def test_what_cannot_be_published(owner: Owner, made: str, error: str, match: str) -> None:
    expected: type[BaseException] = getattr(ray_hixl, error)
    owner.run("import numpy")
    with pytest.raises(expected, match=match):
        owner.run(f"engine.publish([b'fine', {made}])")


def test_repr(owner: Owner, reader: Owner) -> None:
    fetch(owner, reader, "[__import__('numpy').zeros((2, 3), 'int16')]")
    said: Any = reader.get("repr(fetched[0])")
    assert said == "<ray_hixl Buffer of 12 bytes, int16>"


_HALF_IMPORTED = """
import sys, threading, ray_hixl

reached, go_on = threading.Event(), threading.Event()

class Holds:
    # Holds the import of torch where half of it is there.
    def find_spec(self, name, path=None, target=None):
        if name == "torch.functional":
            reached.set()
            go_on.wait(60)

def arrived(*tensors):
    return [type(one).__name__ for one in engine.fetch(engine.publish(tensors)).result()]

sys.meta_path.insert(0, Holds())
engine = ray_hixl.Engine()
importing = threading.Thread(target=lambda: __import__("torch"))
importing.start()
reached.wait(60)
print(importing.is_alive(), "torch" in sys.modules, arrived(bytearray(10)), ray_hixl._core.knows_torch())
go_on.set()
importing.join()
import torch
print(arrived(bytearray(10), torch.ones(3)), ray_hixl._core.knows_torch())
"""


def test_torch_is_not_there_while_it_is_imported() -> None:
    """An engine works on while another thread imports torch, and uses it from then on."""
    assert run_python(_HALF_IMPORTED).splitlines() == ["True True ['Buffer'] False", "['Tensor', 'Tensor'] True"]


_NO_WHOLE_TORCH = """
import types, ray_hixl
from ray_hixl import _core

torch = types.ModuleType("torch")
try:
    _core.use_torch(torch)
except AttributeError as error:
    print(error)
with ray_hixl.Engine() as engine:
    print(_core.knows_torch(), engine.fetch(engine.publish([bytearray(10)])).result()[0])
"""


def test_half_a_torch_is_never_used() -> None:
    """What is not in it is found before anything of it is kept."""
    said = run_python(_NO_WHOLE_TORCH).splitlines()
    assert said == ["module 'torch' has no attribute 'Tensor'", "False <ray_hixl Buffer of 10 bytes, uint8>"]
