"""Arguments that are refused by name, and what the refusal says to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ray_hixl

SECRET = b"what a descriptor holds"


@pytest.mark.parametrize("timeout", [-1, -0.5, float("nan"), "5", 1j, SECRET, pytest.param(-(10**5000), id="long")])
def test_timeouts(engine: ray_hixl.Engine, timeout: Any) -> None:
    metadata = engine.publish([b"abc"])
    peer = engine.connect(engine.descriptor)
    calls: list[Callable[[], Any]] = [
        lambda: engine.fetch(metadata, timeout=timeout),
        lambda: engine.connect(engine.descriptor, timeout=timeout),
        lambda: peer.read([], timeout=timeout),
        lambda: peer.read_async([], timeout=timeout),
    ]
    for call in calls:
        error = ray_hixl.InvalidArgument if isinstance(timeout, float | int) else TypeError
        with pytest.raises(error, match="timeout takes seconds >= 0, or None for the engine's option") as caught:
            call()
        said = str(timeout) if isinstance(timeout, float) or timeout == -1 else f"of type {type(timeout).__name__}"
        assert str(caught.value).endswith("this is " + said)
    for good in (np.float32(5), 10**400):
        assert engine.fetch(metadata, timeout=good).result() is not None


@pytest.mark.parametrize("timeout", [float("nan"), "5", SECRET])
def test_how_long_to_wait(engine: ray_hixl.Engine, timeout: Any) -> None:
    fetch = engine.fetch(engine.publish([b"abc"]))
    for call in (fetch.wait, fetch.result):
        error = ray_hixl.InvalidArgument if isinstance(timeout, float) else TypeError
        with pytest.raises(error, match=r"timeout takes seconds, or None to wait to the end; this is (nan|of type .*)$"):
            call(timeout)
    assert fetch.wait(10**400)


def test_bytes_of_other_types_are_taken(engine: ray_hixl.Engine) -> None:
    region = engine.register(bytearray(3))
    peer = engine.connect(bytearray(engine.descriptor))
    assert peer.region(memoryview(region.descriptor)).nbytes == 3
    metadata = engine.publish([b"abc"])
    assert len(engine.fetch(bytearray(metadata)).result()) == 1
    engine.release(bytearray(metadata))
    with pytest.raises(ray_hixl.ObjectFreed):
        engine.fetch(metadata).result()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda engine: engine.connect("text"), "connect takes the .descriptor of another engine, as bytes; this is of type str"),
        (lambda engine: engine.connect(engine), "of type Engine"),
        (lambda engine: engine.connect(engine.descriptor).region(engine.register(b"a")), "region takes the .descriptor of a region"),
        (lambda engine: engine.fetch([SECRET]), "fetch takes the metadata that publish\\(\\) returned, as bytes; this is of type list"),
        (lambda engine: engine.release(None), "release takes the metadata"),
        (
            lambda engine: engine.publish(bytearray(3)),
            "a list of tensors or buffers is wanted, \\[x\\] for a single one; this is of type bytearray",
        ),
        (lambda engine: engine.publish(torch.ones(2)), "of type Tensor"),
        (lambda engine: engine.publish(np.ones(2)), "of type ndarray"),
        (lambda engine: engine.publish(None), "of type NoneType"),
        (lambda engine: engine.fetch(engine.publish([b"a"]), targets=bytearray(1)), "a list of targets is wanted"),
        (lambda engine: engine.connect(engine.descriptor).prepare(None), "a list of ops is wanted"),
        (
            lambda engine: engine.empty((2, 3)),
            "a number of bytes is wanted, from 0 to 2\\^64; this is of type tuple; for a tensor of a shape there is ray_hixl.empty",
        ),
        (lambda engine: engine.empty(SECRET), "this is of type bytes"),
        (lambda engine: ray_hixl.empty(None), "a size is wanted, a whole number >= 0 or a list of them; this is of type NoneType"),
        (lambda engine: ray_hixl.empty("ab"), "a size is wanted"),
        (lambda engine: ray_hixl.empty([-1, 1.5]), "a size is wanted, .* this is -1, 1.5$"),
        (lambda engine: engine.empty(1.5), "a number of bytes is wanted, .* this is 1.5$"),
        (lambda engine: ray_hixl.Engine({"transports": "cma"}), "options must be ray_hixl.Options, not dict"),
        (lambda engine: ray_hixl.runtime_env({"transports": "cma"}), "options must be ray_hixl.Options, not dict"),
        (lambda engine: ray_hixl.register(options={"transports": "cma"}), "options must be ray_hixl.Options, not dict"),
        (lambda engine: ray_hixl.register(ray_hixl.Options()), "by name: register\\(options=...\\)"),
        (lambda engine: ray_hixl.empty(3, dtype="float32"), "dtype takes a torch.dtype; this is of type str"),
        (lambda engine: ray_hixl.register_memory(np.ones(2)), "a torch tensor is wanted, this is of type ndarray"),
    ],
)
def test_types(engine: ray_hixl.Engine, call: Callable[[Any], Any], match: str) -> None:
    with pytest.raises(TypeError, match=match) as caught:
        call(engine)
    assert "incompatible function arguments" not in str(caught.value)
    assert SECRET.decode() not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda engine: engine.empty(-1), "a number of bytes is wanted, from 0 to 2\\^64; this is -1$"),
        (lambda engine: engine.empty(2**70), "this is of type int$"),
        (lambda engine: engine.reserve(-1, "npu:0"), "a number of bytes is wanted"),
        (lambda engine: ray_hixl.empty(-1), "a size is wanted, .* this is -1$"),
        (lambda engine: ray_hixl.empty([3, -1]), "this is 3, -1$"),
        (lambda engine: ray_hixl.empty(2**63), "a number of bytes is wanted"),
        (lambda engine: ray_hixl.register_memory_pool(-1, "npu:0"), "a number of bytes is wanted"),
    ],
)
def test_values(engine: ray_hixl.Engine, call: Callable[[Any], Any], match: str) -> None:
    """Of the right type."""
    with pytest.raises(ray_hixl.InvalidArgument, match=match):
        call(engine)


def test_numbers_of_numpy_are_taken(engine: ray_hixl.Engine) -> None:
    peer = engine.connect(engine.descriptor)
    assert ray_hixl.empty(np.int64(3)).shape == (3,)
    assert ray_hixl.empty(length for length in (2, 3)).shape == (2, 3)
    assert ray_hixl.empty(torch.Size([2, 3])).shape == ray_hixl.empty((np.int8(2), 3)).shape == (2, 3)
    source, target = engine.register(b"abc"), engine.empty(np.int64(3))
    peer.read([(target.region, np.int64(1), peer.region(source.descriptor), np.uint8(0), np.int32(2))])
    assert bytes(memoryview(target)[1:]) == b"ab"


def test_tensors_of_a_fetch_are_made_once(engine: ray_hixl.Engine) -> None:
    """Whoever was interrupted after they were made gets them at the next call."""
    fetch = engine.fetch(engine.publish([torch.ones(3), b"x"]))
    assert fetch.wait()
    core = fetch._fetch
    assert core is not None
    made = core.take()
    assert fetch.result() is made
    assert fetch.result()[0].tolist() == [1.0] * 3
