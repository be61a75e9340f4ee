"""What goes wrong in Python below calls of an NPU, also where a daemon is there when the process ends."""

from __future__ import annotations

import pytest
import torch

import ray_hixl
from ray_hixl import npu
from support import run_python

_PROGRAM = """
import os, threading, time, torch, torch_npu, ray_hixl
from ray_hixl import npu

def stay(*_, sleep=time.sleep):
    inside.set()
    while True:
        sleep(0.01)

class Endless(RuntimeError):
    __str__ = stay

def fail(device, error=Endless):
    raise error

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.3)  # Python has ended but for its last objects, and lets others have the GIL

inside = threading.Event()
engine = ray_hixl.Engine()
tensor = torch.ones(9, device="npu")
engine.publish([tensor])
npu.set_fence = FENCE
threading.Thread(target=engine.publish, args=([tensor],), daemon=True).start()
inside.wait()
slow = Slow()
"""


def test_a_daemon_whose_fence_has_no_end() -> None:
    run_python(_PROGRAM.replace("FENCE", "stay"), says=".*")


def test_an_error_that_cannot_be_told_is_one(engine: ray_hixl.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Untold(RuntimeError):
        def __str__(self) -> str:
            raise ValueError

    def fail(device: int) -> None:
        raise Untold

    monkeypatch.setattr(npu, "set_fence", fail)
    with pytest.raises(ray_hixl.HixlError, match="npu:0: an error that does not tell what it is"):
        engine.publish([torch.ones(9, device="npu")])


def test_a_daemon_whose_error_has_no_end() -> None:
    run_python(_PROGRAM.replace("FENCE", "fail"), says=".*")
