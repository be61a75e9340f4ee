"""A connection that speaks the protocol as well or as badly as a test wants. Everything gives up after ``patience`` seconds."""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Iterable

from wire import handshake
from wire.descriptors import EngineDescriptor
from wire.frames import HEADER_BYTES, Frame
from wire.handshake import Hello

PATIENCE_S = 30.0
_MOST_FDS = 64


class HungUp(Exception):
    """The other side closed the connection."""


class Connection:
    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        made.settimeout(PATIENCE_S)
        self._held = b""
        self._fds: list[int] = []

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # also ends a send of another thread, which would keep it open
        self.socket.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def send(self, data: bytes | Frame, fds: Iterable[int] = ()) -> None:
        """Descriptors go with the first byte."""
        raw = data.pack() if isinstance(data, Frame) else data
        passed = array.array("i", fds)
        try:
            if passed:
                sent = self.socket.sendmsg([raw], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
                raw = raw[sent:]
            self.socket.sendall(raw)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise HungUp from error

    def exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            self._receive()
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def frame(self) -> Frame:
        """The next frame, with the descriptors that came by its end."""
        header = self.exactly(HEADER_BYTES)
        size = Frame.size_of(header)
        assert size is not None
        frame = Frame.unpack(header + self.exactly(size - HEADER_BYTES))
        frame.fds, self._fds = self._fds, []
        return frame

    def is_hung_up(self, patience: float = PATIENCE_S) -> bool:
        """Waits for the other side to hang up; what it says meanwhile is dropped."""
        self.socket.settimeout(patience)
        try:
            while True:
                self._held = b""
                self._receive()
        except HungUp:
            return True
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(PATIENCE_S)

    def says_nothing(self, seconds: float) -> bool:
        """Is it silent, and the connection open, for so long?"""
        self.socket.settimeout(seconds)
        try:
            self._receive()
        except TimeoutError:
            return True
        except HungUp:
            return False
        finally:
            self.socket.settimeout(PATIENCE_S)
        return False

    def _receive(self) -> None:
        try:
            data, control, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(4 * _MOST_FDS))
        except ConnectionResetError as error:
            raise HungUp from error
        for _, kind, passed in control:
            if kind == socket.SCM_RIGHTS:
                self._fds += array.array("i", passed)
        if not data:
            raise HungUp
        self._held += data


def connect(to: EngineDescriptor, over_unix: bool) -> Connection:
    """A connection before its handshake."""
    made = socket.socket(socket.AF_UNIX if over_unix else socket.AF_INET)
    made.settimeout(PATIENCE_S)
    address = b"\0" + to.unix_name if over_unix else (to.host, to.port)
    try:
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return Connection(made)


def authenticate(connection: Connection, to: EngineDescriptor, hello: Hello) -> None:
    """The client's half of the handshake. HungUp if the server refuses."""
    said = hello.pack()
    connection.send(said)
    answer = connection.exactly(handshake.CHALLENGE_BYTES)
    assert handshake.is_from_server(to.key, said, answer)
    connection.send(handshake.proof(to.key, said, answer))


def is_refused(connection: Connection, data: bytes) -> bool:
    """Is the other side, told this, silent and hanging up?"""
    with contextlib.suppress(HungUp):
        connection.send(data)
    try:
        connection.exactly(1)
    except HungUp:
        return True
    return False
