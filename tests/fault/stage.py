"""Stage: one case from its engines to its last check."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

import expected
import protocol
from attempt import Order, Outcome
from cases import CHANGES, CUTS, FLAVOURS, WIRE, Case
from faults import FAULTS, HARM, SIGNALS
from processes import NOBODY, Fleet, Process
from proxy import Gate, Point, Proxy

from waiting import eventually, thread_states
from wire import EngineDescriptor
from yardstick import scaled

SOON_S = 4.0  # nothing that is known at once takes longer, on a machine as fast as the yardstick
_ENOUGH_S = 30.0  # for a transfer that is to succeed
_SHORT_S = 0.6  # for one that only its deadline ends
_STOP_S = 2.0  # what a stopped transfer may take beyond its deadline
_SERVICE_BYTES = (50_000, 300)
_SMALL = ((100, 70_000, 1_048_579), (1000,) * 200 + (5,), (8192,), (300_000, 1, 4096))
_LARGE = {True: ((24 << 20, 1000, 4 << 20), (20 << 20, 8 << 20)), False: ((8 << 20, 1000), (300, 9_000_001))}
_FAKE_MOVE_US = 100_000  # the move stands still for so long before it begins
_BLOCKING = ("half_open", "truncated", "garbled", "emfile", "enomem")  # a lost message ends with the deadline at the latest
_HANDSHAKE = (Point("hello", False), Point("challenge", True), Point("proof", False), Point("welcome", True))
_DATA_HANDSHAKE = (Point("hello", False, True), Point("challenge", True, True), Point("proof", False, True))
_CHECKING = {"hixl": (Point("check", False), Point("checked", True))}
_RESOLVING = {
    "shm": (Point("resolve", False), Point("resolved", True), Point("map_segment", False), Point("segment", True)),
    "cma": (Point("resolve", False), Point("resolved", True)),
    "hixl": (Point("describe_device", False), Point("device_description", True)),
    "stream-unix": (*_DATA_HANDSHAKE, Point("read", False, True), Point("reading", True, True)),
    "stream-tcp": (*_DATA_HANDSHAKE, Point("read", False, True), Point("reading", True, True)),
}


@dataclass
class Player:
    """One of the two: an engine in a process."""

    process: Process
    engine: str

    def do(self, method: str, *arguments: Any) -> Any:
        return self.process.do(method, *arguments)


class Stage:
    def __init__(self, case: Case, fleet: Fleet) -> None:
        self.case = case
        self.fleet = fleet
        self.chance: random.Random = case.chance()
        self.proxy: Proxy | None = None
        self.gate: Gate | None = None
        # A stop that is over before the deadline, or one that outlasts it.
        self.outlasts = case.fault == "sigstop" and case.side == "owner" and self.chance.random() < 0.5
        self.blocks = self.outlasts or (case.fault in _BLOCKING and case.phase != "deliver")
        self.timeout_s = min(scaled(_SHORT_S), _ENOUGH_S) if self.blocks else _ENOUGH_S
        self.bound_s = scaled(SOON_S) + (self.timeout_s + _STOP_S if self.blocks else 0.0)
        flavours = {side: case.fault if side == case.side else "" for side in ("owner", "reader")}
        if case.fault not in FLAVOURS:
            usual = "npu" if case.transport == "hixl" else "nobody" if case.fault == "ptrace_refused" else ""
            flavours = dict.fromkeys(flavours, usual)
        self.owner = Player(fleet.take(flavours["owner"]), "owner")
        self.reader = Player(self.owner.process if case.transport == "local" else fleet.take(flavours["reader"]), "reader")

    @property
    def faulty(self) -> Player:
        return self.owner if self.case.side == "owner" else self.reader

    @property
    def sound(self) -> Player:
        return self.reader if self.case.side == "owner" else self.owner

    @property
    def processes(self) -> list[Process]:
        return [self.owner.process] if self.reader.process is self.owner.process else [self.owner.process, self.reader.process]

    def play(self) -> None:
        """Raises what is wrong."""
        self._open()
        self._make_order()
        before = self.gate is None and not self.order.watch and not self.order.pause and self.case.phase != "close"
        if before:
            late = self.case.fault in ("sigkill", "sigstop", "exit") and self.faulty.process is self.reader.process
            if late:  # nobody else can begin
                self._begin()
            with FAULTS[self.case.fault](self):
                if not late:
                    self._begin()
                outcome = self._under_fault()
            outcome = outcome or self._outcome()
        else:
            self._begin()
            self._reach()
            with FAULTS[self.case.fault](self):
                self._let_go()
                outcome = self._under_fault()
            outcome = outcome or self._outcome()
        if outcome is not None:
            self._judge(outcome)
        self._after(outcome)

    # Before the fault.

    def _open(self) -> None:
        limits = {"connect_timeout_s": self.timeout_s, "transfer_timeout_s": self.timeout_s, "copy_threads": 2}
        limits["stall_timeout_s"] = 0.8 * self.timeout_s if self.blocks and self.chance.random() < 0.3 else 10.0
        allowed = {"local": ("local", "stream"), "stream-unix": ("stream",), "stream-tcp": ("stream",), "hixl": ("hixl", "stream")}
        transports = allowed.get(self.case.transport, (self.case.transport,))
        if self.case.transport in ("shm", "cma") and self.case.fault == "full_arena":
            limits |= {"source_arena_bytes": 1 << 20, "landing_arena_bytes": 1 << 20}
        self._descriptor = self.owner.do("open", "owner", limits)
        self.reader.do("open", "reader", {**limits, "transports": transports})
        if self.case.transport == "hixl":
            delay = _FAKE_MOVE_US if self.case.phase == "move" else 0
            self.reader.do("fake", "FAKE_HIXL_TRANSFER_DELAY_US", str(delay))

    def _make_order(self) -> None:
        case, seed = self.case, self.chance.randrange(1 << 20)
        large = case.phase in ("move", "check", "close")
        sizes = self.chance.choice(_LARGE[case.by_memory] if large else _SMALL)
        memory = {"shm": "arena", "hixl": "npu"}.get(case.transport, "raw" if case.fault == "unmapped" else "ordinary")
        metadata, regions = self.owner.do("offer", "object", "owner", memory, sizes, seed)
        self._service = self.owner.do("offer", "service", "owner", "ordinary", _SERVICE_BYTES, seed + 1), seed + 1
        over_unix = case.transport not in ("stream-tcp", "hixl")
        found = self._descriptor
        if case.fault in FLAVOURS:  # between users a proxy would be a third one
            found = found if over_unix else EngineDescriptor.unpack(found).tcp_only().pack()
        elif case.transport != "local":
            self.gate = self._make_gate(sizes)
            uid = NOBODY if self.owner.process.flavour == "nobody" else os.geteuid()
            self.proxy = Proxy(self._descriptor, over_unix, self.gate, uid)
            found = self.proxy.descriptor
        at_work = case.transport == "hixl" and case.phase == "move"
        by_memory = (case.by_memory and case.phase in ("move", "check")) or at_work
        number = SIGNALS.get(case.fault)
        self.order = Order(
            how=case.how,
            descriptor=found,
            metadata=protocol.with_engine(metadata, self._descriptor, found),
            regions=regions,
            sizes=sizes,
            seed=seed,
            timeout_s=self.timeout_s,
            npu=case.transport == "hixl",
            bare=case.fault == "resized" and case.side == "reader",
            watch="work" if at_work else {"move": "first", "check": "last"}[case.phase] if by_memory else "",
            signal=(self.faulty.process.pid, int(number)) if by_memory and number else None,
            pause=case.phase == "deliver",
        )

    def _make_gate(self, sizes: tuple[int, ...]) -> Gate | None:
        point = self._point(sizes)
        if point is None:
            return None
        harm = HARM.get(self.case.fault)
        return Gate(point, None if harm is None else lambda pair, message: harm(self, pair, message))

    def _point(self, sizes: tuple[int, ...]) -> Point | None:
        case = self.case
        if case.phase == "connect":
            points: tuple[Point | None, ...] = _HANDSHAKE if case.fault in WIRE else (None, *_HANDSHAKE)
            if case.fault in FLAVOURS:
                points = (None,)
            if case.fault == "recycled_pid":
                points = (None, *_HANDSHAKE[:3])  # a kernel would hang up behind the welcome of a dead owner; the proxy does so later
            if case.fault in ("freed", "resized") and case.side == "reader":
                points = _HANDSHAKE  # first there has to be something
        elif case.phase == "resolve" or (case.phase == "close" and not case.by_stream and case.transport != "local"):
            points = _RESOLVING[case.transport]
        elif case.by_memory or case.phase == "deliver" or (case.transport == "hixl" and case.phase == "move"):
            return None
        elif case.phase == "check":
            points = _CHECKING.get(case.transport, (Point("read_end", True, True),))
        else:
            points = (Point("payload", True, True, self.chance.randrange(1, sum(sizes) // 2)),)
        if case.fault in CHANGES:
            points = tuple(each for each in points if each is not None and each.down == (case.side == "reader"))
        return self.chance.choice(points)

    # The fault.

    def _begin(self) -> None:
        if self.order.signal and self.faulty.process is self.reader.process:
            self.reader.process.begin("begin", "reader", self.order)
        else:
            self.reader.do("begin", "reader", self.order)

    def _reach(self) -> None:
        """Waits until the transfer is where the fault is to happen."""
        if self.gate is not None:
            if not self.gate.reached.wait(scaled(SOON_S)):
                raise AssertionError(f"{self.gate.point} was not reached: {self.reader.do('outcome', 0.0)}")
        elif self.order.signal and self.faulty.process is self.reader.process:
            eventually(lambda: set(thread_states(self.faulty.process.pid)) <= {"T", "Z"}, SOON_S)
        elif self.case.phase != "close":
            assert self.reader.do("seen", scaled(SOON_S)), "no byte was seen to arrive"

    def _let_go(self) -> None:
        if self.gate is not None:
            self.gate.resume.set()
        if self.order.pause and not self._mute(self.reader):
            self.reader.do("go_on")

    def _under_fault(self) -> Outcome | None:
        """With the fault in force. The outcome, if that is to come before it is lifted."""
        if self.case.phase == "close":
            self._close_the_sound_side()
        elif self.sound.process is not self.faulty.process or self.case.fault not in ("emfile", "enomem"):
            self._others_are_served([self.sound])
        if self._mute(self.reader) or (self.case.fault == "sigstop" and not self.outlasts):
            return None
        return self._outcome()

    def _mute(self, player: Player) -> bool:
        """Does its process not answer, because of the fault?"""
        return player.process.over or (self.case.fault == "sigstop" and player.process is self.faulty.process)

    def _close_the_sound_side(self) -> None:
        if self._mute(self.sound):
            return
        seconds = self.sound.do("close", self.sound.engine)
        assert seconds < self.bound_s, f"closing the {self.case.other}'s engine took {seconds:.1f} s"

    def _outcome(self) -> Outcome | None:
        if self.reader.process.over:
            return None
        self.reader.do("go_on")
        outcome: Outcome | None = self.reader.do("outcome", self.timeout_s + self.bound_s)
        assert outcome is not None, "it hangs"
        return outcome

    def _judge(self, outcome: Outcome) -> None:
        may = expected.allowed(self.case, self._was_sent())
        said = f"{outcome.error}: {outcome.message}" if outcome.error else "the bytes"
        assert outcome.error in may, f"it ended with {said}; right is {sorted(each or 'the bytes' for each in may)}"
        assert outcome.again == "", f"it ended with {said}, and asked again with {outcome.again}"
        if outcome.error:
            assert outcome.seconds < self.bound_s, f"it took {outcome.seconds:.1f} s to end with {said}"
            unclear = expected.unclear(self.case, outcome.error, outcome.message, self._owner_pid())
            assert not unclear, f"{unclear}: {said}"
            if self.case.fault == "freed" and self.case.side == "owner" and not self._was_sent() and not self.order.npu:
                assert outcome.moved == 0, f"{outcome.moved} bytes were moved out of memory that was freed before"

    def _was_sent(self) -> bool:
        if self.case.phase in ("connect", "resolve"):
            return self.gate is not None and self.gate.point.message == "reading"
        return True

    def _owner_pid(self) -> int:
        return 1 if self.owner.process.flavour == "no_pid_namespace" else self.owner.process.pid

    # After it.

    def _after(self, outcome: Outcome | None) -> None:
        alive = [player for player in (self.owner, self.reader) if not player.process.over]
        if self.case.phase != "close":
            self._others_are_served(alive)
            if len(alive) == 2:
                self._works_again()
        for player in reversed(alive):  # what the reader leaves at the owner is seen once it has closed
            self._nothing_is_left(player)
            if player is self.reader:
                player.do("close", "reader")
            if self.proxy is not None:
                self.proxy.close()
                self.proxy = None
        for process in self.processes:
            if process.over:
                process.discard()
            else:
                process.clear()
        for process in self.processes:
            if not process.over:
                self.fleet.give_back(process)
        eventually(lambda: self.fleet.bystander.do("stats", "bystander")["links"] == 0, SOON_S)

    def bystanders_order(self) -> Order:
        process = self.fleet.bystander
        shown = process.do("shown", "service") or process.do("offer", "service", "bystander", "arena", _SERVICE_BYTES, 1)
        metadata, regions = shown
        return Order("fetch", b"", metadata, regions, _SERVICE_BYTES, 1, _ENOUGH_S)

    def _others_are_served(self, players: list[Player]) -> None:
        """The reader reads from a bystander, and a bystander from the owner."""
        if self.case.fault in (*FLAVOURS, "ptrace_refused"):
            return
        for player in players:
            if self._mute(player):
                continue
            if player is self.reader:
                wrong = player.do("fetch", "reader", self.bystanders_order())
            else:
                (metadata, regions), seed = self._service
                order = Order("fetch", b"", metadata, regions, _SERVICE_BYTES, seed, _ENOUGH_S)
                wrong = self.fleet.bystander.do("fetch", "bystander", order)
            assert wrong == "", f"a transfer beside the {player.engine}: {wrong}"

    def _works_again(self) -> None:
        """The same two, once the fault is over."""
        fault = self.case.fault
        if fault in ("freed", "unmapped", *FLAVOURS, "ptrace_refused"):
            return
        order = Order("fetch", b"", self.order.metadata, (), self.order.sizes, self.order.seed, _ENOUGH_S, npu=self.order.npu)
        if fault in CUTS or self.gate is not None:
            eventually(lambda: self.reader.do("fetch", "reader", order) == "", SOON_S)
        else:
            wrong = self.reader.do("fetch", "reader", order)
            assert wrong == "", f"after the fault: {wrong}"

    def _nothing_is_left(self, player: Player) -> None:
        if player is self.reader:
            wrong = player.do("left")
            assert wrong == "", wrong
            player.do("drop")
        try:
            eventually(lambda: not self._left(player), SOON_S)
        except AssertionError:
            raise AssertionError(f"left at the {player.engine}: {self._left(player)}") from None

    def _left(self, player: Player) -> dict[str, Any]:
        stats = player.do("stats", player.engine)
        left = {name: stats[name] for name in ("transfers_in_flight", "quarantined_bytes") if stats[name]}
        if self.case.fault != "full_arena" and stats["landing"]["used_bytes"]:
            left["landing"] = stats["landing"]["used_bytes"]
        ended = stats["transfers_succeeded"] + stats["transfers_failed"] + stats["transfers_in_flight"]
        if player is self.owner and stats["sessions"] != (links := self.fleet.bystander.do("stats", "bystander")["links"]):
            left["sessions"] = stats["sessions"] - links
        if stats["transfers_started"] != ended:
            left["transfers_started"] = stats["transfers_started"] - ended
        return left

    def give_up(self) -> None:
        """After a failure: nothing of it is used again."""
        for process in self.processes:
            process.discard()
        if self.proxy is not None:
            self.proxy.close()
