"""What several tests need: another process with an engine, programs in a clean interpreter, waiting on conditions."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from waiting import eventually as eventually
from waiting import stop

_HERE = Path(__file__).parent
ROOT = _HERE.parent.parent
_IMPORTS = os.pathsep.join([str(_HERE.parent / "shared"), *filter(None, [os.environ.get("PYTHONPATH")])])
_PATIENCE_S = 90.0  # importing torch_npu takes 40 on a machine with eight times the work that it has cores for


class Other:
    """Another process. It runs the statements it is told to; their names stay."""

    def __init__(self, environment: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> None:
        """``environment`` comes on top of this process's; ``prefix`` is a command that starts the process."""
        here, there = socket.socketpair()
        with there:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, str(_HERE / "owner_process.py"), str(there.fileno())],
                pass_fds=[there.fileno()],
                env={**os.environ, **(environment or {})},
                stderr=subprocess.PIPE,
                text=True,
            )
        self._connection = Connection(here.detach())
        self.says = ""  # in its log

    @property
    def pid(self) -> int:
        return self.process.pid

    def run(self, statements: str, **names: Any) -> None:
        """Runs statements there; ``names`` are set before. An exception there is raised here."""
        self._ask("exec", statements, names)

    def get(self, expression: str, **names: Any) -> Any:
        """The value of an expression there."""
        return self._ask("eval", expression, names)

    def start(self, statements: str, **names: Any) -> None:
        """Like ``run``, without waiting: ``finish`` does."""
        self._connection.send(("exec", statements, names))

    def finish(self) -> None:
        """Waits for what ``start`` began."""
        self._answer()

    def _ask(self, how: str, code: str, names: dict[str, Any]) -> Any:
        self._connection.send((how, code, names))
        return self._answer()

    def _answer(self) -> Any:
        if not self._connection.poll(_PATIENCE_S):
            raise TimeoutError("the owner's process did not answer")
        value, error = self._connection.recv()
        if error is not None:
            raise error
        return value

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The process stands still inside of the block."""
        try:
            stop(self.pid)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)  # nothing if it was killed meanwhile

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Ends the process; one that was not killed must end by itself, without a word but what it ``says``."""
        self._connection.close()
        try:
            _, said = self.process.communicate(timeout=_PATIENCE_S)
        finally:
            self.process.kill()
        assert self.process.returncode in (0, -signal.SIGKILL), said
        assert said == "" if self.says == "" else self.says in said, said


class Owner(Other):
    """Another process with an engine."""

    def __init__(
        self,
        options: dict[str, Any] | None = None,
        prepare: str = "",
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """``prepare`` runs before the engine is made, e.g. ``import torch``."""
        super().__init__(environment, prefix)
        self.run(prepare)
        self.run("engine = ray_hixl.Engine(ray_hixl.Options(**options))", options=options or {})
        self.descriptor: bytes = self.get("engine.descriptor")


def run_python(
    program: str, *arguments: str, timeout: float = _PATIENCE_S, environment: dict[str, str] | None = None, says: str = ""
) -> str:
    """Runs a program in an interpreter of its own, which must end with code 0 and say on stderr what matches ``says``: nothing by default.
    Gives its output.
    """
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": _IMPORTS, **(environment or {})},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.fullmatch(says, ended.stderr, re.DOTALL), ended.stdout + ended.stderr
    return ended.stdout


def pattern(nbytes: int, seed: int = 1) -> bytes:
    """Bytes that differ from one position, and one seed, to the next."""
    block = bytes((i * 31 + seed * 17 + (i >> 8)) & 0xFF for i in range(4096))
    return (block * (nbytes // 4096 + 1))[:nbytes]
