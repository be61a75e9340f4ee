"""Owners that lie in their answers: each call ends with one clear error, writes nothing beyond its target, and the reader goes on."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Sequence

from attacked import Attacked
from owners import (
    HANDLE,
    LENGTH,
    AttackedReader,
    Lure,
    answers,
    live_table,
    on_data,
    welcome,
)

import wire
from wire import (
    Code,
    Connection,
    Frame,
    Hello,
    Impostor,
    Type,
    frames,
)
from yardstick import scaled


def test_resolved_that_lies(victim: Attacked, reader: AttackedReader, table_bytes: int) -> None:
    """Addresses that are not mapped, in the kernel, or where the sum of lengths is another; answers to other requests; counts that lie."""
    lure = Lure()
    table = live_table(table_bytes)
    here = lure.address

    def resolved(ranges: list[tuple[int, int]], segments: Sequence[tuple[int, int, int]] = ()) -> Callable[[Frame], list[Frame | bytes]]:
        return lambda request: [frames.resolved(request.request, ranges, segments)]

    counts = struct.pack("<II", 1 << 21, 0), struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF), struct.pack("<II", 1, 1 << 20)
    cases: dict[str, Callable[[Frame], list[Frame | bytes]]] = {
        "nothing there": resolved([(0x1000, LENGTH)]),
        "address zero": resolved([(0, LENGTH)]),
        "the kernel's": resolved([(0xFFFF800000000000, LENGTH)]),
        "the last bytes": resolved([((1 << 64) - LENGTH, LENGTH)]),
        "beyond 64 bits": resolved([((1 << 64) - 1, LENGTH)]),
        "too short": resolved([(here, LENGTH - 1)]),
        "no range": resolved([]),
        "lengths beyond 64 bits": resolved([(here, 1 << 63), (here, 1 << 63)]),
        "segments beyond 64 bits": resolved([(here, LENGTH)], [(1, (1 << 64) - 1, 2)]),
        "a million of nothing": resolved([(here, 0)] * (1 << 20)),
        "counts that lie": lambda request: [Frame(Type.RESOLVED, request.request, counts[0])],
        "counts beyond all": lambda request: [Frame(Type.RESOLVED, request.request, counts[1] + bytes(64))],
        "segments that lie": lambda request: [Frame(Type.RESOLVED, request.request, counts[2] + bytes(16))],
        "another request": lambda request: [frames.resolved(request.request + 1, [(here, LENGTH)])],
        "another type": lambda request: [frames.segment(request.request, LENGTH, 0)],
        "an unknown type": lambda request: [Frame(999, request.request, bytes(100))],
        "a notice": lambda request: [frames.resolved(0, [(here, LENGTH)])],
        "a failure that is ok": lambda request: [frames.failure(request.request, Code.OK, "")],
        "cut": lambda request: [frames.resolved(request.request, [(here, LENGTH)]).pack()[:-1]],
        "nothing": lambda _: [],
    }
    with reader.unharmed(victim, rss_mib=96):
        for name, make in cases.items():

            def answer(connection: Connection, request: Frame, make: Callable[[Frame], list[Frame | bytes]] = make) -> None:
                for each in make(request):
                    connection.send(each)

            with Impostor(victim.descriptor, answers(answer, lure.transports, table)) as impostor:
                code, message, took, data = reader.read(impostor, timeout=1.0, transports=["cma"])
            assert code not in ("ok", "cancelled"), (name, code, message)
            assert took < scaled(3.0), name
            assert data == b"\xee" * LENGTH, name


def test_answers_that_come_twice(victim: Attacked, reader: AttackedReader, table_bytes: int) -> None:
    """The first counts; what belongs to no request is dropped, however often it comes."""
    lure = Lure()

    def answer(connection: Connection, request: Frame) -> None:
        for _ in range(3):
            connection.send(frames.resolved(request.request, [(lure.address, LENGTH)]))
        connection.send(b"".join(frames.checked(number).pack() for number in range(1000, 3000)))
        connection.send(frames.segment_retired(3).pack() * 20_000 + Frame(999, 0, bytes(100)).pack() * 2000)

    with reader.unharmed(victim), Impostor(victim.descriptor, answers(answer, lure.transports, live_table(table_bytes))) as impostor:
        code, message, _, data = reader.read(impostor, transports=["cma"])
        assert (code, data) == ("ok", lure.buffer.raw), message


def test_payload_that_lies(victim: Attacked, reader: AttackedReader) -> None:
    """Lengths, order and verdicts of a stream; nothing is written beyond the target."""
    full = bytes(LENGTH)
    cases: dict[str, Callable[[int], list[Frame | bytes]]] = {
        "more than asked for": lambda n: [frames.reading(n, LENGTH + 1), full + b"x", frames.read_end(n)],
        "all there is": lambda n: [frames.reading(n, (1 << 64) - 1), full],
        "nothing": lambda n: [frames.reading(n, 0), frames.read_end(n)],
        "no verdict": lambda n: [frames.reading(n, LENGTH), full],
        "a bad verdict": lambda n: [frames.reading(n, LENGTH), full, frames.read_end(n, Code.INVALID_REGION, "freed")],
        "a verdict of no code": lambda n: [frames.reading(n, LENGTH), full, frames.read_end(n, 200, "?")],
        "the verdict first": lambda n: [frames.read_end(n)],
        "of another request": lambda n: [frames.reading(n + 1, LENGTH), full, frames.read_end(n + 1)],
        "twice": lambda n: [frames.reading(n, LENGTH), full, frames.reading(n, LENGTH), full, frames.read_end(n)],
        "an unknown message": lambda n: [Frame(999, n, full[:1000])],
        "garbage": lambda _: [os.urandom(LENGTH)],
        "a hang-up": lambda n: [frames.reading(n, LENGTH), full[:100], b"bye"],
    }
    with reader.unharmed(victim):
        for name, make in cases.items():

            def script(connection: Connection, request: Frame, make: Callable[[int], list[Frame | bytes]] = make) -> None:
                for each in make(request.request):
                    if each == b"bye":
                        connection.socket.shutdown(socket.SHUT_RDWR)
                    else:
                        connection.send(each)

            with Impostor(victim.descriptor, on_data(script)) as impostor:
                code, message, took, _ = reader.read(impostor, timeout=1.0)
            assert code not in ("ok", "cancelled"), (name, message)
            assert took < scaled(3.0), name


def test_text_that_is_none(victim: Attacked, reader: AttackedReader) -> None:
    """What a peer says is shown, but cannot move a cursor, colour a terminal, forge a line of a log, or fill one."""
    texts = [
        b"\x1b[2J\x1b[31mred\x07\x00\x7f",
        b"\xff\xfe\xc3(\xe2\x82",
        "\u202e\u0085right to left".encode(),
        b"x" * 4096,
        b"\r\nERROR forged",
    ]
    with reader.unharmed(victim):
        for text in texts:
            for code in (Code.INVALID_REGION, 0, 13, 255):

                def script(connection: Connection, request: Frame, code: int = code, text: bytes = text) -> None:
                    connection.send(frames.failure(request.request, code, text))

                with Impostor(victim.descriptor, on_data(script)) as impostor:
                    ended, message, _, _ = reader.read(impostor, timeout=2.0)
                assert ended != "ok"
                assert all(letter.isprintable() or letter == "\n" or ord(letter) >= 0x80 for letter in message), repr(message)
                assert len(message) < 6000
        for length in (4097, 0xFFFF):  # longer than any message of a status

            def longer(connection: Connection, request: Frame, length: int = length) -> None:
                connection.send(frames.failure(request.request, Code.INTERNAL, bytes(length)))

            with Impostor(victim.descriptor, on_data(longer)) as impostor:
                assert reader.read(impostor, timeout=2.0)[0] == "peer_gone"


def test_endless_drips(victim: Attacked, reader: AttackedReader) -> None:
    """A byte now and then is no progress that a deadline waits for."""

    def drip(connection: Connection, data: bytes) -> None:
        for byte in data:
            connection.send(bytes([byte]))
            time.sleep(0.02)

    def welcome_drips(connection: Connection, _: Hello) -> None:
        drip(connection, welcome([(9, bytes(1000))]).pack())

    def payload_drips(connection: Connection, request: Frame) -> None:
        connection.send(frames.reading(request.request, LENGTH))
        drip(connection, bytes(LENGTH))

    with reader.unharmed(victim):
        with Impostor(victim.descriptor, welcome_drips) as impostor:
            code, _, took = reader.connect(impostor.descriptor, timeout=0.5)
        assert code == "connect_error"
        assert took < scaled(1.5)
        with Impostor(victim.descriptor, on_data(payload_drips)) as impostor:
            code, _, took, _ = reader.read(impostor, timeout=0.5)
        assert code == "transfer_timeout"
        assert took < scaled(3.0)


def test_metadata_of_more_than_there_is(victim: Attacked, reader: AttackedReader) -> None:
    """An object that claims to have petabytes, or a million tensors of nothing, takes no memory by that."""
    for shape in ([1 << 50], [1 << 40], [1 << 31, 1 << 30]):
        metadata = wire.object_metadata(HANDLE, victim.raw, b"uint8", 1, shape)
        begin = time.monotonic()
        with reader.unharmed(victim):
            reader.owner.run("fetch = lambda given: attempt(lambda: engine.fetch(given, timeout=2.0).result())[:2]")
            code, message = reader.owner.get("fetch(given)", given=metadata)
        assert code in ("out_of_memory", "object_freed", "invalid_argument"), (code, message)
        assert time.monotonic() - begin < scaled(5.0)
