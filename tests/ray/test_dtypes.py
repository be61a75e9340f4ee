"""Every dtype that torch has on the CPU arrives bit by bit: as a matrix, as a single number, as no number at all."""

from __future__ import annotations

from typing import Any

import pytest
import ray
import torch

import actors

ALL = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
QUANTIZED = [dtype for dtype in ALL if str(dtype).startswith("torch.q")]
PLAIN = [dtype for dtype in ALL if dtype not in QUANTIZED]
SHAPES = [[3, 5], [], [0, 4], [257]]


def make(dtype: torch.dtype) -> list[torch.Tensor]:
    return [actors.of_type(dtype, shape, seed) for seed, shape in enumerate(SHAPES)]


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("dtype", PLAIN, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_dtype(source: Any, consumer: Any, dtype: torch.dtype) -> None:
    reference = source.give.remote(lambda: [actors.of_type(dtype, shape, seed) for seed, shape in enumerate(SHAPES)])
    expected = [actors.describe(tensor) for tensor in make(dtype)]
    assert ray.get(consumer.call.remote(lambda tensors: [actors.describe(tensor) for tensor in tensors], reference)) == expected
    assert [actors.describe(tensor) for tensor in ray.get(reference)] == expected


def test_all_dtypes_in_one_object(source: Any, consumer: Any) -> None:
    reference = source.give.remote(lambda: [actors.of_type(dtype, [7], 1) for dtype in PLAIN])
    arrived = ray.get(consumer.call.remote(lambda tensors: [actors.describe(tensor) for tensor in tensors], reference))
    assert arrived == [actors.describe(actors.of_type(dtype, [7], 1)) for dtype in PLAIN]


def test_the_list_is_not_empty() -> None:
    names = {str(dtype) for dtype in PLAIN}
    assert {"torch.bfloat16", "torch.complex64", "torch.bool", "torch.float8_e4m3fn", "torch.bits8", "torch.int4", "torch.uint7"} <= names
    assert len(PLAIN) > 35
