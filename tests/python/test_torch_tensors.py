"""Torch tensors of every form: views, lazy bits, gradients, no elements; and what a fetched tensor is like."""

from __future__ import annotations

import pytest
import torch

import ray_hixl
from support import Owner

# What the owner publishes, and what must arrive.
FORMS = {
    "scalar": "torch.tensor(3.5)",
    "integer scalar": "torch.tensor(-7)",
    "no elements": "torch.zeros(0)",
    "no elements, shaped": "torch.zeros(3, 0, 5, dtype=torch.int16)",
    "one element": "torch.full((1, 1, 1), 9)",
    "matrix": "torch.arange(12.).reshape(3, 4)",
    "many dimensions": "torch.arange(2**12).reshape([2] * 12)",
    "transposed": "torch.arange(12.).reshape(3, 4).t()",
    "permuted": "torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1)",
    "every other": "torch.arange(10)[::2]",
    "expanded": "torch.arange(3.).expand(4, 3)",
    "expanded scalar": "torch.tensor(1.5).expand(2, 2)",
    "storage offset": "torch.arange(100)[37:61]",
    "row of a matrix": "torch.arange(100.).reshape(10, 10)[4]",
    "column of a matrix": "torch.arange(100.).reshape(10, 10)[:, 4]",
    "odd offset": "torch.arange(100, dtype=torch.uint8)[1:].narrow(0, 2, 17)",
    "channels last": "torch.arange(48.).reshape(1, 3, 4, 4).contiguous(memory_format=torch.channels_last)",
    "as_strided overlap": "torch.arange(10.).as_strided((4, 3), (2, 1))",
    "conjugated": "torch.tensor([1 + 2j, 3 - 4j]).conj()",
    "conjugated and transposed": "torch.arange(6.).reshape(2, 3).to(torch.complex64).mul(1j).mH",
    "negated": "torch.tensor([1 + 2j, 3 - 4j]).conj().imag",
    "real part": "torch.tensor([1 + 2j, 3 - 4j]).real",
    "requires grad": "torch.arange(4., requires_grad=True)",
    "result with history": "torch.arange(4., requires_grad=True) * 2",
    "view with history": "torch.arange(8., requires_grad=True)[::2]",
    "parameter": "torch.nn.Parameter(torch.arange(4.))",
    "made under inference mode": "inference()",
    "pages": "torch.arange(1 << 20, dtype=torch.int32)",
    "subclass": "torch.arange(4.).as_subclass(Subclass)",
}
HELPERS = """
class Subclass(torch.Tensor):
    pass
def inference():
    with torch.inference_mode():
        return torch.arange(5.)
"""


@pytest.mark.parametrize("form", FORMS)
def test_forms(engine: ray_hixl.Engine, torch_owner: Owner, form: str) -> None:
    torch_owner.run(f"{HELPERS}\nsource = {FORMS[form]}\nmetadata = engine.publish([source])")
    names = {"torch": torch}
    exec(HELPERS, names)
    expected = eval(FORMS[form], names).detach()
    (fetched,) = engine.fetch(torch_owner.get("metadata")).result()
    assert type(fetched) is torch.Tensor
    assert (fetched.dtype, fetched.shape, fetched.device) == (expected.dtype, expected.shape, expected.device)
    assert torch.equal(fetched, expected)
    assert fetched.is_contiguous()
    assert not fetched.requires_grad
    assert not fetched.is_conj()
    assert not fetched.is_neg()
    assert fetched.storage_offset() == 0
    assert fetched.untyped_storage().nbytes() == fetched.nbytes
    torch_owner.run("back = engine.fetch(again).result()[0]; engine.release(metadata)", again=engine.publish([fetched]))
    assert torch_owner.get("torch.equal(back, source.detach()) and back.is_contiguous() and back.shape == source.shape")


def test_a_contiguous_tensor_is_published_by_reference(engine: ray_hixl.Engine, torch_owner: Owner) -> None:
    torch_owner.run("source = torch.zeros(4); metadata = engine.publish([source, source.t(), source[::2]]); source.fill_(1)")
    fetched = engine.fetch(torch_owner.get("metadata")).result()
    assert [one.tolist() for one in fetched] == [[1] * 4, [1] * 4, [0] * 2]  # the last one was packed


def test_the_same_tensor_twice(engine: ray_hixl.Engine, torch_owner: Owner) -> None:
    torch_owner.run("source = torch.arange(6.)\nmetadata = engine.publish([source, source, source.view(2, 3), source])")
    fetched = engine.fetch(torch_owner.get("metadata")).result()
    assert [one.shape for one in fetched] == [(6,), (6,), (2, 3), (6,)]
    assert all(torch.equal(one.flatten(), torch.arange(6.0)) for one in fetched)
    assert len({one.data_ptr() for one in fetched}) == 4
    fetched[0].zero_()
    assert torch.equal(fetched[1], torch.arange(6.0))


def test_fetched_tensors_have_their_own_storage(engine: ray_hixl.Engine, torch_owner: Owner) -> None:
    metadata = torch_owner.get("engine.publish([torch.full((100,), float(i)) for i in range(20)])")
    fetched = engine.fetch(metadata).result()
    assert len({one.untyped_storage().data_ptr() for one in fetched}) == 20
    for one in fetched:
        assert one.untyped_storage().nbytes() == 400
        assert one._version == 0
        one.add_(1)
    assert [one[0].item() for one in fetched] == [i + 1.0 for i in range(20)]
    assert fetched[0].data_ptr() % 64 == 0
    fetched[0].requires_grad_().sum().backward()
    assert fetched[0].grad is not None


def test_many_tensors_of_many_layouts(engine: ray_hixl.Engine, torch_owner: Owner) -> None:
    torch_owner.run(
        "kinds = [torch.float32, torch.int8, torch.bfloat16]\n"
        "many = [torch.full((i % 7, i % 3), i % 100, dtype=kinds[i % 3]) for i in range(2000)]"
    )
    fetched = engine.fetch(torch_owner.get("engine.publish(many)")).result()
    kinds = [torch.float32, torch.int8, torch.bfloat16]
    assert all(torch.equal(one, torch.full((i % 7, i % 3), i % 100, dtype=kinds[i % 3])) for i, one in enumerate(fetched))


def test_targets(engine: ray_hixl.Engine, torch_owner: Owner) -> None:
    metadata = torch_owner.get("engine.publish([torch.arange(6.).reshape(2, 3), torch.tensor(True)])")
    whole = torch.zeros(4, 3)
    targets = [whole[1:3], torch.tensor(False)]
    assert engine.fetch(metadata, targets).result() is not targets
    assert whole.tolist() == [[0, 0, 0], [0, 1, 2], [3, 4, 5], [0, 0, 0]]
    assert targets[1].item() is True
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    engine.fetch(metadata, [parameter, targets[1]]).result()
    assert parameter.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("torch.zeros(6)", r"target 0 has shape \(6\), the tensor's is \(2, 3\)"),
        ("torch.zeros(2, 3, 1)", r"target 0 has shape \(2, 3, 1\)"),
        ("torch.zeros(2, 3, dtype=torch.float64)", "target 0 has elements of type float64, the tensor's are float32"),
        ("torch.zeros(2, 3, dtype=torch.int32)", "target 0 has elements of type int32"),
        ("torch.zeros(3, 2).t()", "target 0 is not contiguous"),
        ("torch.zeros(2, 6)[:, ::2]", "target 0 is not contiguous"),
        ("torch.zeros(3).expand(2, 3)", "target 0 is not contiguous"),
        ("torch.zeros(2, 3, dtype=torch.complex64).conj().imag", "target 0 is not contiguous"),
        ("torch.zeros(2, 3, dtype=torch.complex64).conj()", "target 0 is a conjugated or negated view"),
    ],
)
def test_targets_that_do_not_fit(engine: ray_hixl.Engine, target: str, match: str) -> None:
    metadata = engine.publish([torch.ones(2, 3)])
    with pytest.raises(ray_hixl.InvalidArgument, match=match) as caught:
        engine.fetch(metadata, targets=[eval(target)])
    assert type(caught.value) is ray_hixl.InvalidArgument


def test_targets_that_share_memory_are_refused(engine: ray_hixl.Engine) -> None:
    metadata = engine.publish([torch.ones(4), torch.zeros(0), torch.zeros(4)])
    memory = torch.full((12,), 7.0)
    for first, second in ((memory[:4], memory[:4]), (memory[:4], memory[3:7]), (memory[3:7], memory[:4])):
        with pytest.raises(ray_hixl.InvalidArgument, match=r"target buffers \d and \d share memory: each tensor needs a target of its own"):
            engine.fetch(metadata, targets=[first, memory[5:5], second])
    assert memory.tolist() == [7.0] * 12
    engine.fetch(metadata, targets=[memory[8:], memory[9:9], memory[4:8]]).result()  # neighbours, not in order
    assert memory.tolist() == [7.0] * 4 + [0.0] * 4 + [1.0] * 4


def test_number_of_targets(engine: ray_hixl.Engine) -> None:
    metadata = engine.publish([torch.ones(2), torch.ones(2)])
    for count in (0, 1, 3):
        with pytest.raises(ray_hixl.InvalidArgument, match=f"{count} targets were given for an object of 2 tensors"):
            engine.fetch(metadata, targets=[torch.ones(2)] * count)
