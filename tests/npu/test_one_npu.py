"""Two processes that use one NPU."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
import values
from profiles import OVER_HCCS

import ray_hixl
from support import Owner

SAME = {name: os.environ.get(name, default) for name, default in (("FAKE_CANN_DEVICES", "2"), ("ASCEND_RT_VISIBLE_DEVICES", "0,1"))}


def test_it_is_linked_with_itself_over_roce_and_staged_over_hccs(new_owner: Callable[..., Owner], reader: ray_hixl.Engine) -> None:
    owner = new_owner(SAME)
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [1000], 4)])")
    expected = values.bits(values.numbers(torch.float32, [1000], 4))
    for wanted, by in (("npu:0", "staged" if OVER_HCCS else "hixl"), ("npu:1", "hixl")):
        fetching = reader.fetch(owner.get("metadata"), device=wanted)
        assert values.bits(fetching.result()[0]) == expected
        assert list(fetching.bytes_by_transport()) == [by]


@pytest.mark.skipif(not OVER_HCCS, reason="HIXL links an NPU with itself, but over HCCS")
def test_without_staged_it_is_refused_by_name_over_hccs(new_owner: Callable[..., Owner]) -> None:
    owner = new_owner(SAME)
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [1000], 4)])")
    with ray_hixl.Engine(ray_hixl.Options(transports=("shm", "stream", "hixl"))) as engine:
        fetching = engine.fetch(owner.get("metadata"), device="npu:0")
        with pytest.raises(ray_hixl.NotAvailable, match=r"both processes use NPU 0, .* set HCCL_INTRA_ROCE_ENABLE=1 in every process"):
            fetching.result()
