"""Owners that have a key and then lie in their first words: the reader does not connect, takes no descriptor, and goes on."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from attacked import Attacked, look_at
from owners import (
    BASE,
    HANDLE,
    LENGTH,
    AttackedReader,
    false_memory,
    memory,
    pipe,
    says,
    welcome,
)

import wire
from wire import (
    Connection,
    EngineDescriptor,
    Frame,
    HungUp,
    Impostor,
    RegionDescriptor,
    Transport,
    Type,
    frames,
)


def test_generation_tables_that_are_none(victim: Attacked, reader: AttackedReader, table_bytes: int) -> None:
    with reader.unharmed(victim):
        for name, make in false_memory(table_bytes).items():
            with Impostor(victim.descriptor, says(welcome(generations=True), [make])) as impostor:
                code, message, _ = reader.connect(impostor.descriptor)
            assert code == "connect_error", (name, code, message)
        with Impostor(victim.descriptor, says(welcome(generations=True), [lambda: memory(table_bytes)])) as impostor:
            assert reader.connect(impostor.descriptor)[0] == "ok"


def test_descriptors_that_no_welcome_announces(victim: Attacked, reader: AttackedReader, table_bytes: int) -> None:
    """None where one was promised, many, some beside a welcome without, some that come alone; over TCP none can."""

    def good() -> int:
        return memory(table_bytes)

    with_one, without = welcome(generations=True), welcome()
    scripts = [says(with_one), says(with_one, [good] * 2), says(with_one, [good] * 16), says(without, [good]), says(without, [pipe] * 16)]
    for count in (0, 2, 16, 17, 0xFFFF):
        scripts.append(says(Frame(Type.WELCOME, 0, with_one.body, descriptors=count), [good]))
    scripts.append(says(with_one.pack()[:1], [good] * 16))
    scripts.append(lambda connection, _: [connection.send(bytes([byte]), [0] * 8) for byte in with_one.pack()] and None)
    with reader.unharmed(victim):
        for number, script in enumerate(scripts):
            with Impostor(victim.descriptor, script) as impostor:
                code, message, _ = reader.connect(impostor.descriptor, timeout=2.0)
            assert code == "connect_error", (number, code, message)
        with Impostor(victim.descriptor, says(with_one)) as impostor:
            assert reader.connect(impostor.descriptor.tcp_only())[0] == "connect_error"


def test_descriptors_before_the_welcome(victim: Attacked, reader: AttackedReader) -> None:
    """With every byte of the challenge, and between: a client takes none before the handshake's end."""
    server = socket.socket(socket.AF_UNIX)
    name = b"attack-" + os.urandom(8).hex().encode()
    server.bind(b"\0" + name)
    server.listen(8)
    descriptor = EngineDescriptor(
        os.urandom(16),
        os.urandom(32),
        victim.descriptor.boot_id,
        victim.descriptor.pid_namespace,
        victim.descriptor.network_namespace,
        1,
        name,
        "",
        0,
    )

    def serve() -> None:
        accepted, _ = server.accept()
        with Connection(accepted) as connection, contextlib.suppress(HungUp):
            hello = connection.exactly(wire.HELLO_BYTES)
            for byte in wire.handshake.challenge(descriptor.key, hello, bytes(32)):
                connection.send(bytes([byte]), [0] * 16)
            assert connection.is_hung_up(patience=2.0) or True
            most.append(look_at(reader.pid).descriptors)

    most: list[int] = []
    with reader.unharmed(victim):
        before = look_at(reader.pid).descriptors
        thread = threading.Thread(target=serve)
        thread.start()
        assert reader.connect(descriptor, timeout=1.0)[0] == "connect_error"
        thread.join()
        assert most[0] - before < 16
    server.close()


def test_welcomes_that_lie(victim: Attacked, reader: AttackedReader) -> None:
    """About the process, its transports and their details; twice; followed by anything."""
    body = welcome().body
    cma = (Transport.CMA, struct.pack("<Q", BASE) + bytes(16))
    good = welcome()
    refused: list[bytes] = [
        Frame(Type.WELCOME, 1, body).pack()[:40],
        good.pack(0), good.pack(15), good.pack(0xFFFFFFFF),
        Frame(Type.WELCOME, 0, body[:-1]).pack(), Frame(Type.WELCOME, 0, body + b"x").pack(),
        Frame(Type.WELCOME, 0, body[:17] + b"\xff" + body[18:]).pack(),
        Frame(Type.WELCOME, 0, body[:16] + b"\x02" + body[17:]).pack(),
        Frame(Type.WELCOME, 0, body[:18] + struct.pack("<BI", 3, 0xFFFFFFFF)).pack(),
        frames.segment_retired(1).pack(), frames.resolved(1, []).pack(), frames.failure(0, 1, "no").pack(), Frame(999, 0).pack(),
        b"",
    ]  # fmt: skip
    with reader.unharmed(victim):
        for said in refused:
            with Impostor(victim.descriptor, says(said)) as impostor:
                code, message, _ = reader.connect(impostor.descriptor, timeout=0.3 if len(said) < 48 else 20.0)
            assert code == "connect_error", (said.hex(), message)
        for pid in (0, 1, reader.pid, victim.pid, 0x7FFFFFFF, 0xFFFFFFFF):
            with Impostor(victim.descriptor, says(welcome([cma, (Transport.SHM, b"x")], pid=pid))) as impostor:
                code, message, _, data = reader.read(impostor, timeout=2.0, transports=["cma"])
            assert code in ("not_available", "connect_error", "peer_gone"), (pid, code, message)
            assert data == b"\xee" * LENGTH
        for kinds in ([(9, b"?")] * 16, [(Transport.STREAM, bytes(65536))], [(Transport.CMA, b"")], [(Transport.CMA, bytes(65536))]):
            with Impostor(victim.descriptor, says(welcome(kinds))) as impostor:
                assert reader.connect(impostor.descriptor, timeout=5.0)[0] in ("ok", "connect_error")


_FOREIGN = """
import fcntl, os, sys
import encodings.idna
from wire import EngineDescriptor, Impostor, Transport, frames
os.setgid(65534); os.setuid(65534)
like = EngineDescriptor.unpack(bytes.fromhex(sys.argv[1]))
requests = []
def script(connection, hello):
    table = os.memfd_create("table", os.MFD_ALLOW_SEALING)
    os.ftruncate(table, int(sys.argv[3]))
    fcntl.fcntl(table, fcntl.F_ADD_SEALS, 0x17)
    with_table = sys.argv[2] == "with"
    connection.send(frames.welcome(os.getpid(), 0, with_table, [(Transport.SHM, b""), (Transport.CMA, bytes(24))]), [table] * with_table)
    requests.append(connection.frame().type)
with Impostor(like, script) as impostor:
    print(impostor.descriptor.pack().hex(), flush=True)
    sys.stdin.read()
print(requests)
"""
"""An owner of user nobody's that says it is root."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("table", ["with", "without"])
def test_an_owner_of_another_user(victim: Attacked, reader: AttackedReader, table_bytes: int, table: str) -> None:
    """Who it is says the kernel, not its welcome: no address and no memory of it is used, and no descriptor taken."""
    shared = Path(__file__).parent.parent / "shared"
    with reader.unharmed(victim):
        foreign = subprocess.Popen(
            [sys.executable, "-c", _FOREIGN, victim.raw.hex(), table, str(table_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(shared)},
        )
        assert foreign.stdout is not None
        descriptor = EngineDescriptor.unpack(bytes.fromhex(foreign.stdout.readline()))
        region = RegionDescriptor(descriptor.incarnation, HANDLE, LENGTH)
        given: Any = (descriptor.pack(), region.pack(), 5.0, ["shm", "cma"])
        code, message, _, _ = reader.owner.get("read(*given)", given=given)
        said, _ = foreign.communicate()
    assert said == "[]\n", "it was asked for addresses"
    if table == "with":
        assert code == "connect_error", message  # what it passed was not taken
    else:
        assert code == "not_available", message
        assert "another user" in message
