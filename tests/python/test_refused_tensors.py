"""Tensors that are not plain dense CPU memory: refused by name, with what to do, with torch's DLPack table and without it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import ray_hixl
from support import Owner

REFUSED = {
    "torch.eye(3).to_sparse()": r"it is sparse \(sparse_coo\); take its indices and values, or tensor\.to_dense\(\)",
    "torch.eye(3).to_sparse_csr()": r"it is sparse \(sparse_csr\)",
    "torch.eye(3).to_sparse_csc()": r"it is sparse \(sparse_csc\)",
    "torch.eye(4).to_sparse_bsr((2, 2))": r"it is sparse \(sparse_bsr\)",
    "torch.eye(4).to_sparse_bsc((2, 2))": r"it is sparse \(sparse_bsc\)",
    "torch.zeros(3, device='meta')": r"it is on the meta device and has no bytes; materialise it first",
    "torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)": r"it is quantized \(torch\.qint8\); take tensor\.int_repr\(\)",
    "torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.quint8)": r"it is quantized \(torch\.quint8\)",
    "torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])": r"it is nested; take tensor\.unbind\(\)",
    "torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)": r"it is nested; take tensor\.unbind\(\)",
    "torch.ones(2, 2).to_mkldnn()": r"its layout is mkldnn; take tensor\.to_dense\(\)",
}
QUIET = "import warnings; warnings.simplefilter('ignore')\n"


@pytest.mark.parametrize("made", REFUSED)
def test_refused_by_name(torch_owner: Owner, made: str) -> None:
    torch_owner.run(f"{QUIET}refused = {made}")
    for call in ("engine.publish([torch.ones(1), torch.ones(1), refused])", "engine.register(refused)"):
        with pytest.raises(ray_hixl.UnsupportedTensor, match=REFUSED[made]) as caught:
            torch_owner.run(call)
        assert type(caught.value) is ray_hixl.UnsupportedTensor
        assert ("tensor 2 is no plain" if "publish" in call else "the memory to register is no plain") in str(caught.value)


@pytest.mark.parametrize("made", REFUSED)
def test_refused_where_it_is_fetched(engine: ray_hixl.Engine, torch_owner: Owner, made: str) -> None:
    """publish_quietly says it to whoever fetches."""
    torch_owner.run(f"{QUIET}metadata = engine.publish_quietly([{made}])")
    with pytest.raises(ray_hixl.UnsupportedTensor, match=REFUSED[made]) as caught:
        engine.fetch(torch_owner.get("metadata")).result()
    assert type(caught.value) is ray_hixl.UnsupportedTensor
    assert f"process {torch_owner.pid} " in str(caught.value)


@pytest.mark.parametrize("made", REFUSED)
def test_refused_as_target(torch_owner: Owner, made: str) -> None:
    torch_owner.run(f"{QUIET}metadata = engine.publish([torch.ones(3)])")
    with pytest.raises(ray_hixl.UnsupportedTensor):
        torch_owner.run(f"engine.fetch(metadata, targets=[{made}])")
    torch_owner.run("engine.release(metadata)")


def test_nothing_is_left_of_a_refused_object(torch_owner: Owner) -> None:
    torch_owner.run("import gc, weakref\nbefore = engine.stats()['objects']; fine = torch.ones(3); gone = weakref.ref(fine)")
    with pytest.raises(ray_hixl.UnsupportedTensor):
        torch_owner.run("engine.publish([fine, torch.zeros(3, device='meta')])")
    torch_owner.run("metadata = engine.publish_quietly([fine, torch.zeros(3, device='meta')])\ndel fine; gc.collect()")
    assert torch_owner.get("(engine.stats()['objects'] - before, gone())") == (0, None)


@pytest.mark.parametrize("made", ["torch.arange(8)[::2]", "torch.ones(2, 3).t()", "torch.ones(3).expand(2, 3)"])
def test_registered_memory_must_be_contiguous(torch_owner: Owner, made: str) -> None:
    with pytest.raises(ray_hixl.InvalidArgument, match=r"memory to register is not contiguous: .*tensor\.contiguous\(\)"):
        torch_owner.run(f"engine.register({made})")


def test_registered_memory_must_hold_the_values(torch_owner: Owner) -> None:
    with pytest.raises(ray_hixl.InvalidArgument, match=r"conjugated or negated view; use resolve_conj\(\)"):
        torch_owner.run("engine.register(torch.ones(2, dtype=torch.complex64).conj())")


def test_a_tensor_whose_memory_was_taken_away(torch_owner: Owner) -> None:
    torch_owner.run("empty = torch.ones(3); empty.untyped_storage().resize_(0)")
    with pytest.raises(ray_hixl.InvalidArgument, match="tensor 0 cannot be published: it has bytes but no address"):
        torch_owner.run("engine.publish([empty])")


def test_an_interrupted_dlpack_object_keeps_its_own_error(new_owner: Callable[..., Owner]) -> None:
    owner = new_owner()
    owner.run("class Broken:\n    def __dlpack__(self, **arguments): raise RuntimeError('not today')")
    with pytest.raises(RuntimeError, match="not today"):
        owner.run("engine.publish([Broken()])")
    owner.run("class Lying:\n    def __dlpack__(self, **arguments): return 'no capsule'")
    with pytest.raises(ray_hixl.InvalidArgument, match=r"tensor 0: __dlpack__\(\) gave no DLPack capsule"):
        owner.run("engine.publish([Lying()])")


def test_what_gives_no_buffer_is_named(engine: ray_hixl.Engine) -> None:
    released = memoryview(b"x")
    released.release()
    for refused, why in ((np.zeros(3, "M8[s]"), "cannot include dtype 'M'"), (released, "released memoryview")):
        with pytest.raises(ray_hixl.UnsupportedTensor, match=f"tensor 1 gives no buffer: .*{why}"):
            engine.publish([b"x", refused])
        with pytest.raises(ray_hixl.UnsupportedTensor, match=f"the memory to register gives no buffer: .*{why}"):
            engine.register(refused)
    with pytest.raises(ray_hixl.InvalidArgument, match="the memory to register is neither a tensor nor a buffer but a NoneType"):
        engine.register(None)
