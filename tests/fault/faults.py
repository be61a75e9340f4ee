"""The faults, one function each: what comes before `yield` puts it in force, what comes after lifts it.

Those of the wire are harm that the proxy does to the message at its gate; `HARM` has them.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import protocol
import pytest
from processes import FAKE_CANN
from protocol import Message
from proxy import Pair

if TYPE_CHECKING:
    from stage import Stage

_SLACK_BYTES = 6 << 20  # of address space: enough for small things, too little for a thread, a segment or a mapping
_PID_PATIENCE_S = 10.0


@contextmanager
def sigkill(stage: Stage) -> Iterator[None]:
    stage.faulty.process.kill()
    yield


@contextmanager
def sigstop(stage: Stage) -> Iterator[None]:
    with stage.faulty.process.stopped():
        yield


@contextmanager
def exit_in_flight(stage: Stage) -> Iterator[None]:
    stage.faulty.process.exit(stage.bound_s)
    yield


@contextmanager
def fork(stage: Stage) -> Iterator[None]:
    said = stage.faulty.do("fork", stage.faulty.engine)
    assert said == "closed", f"in the child, a call on the parent's engine gave {said!r}"
    yield
    stage.faulty.do("reap")


@contextmanager
def signals(stage: Stage) -> Iterator[None]:
    stage.faulty.do("storm")
    yield
    stage.faulty.do("calm")


@contextmanager
def emfile(stage: Stage) -> Iterator[None]:
    """Not one descriptor more."""
    pid = stage.faulty.process.pid
    taken = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    with _limited(pid, resource.RLIMIT_NOFILE, next(number for number in range(len(taken) + 1) if number not in taken)):
        yield


@contextmanager
def enomem(stage: Stage) -> Iterator[None]:
    pid = stage.faulty.process.pid
    (size,) = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmSize")]
    with _limited(pid, resource.RLIMIT_AS, int(size) * 1024 + _SLACK_BYTES):
        yield


@contextmanager
def _limited(pid: int, what: int, limit: int) -> Iterator[None]:
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


@contextmanager
def full_arena(stage: Stage) -> Iterator[None]:
    """More in use than the arenas keep."""
    stage.faulty.do("fill", stage.faulty.engine, stage.bystanders_order())
    yield


@contextmanager
def freed(stage: Stage) -> Iterator[None]:
    if stage.case.side == "owner":
        stage.owner.do("free", "object")
    else:
        stage.reader.do("close_local")
    yield


@contextmanager
def resized(stage: Stage) -> Iterator[None]:
    wrong = stage.faulty.do("resize", "object" if stage.case.side == "owner" else "")
    assert wrong == "", wrong
    yield


@contextmanager
def unmapped(stage: Stage) -> Iterator[None]:
    stage.owner.do("unmap", "object")
    yield


@contextmanager
def ptrace_refused(stage: Stage) -> Iterator[None]:
    stage.owner.do("undumpable", True)
    yield
    stage.owner.do("undumpable", False)


@contextmanager
def recycled_pid(stage: Stage) -> Iterator[None]:
    """The owner is dead, and another process has its pid."""
    pid = stage.owner.process.pid
    stage.owner.process.kill()
    with _another(pid) as imposter:
        yield
        assert imposter.poll() is None, "the imposter was harmed"


@contextmanager
def _another(pid: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process with this pid. Others of the machine may be faster to get it; then it comes back when they have ended."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    end = time.monotonic() + _PID_PATIENCE_S
    while time.monotonic() < end:
        last.write_text(str(pid - 1))
        process = subprocess.Popen(["sleep", "600"])
        try:
            if process.pid == pid:
                yield process
                return
        finally:
            process.kill()
            process.wait()
        time.sleep(0.01)
    holder = Path(f"/proc/{pid}/comm")
    if holder.exists():
        pytest.skip(f"the pid of the dead owner belongs to another process of this machine now ({holder.read_text().strip()})")
    raise AssertionError(f"pid {pid} was not given again within {_PID_PATIENCE_S} s")


@contextmanager
def since_birth(stage: Stage) -> Iterator[None]:
    """The process was started so."""
    yield


@contextmanager
def on_the_wire(stage: Stage) -> Iterator[None]:
    """The gate does it; where nothing is under way, to the connections as they are."""
    if stage.gate is None and stage.proxy is not None:
        for pair in stage.proxy.pairs:
            HARM[stage.case.fault](stage, pair, Message("nothing", b""))
    yield
    if stage.proxy is not None:
        for pair in stage.proxy.pairs:
            for side in pair.deaf:
                pair.close(side)
            pair.pause_s = {True: 0.0, False: 0.0}
            pair.pieces = {True: 1, False: 1}


def _reset(stage: Stage, pair: Pair, message: Message) -> bool:
    pair.close(stage.case.side, reset=True)
    pair.close(stage.case.other)
    return False


def _cut(stage: Stage, pair: Pair, message: Message) -> bool:
    pair.close(stage.case.side)
    time.sleep(0.02)
    pair.close(stage.case.other)
    return False


def _half_open(stage: Stage, pair: Pair, message: Message) -> bool:
    pair.deaf.add(stage.case.side)
    pair.close(stage.case.other)
    return False


def _truncated(stage: Stage, pair: Pair, message: Message) -> bool:
    chance = stage.case.chance()
    end = pair.end(stage.case.side)
    end.sendall(message.data[: chance.randrange(len(message.data))])
    return _cut(stage, pair, message)


def _garbled(stage: Stage, pair: Pair, message: Message) -> bool:
    message.data = protocol.garbled(message, stage.case.chance().randrange(10_000))
    return True


def _slow(stage: Stage, pair: Pair, message: Message) -> bool:
    down = stage.case.side == "reader"
    pair.pause_s[down], pair.pieces[down] = 0.002, 8 if message.name == "payload" else 40
    return True


def _delayed(stage: Stage, pair: Pair, message: Message) -> bool:
    pair.pause_s[stage.case.side == "reader"] = 0.02
    return True


HARM: dict[str, Callable[[Stage, Pair, Message], bool]] = {
    "reset": _reset,
    "cut": _cut,
    "half_open": _half_open,
    "truncated": _truncated,
    "garbled": _garbled,
    "slow": _slow,
    "delayed": _delayed,
}

FAULTS = {
    "sigkill": sigkill,
    "sigstop": sigstop,
    "exit": exit_in_flight,
    "fork": fork,
    "signals": signals,
    "emfile": emfile,
    "enomem": enomem,
    "full_arena": full_arena,
    "freed": freed,
    "resized": resized,
    "unmapped": unmapped,
    "other_uid": since_birth,
    "ptrace_refused": ptrace_refused,
    "no_pid_namespace": since_birth,
    "no_net_namespace": since_birth,
    "recycled_pid": recycled_pid,
    **dict.fromkeys(HARM, on_the_wire),
}


def needs(transport: str, fault: str) -> str:
    """What this machine lacks for a case; empty if nothing."""
    if transport == "hixl" and not (FAKE_CANN / "lib").exists():
        return "the FAKE CANN is not built: cmake --build --preset dev"
    if fault in ("other_uid", "ptrace_refused", "no_pid_namespace", "no_net_namespace", "recycled_pid") and os.getuid() != 0:
        return "root is needed to become another user, leave a namespace or choose a pid"
    return ""


SIGNALS = {"sigkill": signal.SIGKILL, "sigstop": signal.SIGSTOP}  # sent by whoever sees the byte, at once
