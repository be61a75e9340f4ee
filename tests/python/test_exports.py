"""Memory of the user outlives every read and write: while a transfer may touch it, Python refuses to move it, or the engine keeps it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import ray_hixl
from support import Owner, eventually, pattern

DATA = pattern(100_000)


@pytest.fixture
def reader(owner: Owner) -> Iterator[ray_hixl.Engine]:
    """Reads by stream, connected already: an owner that stands still holds its fetches up while they move."""
    with ray_hixl.Engine(ray_hixl.Options(transports=("stream",))) as engine:
        engine.fetch(owner.get("engine.publish([b'warm'])")).result()
        yield engine


@pytest.fixture
def metadata(owner: Owner) -> bytes:
    made: bytes = owner.get("engine.publish([given])", given=DATA)
    return made


def can_resize(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True


def test_a_target_cannot_be_resized_under_its_fetch(reader: ray_hixl.Engine, owner: Owner, metadata: bytes) -> None:
    target = bytearray(len(DATA))
    with owner.stopped():
        fetch = reader.fetch(metadata, targets=[target])
        with pytest.raises(BufferError):
            target.clear()
    fetch.wait()
    assert target == DATA
    target.clear()  # at once, though the fetch lives


def test_a_target_is_free_once_its_cancelled_fetch_ended(reader: ray_hixl.Engine, owner: Owner, metadata: bytes) -> None:
    target = bytearray(len(DATA))
    with owner.stopped():
        fetch = reader.fetch(metadata, targets=[target])
        fetch.cancel()
        with pytest.raises(ray_hixl.Cancelled):
            fetch.wait(10)
    eventually(lambda: can_resize(target))


def test_a_target_is_held_though_nobody_has_the_fetch(reader: ray_hixl.Engine, owner: Owner, metadata: bytes) -> None:
    target = bytearray(len(DATA))
    with owner.stopped():
        reader.fetch(metadata, targets=[target])
        gc.collect()
        assert not can_resize(target)
    eventually(lambda: target == DATA)
    eventually(lambda: can_resize(target))


def test_refused_targets_are_free_at_once(reader: ray_hixl.Engine, metadata: bytes) -> None:
    target = bytearray(len(DATA) - 1)
    with pytest.raises(ray_hixl.InvalidArgument):
        reader.fetch(metadata, targets=[target])
    assert can_resize(target)


@pytest.mark.parametrize("take", ["publish", "register"])
def test_shown_memory_cannot_be_resized(engine: ray_hixl.Engine, take: str) -> None:
    shown = bytearray(DATA)
    if take == "publish":
        metadata = engine.publish([shown])
        end: Callable[[], Any] = lambda: engine.release(metadata)  # noqa: E731
    else:
        region = engine.register(shown)
        end = region.close
    assert not can_resize(shown)
    end()
    eventually(lambda: can_resize(shown))


class OnlyDlpack:
    """An object whose memory is freed with the capsules that it gave."""

    def __init__(self, nbytes: int) -> None:
        self.array: np.ndarray[Any, Any] | None = np.zeros(nbytes, "uint8")

    def __dlpack__(self, **arguments: Any) -> Any:
        array, self.array = self.array, None
        assert array is not None
        return array.__dlpack__(**arguments)


def test_a_dlpack_target_lives_in_its_capsule(reader: ray_hixl.Engine, owner: Owner, metadata: bytes) -> None:
    target = OnlyDlpack(len(DATA))
    assert target.array is not None
    view = memoryview(target.array)
    with owner.stopped():
        fetch = reader.fetch(metadata, targets=[target])
    fetch.wait()
    assert view == DATA


STOLEN = ["tensor.set_()", "tensor.set_(torch.zeros(1, dtype=torch.uint8))", "tensor.data = torch.zeros(1, dtype=torch.uint8)"]


@pytest.mark.parametrize("steal", STOLEN)
def test_a_tensor_that_is_given_other_memory_leaves_its_own(reader: ray_hixl.Engine, owner: Owner, metadata: bytes, steal: str) -> None:
    tensor = torch.zeros(len(DATA), dtype=torch.uint8)
    freed = watch(tensor)
    with owner.stopped():
        fetch = reader.fetch(metadata, targets=[tensor])
        exec(steal, {"tensor": tensor, "torch": torch})
        assert not freed()
    fetch.wait()
    eventually(freed)


@pytest.mark.parametrize("steal", STOLEN)
def test_a_published_tensor_that_is_given_other_memory(owner: Owner, engine: ray_hixl.Engine, steal: str) -> None:
    tensor = torch.zeros(len(DATA), dtype=torch.uint8)
    freed = watch(tensor)
    tensor.copy_(torch.frombuffer(bytearray(DATA), dtype=torch.uint8))
    metadata = engine.publish([tensor])
    exec(steal, {"tensor": tensor, "torch": torch})
    assert not freed()
    owner.run("fetched = bytes(memoryview(engine.fetch(metadata).result()[0]))", metadata=metadata)
    assert owner.get("fetched == given", given=DATA)
    engine.release(metadata)
    eventually(freed)


def watch(tensor: torch.Tensor) -> Callable[[], bool]:
    """Makes the tensor's storage one of memory that says when it was freed."""
    freed: list[bool] = []

    class Memory(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            if self.base is None:
                freed.append(True)

    array = np.ndarray.__new__(Memory, tensor.numel(), dtype="uint8")
    tensor.set_(torch.from_numpy(array).untyped_storage())
    del array
    return lambda: bool(freed)
