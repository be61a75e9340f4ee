"""Ctrl-C at every point of a call: whatever the call began has ended when it raises, since its caller has nothing to end it by."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

import ray_hixl
from interrupts import at_every_point
from ray_hixl import _core, begun
from support import Owner

DATA = b"x" * 1000


@pytest.fixture
def reader() -> Iterator[ray_hixl.Engine]:
    with ray_hixl.Engine(ray_hixl.Options(transports=("stream",))) as engine:
        yield engine


def test_a_fetch_that_nobody_got_has_ended(reader: ray_hixl.Engine, owner: Owner) -> None:
    metadata = owner.get("engine.publish([given])", given=DATA)
    reader.fetch(metadata).result()  # the link stands
    target = bytearray(len(DATA))
    with owner.stopped():
        for error in at_every_point(lambda: reader.fetch(metadata, [target])._core.cancel()):
            assert isinstance(error, KeyboardInterrupt)
            assert reader.stats()["transfers_in_flight"] == 0
    assert target == bytes(len(DATA))


def test_a_read_that_raises_has_ended(reader: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("region = engine.register(given)", given=DATA)
    peer = reader.connect(owner.descriptor)
    batch = peer.prepare([(reader.register(bytearray(len(DATA))), 0, peer.region(owner.get("region.descriptor")), 0, len(DATA))])
    peer.read(batch)

    def read() -> None:
        with pytest.raises(ray_hixl.TransferTimeout):
            peer.read(batch, timeout=0.005)

    def start() -> None:
        peer.read_async(batch)._core.cancel()  # what comes after the call is its caller's

    with owner.stopped():
        for call in (read, start):
            for error in at_every_point(call):
                assert isinstance(error, KeyboardInterrupt)
                assert reader.stats()["transfers_in_flight"] == 0


class FakeTransfer:
    """Stops after so many waits; the first ``interrupts`` calls of each kind are interrupted."""

    def __init__(self, stops: bool = True, interrupts: int = 0) -> None:
        self.stops = stops
        self.interrupts = {"cancel": interrupts, "stopped": interrupts}
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.interrupts[name] -= 1
        if self.interrupts[name] >= 0:
            raise KeyboardInterrupt
        self.calls.append(name)

    def cancel(self) -> None:
        self._called("cancel")

    def stopped(self, seconds: float) -> bool:
        self._called("stopped")
        return self.stops


def end(error: BaseException, *transfers: FakeTransfer, conclude: Any = begun.tell) -> BaseException:
    """What a block raises that began these, and in which ``error`` is raised."""
    with pytest.raises(BaseException) as caught, _core.Begun(1.0, conclude) as block:  # noqa: PT011, PT012
        for index, transfer in enumerate(transfers):
            block.add(f"object {index}", transfer, True)
        raise error
    return caught.value


def test_interrupts_meanwhile_skip_nothing() -> None:
    transfers = [FakeTransfer(interrupts=2) for _ in range(3)]
    error = ValueError("first")
    raised = end(error, *transfers)
    assert isinstance(raised, KeyboardInterrupt)
    assert raised.__context__ is error
    assert [transfer.calls for transfer in transfers] == [["cancel", "stopped"]] * 3


def test_what_is_raised_in_the_end_says_what_may_still_be_written() -> None:
    interrupted = end(ValueError("first"), FakeTransfer(stops=False, interrupts=1), FakeTransfer())
    assert isinstance(interrupted, KeyboardInterrupt)
    assert "object 0 may still be written" in str(interrupted)

    def conclude(error: BaseException, names: list[str]) -> BaseException:
        if not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt
        return begun.tell(error, names)

    last = end(ValueError("first"), FakeTransfer(stops=False), conclude=conclude)
    assert isinstance(last, KeyboardInterrupt)
    assert "object 0 may still be written" in str(last)


def test_every_object_is_named() -> None:
    of_one = ray_hixl.Cancelled("fetching an object: the target memory may still be written, and is kept until it has stopped")
    said = str(end(of_one, FakeTransfer(stops=False), FakeTransfer(), FakeTransfer(stops=False)))
    assert "the target buffers of object 0, object 2 may still be written" in said


def test_one_that_says_so_itself_is_left_alone() -> None:
    text = "fetching an object: the target memory may still be written, and is kept until it has stopped"
    assert str(end(ray_hixl.Cancelled(text), FakeTransfer(stops=False))) == text


def test_arguments_of_other_kinds_stay() -> None:
    raised = end(OSError(2, "no such file"), FakeTransfer(stops=False))
    assert raised.args == (2, "no such file")
    assert "object 0 may still be written" in begun._said_by(raised)


class Bare(BaseException):
    """An error of Python 3.10, which takes no notes and has a text of its own."""

    add_note = property()  # type: ignore[assignment]  # as if it were not there

    def __str__(self) -> str:
        return "text of its own"


def test_without_notes_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ray_hixl"):
        end(Bare(), FakeTransfer(stops=False))
    assert "Bare: the target buffers of object 0 may still be written" in caplog.text


def test_blocks_are_a_threads_own_and_nest() -> None:
    assert _core.Begun.current() is None
    with begun.ended_on_error() as outer:
        with begun.ended_on_error() as inner:
            assert _core.Begun.current() is inner
        assert _core.Begun.current() is outer
    assert _core.Begun.current() is None
