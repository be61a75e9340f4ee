"""An owner that a test plays: it has a key and a handshake like any engine, and says then what a script tells it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

from wire import handshake
from wire.connection import Connection, HungUp
from wire.descriptors import EngineDescriptor
from wire.handshake import Hello

Script = Callable[[Connection, Hello], None]


class Impostor:
    """Listens on an abstract Unix socket and on TCP, and runs the script for each connection whose handshake is done, in its thread.

    Connections stay open until the script closes them or the impostor goes.
    """

    def __init__(self, like: EngineDescriptor, script: Script) -> None:
        """``like``: where host and namespaces are taken from."""
        self._script = script
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._unix = socket.socket(socket.AF_UNIX)
        name = b"impostor-" + os.urandom(8).hex().encode()
        self._unix.bind(b"\0" + name)
        self._unix.listen(64)
        port = self._tcp.getsockname()[1]
        fresh = {"incarnation": os.urandom(16), "key": os.urandom(32), "pid": os.getpid()}
        self.descriptor = replace(like, unix_name=name, host="127.0.0.1", port=port, **fresh)
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._connections: list[Connection] = []
        for listener in (self._tcp, self._unix):
            self._begin(self._accept, listener)

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._tcp, self._unix, *(connection.socket for connection in self._connections)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.close()
        self._tcp.close()
        self._unix.close()
        if self.errors:
            raise self.errors[0]

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            connection = Connection(accepted)
            self._connections.append(connection)
            self._begin(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        try:
            with contextlib.suppress(HungUp, OSError):
                hello = connection.exactly(handshake.HELLO_BYTES)
                challenge = handshake.challenge(self.descriptor.key, hello, os.urandom(32))
                connection.send(challenge)
                assert connection.exactly(handshake.PROOF_BYTES) == handshake.proof(self.descriptor.key, hello, challenge)
                self._script(connection, Hello.unpack(hello))
        except BaseException as error:
            self.errors.append(error)
