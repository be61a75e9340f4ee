"""The memory of fetched tensors: how long it lives, and that it may die anywhere: late, in any thread, at exit, in a forked child."""

from __future__ import annotations

import gc
import os
import threading

import pytest
import torch

import ray_hixl
from support import Other, Owner, eventually, pattern, run_python

# A program with an engine, and three fetched tensors of its own. Ends are added by the tests.
WITH_TORCH = """
import os, sys, threading, torch, ray_hixl
engine = ray_hixl.Engine()
source = torch.arange(1000.)
metadata = engine.publish([source, source, torch.zeros(0)])
tensors = engine.fetch(metadata).result()
def sound(): return all(torch.equal(tensor, source) for tensor in tensors[:2])
"""
WITHOUT_TORCH = """
import os, sys, threading, ray_hixl
engine = ray_hixl.Engine()
source = bytes(range(250)) * 16
metadata = engine.publish([source, source, b''])
tensors = engine.fetch(metadata).result()
def sound(): return all(bytes(memoryview(tensor)) == source for tensor in tensors[:2])
"""
FORK = """
child = os.fork()
if child == 0:
    {in_child}
    sys.exit(0)
ended, status = os.waitpid(child, 0)
print('child', os.waitstatus_to_exitcode(status))
"""


def live_blocks(engine: ray_hixl.Engine) -> int:
    count: int = engine.stats()["landing"]["live_blocks"]
    return count


def test_memory_goes_back_with_the_last_tensor(engine: ray_hixl.Engine, torch_owner: Owner) -> None:
    metadata = torch_owner.get(
        "engine.publish([torch.arange(1_000_000.), torch.arange(1_000_000.)])"
    )  # large ones have blocks of their own
    fetched = engine.fetch(metadata).result()
    eventually(lambda: live_blocks(engine) == 2)
    view = fetched[0][10:20].view(2, 5)
    del fetched
    gc.collect()
    eventually(lambda: live_blocks(engine) == 1)
    assert view.tolist() == [[10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]
    del view
    gc.collect()
    eventually(lambda: live_blocks(engine) == 0)


def test_memory_is_recycled(engine: ray_hixl.Engine, torch_owner: Owner) -> None:
    metadata = torch_owner.get("engine.publish([torch.arange(100000.)])")
    for _ in range(20):
        assert engine.fetch(metadata).result()[0][-1] == 99999
    landing = engine.stats()["landing"]
    assert landing["recycled"] >= 18
    assert landing["segments"] == 1


def test_tensors_outlive_the_engine(torch_owner: Owner) -> None:
    metadata = torch_owner.get("engine.publish([torch.arange(100000.)])")
    engine = ray_hixl.Engine()
    (fetched,) = engine.fetch(metadata).result()
    engine.close()
    engine.close()
    del engine
    gc.collect()
    assert torch.equal(fetched, torch.arange(100000.0))
    fetched.zero_()
    assert fetched.sum() == 0


def test_memory_of_empty_outlives_the_engine() -> None:
    engine = ray_hixl.Engine()
    buffer = engine.empty(10000)
    view = memoryview(buffer)  # type: ignore[arg-type]
    engine.close()
    del engine, buffer
    gc.collect()
    view[:] = b"x" * 10000
    assert bytes(view) == b"x" * 10000


def test_tensors_die_in_another_thread(engine: ray_hixl.Engine, torch_owner: Owner) -> None:
    metadata = torch_owner.get("engine.publish([torch.arange(1000.)] * 100)")
    for _ in range(5):
        fetched = engine.fetch(metadata).result()
        threads = [threading.Thread(target=lambda half: half.clear(), args=(fetched[i::4],)) for i in range(4)]
        fetched.clear()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        del threads
        gc.collect()
        eventually(lambda: live_blocks(engine) == 0)


FETCHING = "threading.Thread(target=lambda: [engine.fetch(metadata).result() for _ in range"
# Of torch what a daemon has fetched is kept: where a tensor dies on one that Python kills at its end, torch ends the process, also without
# us.
KEEPING = "kept = []; threading.Thread(target=lambda: [kept.append(engine.fetch(metadata).result()) for _ in range"
ENDS = {
    "nothing done": "pass",
    "engine closed": "engine.close()",
    "engine dropped": "del engine",
    "kept in a module": "sys.kept = tensors",
    "in a cycle": "tensors.append(tensors); engine.keep = tensors; engine.self = engine; del engine, tensors[2:]",
    "a thread that stays": "threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()",
    "a thread that fetches": FETCHING + "(100)]).start()",
    "a daemon that fetches": FETCHING + "(10**6)], daemon=True).start()",
    "a daemon that keeps what it fetches": KEEPING + "(10**6)], daemon=True).start()",
    "memory shown to peers": "kept = engine.register(bytearray(9)); shown = engine.publish([engine.empty(9), bytearray(4)])",
    "memory just released": "engine.release(metadata); [engine.release(engine.publish([bytearray(9)])) for _ in range(100)]",
}


# Daemon threads that go on calling find closed engines while the process ends, and Python prints that, or the beginning of it.
OF_DAEMONS = r"(Exception in thread .*)?"


def may_say(end: str) -> str:
    return OF_DAEMONS if "daemon" in end else ""


@pytest.mark.parametrize("end", ENDS)
def test_exit(end: str) -> None:
    """Ends with code 0, silently, whatever is still there (run_python asserts it)."""
    assert run_python(f"{WITHOUT_TORCH}\n{ENDS[end]}\nprint(sound())", says=may_say(end)) == "True\n"


@pytest.mark.parametrize("end", ["engine dropped", "kept in a module", "a daemon that keeps what it fetches"])
def test_exit_with_torch(end: str) -> None:
    assert run_python(f"{WITH_TORCH}\n{ENDS[end]}\nprint(sound())", says=may_say(end)) == "True\n"


def test_exit_functions_of_others_can_join_threads_that_call() -> None:
    """They run after ray_hixl's own if they were registered before: a thread that calls it meanwhile gets an error, and goes on."""
    program = """
import atexit, threading
stop = threading.Event()

@atexit.register
def join():
    stop.set()
    worker.join(30)
    print(worker.is_alive())

import ray_hixl
engine = ray_hixl.Engine()
kept = engine.register(bytearray(9))

def work():
    while not stop.wait(0.001):
        try:
            engine.publish([b"x"])
            engine.stats()
            ray_hixl.stats()
            ray_hixl.process.engine()
        except ray_hixl.Closed:
            pass

worker = threading.Thread(target=work, daemon=True)
worker.start()
"""
    assert run_python(program) == "False\n"


_AT_THE_END = """
import functools, os, sys, threading, time, ray_hixl

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.3)  # Python has ended but for its last objects, and lets others have the GIL

class Tell:
    # Dropped before anything is over: by a thread that was killed, and has no GIL for it.
    def __init__(self):
        self.over = []
    def __del__(self, exit=os._exit):
        if not self.over: exit(7)
"""

_KILLED = (
    _AT_THE_END
    + """
class GivesTheGilUp:
    def __dlpack__(self, *, sleep=time.sleep, **_): sleep(0.01)

def make_slowly(over, *_, sleep=time.sleep, make=ray_hixl.errors.from_code):
    sleep(0.01)
    over.append(True)
    return make(*_)

def look_up(_, partial=functools.partial, make=make_slowly, Tell=Tell):
    tell = Tell()
    found = partial(make, tell.over)
    found.tell = tell
    return found

def errors_take_time(errors=ray_hixl.errors):
    del errors.from_code
    errors.__getattr__ = look_up

BEFORE
engine = ray_hixl.Engine()
fetch = engine.fetch(engine.publish([b"x"]))
fetch.result()

def call(once, closed=ray_hixl.HixlError):
    while True:
        try:
            once()
        except (closed, ValueError, TypeError):
            pass

for _ in range(3):
    threading.Thread(target=call, args=(CALL,), daemon=True).start()
sys.setswitchinterval(1e-5)
time.sleep(0.05)
slow = Slow()
"""
)


@pytest.mark.parametrize(
    ("call", "before"),
    [
        ("fetch.wait", ""),
        ("lambda e=engine: e.publish([b'x'])", ""),
        ("lambda e=engine: e.publish([b'x'])", "errors_take_time()"),
        ("lambda e=engine, one=GivesTheGilUp(): e.publish([one])", ""),
        ("lambda e=engine, t=torch.arange(100.): e.publish([t])", "import torch"),
        ("lambda e=engine, t=torch.zeros(1000, 1000).t(): e.publish([t])", "import torch"),
        ("lambda e=engine, t=torch.arange(100.): e.register(t)", "import torch"),
        ("lambda e=engine, m=engine.publish([torch.zeros(9)]), t=torch.ones(9): e.fetch(m, [t])", "import torch"),
    ],
)
def test_exit_while_daemons_come_back(call: str, before: str) -> None:
    """Threads that Python kills when they take the GIL, in the middle of C++ or in Python that C++ called, stand still instead. They are
    not in torch then, where they could not.
    """
    run_python(_KILLED.replace("CALL", call).replace("BEFORE", before), says=OF_DAEMONS)


def test_exit_while_exporters_do_not_return() -> None:
    """Python waits a few seconds for code that a call of ours is in, and kills it then."""
    program = (
        _AT_THE_END
        + """
import torch

def stay(*_, sleep=time.sleep, **__):
    inside.release()
    while True:
        sleep(0.01)

class Called: __dlpack__ = stay
class Property: __dlpack__ = property(stay)
class Found: __getattr__ = stay
class Disguised: __class__ = property(stay)

def tell(tensor, pack=ray_hixl.tensors.pack):
    packed = pack(tensor)
    packed.tell = Tell()
    return packed
ray_hixl.tensors.pack = tell

inside = threading.Semaphore(0)
engine = ray_hixl.Engine()
exporters = [Called(), Property(), Found(), Disguised()]
for one in exporters: threading.Thread(target=engine.publish, args=([torch.zeros(2, 2).t(), one],), daemon=True).start()
for one in exporters: inside.acquire()
slow = Slow()
"""
    )
    run_python(program, says=OF_DAEMONS)


def test_exit_while_a_daemon_packs_a_tensor() -> None:
    program = """
import os, sys, threading, time, torch, ray_hixl

def slowly(tensor):
    inside.set()
    time.sleep(1)
    os.write(1, b"packed")
    return packing(tensor)

inside = threading.Event()
packing, ray_hixl.tensors.pack = ray_hixl.tensors.pack, slowly
engine = ray_hixl.Engine()
threading.Thread(target=engine.publish, args=([torch.zeros(2, 2).t()],), daemon=True).start()
inside.wait()
"""
    assert run_python(program, says=OF_DAEMONS) == "packed"


def test_exit_functions_of_others_take_what_was_fetched() -> None:
    program = """
import atexit, torch
atexit.register(lambda: print(fetch.result()))
import ray_hixl
engine = ray_hixl.Engine()
fetch = engine.fetch(engine.publish([torch.arange(2)]))
assert fetch.wait()
"""
    assert run_python(program) == "[tensor([0, 1])]\n"


def test_exit_while_daemons_wait(owner: Owner) -> None:
    """Threads that come back from waiting while Python ends would be killed by it in the middle of C++: the process would abort."""
    program = (
        "import sys, threading, ray_hixl\n"
        "engine = ray_hixl.Engine(ray_hixl.Options(transports=('stream',)))\n"
        "fetch = engine.fetch(bytes.fromhex(sys.argv[1])); begun = threading.Barrier(9)\n"
        "def wait():\n"
        "    begun.wait()\n"
        "    while not fetch.wait(0.0005): pass\n"
        "for _ in range(8): threading.Thread(target=wait, daemon=True).start()\n"
        "begun.wait()"
    )
    metadata = owner.get("engine.publish([b'abc'])")
    with owner.stopped():
        for _ in range(3):
            run_python(program, metadata.hex(), says=OF_DAEMONS)


def test_exit_with_the_engine_of_the_process() -> None:
    said = run_python(
        "import torch, ray_hixl\n"
        "born = ray_hixl.empty(100); ray_hixl.register_memory(born); print(ray_hixl.stats()['regions'])\n"
        "from ray_hixl.process import engine\n"
        "kept = engine().fetch(engine().publish([born])).result()"
    )
    assert said == "2\n"


@pytest.mark.parametrize(
    "in_child",
    [
        "assert sound()",
        "tensors.clear(); del engine",
        "engine.close(); tensors.clear()",
        "del engine, tensors; import gc; gc.collect()",
        "os._exit(0 if sound() else 9)",
    ],
)
def test_forked_child_ends_cleanly(in_child: str) -> None:
    said = run_python(
        WITHOUT_TORCH + FORK.format(in_child=in_child) + "print(sound(), engine.fetch(engine.publish([source])).result()[0].nbytes)"
    )
    assert said == "child 0\nTrue 4000\n"


def test_forked_child_with_torch() -> None:
    said = run_python(
        WITH_TORCH + FORK.format(in_child="assert sound(); tensors[1].zero_(); del tensors[0]") + "print(torch.equal(tensors[0], source))"
    )
    assert said == "child 0\nTrue\n"


def test_engine_calls_in_a_forked_child() -> None:
    """Each raises Closed and says that the parent has the engine; none hangs."""
    said = run_python(
        WITHOUT_TORCH
        + """
peer = engine.connect(engine.descriptor)
region = engine.register(bytearray(10)); descriptor = region.descriptor
remote = peer.region(descriptor); ops = [(region, 0, remote, 0, 4)]; batch = peer.prepare(ops)
calls = dict(
    register=lambda: engine.register(bytearray(1)), empty=lambda: engine.empty(1), connect=lambda: engine.connect(engine.descriptor),
    publish=lambda: engine.publish([source]), fetch=lambda: engine.fetch(metadata).result(), region=lambda: peer.region(descriptor),
    prepare=lambda: peer.prepare(ops), read=lambda: peer.read(batch), path=lambda: peer.path(),
    targets=lambda: engine.fetch(metadata, [bytearray(4000), bytearray(4000), bytearray()]).result(), stats=lambda: engine.stats(),
)
child = os.fork()
if child == 0:
    for name, call in calls.items():
        try:
            call()
            print(name, 'did not raise')
        except ray_hixl.Closed as error:
            print(name, str(error))
    engine.release(metadata); peer.close(); region.close(); engine.close()
    sys.stdout.flush()
    sys.exit(0)
print('child', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(region.open, engine.stats()['objects'] >= 1, peer.read(batch), sound())
"""
    ).splitlines()
    names = [line.split()[0] for line in said[:-2]]
    assert names == ["register", "empty", "connect", "publish", "fetch", "region", "prepare", "read", "path", "targets", "stats"]
    assert all("fork" in line for line in said[:-2]), said
    assert said[-2:] == ["child 0", "True True None True"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts another /dev/shm, which root may")
def test_a_small_dev_shm_does_not_matter(engine: ray_hixl.Engine) -> None:
    """As containers have it: arenas are memfds, which its size does not bound. Read from there, and read there."""
    small = 'mount -t tmpfs -o size=64k small /dev/shm && exec "$@"'
    other = Other(prefix=["unshare", "--mount", "sh", "-c", small, "sh"])
    nbytes = 16 << 20
    other.run(
        "import os; engine = ray_hixl.Engine(); arena = engine.empty(len(given)); memoryview(arena)[:] = given", given=pattern(nbytes, 1)
    )
    assert other.get("os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize") == 64 << 10
    fetch = engine.fetch(other.get("engine.publish([arena])"))
    assert fetch.result()[0].numpy().tobytes() == pattern(nbytes, 1)
    assert fetch.bytes_by_transport() == {"shm": nbytes}
    mine = engine.empty(nbytes)
    memoryview(mine)[:] = pattern(nbytes, 2)
    arrived = other.get("bytes(memoryview(engine.fetch(metadata).result()[0]))", metadata=engine.publish([mine]))
    assert arrived == pattern(nbytes, 2)
    other.close()
