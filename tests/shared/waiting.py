"""Waiting until something holds, and until a process stands still."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from yardstick import scaled


def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Polls until the condition holds; for longer where the yardstick says so."""
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < seconds or waited < scaled(seconds), f"not true after {waited:.1f} s"
        time.sleep(0.005)


def thread_states(pid: int) -> list[str]:
    """The state letter of each thread of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            found.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def stop(pid: int) -> None:
    """SIGSTOP, and waits for what it does: until the thread that takes the signal has got a core, all others go on."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: set(thread_states(pid)) == {"T"})
