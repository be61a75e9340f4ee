"""Owners that a test plays, and the reader that they attack."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence

from attacked import DATA, Attacked, look_at

from support import Owner, eventually
from wire import (
    Connection,
    EngineDescriptor,
    Frame,
    Handle,
    Hello,
    Impostor,
    Purpose,
    RegionDescriptor,
    Transport,
    frames,
)

MIB = 1 << 20
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | 0x10  # F_SEAL_FUTURE_WRITE
HANDLE = Handle(1, 1, 1)
LENGTH = 64 * 1024
BASE = 0x7F0000000000
_READER = """
import resource, time
def attempt(call):
    begin = time.monotonic()
    try:
        call()
        return "ok", "", time.monotonic() - begin
    except ray_hixl.HixlError as error:
        return error.code, str(error), time.monotonic() - begin
def connect(descriptor, timeout):
    return attempt(lambda: engine.connect(descriptor, timeout=timeout))
def read(descriptor, region, timeout, transports):
    with ray_hixl.Engine(ray_hixl.Options(transports=transports)) as own:
        into = bytearray(b"\\xee") * LENGTH
        local = own.register(into)
        def call():
            peer = own.connect(descriptor, timeout=timeout)
            peer.read([(local, 0, peer.region(region), 0, LENGTH)], timeout=timeout)
        ended = attempt(call)
        del local
    return *ended, bytes(into)
LENGTH = 64 * 1024
"""


class AttackedReader:
    """A process whose engine connects and reads where it is told to, and how that ended."""

    def __init__(self) -> None:
        self.owner = Owner(prepare=_READER)

    @property
    def pid(self) -> int:
        return self.owner.pid

    def connect(self, descriptor: EngineDescriptor, timeout: float = 20.0) -> tuple[str, str, float]:
        ended: tuple[str, str, float] = self.owner.get("connect(*given)", given=(descriptor.pack(), timeout))
        return ended

    def read(self, impostor: Impostor, timeout: float = 20.0, transports: Sequence[str] = ("stream",)) -> tuple[str, str, float, bytes]:
        region = RegionDescriptor(impostor.descriptor.incarnation, HANDLE, LENGTH)
        given = (impostor.descriptor.pack(), region.pack(), timeout, list(transports))
        ended: tuple[str, str, float, bytes] = self.owner.get("read(*given)", given=given)
        return ended

    @contextlib.contextmanager
    def unharmed(self, victim: Attacked, rss_mib: int = 24) -> Iterator[None]:
        """Afterwards it holds what it held before, and reads from a good owner."""
        assert self.owner.get("read(*given)[0]", given=(victim.raw, victim.region_raw, 20.0, ["stream"])) == "ok"
        before = look_at(self.pid)
        yield
        code, message, _, data = self.owner.get("read(*given)", given=(victim.raw, victim.region_raw, 20.0, ["stream"]))
        assert (code, data) == ("ok", DATA), message
        eventually(lambda: look_at(self.pid).descriptors <= before.descriptors, 10)
        eventually(lambda: look_at(self.pid).threads <= before.threads, 10)
        assert look_at(self.pid).rss - before.rss <= rss_mib * MIB


# ---- What an owner may pass.


def memory(size: int, seals: int = SEALS, written: bool = True) -> int:
    fd = os.memfd_create("attack", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if written:
        os.pwrite(fd, bytes(size), 0)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def elsewhere(size: int) -> int:
    """Sealed memory that has as many pages as it should, behind its end."""
    fd = os.memfd_create("attack", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    libc = ctypes.CDLL(None, use_errno=True)
    keep_size = 1
    assert libc.fallocate(fd, keep_size, ctypes.c_long(size), ctypes.c_long(size)) == 0, os.strerror(ctypes.get_errno())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def pipe() -> int:
    read_end, write_end = os.pipe()
    os.close(write_end)
    return read_end


def device() -> int:
    return os.open("/dev/zero", os.O_RDWR)


def regular(size: int) -> int:
    fd, name = tempfile.mkstemp()
    os.unlink(name)
    os.ftruncate(fd, size)
    return fd


def listener() -> int:
    return socket.create_server(("127.0.0.1", 0)).detach()


def false_memory(size: int) -> dict[str, Callable[[], int]]:
    """What is no memory of `size` bytes that nobody can write, shrink or leave out pages of."""
    return {
        "a pipe": pipe,
        "a device": device,
        "a socket": listener,
        "a regular file": lambda: regular(size),
        "an unsealed memfd": lambda: memory(size, 0),
        "one that may shrink": lambda: memory(size, SEALS & ~fcntl.F_SEAL_SHRINK & ~fcntl.F_SEAL_SEAL),
        "one that may be written": lambda: memory(size, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW),
        "a smaller one": lambda: memory(size - 4096),
        "a larger one": lambda: memory(size + 4096),
        "an empty one": lambda: memory(0),
        "one of a tebibyte": lambda: memory(1 << 40, written=False),
    }


# ---- What an owner may say.


def welcome(
    transports: Sequence[tuple[int, bytes]] = ((Transport.STREAM, b""),), generations: bool = False, pid: int | None = None
) -> Frame:
    return frames.welcome(os.getpid() if pid is None else pid, os.geteuid(), generations, list(transports))


def says(frame: Frame | bytes, fds: Sequence[Callable[[], int]] = ()) -> Callable[[Connection, Hello], None]:
    """A script that says one thing, with such descriptors, and then nothing."""

    def script(connection: Connection, _: Hello) -> None:
        made = [make() for make in fds]
        try:
            connection.send(frame, made)
        finally:
            for fd in made:
                os.close(fd)

    return script


def answers(
    answer: Callable[[Connection, Frame], None], transports: Sequence[tuple[int, bytes]], table: Callable[[], int]
) -> Callable[[Connection, Hello], None]:
    """A script: a good welcome, and then `answer` to each request."""

    def script(connection: Connection, hello: Hello) -> None:
        assert hello.purpose == Purpose.CONTROL
        says(welcome(transports, generations=True), [table])(connection, hello)
        while True:
            answer(connection, connection.frame())

    return script


def live_table(size: int) -> Callable[[], int]:
    """A generation table that calls HANDLE live."""

    def make() -> int:
        fd = os.memfd_create("table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        os.pwrite(fd, struct.pack("<Q", HANDLE.generation) * 2, 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return fd

    return make


SHM = [(Transport.SHM, b"")]


def on_data(script: Callable[[Connection, Frame], None]) -> Callable[[Connection, Hello], None]:
    """A good welcome; and the script for each read on a data connection."""

    def run(connection: Connection, hello: Hello) -> None:
        if hello.purpose == Purpose.CONTROL:
            connection.send(welcome())
            while True:
                connection.send(frames.checked(connection.frame().request))
        while True:
            script(connection, connection.frame())

    return run


class Lure:
    """Memory of this process that a reader of the same user may read: the one place where a Resolved may lead it."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(b"\x11" * LENGTH, LENGTH)
        self.token = ctypes.create_string_buffer(os.urandom(16), 16)
        self.transports = [(Transport.CMA, struct.pack("<Q", ctypes.addressof(self.token)) + self.token.raw)]

    @property
    def address(self) -> int:
        return ctypes.addressof(self.buffer)
