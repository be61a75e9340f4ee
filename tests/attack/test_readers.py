"""Readers that have the key and then do harm: they get what the key is for and not one byte more, and cost no more than others."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

import pytest
from attacked import DATA, Attacked, look_at

import wire
from wire import Code, Frame, Handle, HungUp, Purpose, Transport, Type, frames

TOP = (1 << 64) - 1
_MIB = 1 << 20


def asked(connection: wire.Connection, request: Frame) -> Frame:
    connection.send(request)
    answer = connection.frame()
    assert answer.request == request.request
    return answer


def spans_of(victim: Attacked, offset: int = 0, length: int = 16) -> list[tuple[Handle, int, int]]:
    return [(victim.region.handle, offset, length)]


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open("/dev/null", os.O_RDONLY)
    yield fd
    os.close(fd)


def test_unknown_messages(victim: Attacked, over_unix: bool) -> None:
    """A request of a later version is answered with a refusal, a notice is ignored, and the connection goes on."""
    with victim.unharmed(), victim.session(over_unix) as session:
        for kind in (0, max(Type) + 1, 999, 0xFFFF):
            for size in (0, 1, 60_000):
                session.send(Frame(kind, 0, bytes(size)))
                code, message = frames.failure_of(asked(session, Frame(kind, 5, bytes(size))))
                assert code == Code.NOT_AVAILABLE
                assert "version" in message
        for known in (frames.segment(6, 1, 0), frames.reading(6, 1), frames.checked(6)):  # what only owners say
            assert asked(session, known).type == Type.FAILURE
        assert asked(session, frames.check(7, [victim.region.handle])).type == Type.CHECKED


def test_headers_that_lie(victim: Attacked, over_unix: bool) -> None:
    """Sizes that no such message has, descriptors that none may bring, requests without a number: hung up on, before the body came."""
    resolve = frames.resolve(1, victim.region.handle)
    lies = [resolve.pack(size) for size in (0, 1, 15, 16, 35, 37, 1 << 26, 0xFFFFFFFF)]
    lies += [Frame(Type.RESOLVE, 1, resolve.body, descriptors=count).pack() for count in (1, 16, 17, 0xFFFF)]
    lies += [Frame(Type.CHECK, 1, struct.pack("<I", count) + bytes(60)).pack() for count in (0, 4, (1 << 16) + 1, 0xFFFFFFFF)]
    lies += [Frame(Type.RESOLVE, 0, resolve.body).pack(), Frame(999, 1, b"").pack((64 << 10) + 1)]
    with victim.unharmed():
        for lie in lies:
            with victim.session(over_unix) as session, contextlib.suppress(HungUp):
                session.send(lie)
                answer = session.frame()  # a body that makes no sense may be refused instead
                assert answer.type == Type.FAILURE, (lie[:24].hex(), answer)


def test_counts_that_lie(victim: Attacked, over_unix: bool) -> None:
    """No memory is taken for what a count promises."""
    with victim.unharmed(rss_mib=16):
        for kind, count in ((Type.READ, 1 << 20), (Type.READ, 0xFFFFFFFF), (Type.READ, (1 << 20) + 1)):
            for size in (4, 36, 360):
                with victim.data(over_unix) as data, contextlib.suppress(HungUp):
                    data.send(Frame(kind, 1, struct.pack("<I", count) + bytes(size)))
                    assert data.frame().type == Type.FAILURE
        with contextlib.ExitStack() as held:  # frames that are announced at their longest, and never sent
            for _ in range(20):
                connection = held.enter_context(victim.data(over_unix))
                connection.send(Frame(Type.READ, 1, struct.pack("<I", 1 << 20)).pack(16 + 4 + 36 * (1 << 20)))


def test_bytes_that_nobody_gave_out(victim: Attacked, over_unix: bool) -> None:
    """Wrong keys, generations and slots, other engines' handles, offsets and lengths beyond the end or beyond 64 bits."""
    good = victim.region.handle
    other: bytes = victim.owner.get(
        "[other := ray_hixl.Engine(), other_region := other.register(bytearray(b'secret' * 1000)), other_region.descriptor][2]"
    )
    strange = wire.RegionDescriptor.unpack(other).handle
    handles = [
        Handle(good.slot, good.generation, good.key ^ 1),
        Handle(good.slot, good.generation, 0),
        Handle(good.slot, good.generation, TOP),
    ]
    handles += [
        Handle(good.slot, generation, good.key) for generation in (0, good.generation - 1, good.generation + 1, good.generation + 2, TOP)
    ]
    handles += [Handle(slot, good.generation, good.key) for slot in (good.slot + 1, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF)]
    handles.append(strange)
    wrong = [[(handle, 0, 1)] for handle in handles] + [[(good, 0, 16), (handle, 0, 1)] for handle in handles]
    length = len(DATA)
    bounds = [(length, 1), (length - 1, 2), (0, length + 1), (TOP, 1), (TOP, 2), (1, TOP), (0, TOP), (1 << 63, 1 << 63), (length + 1, 0)]
    wrong += [[(good, offset, count)] for offset, count in bounds]
    wrong += [[(good, 0, 1 << 63), (good, 0, 1 << 63)], [(good, 0, 16)] * 3 + [(good, length, 1)]]
    served = victim.stats("served_bytes")
    with victim.unharmed() as visits:
        with victim.session(over_unix) as session:
            for handle in handles:
                for request in (frames.resolve(1, handle), frames.check(1, [good, handle]), frames.locate(1, handle)):
                    assert asked(session, request).type == Type.FAILURE
        for spans in wrong:
            with victim.data(over_unix) as data, contextlib.suppress(HungUp):
                code, _ = frames.failure_of(asked(data, frames.read(1, spans)))
                assert code in (Code.INVALID_REGION, Code.INVALID_ARGUMENT)
    assert victim.stats("served_bytes") - served == visits.count * len(DATA)


def test_a_handle_after_its_region_was_closed(victim: Attacked, over_unix: bool) -> None:
    """Stale for ever, also once the slot has another region."""
    victim.owner.run("closed = engine.register(bytearray(b'x' * 4096)); stale = closed.descriptor; closed.close()")
    stale = wire.RegionDescriptor.unpack(victim.owner.get("stale")).handle
    victim.owner.run("next_one = engine.register(bytearray(b'y' * 4096))")
    with victim.unharmed(), victim.session(over_unix) as session, victim.data(over_unix) as data:
        for request in (frames.resolve(1, stale), frames.check(2, [stale])):
            assert asked(session, request).type == Type.FAILURE
        assert frames.failure_of(asked(data, frames.read(3, [(stale, 0, 1)])))[0] == Code.INVALID_REGION


def test_descriptors_after_authentication(victim: Attacked, null: int) -> None:
    """A server never takes any: with frames, between them, announced or not, on both kinds of connection, with the proof."""
    resolve = frames.resolve(1, victim.region.handle)
    announced = Frame(Type.RESOLVE, 1, resolve.body, descriptors=16)
    with victim.unharmed(descriptors=48), contextlib.ExitStack() as held:
        for made in (victim.session, victim.data):
            for sent in (resolve.pack(), announced.pack(), resolve.pack()[:1], Frame(999, 0).pack()):
                connection = held.enter_context(made(True))
                with contextlib.suppress(HungUp):
                    for _ in range(8):
                        connection.send(sent, [null] * 16)
        for purpose, transport in ((Purpose.CONTROL, Transport.LOCAL), (Purpose.DATA, Transport.STREAM)):
            connection = held.enter_context(victim.connect(True))
            hello = victim.hello(purpose, transport).pack()
            connection.send(hello, [null] * 16)
            challenge = connection.exactly(wire.CHALLENGE_BYTES)
            with contextlib.suppress(HungUp):
                connection.send(wire.handshake.proof(victim.descriptor.key, hello, challenge), [null] * 16)
        assert victim.owner.get("open('/dev/null').close()") is None


def test_addresses_and_memory_over_tcp(victim: Attacked) -> None:
    """Only processes of the same user on this host are told where bytes lie: not who comes by TCP, even from here."""
    victim.owner.run("arena = engine.empty(4096)")
    arena = wire.RegionDescriptor.unpack(victim.owner.get("arena.region.descriptor")).handle
    with victim.unharmed(), victim.connect(over_unix=False) as session:
        wire.authenticate(session, victim.descriptor, victim.hello())
        welcome = session.frame()
        assert (welcome.descriptors, welcome.fds) == (0, [])
        for base in victim.owner.get("[int(line.split('-')[0], 16) for line in open('/proc/self/maps')]"):
            assert struct.pack("<Q", base) not in welcome.body
        for request in (frames.resolve(1, arena), frames.resolve(2, victim.region.handle), *(frames.map_segment(3, n) for n in range(4))):
            assert asked(session, request).type == Type.FAILURE


def test_who_leaves_in_the_middle(victim: Attacked, over_unix: bool) -> None:
    """Of a frame, of an answer; and who shuts down one half."""
    read = frames.read(1, spans_of(victim, 0, len(DATA))).pack()
    with victim.unharmed():
        for cut in (1, 15, 16, len(read) - 1, len(read)):
            for made in (victim.session, victim.data):
                with made(over_unix) as connection:
                    connection.send(read[:cut])
        with victim.data(over_unix) as data:
            data.send(read)
            data.socket.shutdown(1)
            with contextlib.suppress(HungUp):
                assert data.frame().type == Type.READING
    assert look_at(victim.pid).threads > 0
