"""``set_target_for_ref``: ``ray.get`` receives into the user's own tensors, and says exactly what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import ray
import torch

import actors
from versions import target_device_for_ref, target_for_ref

pytestmark = target_for_ref


def test_receives_in_place(source: Any) -> None:
    whole = torch.zeros(300, dtype=torch.uint8)
    targets = [torch.zeros(1000, dtype=torch.uint8), whole[100:150]]
    reference = source.give.remote(lambda: [actors.numbers(1000, 1), actors.numbers(50, 2)])
    ray.experimental.set_target_for_ref(reference, targets)
    arrived = ray.get(reference)
    assert [tensor.data_ptr() for tensor in arrived] == [tensor.data_ptr() for tensor in targets]
    assert torch.equal(targets[0], actors.numbers(1000, 1))
    assert torch.equal(targets[1], actors.numbers(50, 2))
    assert not whole[:100].any(), "nothing is written beside the target"
    assert not whole[150:].any(), "nothing is written beside the target"


def test_stays_set_for_the_next_get(source: Any) -> None:
    target = torch.zeros(1000, dtype=torch.uint8)
    reference = source.give.remote(actors.numbers, 1000, 3)
    ray.experimental.set_target_for_ref(reference, [target])
    ray.get(reference)
    assert ray.get(reference).data_ptr() == target.data_ptr()
    assert torch.equal(target, actors.numbers(1000, 3))


def test_a_target_that_nobody_keeps(source: Any) -> None:
    """Ray holds it weakly: the value comes in new memory."""
    reference = source.give.remote(lambda: [actors.numbers(1000, 6)])
    ray.experimental.set_target_for_ref(reference, [torch.zeros(1000, dtype=torch.uint8)])
    assert torch.equal(ray.get(reference)[0], actors.numbers(1000, 6))


def test_in_an_actor(source: Any, consumer: Any) -> None:
    def receive(references: list[ray.ObjectRef]) -> bool:
        target = torch.zeros(1000, dtype=torch.uint8)
        ray.experimental.set_target_for_ref(references[0], [target])
        return ray.get(references[0]).data_ptr() == target.data_ptr() and torch.equal(target, actors.numbers(1000, 4))

    references = source.call.remote(actors.put_all, lambda: [actors.numbers(1000, 4)])
    assert ray.get(consumer.call.remote(receive, references))


MISFITS = {
    "shape": ([torch.zeros(7), torch.zeros(2, 2)], r"Shape of tensor_buffer at index 0 .*\[7\].* does not match shape .*\[8\]"),
    "dtype": (
        [torch.zeros(8, dtype=torch.float64), torch.zeros(2, 2)],
        r"Dtype of tensor_buffer at index 0 .*float64.* does not match .*float32",
    ),
    "count": ([torch.zeros(8)], r"Length of tensor_buffers \(1\) does not match length from object metadata \(2\)"),
    "contiguity": ([torch.zeros(8), torch.zeros(2, 4)[:, ::2]], r"Tensor buffer at index 1 is not contiguous"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_misfit_is_refused_and_a_fitting_target_works(source: Any, kind: str) -> None:
    targets, message = MISFITS[kind]
    reference = source.give.remote(lambda: [torch.ones(8), torch.ones(2, 2)])
    ray.experimental.set_target_for_ref(reference, targets)
    with pytest.raises(ValueError, match=message):
        ray.get(reference)
    assert not any(target.any() for target in targets), "a refused target is not written to"
    fitting = [torch.zeros(8), torch.zeros(2, 2)]
    ray.experimental.set_target_for_ref(reference, fitting)
    ray.get(reference)
    assert all(target.all() for target in fitting)


@target_device_for_ref
def test_target_device(source: Any) -> None:
    """Ray makes the targets itself."""
    reference = source.give.remote(actors.numbers, 5000, 5)
    ray.experimental.set_target_device_for_ref(reference, "cpu")
    assert torch.equal(ray.get(reference), actors.numbers(5000, 5))
    with pytest.raises(ValueError, match="cuda"):
        ray.experimental.set_target_device_for_ref(reference, "cuda:0")
