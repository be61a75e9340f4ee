"""What a case may end with. The suite is written against what the documents promise, and is as strict as they are."""

from __future__ import annotations

import re

from cases import CUTS, Case

BYTES = ""
_ANY_END = frozenset({"PeerGone", "ConnectError"})
_LATE = _ANY_END | {"TransferTimeout"}


def allowed(case: Case, sent: bool) -> frozenset[str]:
    """Names of error classes; `BYTES` if it may succeed. ``sent``: the bytes had left the owner before the fault, or were leaving it."""
    if case.phase == "deliver":
        return frozenset({BYTES})  # what has arrived stays what it was
    if case.phase == "close":
        # The sound side closes before, while or after the fault has an effect of its own.
        return _while(case, sent) | ({BYTES, "Closed"} if case.side == "owner" else _ANY_END | {BYTES, _freed(case)})
    return _while(case, sent)


def _while(case: Case, sent: bool) -> frozenset[str]:
    fault, owner = case.fault, case.side == "owner"
    if fault in ("sigkill", "exit", "recycled_pid"):
        # One that exits closes its engine, and that may be seen first.
        return _of_a_dead_owner(case) | ({_freed(case)} if fault == "exit" else set())
    if fault in ("fork", "signals", "full_arena", "resized", "slow", "delayed"):
        return frozenset({BYTES})
    if fault == "sigstop":
        return _LATE | {BYTES}
    if fault in ("emfile", "enomem"):
        own = frozenset({BYTES, "ConnectError", "NotAvailable", "OutOfMemory"})  # a reader's own shortage, by its own name
        return own if case.transport == "local" else _LATE | {BYTES, "OutOfMemory"} if owner else own
    if fault == "freed":
        return _of_freed_memory(case, sent)
    if fault == "unmapped":
        return _of_memory_that_went(case, sent)
    if fault in ("truncated", "half_open"):
        return _LATE | {BYTES}
    if fault == "garbled":
        return _LATE | {BYTES, "NotAvailable"}  # an unknown request is refused, and so is an unknown answer
    if fault in CUTS:
        return _ANY_END | {BYTES}
    return _of_where_it_is(case)


def _of_a_dead_owner(case: Case) -> frozenset[str]:
    if case.phase == "connect":
        return _ANY_END
    if case.phase == "resolve":
        return _ANY_END if case.by_stream else frozenset({"PeerGone"})
    return frozenset({"PeerGone", BYTES})


def _of_freed_memory(case: Case, sent: bool) -> frozenset[str]:
    if case.side == "reader":
        return frozenset({BYTES, "InvalidRegion", "Closed", "Cancelled"})
    return _of_memory_that_went(case, sent)


def _freed(case: Case) -> str:
    return "InvalidRegion" if case.how == "read" else "ObjectFreed"


def _of_memory_that_went(case: Case, sent: bool) -> frozenset[str]:
    gone = _freed(case)
    # Before the bytes moved it can only be refused; later it depends on who is faster, and the bytes are right either way.
    return frozenset({gone, BYTES} if sent else {gone})


def _of_where_it_is(case: Case) -> frozenset[str]:
    stream = case.by_stream
    if case.fault == "other_uid":
        return frozenset({BYTES} if stream else {"NotAvailable"})
    if case.fault == "no_pid_namespace":
        return frozenset({"NotAvailable"} if case.transport == "cma" else {BYTES})
    if case.fault == "no_net_namespace":
        return frozenset({"ConnectError"})
    assert case.fault == "ptrace_refused"
    if case.phase == "connect":
        return frozenset({"NotAvailable", BYTES})  # BYTES: the probe came before
    return frozenset({"NotAvailable", "InvalidRegion", "PeerGone", BYTES})


_SOMEBODY = r"process \d+"
_SOMETHING = r"object|region|memory|tensor|transport|segment|arena|descriptor|engine"


def unclear(case: Case, error: str, message: str, owner_pid: int) -> str:
    """What a message lacks: who or what it is about, and why. Empty if nothing."""
    if error in ("PeerGone", "ConnectError", "TransferTimeout") and f"process {owner_pid}" not in message:
        return f"it does not name the owner, process {owner_pid}"
    if not re.search(f"{_SOMEBODY}|{_SOMETHING}", message):
        return "it names neither a peer nor an object"
    if error != "Closed" and len(message) < 25:
        return "it gives no cause"
    own = case.side == "reader" and case.phase != "close"
    if case.fault == "emfile" and own and not re.search("descriptors|open files|ulimit", message):
        return "it does not name the shortage: descriptors"
    return ""
