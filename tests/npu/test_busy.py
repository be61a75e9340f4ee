"""An NPU that is busy: nothing waits for what it need not wait for, and what waits does so within its time.

Kernels here run until a file exists: slow work, or a collective that waits for what another rank does. They touch no memory.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from profiles import OVER_HCCS

import ray_hixl
from support import Owner
from yardstick import scaled

MIB = 1 << 20
LONG_MS = 60_000  # far longer than any test may take
KERNELS = """
import ctypes, time
from pathlib import Path
runtime = ctypes.CDLL("libascendcl.so")

def launch(stream, until, most_ms=60_000):
    assert runtime.fake_cann_launch(ctypes.c_void_p(stream.npu_stream), str(until).encode(), ctypes.c_long(most_ms)) == 0
"""


class Kernels:
    """Those of one test, which end with it."""

    def __init__(self, runtime: ctypes.CDLL, file: Path) -> None:
        self._runtime = runtime
        self._file = file

    def launch(self, stream: Any, most_ms: int = LONG_MS) -> None:
        arguments = ctypes.c_void_p(stream.npu_stream), str(self._file).encode(), ctypes.c_long(most_ms)
        assert self._runtime.fake_cann_launch(*arguments) == 0

    def end(self) -> None:
        self._file.touch()


@pytest.fixture
def kernels(runtime: ctypes.CDLL, tmp_path: Path) -> Iterator[Kernels]:
    made = Kernels(runtime, tmp_path / "end")
    yield made
    made.end()


@pytest.fixture
def metadata(owner: Owner) -> Iterator[bytes]:
    """An object of another process: 3 MiB of tens."""
    owner.run("x = torch.full((3 << 20,), 10, dtype=torch.uint8, device='npu'); metadata = engine.publish([x])")
    yield owner.get("metadata")
    owner.run("engine.release(metadata)")


@pytest.fixture
def target(engine: ray_hixl.Engine) -> Iterator[torch.Tensor]:
    made = torch.zeros(3 * MIB, dtype=torch.uint8, device="npu")
    region = engine.register(made)
    torch.npu.synchronize()
    yield made
    region.close()


def busy_after(seconds: float, call: Callable[[], Any], says: str) -> None:
    begin = time.monotonic()
    with pytest.raises(ray_hixl.DeviceBusy, match=says):
        call()
    took = time.monotonic() - begin
    assert seconds <= took < scaled(seconds + 1)


def test_kernels_of_another_stream_delay_no_fetch(engine: ray_hixl.Engine, metadata: bytes, target: torch.Tensor, kernels: Kernels) -> None:
    engine.fetch(metadata).result()  # the link stands
    kernels.launch(torch.npu.Stream())
    engine.fetch(metadata, [target], timeout=scaled(1.0)).result()
    assert target.cpu().unique().tolist() == [10]
    kernels.launch(torch.npu.current_stream())
    [new] = engine.fetch(metadata, timeout=scaled(1.0)).result()
    kernels.end()
    assert new.cpu().unique().tolist() == [10]


def test_a_fetch_into_targets_that_are_in_use_ends_in_time(
    engine: ray_hixl.Engine, metadata: bytes, target: torch.Tensor, kernels: Kernels
) -> None:
    kernels.launch(torch.npu.current_stream())
    says = r"fetching object \d+\.\d+ of .*: npu:0 was busy for \d+\.\d s with work that was queued before the fetch on the same stream"
    busy_after(1.0, lambda: engine.fetch(metadata, [target], timeout=1.0).result(), says)
    kernels.end()
    assert target.cpu().unique().tolist() == [0]
    engine.fetch(metadata, [target]).result()
    assert target.cpu().unique().tolist() == [10]


def test_so_does_one_whose_targets_torch_copies_to(engine: ray_hixl.Engine, metadata: bytes, kernels: Kernels) -> None:
    target = torch.zeros(3 * MIB, dtype=torch.uint8, device="npu")
    kernels.launch(torch.npu.current_stream())
    fetch = engine.fetch(metadata, [target], timeout=1.0)
    busy_after(1.0, fetch.result, r"npu:0 was busy for \d\.\d s with work that was queued before its tensors were copied")
    kernels.end()
    torch.npu.synchronize()
    assert target.cpu().unique().tolist() == [0], "nothing was copied"
    assert fetch.result()[0].cpu().unique().tolist() == [10], "what arrived is still there"


def test_what_is_queued_after_a_fetch_began_is_not_waited_for(
    engine: ray_hixl.Engine, metadata: bytes, target: torch.Tensor, kernels: Kernels
) -> None:
    engine.fetch(metadata).result()
    kernels.launch(torch.npu.current_stream(), most_ms=1000)
    begin = time.monotonic()
    ended = threading.Event()
    thread = threading.Thread(target=lambda: (engine.fetch(metadata, [target], timeout=30.0).result(), ended.set()))
    thread.start()
    time.sleep(0.3)  # it waits, and lets this thread run
    assert time.monotonic() - begin < scaled(0.9)
    kernels.launch(torch.npu.current_stream())
    assert ended.wait(scaled(5.0))
    thread.join()
    kernels.end()


def test_kernels_of_another_stream_delay_no_publish(engine: ray_hixl.Engine, kernels: Kernels) -> None:
    tensor = torch.ones(1000, device="npu")
    engine.release(engine.publish([tensor]))
    kernels.launch(torch.npu.Stream())
    begin = time.monotonic()
    for published in (tensor, tensor.view(10, 100).t()):
        engine.release(engine.publish([published]))
    assert time.monotonic() - begin < scaled(1.0)


@pytest.mark.parametrize("is_registered", [False, True])
def test_a_publish_waits_for_its_stream_until_its_time_is_over(owner: Owner, kernels: Kernels, is_registered: bool) -> None:
    with ray_hixl.Engine(ray_hixl.Options(publish_timeout_s=1.0)) as engine:
        tensor = torch.ones(1000, device="npu")
        region = engine.register(tensor) if is_registered else None
        kernels.launch(torch.npu.current_stream())
        says = r"npu:0 was busy for \d+\.\d s with work that was queued before the publish on the same stream"
        busy_after(1.0, lambda: engine.publish([tensor]), says)
        failed = engine.publish_quietly([tensor])
        owner.run("try: engine.fetch(failed).result()\nexcept ray_hixl.DeviceBusy as error: said = str(error)", failed=failed)
        assert "its source could not publish it: npu:0 was busy for " in owner.get("said")
        kernels.end()
        engine.release(engine.publish([tensor]))
        del region


def test_memory_that_may_be_in_use_is_not_waited_for_while_there_is_more(metadata: bytes, kernels: Kernels) -> None:
    with ray_hixl.Engine(ray_hixl.Options(slab_bytes=4 * MIB, slab_cap_bytes=8 * MIB)) as engine:
        [first] = engine.fetch(metadata).result()
        address = first.data_ptr()
        kernels.launch(torch.npu.Stream())
        del first
        begin = time.monotonic()
        [second] = engine.fetch(metadata, timeout=30.0).result()
        assert time.monotonic() - begin < scaled(3.0)
        assert abs(second.data_ptr() - address) >= 3 * MIB
        says = r"fetching .*: npu:0 was busy for \d+\.\d s with work that was queued before memory was freed: no room for 3145728 bytes"
        busy_after(1.0, lambda: engine.fetch(metadata, timeout=1.0).result(), says)
        kernels.end()
        [third] = engine.fetch(metadata, timeout=scaled(5.0)).result()
        assert third.cpu().unique().tolist() == second.cpu().unique().tolist() == [10]
        del second, third


def test_an_engine_that_is_closed_ends_the_wait(metadata: bytes, kernels: Kernels) -> None:
    engine = ray_hixl.Engine()
    target = torch.utils.dlpack.from_dlpack(engine.empty(3 * MIB, "npu:0"))
    kernels.launch(torch.npu.current_stream())
    closer = threading.Timer(0.3, engine.close)
    closer.start()
    begin = time.monotonic()
    with pytest.raises(ray_hixl.Closed):
        engine.fetch(metadata, [target], timeout=30.0).result()
    assert time.monotonic() - begin < scaled(5.0)
    kernels.end()
    closer.join()


@pytest.fixture
def hears_control_c() -> Iterator[None]:
    """Also where whoever started the tests has it ignored, as shells do in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_control_c")
def test_control_c_ends_the_wait(engine: ray_hixl.Engine, metadata: bytes, target: torch.Tensor, kernels: Kernels) -> None:
    kernels.launch(torch.npu.current_stream())
    interrupt = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    interrupt.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.fetch(metadata, [target], timeout=30.0).result()
    assert time.monotonic() - begin < scaled(2.0)
    interrupt.join()
    assert engine.stats()["transfers_in_flight"] == 0


RANK = (
    KERNELS
    + """
comm = torch.npu.Stream()
x = torch.ones(1000, device="npu"); target = torch.zeros(1000, device="npu"); region = engine.register(target)

def enter(step):
    "A collective that ends when the other rank takes its next step."
    launch(comm, folder / f"{other}.{step}")

def leave(step):
    (folder / f"{own}.{step}").touch()

def is_pending():
    return not comm.query()
"""
)


@pytest.fixture
def ranks(new_owner: Callable[..., Owner], tmp_path: Path) -> list[Owner]:
    made = [new_owner() for _ in range(2)]
    for own, rank in enumerate(made):
        rank.says = "is staged through the host" if OVER_HCCS else ""  # they share an NPU
        rank.run(RANK.replace("import ctypes, time", f"import ctypes, time; own, other = {own}, {1 - own}"), folder=tmp_path)
    return made


def test_a_rank_publishes_between_its_collectives(ranks: list[Owner]) -> None:
    """Each rank has a collective under way that only ends once the other one has what it publishes now."""
    first, second = ranks
    begin = time.monotonic()
    for step in range(4):
        for rank in ranks:
            rank.run("enter(step); y = x + step", step=step)
        first.run("m = engine.publish([y])")
        second.run("[z] = engine.fetch(m, [target], timeout=20).result()", m=first.get("m"))
        second.run("n = engine.publish([z * 2])")
        first.run("[z] = engine.fetch(n, timeout=20).result()", n=second.get("n"))
        assert [rank.get("is_pending()") for rank in ranks] == [True, True]
        for rank in ranks:
            rank.run("leave(step)", step=step)
        assert first.get("(torch.npu.synchronize(), z.cpu().unique().tolist())[1]") == [2 * (step + 1)]
        second.run("torch.npu.synchronize(); engine.release(n)")
        first.run("del z; engine.release(m)")
    assert time.monotonic() - begin < scaled(15.0), "none of them waited for the end of a kernel"
