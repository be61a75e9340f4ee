"""Cases that are not right yet, and why. Each entry goes with its fault."""

from __future__ import annotations

from collections.abc import Callable

from cases import Case

_DEAD = ("sigkill", "exit", "recycled_pid")

KNOWN: list[tuple[Callable[[Case], bool], str]] = [
    (
        lambda case: case.fault == "enomem" and (case.side == "reader" or case.transport == "local"),
        "a copy pool that gets no thread says that the engine was closed",
    ),
    (
        lambda case: case.fault == "freed" and case.side == "owner" and case.phase in ("connect", "resolve") and case.by_memory,
        "what is freed is copied first and refused afterwards",
    ),
    (
        lambda case: case.fault in _DEAD and case.side == "owner" and case.phase == "connect",
        "an owner that dies while a link to it comes up leaves NotAvailable: cma's probe failed, and the link was not asked",
    ),
]
