"""Helper: another process of ours that does what it is told. Whatever may crash, hang or change a process for good (CANN, torch_npu, HIXL)
happens there, so that a report comes out in any case.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

# The import of torch itself fails where torch_npu is installed without CANN: torch_npu comes when a function asks for it.
# HIXL itself is tried, and nothing in its place.
_ENVIRONMENT = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "RAY_HIXL_TRANSPORTS": "local,shm,cma,stream,hixl"}
_GOODBYE_S = 20.0
_TAIL = 2000  # characters of what a helper printed that go into an error


class HelperError(Exception):
    """What a helper raised, or how it ended.

    :ivar code: the error's stable name (``peer_gone``), its class where it has none, or ``died``, ``hung``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_about_one_npu(self) -> bool:
        """Two processes were refused since they use one NPU."""
        return self.code == "not_available" and "both processes use NPU" in str(self)


class Helper:
    """Runs functions of this package's modules, named like "peer.fetch", in a process of its own, one at a time. Ended by its pid.

    A context manager.

    :param environment: variables set on top of this process's; None takes one away.
    """

    def __init__(self, environment: Mapping[str, str | None] | None = None) -> None:
        here, there = socket.socketpair()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # CANN prints a lot at times; closed by close()
        variables = {**os.environ, **_ENVIRONMENT, **(environment or {})}
        with there:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env={name: text for name, text in variables.items() if text is not None},
            )
        self._connection = Connection(here.detach())

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self, function: str, *arguments: Any) -> None:
        """Begins a call; ``finish`` waits for it. One at a time."""
        with contextlib.suppress(BrokenPipeError):  # finish() says how it ended
            self._connection.send((function, arguments))

    def finish(self, timeout: float = 60.0) -> Any:
        """What the call gives. :raises HelperError: it failed, the process died, or ``timeout`` seconds were not enough (it is killed)."""
        end = time.monotonic() + timeout
        try:
            while not self._connection.poll(0.05):
                if time.monotonic() > end:
                    self.kill()
                    raise HelperError("hung", f"no answer within {timeout:g} s; the process was ended{self._said()}")
            value, error = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise HelperError("died", self._how_it_ended()) from None
        if error is not None:
            raise HelperError(*error)
        return value

    def call(self, function: str, *arguments: Any, timeout: float = 60.0) -> Any:
        """Both."""
        self.start(function, *arguments)
        return self.finish(timeout)

    def kill(self) -> None:
        """At once, without a chance to clean up."""
        self.process.kill()
        self.process.wait()

    def close(self) -> str:
        """Lets it end by itself, for a while. Gives what is wrong with how it ended; empty if nothing."""
        self._connection.close()
        try:
            self.process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            problem = f"it did not end within {_GOODBYE_S:g} s and was killed"
        else:
            problem = "" if self.process.returncode == 0 else self._how_it_ended()
        self._output.close()
        return problem

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"the process stopped answering{self._said()}"
        if code < 0:
            return f"the process was ended by {signal.Signals(-code).name}{self._said()}"
        return f"the process ended with code {code}{self._said()}"

    def _said(self) -> str:
        self._output.seek(0)
        text = self._output.read().decode(errors="replace").strip()
        return f"; it printed: {text[-_TAIL:]}" if text else ""


def _describe(error: BaseException) -> tuple[str, str]:
    return getattr(error, "code", None) or type(error).__name__, str(error) or type(error).__name__


def _run(name: str, arguments: tuple[Any, ...]) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(f"ray_hixl.cli.npu.{module}"), function)(*arguments)


def serve(descriptor: int) -> None:
    """The helper's side: until the other side hangs up."""
    faulthandler.enable()
    connection = Connection(descriptor)
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, Any] = (_run(function, arguments), None)
        except Exception as error:
            answer = (None, _describe(error))
        connection.send(answer)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
