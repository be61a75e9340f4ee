"""The matrix: transport x phase x fault x side, each cell with several ways to read; and why a cell is empty."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

TRANSPORTS = ("local", "shm", "cma", "stream-unix", "stream-tcp", "hixl")  # hixl: over TCP, as between hosts, on the FAKE CANN
PHASES = ("connect", "resolve", "move", "check", "deliver", "close")
SIDES = ("owner", "reader")
HOWS = ("fetch", "targets", "read")
FAULTS = (
    "sigkill",
    "sigstop",
    "exit",
    "fork",
    "signals",
    "emfile",
    "enomem",
    "full_arena",
    "freed",
    "resized",
    "unmapped",
    "reset",
    "cut",
    "half_open",
    "truncated",
    "garbled",
    "slow",
    "delayed",
    "other_uid",
    "ptrace_refused",
    "no_pid_namespace",
    "no_net_namespace",
    "recycled_pid",
)
CUTS = ("reset", "cut", "half_open")  # of a connection that need not be in use
CHANGES = ("truncated", "garbled", "slow", "delayed")  # of what is being sent
WIRE = (*CUTS, *CHANGES)
FLAVOURS = ("other_uid", "no_pid_namespace", "no_net_namespace")  # the process was born so
BY_MEMORY = ("local", "shm", "cma")  # no byte of the payload crosses a connection
_WHOLE_PROCESS = ("sigstop", "exit", "fork", "signals", "emfile", "enomem")


@dataclass(frozen=True)
class Case:
    """One cell, read one way. ``seed`` chooses shapes and the place within the phase."""

    transport: str
    phase: str
    fault: str
    side: str
    how: str
    seed: int

    @property
    def id(self) -> str:
        return "/".join((self.transport, self.phase, self.fault, self.side, self.how, str(self.seed)))

    @staticmethod
    def parse(name: str) -> Case:
        *words, seed = name.split("/")
        return Case(*words, int(seed))  # type: ignore[arg-type]

    @property
    def by_memory(self) -> bool:
        return self.transport in BY_MEMORY

    @property
    def by_stream(self) -> bool:
        return self.transport.startswith("stream")

    @property
    def other(self) -> str:
        return "reader" if self.side == "owner" else "owner"

    def chance(self) -> random.Random:
        return random.Random(self.id)


def why_empty(transport: str, phase: str, fault: str, side: str) -> str:
    """Why there is no case in a cell; empty if there are some."""
    for rule in (_of_npus, _no_such_phase, _one_process, _on_the_wire, _of_memory, _of_processes):
        if why := rule(transport, phase, fault, side):
            return why
    return ""


def _of_npus(transport: str, phase: str, fault: str, side: str) -> str:
    if transport != "hixl":
        return ""
    if fault not in ("sigkill", "sigstop", "exit", "signals", "freed", *WIRE) or (fault == "freed" and side == "reader"):
        return "hixl: host memory and this host's kernel have little part in it; tests/cpp/transport/hixl and tests/npu play its own faults"
    if phase == "move" and fault in CHANGES:
        return "HIXL moves the bytes, over connections of its own"
    return ""


def _no_such_phase(transport: str, phase: str, fault: str, side: str) -> str:
    return "local resolves nothing: it pins the slot itself" if transport == "local" and phase == "resolve" else ""


def _one_process(transport: str, phase: str, fault: str, side: str) -> str:
    if transport != "local":
        return ""
    if fault in ("sigkill", "recycled_pid"):
        return "local: nobody of the two is left to see it"
    if fault in WIRE:
        return "local: no connection"
    if fault in FLAVOURS or fault == "ptrace_refused":
        return "local: one process"
    if fault in _WHOLE_PROCESS and side == "reader":
        return "local: both sides are the process that the owner's case is about"
    return ""


def _on_the_wire(transport: str, phase: str, fault: str, side: str) -> str:
    if fault not in CHANGES:
        return ""
    if phase in ("deliver", "close"):
        return "nothing is sent in this phase"
    if phase in ("move", "check"):
        if transport in BY_MEMORY:
            return "memory is copied in this phase, and nothing sent"
        if side == "owner" and transport != "hixl":
            return "the reader sends nothing in this phase"
        if phase == "move" and fault == "garbled":
            return "payload carries no checksum (Options.checksum is not built); docs/protocol.md says so"
    return ""


def _of_memory(transport: str, phase: str, fault: str, side: str) -> str:
    over = phase in ("deliver", "close")
    if side == "reader" and (transport, phase) == ("local", "connect") and fault in ("freed", "resized"):
        return "local: before it begins there is no destination"
    if fault == "unmapped":
        if side == "reader":
            return "a reader's destination is held by its export: see resized"
        if transport == "local":
            return "local: a copy in the process that unmapped its own memory ends it"
        if transport == "shm":
            return "shm reads the source arena, which only the engine unmaps"
        return "the bytes have arrived" if over else ""
    if fault == "resized":
        if transport == "shm" and side == "owner":
            return "shm reads the source arena, whose blocks have one size"
        if side == "reader" and phase in ("move", "check") and transport in BY_MEMORY:
            return "nothing holds the copy: it may be over, and its buffers the caller's again"
        return "the transfer has ended: its buffers are the caller's again" if over and side == "reader" else ""
    if fault == "full_arena":
        if over or phase in ("move", "check"):
            return "no memory is taken any more"
        return "the source arena has no part in it" if side == "owner" and transport != "shm" else ""
    return ""


def _of_processes(transport: str, phase: str, fault: str, side: str) -> str:
    if fault in FLAVOURS and phase != "connect":
        return "which transports fit is settled when connecting; a process stays in its namespaces and keeps its user"
    if fault == "recycled_pid" and side == "reader":
        return "an owner does nothing by a reader's pid"
    if fault == "ptrace_refused":
        if transport != "cma":
            return "only cma reads another process's memory"
        if side == "reader":
            return "nobody reads a reader's memory"
        if phase not in ("connect", "resolve", "move"):
            return "the bytes have arrived"
    return ""


def hows(transport: str, phase: str, fault: str, side: str) -> tuple[str, ...]:
    """Ways to read that make sense in a cell."""
    if fault == "resized" and side == "reader":
        return ("targets",)
    if fault == "freed" and side == "reader":
        return ("read",)
    if fault == "full_arena" and side == "reader":
        return ("fetch",)
    if transport == "hixl":
        return ("fetch", "read")  # without torch a target is a whole buffer
    if transport in BY_MEMORY and phase in ("move", "check"):
        return ("targets", "read")  # only these show when bytes arrive
    return HOWS


@cache
def cells() -> dict[tuple[str, str, str, str], tuple[str, ...]]:
    """Every cell that is not empty, with its ways to read."""
    return {
        (transport, phase, fault, side): hows(transport, phase, fault, side)
        for transport in TRANSPORTS
        for phase in PHASES
        for fault in FAULTS
        for side in SIDES
        if not why_empty(transport, phase, fault, side)
    }


def choose(seed: int, count: int = 0) -> list[Case]:
    """All cases, or so many of them: first every fault in every phase once, as far as they reach."""
    everything = [Case(*cell, how, seed) for cell, ways in cells().items() for how in ways]
    if not 0 < count < len(everything):
        return everything
    random.Random(seed).shuffle(everything)
    seen: dict[tuple[str, str], int] = {}
    rounds = []
    for case in everything:
        key = (case.phase, case.fault)
        seen[key] = seen.get(key, 0) + 1
        rounds.append(seen[key])
    order = sorted(range(len(everything)), key=lambda index: (rounds[index], index))
    return [everything[index] for index in sorted(order[:count])]
