"""Owners and readers as in containers: in another PID namespace, without ptrace, as another user. The best way that is left is taken, and
``path()`` says why none better.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from support import Owner, pattern

_NOBODY = "import ctypes, os; os.geteuid() == 0 and (os.setgid(65534), os.setuid(65534))"  # whom the kernel forbids more than root
_DUMPABLE = "ctypes.CDLL(None).prctl(4, {})"
_ONE_OF_MANY = f"{_NOBODY}; {_DUMPABLE.format(1)}"
_UNREADABLE = f"{_NOBODY}; {_DUMPABLE.format(0)}"


@dataclass(frozen=True)
class Case:
    """How the two processes are started, and why ordinary memory is not read by cma, and memory of the arena not by shm ("": it is)."""

    no_cma: str
    no_shm: str = ""
    owner: tuple[tuple[str, ...], str] = ((), "")  # a command before it, statements in it
    reader: tuple[tuple[str, ...], str] = ((), "")
    for_root: bool = True


CASES = {
    "another PID namespace": Case("the peer is in another pid namespace", owner=(("unshare", "--pid", "--fork", "--kill-child", "--"), "")),
    "an owner that may not be traced": Case(
        "the kernel refuses process_vm_readv", owner=((), _UNREADABLE), reader=((), _ONE_OF_MANY), for_root=False
    ),
    "a reader without CAP_SYS_PTRACE": Case(
        "the kernel refuses process_vm_readv", reader=(("setpriv", "--bounding-set", "-sys_ptrace", "--"), "")
    ),
    "another user": Case("the peer runs as another user", "the peer runs as another user", reader=((), _ONE_OF_MANY)),
}


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    if found.for_root and os.geteuid() != 0:
        pytest.skip("only root can become another user, drop a capability or leave a namespace")
    for prefix, _ in (found.owner, found.reader):
        if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
            pytest.skip(f"'{' '.join(prefix)}' is not allowed here")
    return found


@pytest.fixture
def sides(case: Case) -> Iterator[tuple[Owner, Owner]]:
    owner, reader = (Owner(prefix=prefix, prepare=prepare) for prefix, prepare in (case.owner, case.reader))
    yield owner, reader
    reader.close()
    owner.close()


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_the_best_that_is_left(case: Case, sides: tuple[Owner, Owner]) -> None:
    owner, reader = sides
    owner.run("ordinary = engine.register(given); arena = engine.empty(5000)", given=pattern(5000))
    owner.run("memoryview(arena)[:] = given; arena = arena.region")
    reader.run("peer = engine.connect(descriptor)", descriptor=owner.descriptor)
    for memory, best, why_not in (("ordinary", "cma", case.no_cma), ("arena", "shm", case.no_shm)):
        reader.run("remote = peer.region(given); into = bytearray(5000)", given=owner.get(f"{memory}.descriptor"))
        reader.run("transfer = peer.read_async([(engine.register(into), 0, remote, 0, 5000)]); transfer.wait()")
        taken = "stream" if why_not else best
        assert reader.get("transfer.bytes_by_transport()") == {taken: 5000}
        assert reader.get("bytes(into)") == pattern(5000)
        assert reader.get("peer.path('host', remote).transport") == taken
        assert why_not in reader.get("dict(peer.path('host', remote).refused)").get(best, "")
