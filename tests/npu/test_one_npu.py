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


def test_it_is_linked_with_itself_over_roce_and_refused_by_name_over_hccs(new_owner: Callable[..., Owner], reader: ray_hixl.Engine) -> None:
    owner = new_owner(SAME)
    owner.run("metadata = engine.publish([values.on_npu(torch.float32, [1000], 4)])")
    fetching = reader.fetch(owner.get("metadata"))
    if not OVER_HCCS:
        assert values.bits(fetching.result()[0]) == values.bits(values.numbers(torch.float32, [1000], 4))
        return
    with pytest.raises(ray_hixl.NotAvailable, match=r"both processes use NPU 0, .* set HCCL_INTRA_ROCE_ENABLE=1 in every process"):
        fetching.result()
    elsewhere = reader.fetch(owner.get("metadata"), device="npu:1").result()[0]
    assert values.bits(elsewhere) == values.bits(values.numbers(torch.float32, [1000], 4)), "the other one is linked"
