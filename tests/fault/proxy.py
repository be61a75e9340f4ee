"""Proxy between a reader and an owner: passes everything on, descriptors too, and at one message stands still or does harm."""

from __future__ import annotations

import array
import ctypes
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import protocol
from protocol import Message, Splitter

from wire import EngineDescriptor

_CHUNK = 256 * 1024
_PATIENCE_S = 60.0
_SETRESUID = {"x86_64": 117, "aarch64": 147}[os.uname().machine]
_NOBODY = bytes(16)  # an address of no family: connecting to it resets the connection
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Point:
    """A message on its way: ``down`` to the reader or up to the owner; of the payload, what comes behind ``skip`` bytes."""

    message: str
    down: bool
    data: bool = False  # on a data connection, not the control connection
    skip: int = 0


@dataclass
class Gate:
    """The first message at a point waits here until it may go on."""

    point: Point
    harm: Callable[[Pair, Message], bool] | None = None  # what happens then; True: the message still goes on
    reached: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)


class Pair:
    """One connection of the reader, and the proxy's own to the owner."""

    def __init__(self, reader: socket.socket, owner: socket.socket) -> None:
        self.reader = reader
        self.owner = owner
        self.is_data = False
        self.deaf: set[str] = set()  # sides that hear nothing any more, and are not told
        self.pause_s = {True: 0.0, False: 0.0}  # before each piece, by direction
        self.pieces = {True: 1, False: 1}  # that each message goes on in

    def end(self, side: str) -> socket.socket:
        return self.reader if side == "reader" else self.owner

    def close(self, side: str, reset: bool = False) -> None:
        """Ends the connection of a side; with a reset where the socket has such."""
        end = self.end(side)
        with suppress(OSError):  # it is closed already
            if reset and end.family != socket.AF_UNIX:
                _libc.connect(end.fileno(), _NOBODY, len(_NOBODY))  # also where another thread waits on it
            end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Listens where a descriptor that it makes says, for the owner of another one."""

    def __init__(self, descriptor: bytes, over_unix: bool, gate: Gate | None, uid: int) -> None:
        """``uid``: the user that peers on a Unix socket take it for."""
        self.gate = gate
        self._uid = uid
        self._owner = EngineDescriptor.unpack(descriptor)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.pairs: list[Pair] = []
        self._closed = False
        tcp = socket.create_server(("127.0.0.1", 0))
        self._listeners = [tcp]
        name = b""
        if over_unix:
            name = b"ray-hixl-fault-" + os.urandom(12).hex().encode()
            unix = socket.socket(socket.AF_UNIX)
            unix.bind(b"\0" + name)
            with _as_user(uid):
                unix.listen(64)
            self._listeners.append(unix)
        self.descriptor = protocol.past(descriptor, name, *tcp.getsockname())
        self._wake, self._woken = socket.socketpair()
        self._run(self._accept)

    def close(self) -> None:
        """Ends every connection."""
        self._closed = True
        self._wake.send(b"x")
        if self.gate:
            self.gate.resume.set()
        for pair in self.pairs:
            for side in ("reader", "owner"):
                pair.close(side)
        for thread in self._threads:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive(), "the proxy does not end"
        for each in (*self._listeners, self._wake, self._woken, *(end for pair in self.pairs for end in (pair.reader, pair.owner))):
            each.close()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (*self._listeners, self._woken):
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken or self._closed:
                        return
                    assert isinstance(key.fileobj, socket.socket)
                    self._join(key.fileobj.accept()[0])

    def _join(self, reader: socket.socket) -> None:
        owner = socket.socket(reader.family)
        try:
            with _as_user(self._uid):
                owner.connect(b"\0" + self._owner.unix_name if reader.family == socket.AF_UNIX else (self._owner.host, self._owner.port))
        except OSError:
            reader.close()
            owner.close()
            return
        pair = Pair(reader, owner)
        self.pairs.append(pair)
        self._run(self._pump, pair, False)
        self._run(self._pump, pair, True)

    def _pump(self, pair: Pair, down: bool) -> None:
        from_side, to_side = ("owner", "reader") if down else ("reader", "owner")
        splitter = Splitter(down)
        passed = 0
        try:
            while True:
                data, descriptors = _receive(pair.end(from_side))
                if not data:
                    break
                for message in splitter.feed(data, descriptors):
                    pair.is_data |= splitter.is_data
                    if message.name == "payload":
                        passed += len(message.data)
                    if self._stands(pair, down, message, passed):
                        self._send(pair, down, to_side, message)
                    for descriptor in message.descriptors:
                        os.close(descriptor)
        except OSError:
            pass  # one of the two ended
        if to_side not in pair.deaf:
            pair.close(to_side)
        if from_side not in pair.deaf:
            pair.close(from_side)

    def _stands(self, pair: Pair, down: bool, message: Message, passed: int) -> bool:
        """Waits at the gate if this is the place. Does the message go on?"""
        gate = self.gate
        if gate is None or gate.point.message != message.name or gate.point.down != down or gate.point.data != pair.is_data:
            return True
        with self._lock:
            if gate.reached.is_set() or passed < gate.point.skip:
                return True
            gate.reached.set()
        gate.resume.wait(_PATIENCE_S)
        return gate.harm is None or gate.harm(pair, message)

    def _send(self, pair: Pair, down: bool, side: str, message: Message) -> None:
        if side in pair.deaf:
            return
        if message.descriptors:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", message.descriptors))]
            sent = pair.end(side).sendmsg([message.data], rights)
            message.data = message.data[sent:]
        step = max(len(message.data) // pair.pieces[down], 1)
        for start in range(0, len(message.data), step):
            time.sleep(pair.pause_s[down])
            pair.end(side).sendall(message.data[start : start + step])


@contextmanager
def _as_user(uid: int) -> Iterator[None]:
    """This thread alone, whatever libc thinks of it."""
    before = os.geteuid()
    try:
        assert uid == before or _libc.syscall(_SETRESUID, -1, uid, -1) == 0
        yield
    finally:
        assert uid == before or _libc.syscall(_SETRESUID, -1, before, -1) == 0


def _receive(end: socket.socket) -> tuple[bytes, list[int]]:
    if end.family != socket.AF_UNIX:
        return end.recv(_CHUNK), []
    data, rights, _, _ = end.recvmsg(_CHUNK, socket.CMSG_SPACE(64))
    descriptors = array.array("i")
    for _, _, packed in rights:
        descriptors.frombytes(packed)
    return data, list(descriptors)
