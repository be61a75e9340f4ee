"""A forked child: what it can still read, what it cannot call, and the engine of its own that it can make."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import ray_hixl
from support import Owner, run_python

# Programs run in an interpreter of their own. in_child(check) forks: the child waits for tell(bytes), and is sound if check(bytes) is.
PROGRAM = """
import os, signal, sys, threading, time, ray_hixl
from waiting import eventually, stop

class Child:
    def __init__(self, check):
        reads, self._writes = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writes)
            signal.alarm(60)
            told = b''
            while part := os.read(reads, 65536):
                told += part
            sound = False
            try:
                sound = check(told)
            finally:
                sys.stdout.flush()
                os._exit(0 if sound else 1)
        os.close(reads)

    def passes(self, told=b''):
        os.write(self._writes, told)
        os.close(self._writes)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]) == 0

def closed(call):
    begin = time.monotonic()
    try:
        call()
    except ray_hixl.Closed as error:
        return 'fork' in str(error) and time.monotonic() - begin < 5
    return False

def content(tensor): return bytes(memoryview(tensor))
"""


@pytest.mark.parametrize("transports", [None, "cma", "stream"])
def test_reads_its_parent_as_it_is_now(transports: str | None) -> None:
    """By an engine of its own: what the parent wrote and published after the fork."""
    said = run_python(
        PROGRAM
        + f"""
engine = ray_hixl.Engine()
memory = bytearray(b'old!' * 1024)
region = engine.register(memory)
descriptor, described = engine.descriptor, region.descriptor

def check(late):
    own = ray_hixl.Engine(ray_hixl.Options(transports={transports!r}) if {transports!r} else None)
    peer = own.connect(descriptor)
    remote, here = peer.region(described), bytearray(4096)
    print(peer.path('host', remote).transport)
    peer.read([(own.register(here), 0, remote, 0, 4096)])
    fetched = own.fetch(late).result()[0]
    own.close()
    return here == b'new!' * 1024 and content(fetched) == b'late' * 100

child = Child(check)
memory[:] = b'new!' * 1024
print(child.passes(engine.publish([b'late' * 100])))
"""
    ).split()
    assert said[0] in ([transports] if transports else ["cma", "stream"])
    assert said[1] == "True"


def test_reads_the_source_arena_of_its_parent() -> None:
    said = run_python(
        PROGRAM
        + """
engine = ray_hixl.Engine()
buffer = engine.empty(4096)
memoryview(buffer)[:] = b'old!' * 1024
descriptor, described = engine.descriptor, buffer.region.descriptor

def check(_):
    own = ray_hixl.Engine()
    peer = own.connect(descriptor)
    remote, here = peer.region(described), bytearray(4096)
    print(peer.path('host', remote).transport)
    peer.read([(own.register(here), 0, remote, 0, 4096)])
    return here == b'new!' * 1024

child = Child(check)
memoryview(buffer)[:] = b'new!' * 1024
print(child.passes())
"""
    )
    assert said == "shm\nTrue\n"


def test_received_tensors_do_not_change_in_the_child() -> None:
    """The parent lets its own go, fetches and makes others, for as long as the child looks."""
    said = run_python(
        PROGRAM
        + """
engine, source = ray_hixl.Engine(), ray_hixl.Engine()
def fetch(byte): return engine.fetch(source.publish([bytes([byte]) * (1 << 20)])).result()[0]
def make(byte):
    made = source.empty(1 << 20)
    memoryview(made)[:] = bytes([byte]) * (1 << 20)
    return made

received, made = fetch(1), make(1)
child = Child(lambda _: content(received) == content(made) == bytes([1]) * (1 << 20))
del received, made
# Another thread lets go of what was shown: until then its segment is shared with what comes.
eventually(lambda: source.stats()['source']['live_blocks'] == 0)
others = [(fetch(2), make(2)) for _ in range(70)]
print(child.passes(), engine.stats()['landing']['retained_bytes'], source.stats()['source']['retained_bytes'])
"""
    )
    assert said == "True 0 0\n"  # each segment went with its last block


def test_retained_memory_is_counted_and_bounded() -> None:
    said = run_python(
        PROGRAM
        + """
engine, source = ray_hixl.Engine(), ray_hixl.Engine()
held = engine.fetch(source.publish([bytes(1 << 20)] * 64)).result()
most = 0
for _ in range(100):
    more = engine.fetch(source.publish([bytes(1 << 20)] * 4)).result()
    assert Child(lambda _: True).passes()
    most = max(most, engine.stats()['landing']['mapped_bytes'])
    del more
print(most >> 20)
live = engine.stats()['landing']
print(live['retained_bytes'] <= live['mapped_bytes'] - live['used_bytes'], live['used_bytes'] >> 20)
"""
    ).split()
    assert int(said[0]) <= 128
    assert said[1:] == ["True", "64"]


def test_subprocess_retains_nothing(engine: ray_hixl.Engine) -> None:
    source = bytes(1 << 20)
    metadata = engine.publish([source])
    kept = engine.fetch(metadata).result()  # so that the segment stays
    for _ in range(3):
        received = engine.fetch(metadata).result()
        subprocess.run([sys.executable, "-c", ""], check=True)
        os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ), 0)
        del received
    landing = engine.stats()["landing"]
    assert landing["retained_bytes"] == 0
    assert landing["recycled"] >= 2
    del kept


def test_transfers_under_way_end_at_once_in_the_child(new_owner) -> None:  # type: ignore[no-untyped-def]
    owner: Owner = new_owner(options={"transports": "stream"})
    metadata = owner.get("engine.publish([bytes(1 << 20)])")
    program = (
        PROGRAM
        + """
engine = ray_hixl.Engine(ray_hixl.Options(transports='stream', stall_timeout_s=60))
metadata = bytes.fromhex(sys.argv[1])
owner = int(sys.argv[2])
assert engine.fetch(metadata).result()
stop(owner)
fetch = engine.fetch(metadata, timeout=60)
def check(_):
    right = closed(fetch.wait) and closed(fetch.result) and fetch.done
    fetch.cancel()
    return right and closed(engine.stats)
sound = Child(check).passes()
os.kill(owner, signal.SIGCONT)
print(sound, fetch.wait())
"""
    )
    assert run_python(program, metadata.hex(), str(owner.pid)) == "True True\n"


def test_the_engine_of_the_process_is_another_one_in_a_child() -> None:
    """The child's own fetches from the parent's, and neither closes, counts or registers for the other."""
    said = run_python(
        PROGRAM
        + """
import torch
from ray_hixl import process
from ray_hixl.process import engine
tensor = torch.arange(1000.)
ray_hixl.register_memory(tensor)
metadata = engine().publish([tensor])
parents = engine().descriptor

def check(_):
    before = ray_hixl.stats()
    own = engine()
    fetched = own.fetch(metadata).result()[0]
    right = before['fetched'] == {} and own.descriptor != parents and torch.equal(fetched, tensor)
    ray_hixl.register_memory(tensor)
    ray_hixl.deregister_memory(tensor)
    ray_hixl.shutdown()
    return right

print(Child(check).passes(), Child(check).passes(), engine().stats()['objects'], engine().stats()['regions'])
"""
    )
    assert said == "True True 1 1\n"


def test_the_lock_of_the_process_is_free_in_a_child() -> None:
    said = run_python(
        PROGRAM
        + """
from ray_hixl import process
with process._lock:
    child = Child(lambda _: ray_hixl.stats()['ray'] is not None and process.engine() is not None)
print(child.passes())
"""
    )
    assert said == "True\n"


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_of_a_data_loader_read_received_tensors(workers: int) -> None:
    """Forked ones, while their parent lets the tensors go and fetches others into what it has."""
    said = run_python(
        PROGRAM
        + f"""
import torch
from torch.utils.data import DataLoader, Dataset
torch.set_num_threads(1)
engine, source = ray_hixl.Engine(), ray_hixl.Engine()

class Received(Dataset):
    def __init__(self, value): self.tensors = engine.fetch(source.publish([torch.full((1 << 16,), value)] * 40)).result()
    def __len__(self): return 40
    def __getitem__(self, index): return self.tensors[index].clone()

kept = engine.fetch(source.publish([torch.zeros(1 << 16)])).result()
for epoch in range(3):
    data = Received(float(epoch + 1))
    batches = iter(DataLoader(data, batch_size=4, num_workers={workers}, multiprocessing_context='fork'))
    data.tensors = []  # the workers have theirs
    for batch in batches:
        others = engine.fetch(source.publish([torch.full((1 << 16,), -1.)] * 8)).result()
        assert batch.eq(epoch + 1).all(), batch
print(engine.stats()['landing']['retained_bytes'] > 0)
""",
        environment={"PYTHONWARNINGS": "ignore"},  # torch's, of more workers than cores
    )
    assert said == "True\n"
