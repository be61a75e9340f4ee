"""The real torch_npu over the FAKE CANN runtime. See tests/fake_cann/runtime/fake_cann.h for what is fake about it.

Needs the environment that tools/run_stages.py gives: the fake libraries are found by the dynamic loader when the process starts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def runtime() -> ctypes.CDLL:
    """The fake itself, as torch_npu found it."""
    library = ctypes.CDLL("libascendcl.so")
    library.fake_cann_calls.restype = ctypes.c_uint64
    library.fake_cann_live_blocks.restype = ctypes.c_size_t
    assert library.fake_cann_is_fake() == 1
    return library


@pytest.fixture(autouse=True)
def quiet_device() -> Iterator[None]:
    """Nothing is under way when a test begins or ends."""
    yield
    npu: Any = torch.npu  # put there by torch_npu
    npu.synchronize()
