"""The real torch_npu over the FAKE CANN runtime and HIXL. See tests/fake_cann/*/fake_*.h for what is fake about them.

Needs the environment that tools/run_stages.py gives: the fake libraries are found by the dynamic loader when the process starts.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path[:0] = [str(Path(__file__).parent.parent / folder) for folder in ("python", "shared")]
pytest.register_assert_rewrite("support", "values")

from profiles import APART  # noqa: E402

import ray_hixl  # noqa: E402
from ray_hixl import process  # noqa: E402
from support import Owner  # noqa: E402

_PREPARE = f"import sys, gc; sys.path.insert(0, {str(Path(__file__).parent)!r}); import torch, torch_npu, values; from ray_hixl import npu"


@pytest.fixture(scope="session")
def runtime() -> ctypes.CDLL:
    """The fake itself, as torch_npu found it."""
    library = ctypes.CDLL("libascendcl.so")
    library.fake_cann_calls.restype = ctypes.c_uint64
    library.fake_cann_live_blocks.restype = ctypes.c_size_t
    assert library.fake_cann_is_fake() == 1
    return library


@pytest.fixture(scope="session")
def hixl() -> ctypes.CDLL:
    """The fake HIXL of this process: its counters and switches."""
    library = ctypes.CDLL("libcann_hixl.so")
    for name in ("calls", "ops", "bytes", "regions", "links"):
        getattr(library, f"fake_hixl_{name}").restype = ctypes.c_uint64
    return library


@pytest.fixture(autouse=True)
def quiet_device() -> Iterator[None]:
    """Nothing is under way when a test begins or ends."""
    yield
    npu: Any = torch.npu  # put there by torch_npu
    npu.synchronize()


@pytest.fixture
def engine() -> Iterator[ray_hixl.Engine]:
    with ray_hixl.Engine() as made:
        yield made


@pytest.fixture(scope="module")
def reader() -> Iterator[ray_hixl.Engine]:
    """An engine for the tests of one file that only fetch: starting one on an NPU takes a moment."""
    with ray_hixl.Engine() as made:
        yield made


@pytest.fixture
def own_process() -> Iterator[None]:
    """The test uses the engine of the process; it and its options are gone afterwards."""
    yield
    ray_hixl.shutdown()
    process._options = None


@pytest.fixture(scope="session")
def owner() -> Iterator[Owner]:
    """Another process with torch_npu and an engine, shared by all tests: leave it alive, and release what is large."""
    made = Owner(prepare=_PREPARE, environment=APART)
    yield made
    made.close()


@pytest.fixture
def new_owner() -> Iterator[Callable[..., Owner]]:
    """Starts processes for one test alone. Arguments: variables of the process, and the engine's options."""
    made: list[Owner] = []

    def start(environment: dict[str, str] | None = None, **options: Any) -> Owner:
        made.append(Owner(options=options, prepare=_PREPARE, environment=APART | (environment or {})))
        return made[-1]

    yield start
    for one in made:
        one.close()
