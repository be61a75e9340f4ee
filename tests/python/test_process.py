"""The functions of the module: the engine of the process, its counters, registration by tensor, memory born in the source arena."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import ray_hixl
from ray_hixl import process
from support import Owner, eventually, run_python
from yardstick import scaled

COUNTERS = (
    "transfers_started transfers_succeeded transfers_failed transfers_in_flight quarantined_bytes regions objects objects_published "
    "resolved served_bytes staged_mapped_bytes links sessions links_lost handshakes_refused"
)
ARENA = "segments mapped_bytes huge_bytes used_bytes live_blocks retained_bytes allocations recycled"


@pytest.fixture(autouse=True)
def no_engine() -> Iterator[None]:
    ray_hixl.shutdown()
    yield
    ray_hixl.shutdown()
    process._options = None


@pytest.fixture
def peer_of_process() -> ray_hixl.Peer:
    """The process's engine, as a peer of itself."""
    engine = process.engine()
    return engine.connect(engine.descriptor)


def test_stats_without_an_engine() -> None:
    assert set(ray_hixl.stats()) == {"fetched", "engines", "ray"}


def test_stats_of_the_process() -> None:
    process.engine()
    stats = ray_hixl.stats()
    assert set(stats) == set(COUNTERS.split()) | {"fetched", "engines", "longest_turn_s", "ray", "source", "landing", "devices"}
    assert set(stats["source"]) == set(stats["landing"]) == set(ARENA.split())
    assert all(stats[name] == 0 for name in COUNTERS.split())
    assert stats["devices"] == []


def test_an_engine_from_before_ray_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    process.engine()
    process.warn_of_loopback()  # no Ray yet
    assert caplog.messages == []
    monkeypatch.setattr(process, "_node_ip", lambda: "192.0.2.7")
    for _ in range(2):
        process.warn_of_loopback()
    assert len(caplog.messages) == 1
    assert "listens on 127.0.0.1" in caplog.messages[0]
    assert "Options(host='192.0.2.7')" in caplog.messages[0]


def test_ray_is_asked_for_the_node_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every publish comes by here, also where the node's address is this one."""
    process.engine()
    asked: list[str] = []
    monkeypatch.setattr(process, "_node_ip", lambda: asked.append("127.0.0.1") or asked[0])
    for _ in range(3):
        process.warn_of_loopback()
    assert asked == ["127.0.0.1"]
    assert caplog.messages == []


def test_an_address_that_was_chosen_is_not_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    process.configure(ray_hixl.Options(host="127.0.0.1"))
    process.engine()
    monkeypatch.setattr(process, "_node_ip", lambda: "192.0.2.7")
    process.warn_of_loopback()
    assert caplog.messages == []


def test_stats_count(engine: ray_hixl.Engine, owner: Owner) -> None:
    metadata = owner.get("engine.publish([given])", given=b"x" * 1000)
    before = owner.get("engine.stats()")
    engine.fetch(metadata).result()
    with pytest.raises(ray_hixl.ObjectFreed):
        engine.fetch(engine.publish_error([b""], ray_hixl.ObjectFreed("gone"))).result()
    stats, after = engine.stats(), owner.get("engine.stats()")
    assert sum(stats["fetched"].values()) == 1000
    assert [stats[f"transfers_{name}"] for name in ("started", "succeeded", "failed", "in_flight")] == [2, 1, 1, 0]
    assert (stats["links"], after["sessions"] - before["sessions"]) == (1, 1)
    assert after["objects"] >= 1
    assert stats["landing"]["allocations"] == 1


def test_one_engine_for_all_threads() -> None:
    seen: list[ray_hixl.Engine] = []
    threads = [threading.Thread(target=lambda: seen.append(process.engine())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(map(id, seen))) == 1


def test_a_destructor_may_want_the_engine_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector runs it in the middle of starting, in the same thread: there is one engine all the same."""
    made: list[ray_hixl.Engine] = []
    wanted: list[ray_hixl.Engine] = []

    def start(options: ray_hixl.Options) -> ray_hixl.Engine:
        if not made:
            made.append(ray_hixl.Engine(options))
            assert set(ray_hixl.stats()) == {"fetched", "engines", "ray"}
            wanted.append(process.engine())
            return made[0]
        made.append(ray_hixl.Engine(options))
        return made[-1]

    monkeypatch.setattr(process, "Engine", start)
    thread = threading.Thread(target=lambda: wanted.append(process.engine()), daemon=True)
    thread.start()
    thread.join(scaled(10))
    if waits := thread.is_alive():
        process._lock = threading.RLock()  # for the tests that follow
    assert not waits, "it waits for itself"
    assert wanted == [made[1], made[1]]
    with pytest.raises(ray_hixl.Closed):
        made[0].register(bytearray(1))
    assert process.engine() is made[1]


_LATE = """
import atexit

@atexit.register
def late():  # exit functions run in the opposite order: after ray_hixl's own
    for start in (lambda: process.engine().publish([bytearray(10)]), ray_hixl.Engine):
        try:
            start()
        except ray_hixl.Closed as error:
            print(error)

import ray_hixl
from ray_hixl import process
"""


def test_no_engine_starts_once_the_process_ends() -> None:
    for used in ("process.engine().publish([bytearray(10)])", "pass"):
        errors = run_python(_LATE + used).splitlines()
        assert len(errors) == 2
        assert all(
            error.endswith("the process is ending, and its engines are closed: nothing is published or fetched any more")
            for error in errors
        )


_ONE_ERROR = """
from ray_hixl import InvalidArgument, process
try:
    process.engine()
except InvalidArgument as error:
    print(error)
"""


def test_options_that_do_not_work_name_the_process() -> None:
    """Another one may be told of it: a consumer, of its source."""
    ended = run_python("import os; os.environ['RAY_HIXL_HOST'] = 'localhost'\n" + _ONE_ERROR)
    assert re.search(r"RAY_HIXL_HOST: .*not 'localhost'.* \(in process \d+ on \S+\)", ended)


_OPEN_AT_THE_END = """
import atexit, pathlib

@atexit.register
def late():  # exit functions run in the opposite order: after ray_hixl's own
    print(sorted(name for task in pathlib.Path("/proc/self/task").iterdir() if (name := (task / "comm").read_text()).startswith("hixl")))

import ray_hixl
from ray_hixl import process
engines = [process.engine(), ray_hixl.Engine(), ray_hixl.Engine()]
peers = [engine.connect(engines[0].descriptor) for engine in engines]
tensors = engines[1].fetch(engines[0].publish([bytearray(10)])).result()
kept = engines[1].register(bytearray(10))
del engines[2], peers[2]  # closed in the background
"""


def test_engines_are_closed_when_the_process_ends() -> None:
    """Threads that go on while libraries are taken down crash once in a while: libcrypto frees what an ending thread frees, too."""
    assert run_python(_OPEN_AT_THE_END) == "[]\n"


_DROPPED_AT_THE_END = """
import os, threading, time, ray_hixl
from ray_hixl import process

class Shown(bytearray):
    def __del__(self):
        time.sleep(0.1)  # the process is ending, and waits
        engine.stats()  # gives the GIL up and takes it again
        print("dropped")

engine = ray_hixl.Engine()
"""


@pytest.mark.parametrize(
    "keep", ["process.engine().publish([Shown(9)])", "region = engine.register(Shown(9))", "engine.register(Shown(9)).close()"]
)
def test_what_engines_keep_is_dropped_when_the_process_ends(keep: str) -> None:
    assert run_python(_DROPPED_AT_THE_END + keep) == "dropped\n"


def test_a_child_that_is_forked_while_the_process_ends_works() -> None:
    fork = """
def fork():
    if os.fork() == 0:
        ray_hixl.Engine().empty(9)
        print("made", flush=True)
        os._exit(0)
    print("dropped", flush=True)
Shown.__del__ = lambda self: fork()
kept = engine.register(Shown(9))
"""
    assert sorted(run_python(_DROPPED_AT_THE_END + fork).split()) == ["dropped", "made"]


def test_shutdown_and_restart() -> None:
    ray_hixl.shutdown()  # nothing to do
    first = process.engine()
    descriptor = first.descriptor
    ray_hixl.shutdown()
    ray_hixl.shutdown()
    assert set(ray_hixl.stats()) == {"fetched", "engines", "ray"}
    with pytest.raises(ray_hixl.Closed):
        first.register(bytearray(1))
    second = process.engine()
    assert second is not first
    assert second.descriptor != descriptor
    assert second.fetch(second.publish([b"abc"])).result()[0].tolist() == list(b"abc")


def test_configure() -> None:
    options = ray_hixl.Options(copy_threads=1)
    process.configure(options)
    process.configure(ray_hixl.Options(copy_threads=1))
    assert process.engine().options == options
    with pytest.raises(
        ray_hixl.InvalidArgument,
        match=r"already uses other options: copy_threads is '1' here, '2' was asked for\. They are fixed by the first use",
    ):
        process.configure(ray_hixl.Options(copy_threads=2))


def test_configure_after_the_engine() -> None:
    process.engine()
    process.configure(ray_hixl.Options())
    with pytest.raises(ray_hixl.InvalidArgument, match="already uses other options"):
        process.configure(ray_hixl.Options(copy_threads=2))


def test_register_memory_counts() -> None:
    tensor = torch.arange(100.0)
    for _ in range(3):
        ray_hixl.register_memory(tensor)
    ray_hixl.register_memory(tensor[50:])  # the same storage
    assert ray_hixl.stats()["regions"] == 1
    for left in (1, 1, 1, 0):
        ray_hixl.deregister_memory(tensor[10:20])
        assert ray_hixl.stats()["regions"] == left
    with pytest.raises(ray_hixl.InvalidRegion, match="called more often than register_memory") as caught:
        ray_hixl.deregister_memory(tensor)
    assert type(caught.value) is ray_hixl.InvalidRegion


def test_register_memory_of_several_storages() -> None:
    tensors = [torch.arange(10), torch.ones(3), torch.zeros(0), torch.nn.Parameter(torch.ones(4))]
    for tensor in tensors:
        ray_hixl.register_memory(tensor)
    assert ray_hixl.stats()["regions"] == 4
    for tensor in tensors:
        ray_hixl.deregister_memory(tensor)
    assert ray_hixl.stats()["regions"] == 0


def test_a_resized_storage_is_the_same_one() -> None:
    """Its bytes are elsewhere then: what it was registered as is found all the same, and not taken for other memory at the old address."""
    tensor = torch.zeros(1 << 20)
    ray_hixl.register_memory(tensor)
    old = tensor.data_ptr()
    tensor.resize_(3 << 20)
    others = [torch.ones(1 << 20) for _ in range(3)]  # one of them lies where it was, if malloc likes
    for other in others:
        ray_hixl.register_memory(other)
    assert tensor.data_ptr() != old
    assert ray_hixl.stats()["regions"] == 4
    ray_hixl.deregister_memory(tensor)
    assert ray_hixl.stats()["regions"] == 3
    with pytest.raises(ray_hixl.InvalidRegion, match="called more often than register_memory"):
        ray_hixl.deregister_memory(tensor)
    for other in others:
        ray_hixl.deregister_memory(other)
    assert ray_hixl.stats()["regions"] == 0


def test_a_resized_storage_is_registered_anew(peer_of_process: ray_hixl.Peer) -> None:
    tensor = torch.zeros(10)
    ray_hixl.register_memory(tensor)
    tensor.resize_(1000).fill_(7)
    ray_hixl.register_memory(tensor)
    assert ray_hixl.stats()["regions"] == 1, "not what it was"
    [found] = process._registered.values()
    remote = peer_of_process.region(found.region.descriptor)
    into = bytearray(remote.nbytes)
    with process.engine().register(into) as local:
        peer_of_process.read([(local, 0, remote, 0, remote.nbytes)])
    assert torch.equal(torch.frombuffer(into, dtype=torch.float32), tensor)
    for left in (1, 0):
        ray_hixl.deregister_memory(tensor)
        assert ray_hixl.stats()["regions"] == left


def test_a_registered_storage_lives() -> None:
    tensor = torch.ones(3)
    storage = weakref.ref(tensor.untyped_storage())
    ray_hixl.register_memory(tensor)
    view = tensor[1:]
    tensor.set_(torch.zeros(2))  # another storage
    with pytest.raises(ray_hixl.InvalidRegion):
        ray_hixl.deregister_memory(tensor)
    ray_hixl.deregister_memory(view)
    assert ray_hixl.stats()["regions"] == 0
    ray_hixl.register_memory(view)
    process.engine().close()
    del view
    gc.collect()
    assert storage() is not None, "or another would be taken for it"


def test_registrations_end_with_the_engine() -> None:
    tensor = torch.ones(3)
    ray_hixl.register_memory(tensor)
    ray_hixl.shutdown()
    with pytest.raises(ray_hixl.InvalidRegion):
        ray_hixl.deregister_memory(tensor)
    ray_hixl.register_memory(tensor)
    assert ray_hixl.stats()["regions"] == 1


def test_register_memory_of_another_device() -> None:
    for call in (ray_hixl.register_memory, ray_hixl.deregister_memory):
        with pytest.raises(ray_hixl.NotAvailable, match="tensor is on meta: memory of CPUs and NPUs can be registered"):
            call(torch.ones(3, device="meta"))


def test_register_memory_of_what_has_no_storage() -> None:
    for call in (ray_hixl.register_memory, ray_hixl.deregister_memory):
        with pytest.raises(ray_hixl.UnsupportedTensor, match=r"the tensor is no plain dense memory: it is sparse .*tensor.to_dense"):
            call(torch.eye(3).to_sparse())


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.int4], ids=str)
@pytest.mark.parametrize("size", [5, (2, 3), (), (0, 4), torch.Size([7])], ids=str)
def test_empty(size: int | tuple[int, ...], dtype: torch.dtype | None) -> None:
    made = ray_hixl.empty(size, dtype=dtype)
    expected = torch.empty(size, dtype=dtype)
    assert type(made) is torch.Tensor
    assert (made.shape, made.dtype, made.device, made.is_contiguous()) == (expected.shape, expected.dtype, expected.device, True)
    made.view(torch.uint8) if made.dim() else made.reshape(1).view(torch.uint8)
    if dtype is not torch.int4:
        made.zero_()
        assert not made.any()


def test_empty_is_published_without_a_copy(owner: Owner) -> None:
    """Its consumers map it."""
    made = ray_hixl.empty(1000, dtype=torch.uint8)
    made.fill_(7)
    owner.run("fetch = engine.fetch(metadata); fetched = fetch.result()[0]", metadata=process.engine().publish([made]))
    assert owner.get("(bytes(memoryview(fetched)) == bytes([7]) * 1000, fetch.bytes_by_transport())") == (True, {"shm": 1000})
    assert ray_hixl.stats()["source"]["live_blocks"] == 1


def test_empty_goes_back_to_the_arena() -> None:
    made = ray_hixl.empty(1000)
    assert ray_hixl.stats()["source"]["live_blocks"] == 1
    address = made.data_ptr()
    del made
    eventually(lambda: ray_hixl.stats()["source"]["live_blocks"] == 0)
    assert ray_hixl.empty(1000).data_ptr() == address


def test_empty_elsewhere() -> None:
    """One text, whatever takes a device."""
    with ray_hixl.Engine() as engine:
        metadata = engine.publish([b"abc"])
        calls: list[Callable[[Any], Any]] = [
            lambda device: ray_hixl.empty(3, device=device),
            lambda device: ray_hixl.register_memory_pool(3, device),
            lambda device: engine.empty(3, device=device),
            lambda device: engine.fetch(metadata, device=device),
        ]
        for call in calls:
            for device in ("meta", "cuda:0", torch.device("cuda", 1), "npu:x", "npu:-1", "npu:", "npu:1000000", "cpu:3", ""):
                takes = re.escape(f"device takes 'cpu', 'npu' (the current one) or 'npu:<index>'; this is '{device}'")
                with pytest.raises(ray_hixl.InvalidArgument, match=takes):
                    call(device)
            with pytest.raises(TypeError, match=r"device takes 'cpu', .*; this is 5$"):
                call(5)
        assert engine.empty(3, device=torch.device("cpu")).nbytes == engine.empty(3, device="cpu:0").nbytes == 3
        for name in ("", "npu", "cpu"):
            assert ray_hixl.Options(landing_device=name).landing_device == name


def test_npu_memory_where_there_is_none() -> None:
    """Each call says what is missing on this machine."""
    for call in (lambda: ray_hixl.empty(3, device="npu:0"), lambda: ray_hixl.register_memory_pool(1 << 20, "npu:0")):
        with pytest.raises(ray_hixl.NotAvailable, match=r"cannot load libacl_rt\.so .* source CANN's set_env\.sh"):
            call()
    for call in (lambda: ray_hixl.empty(3, device="npu"), lambda: ray_hixl.set_stream(None)):
        with pytest.raises(ray_hixl.NotAvailable, match="npu tensors need torch_npu, which cannot be imported here"):
            call()
    with pytest.raises(ray_hixl.NotAvailable, match=r"libacl_rt\.so"):
        ray_hixl._core.cann_info()
    assert ray_hixl.stats()["devices"] == []


def test_register_memory_pool_of_the_cpu() -> None:
    with pytest.raises(ray_hixl.NotAvailable, match="the arenas of the CPU grow by themselves"):
        ray_hixl.register_memory_pool(1 << 20, "cpu")


@pytest.mark.parametrize("size", [-1, (2, -3)])
def test_empty_of_a_negative_size(size: int | tuple[int, ...]) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        ray_hixl.empty(size)


def test_empty_of_too_much() -> None:
    with pytest.raises(ray_hixl.OutOfMemory) as caught:
        ray_hixl.empty(1 << 50, dtype=torch.uint8)
    assert isinstance(caught.value, MemoryError)
