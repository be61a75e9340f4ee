"""Another user of this host, who stole the engine's descriptor: reads by stream what the key is for, and learns nothing of memory."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from attacked import DATA, Attacked

import wire
from support import ROOT

_SHARED = Path(__file__).parent.parent / "shared"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
_NOBODY = 65534

_SESSION = """
import os, sys
import encodings.idna
import wire
from wire import EngineDescriptor, Handle, Hello, Type, frames
os.setgid(65534); os.setuid(65534)
to = EngineDescriptor.unpack(bytes.fromhex(sys.argv[1]))
handle = Handle.unpack(bytes.fromhex(sys.argv[2]))
session = wire.connect(to, over_unix=True)
wire.authenticate(session, to, Hello(to.incarnation))
welcome = session.frame()
assert (welcome.type, welcome.descriptors, welcome.fds) == (Type.WELCOME, 0, []), welcome
requests = [frames.resolve(1, handle), *(frames.map_segment(2 + n, n) for n in range(4))]
for request in requests:
    session.send(request)
    code, message = frames.failure_of(session.frame())
    assert "same user" in message, message
print(welcome.body.hex())
"""
"""What user nobody does with it by raw frames."""


def as_nobody(program: str, *arguments: str, path: Path = _SHARED) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=90, check=False, env={"PYTHONPATH": str(path)}
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_is_told_no_address_and_given_no_memory(victim: Attacked) -> None:
    victim.owner.run("arena = engine.empty(4096)")
    arena = wire.RegionDescriptor.unpack(victim.owner.get("arena.region.descriptor")).handle
    with victim.unharmed():
        body = bytes.fromhex(as_nobody(_SESSION, victim.raw.hex(), arena.pack().hex()))
    for base in victim.owner.get("[line.split('-')[0] for line in open('/proc/self/maps')]"):
        assert struct.pack("<Q", int(base, 16))[1:6] not in body, "an address is in the welcome"


def test_reads_by_stream_alone(victim: Attacked) -> None:
    """A whole engine of nobody's: it has the key, so it may read; not by the owner's memory."""
    program = (
        "import os, sys; import encodings.idna, ray_hixl\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "with ray_hixl.Engine() as engine:\n"
        "    peer = engine.connect(bytes.fromhex(sys.argv[1]))\n"
        "    remote = peer.region(bytes.fromhex(sys.argv[2])); into = bytearray(1 << 16)\n"
        "    peer.read([(engine.register(into), 0, remote, 0, len(into))])\n"
        "    path = peer.path('host', remote)\n"
        "    print(path.transport, into.hex())\n"
        "    print(path.refused)\n"
    )
    with victim.unharmed():
        said, refused = as_nobody(program, victim.raw.hex(), victim.region_raw.hex(), path=ROOT / "python").splitlines()
    assert said == f"stream {DATA.hex()}"
    assert "another user" in refused


def test_cannot_read_the_owners_memory_by_itself(victim: Attacked) -> None:
    """What the kernel says to nobody who knows pid and address: ray-hixl has to keep no secret of them for that."""
    program = (
        "import ctypes, os, sys; os.setgid(65534); os.setuid(65534)\n"
        "libc = ctypes.CDLL(None, use_errno=True); into = ctypes.create_string_buffer(16)\n"
        "vector = lambda address: (ctypes.c_size_t * 2)(address, 16)\n"
        "got = libc.process_vm_readv(int(sys.argv[1]), vector(ctypes.addressof(into)), 1, vector(int(sys.argv[2], 16)), 1, 0)\n"
        "print(got, ctypes.get_errno())\n"
    )
    base = victim.owner.get("open('/proc/self/maps').readline().split('-')[0]")
    assert as_nobody(program, str(victim.pid), base) == "-1 1\n"
