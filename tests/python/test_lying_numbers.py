"""Numbers that contradict each other: byte orders, formats, DLPack capsules and metadata that say something else than the memory holds."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
import pytest

import ray_hixl
from ray_hixl import _core
from support import Owner

FOREIGN = ">" if sys.byteorder == "little" else "<"
OWN = "<" if sys.byteorder == "little" else ">"


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u8", "c8"])
def test_a_foreign_byte_order_is_refused_by_name(engine: ray_hixl.Engine, dtype: str) -> None:
    foreign = np.arange(4).astype(FOREIGN + dtype)
    with pytest.raises(ray_hixl.UnsupportedTensor, match=rf"tensor 1 has elements in a foreign byte order \(format '{FOREIGN}"):
        engine.publish([b"", foreign])
    with pytest.raises(ray_hixl.UnsupportedTensor, match="the memory to register has elements in a foreign byte order"):
        engine.register(foreign)


def test_foreign_targets_are_refused(engine: ray_hixl.Engine) -> None:
    metadata = engine.publish([np.arange(4, dtype=OWN + "i4")])
    target = np.zeros(4, FOREIGN + "i4")
    with pytest.raises(ray_hixl.UnsupportedTensor, match="target 0 has elements in a foreign byte order"):
        engine.fetch(metadata, targets=[target])
    assert target.tolist() == [0, 0, 0, 0]


def test_foreign_index_arrays_are_refused(engine: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("region = engine.register(bytes(8))")
    peer = engine.connect(owner.descriptor)
    local = [engine.register(bytearray(8))]
    remote = [peer.region(owner.get("region.descriptor"))]
    own = [np.zeros(1, OWN + "i8") for _ in range(5)]
    peer.prepare(local, own[0], own[1], remote, own[2], own[3], own[4])
    for foreign in range(5):
        arrays = [array.astype(FOREIGN + "i8") if i == foreign else array for i, array in enumerate(own)]
        with pytest.raises(ray_hixl.UnsupportedTensor, match="foreign byte order"):
            peer.prepare(local, arrays[0], arrays[1], remote, arrays[2], arrays[3], arrays[4])


@pytest.mark.parametrize("dtype", [OWN + "f4", "=i8", "=u2", FOREIGN + "u1", FOREIGN + "i1", "?", "c16"])
def test_other_spellings_of_the_own_order_are_fine(engine: ray_hixl.Engine, dtype: str) -> None:
    source = np.arange(6).astype(dtype)
    target = np.zeros(6, np.dtype(dtype).newbyteorder("="))
    engine.fetch(engine.publish([source]), targets=[target]).wait()
    np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize("kind", [ctypes.c_long, ctypes.c_int, ctypes.c_uint8, ctypes.c_double])
def test_ctypes_arrays_are_buffers(engine: ray_hixl.Engine, kind: Any) -> None:
    source = (kind * 3)(1, 2, 3)
    target = (kind * 3)()
    engine.fetch(engine.publish([source]), targets=[target]).wait()
    assert list(target) == [1, 2, 3]


@pytest.mark.parametrize(
    ("made", "format"),
    [
        (np.zeros(2, [("a", "i4"), ("b", "f4")]), "T{i:a:f:b:}"),
        (np.zeros(2, [("a", "u1", (4,))]), "T{(4)B:a:}"),
        (np.zeros(2, "g"), "g"),
        (np.zeros(2, "S4"), "4s"),
        (np.zeros(2, "U1"), "1w"),
    ],
)
def test_what_is_no_plain_number_is_refused(engine: ray_hixl.Engine, made: Any, format: str) -> None:
    assert memoryview(made).format == format
    with pytest.raises(ray_hixl.UnsupportedTensor, match=r"tensor 0 has elements of format '.*' of .* bytes, which is no plain number"):
        engine.publish([made])


class Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class Dtype(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("dimensions", ctypes.c_int32),
        ("dtype", Dtype),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


class Capsule:
    """A DLPack object of eight float32 whose capsule says whatever it is told to."""

    def __init__(self, flags: int = 0, shape: tuple[int, ...] = (8,), **numbers: Any) -> None:
        self.memory = (ctypes.c_float * 8)()
        self.shape = (ctypes.c_int64 * max(len(shape), 1))(*shape)
        self.managed = Versioned(major=1, flags=flags)
        tensor = self.managed.tensor
        tensor.data, tensor.device, tensor.dimensions = ctypes.addressof(self.memory), Device(1, 0), len(shape)
        tensor.dtype, tensor.shape = Dtype(2, 32, 1), ctypes.addressof(self.shape)
        for name, value in numbers.items():
            setattr(tensor, name, value)

    def __dlpack__(self, **arguments: Any) -> Any:
        assert arguments == {"max_version": (1, 0)}
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return make(ctypes.addressof(self.managed), b"dltensor_versioned", None)


@pytest.mark.parametrize(
    ("lie", "error", "match"),
    [
        ({"dimensions": -1}, ray_hixl.InvalidArgument, "number of dimensions"),
        ({"dimensions": 65}, ray_hixl.InvalidArgument, "number of dimensions"),
        ({"shape": (-8,)}, ray_hixl.InvalidArgument, "shape, which is negative"),
        ({"shape": (1 << 40, 1 << 40)}, ray_hixl.InvalidArgument, "size, which does not fit"),
        ({"data": None}, ray_hixl.InvalidArgument, "address, which is null"),
        ({"byte_offset": (1 << 64) - 1}, ray_hixl.InvalidArgument, "byte offset"),
        ({"dtype": Dtype(2, 32, 2)}, ray_hixl.UnsupportedTensor, "element type that is not known"),
        ({"dtype": Dtype(2, 33, 1)}, ray_hixl.UnsupportedTensor, "element type that is not known"),
        ({"dtype": Dtype(2, 0, 1)}, ray_hixl.UnsupportedTensor, "element type that is not known"),
        ({"device": Device(12, -1)}, ray_hixl.InvalidArgument, "index of its device"),
        ({"device": Device(2, 0)}, ray_hixl.UnsupportedTensor, "neither in host memory"),
    ],
)
def test_a_lying_capsule_is_refused(engine: ray_hixl.Engine, lie: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"tensor 0 .*{match}"):
        engine.publish([Capsule(**lie)])


def test_a_capsule_without_a_shape(engine: ray_hixl.Engine) -> None:
    capsule = Capsule()
    capsule.managed.tensor.shape = None
    with pytest.raises(ray_hixl.InvalidArgument, match="shape, which is missing"):
        engine.publish([capsule])


@pytest.mark.parametrize("flags", [1, 2])
def test_read_only_capsules_and_copies_are_no_targets(engine: ray_hixl.Engine, flags: int) -> None:
    metadata = engine.publish([np.arange(8, dtype="float32")])
    honest, protected = Capsule(), Capsule(flags=flags)
    engine.fetch(metadata, targets=[honest]).wait()
    assert list(honest.memory) == list(range(8))
    with pytest.raises(ray_hixl.InvalidArgument, match="target 0 is read-only"):
        engine.fetch(metadata, targets=[protected])
    assert list(protected.memory) == [0.0] * 8


class Old:
    """A producer from before DLPack had versions."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self) -> Any:
        return self.array.__dlpack__()


def test_producers_that_know_no_versions(engine: ray_hixl.Engine) -> None:
    fetched = engine.fetch(engine.publish([Old(np.arange(3))])).result()
    assert np.asarray(fetched[0]).tolist() == [0, 1, 2]


def test_an_item_size_that_is_not_the_types(engine: ray_hixl.Engine) -> None:
    """Without torch nothing else would notice: the Buffer would show four times the memory that it has."""
    metadata = engine.publish([np.zeros(1024, "float32")])
    said = b"float32\x04"
    assert metadata.count(said) == 1
    lying = metadata.replace(said, b"float32\x01")
    with pytest.raises(ray_hixl.InvalidArgument, match="an element of type float32 has 4 bytes, not 1"):
        _core.Metadata.decode(lying)
    with pytest.raises(ray_hixl.InvalidArgument, match="an element of type float32 has 4 bytes, not 1"):
        engine.fetch(lying).result()


def test_a_tensor_of_a_buffer_has_the_buffers_size(new_owner: Any) -> None:
    owner = new_owner()
    owner.run("buffer = engine.empty(16)")
    owner.run("ray_hixl._core.make_tensor(buffer, 'float32', [4])")
    for dtype, shape in (("float32", [16]), ("uint8", [4]), ("unheard_of", [16])):
        with pytest.raises(ray_hixl.InvalidArgument):
            owner.run("ray_hixl._core.make_tensor(buffer, dtype, shape)", dtype=dtype, shape=shape)
