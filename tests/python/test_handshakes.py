"""Strangers at the engine's TCP port: whatever they send, they are refused and counted, and the engine goes on."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import struct
from collections.abc import Callable

import numpy as np
import pytest

import ray_hixl
from support import Owner, eventually
from wire import handshake

PREFIX = b"RHXL" + struct.pack("<HBB", 2, 1, 0)
HELLO = PREFIX + bytes([1, 0]) + bytes(16) + bytes(16) + bytes(32) + bytes(8)
CHANCE = random.Random(4)
STRANGERS = {
    "hangs up at once": b"",
    "one byte": b"R",
    "garbage": CHANCE.randbytes(500),
    "zeros": bytes(500),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "magic alone": b"RHXL",
    "another version": b"RHXL" + struct.pack("<HBB", 9, 1, 0) + HELLO[8:],
    "another step": b"RHXL" + struct.pack("<HBB", 2, 2, 0) + HELLO[8:],
    "unknown purpose": PREFIX + bytes([77]) + HELLO[9:],
    "unknown transport": PREFIX + bytes([2, 99]) + HELLO[10:],
    "cut hello": HELLO[:-1],
    "hello for another engine": HELLO,
    "hello and more": HELLO + bytes(1000),
    "a megabyte": PREFIX + CHANCE.randbytes(1 << 20),
}


def port_of(pid: int, host: str = "0100007F") -> int:
    """The TCP port that a process listens on, as the kernel has it."""
    with open(f"/proc/{pid}/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    listening = {row[9]: int(row[1].partition(":")[2], 16) for row in rows if row[3] == "0A" and row[1].startswith(host)}
    inodes = set(re.findall(r"socket:\[(\d+)\]", "".join(_links(pid))))
    (port,) = [port for inode, port in listening.items() if inode in inodes]
    return port


def _links(pid: int) -> list[str]:
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return links


def refused(owner: Owner) -> int:
    count: int = owner.get("engine.stats()['handshakes_refused']")
    return count


def fetch_works(owner: Owner) -> bool:
    metadata = owner.get("engine.publish([b'abc'])")
    with ray_hixl.Engine() as engine:
        peer = engine.connect(ray_hixl._core.tcp_only(owner.descriptor))
        peer.close()
        return np.asarray(engine.fetch(metadata).result()[0]).tobytes() == b"abc"


def test_the_port_is_the_one_in_errors(owner: Owner) -> None:
    before = refused(owner)
    with ray_hixl.Engine() as engine, pytest.raises(ray_hixl.ConnectError, match=rf"127\.0\.0\.1:{port_of(owner.pid)}"):
        engine.connect(owner.descriptor[:22] + bytes(32) + owner.descriptor[54:])
    eventually(lambda: refused(owner) == before + 1)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_stranger(owner: Owner, stranger: str) -> None:
    before = refused(owner)
    with socket.create_connection(("127.0.0.1", port_of(owner.pid)), timeout=5.0) as connection:
        try:
            connection.sendall(STRANGERS[stranger])
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError as error:  # it hung up before everything was sent
            if isinstance(error, TimeoutError):
                raise
            answer = b""
    # Who does not know the incarnation learns no more than that it is another one.
    assert answer == (handshake.OTHER if stranger == "hello for another engine" else b"")
    eventually(lambda: refused(owner) == before + 1)
    assert fetch_works(owner)


def test_hello_without_the_key(owner: Owner) -> None:
    """Who knows the incarnation gets a challenge, and cannot answer it."""
    before = refused(owner)
    with socket.create_connection(("127.0.0.1", port_of(owner.pid)), timeout=5.0) as connection:
        connection.sendall(HELLO[:26] + owner.descriptor[6:22] + HELLO[42:])
        challenge = connection.recv(4096)
        assert challenge[:8] == b"RHXL" + struct.pack("<HBB", 2, 2, 0)
        assert len(challenge) == 72
        connection.sendall(b"RHXL" + struct.pack("<HBB", 2, 3, 0) + bytes(32))
        assert connection.recv(4096) == b""
    eventually(lambda: refused(owner) == before + 1)
    assert owner.get("engine.stats()['sessions']") == 0
    assert fetch_works(owner)


def test_replay_of_a_challenge(owner: Owner) -> None:
    """Every challenge is another one."""
    seen = set()
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", port_of(owner.pid)), timeout=5.0) as connection:
            connection.sendall(HELLO[:26] + owner.descriptor[6:22] + HELLO[42:])
            seen.add(connection.recv(4096))
    assert len(seen) == 8


def test_silence_is_not_waited_for_longer_than_the_option_says(new_owner: Callable[..., Owner]) -> None:
    owner = new_owner(options={"connect_timeout_s": 0.3})
    with socket.create_connection(("127.0.0.1", port_of(owner.pid)), timeout=5.0) as silent:
        silent.sendall(HELLO[:20])
        assert fetch_works(owner)  # meanwhile
        assert silent.recv(10) == b""
    assert refused(owner) == 1


def test_many_strangers_at_once(owner: Owner) -> None:
    before = refused(owner)
    port = port_of(owner.pid)
    connections = [socket.create_connection(("127.0.0.1", port), timeout=5.0) for _ in range(200)]
    assert fetch_works(owner)
    for connection in connections:
        connection.close()
    eventually(lambda: refused(owner) == before + 200)
    assert fetch_works(owner)


def test_random_openings(owner: Owner) -> None:
    """Altered and cut hellos of the right incarnation."""
    hello = HELLO[:26] + owner.descriptor[6:22] + HELLO[42:]
    before = refused(owner)
    for _ in range(150):
        changed = bytearray(hello[: CHANCE.randrange(1, len(hello) + 1)])
        for _ in range(CHANCE.randrange(4)):
            changed[CHANCE.randrange(len(changed))] ^= 1 << CHANCE.randrange(8)
        with socket.create_connection(("127.0.0.1", port_of(owner.pid)), timeout=5.0) as connection:
            connection.sendall(changed)
    eventually(lambda: refused(owner) == before + 150)
    assert fetch_works(owner)
