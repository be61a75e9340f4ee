"""Owners that pass as their memory what would end, hang or mislead a reader that mapped it: refused, whatever it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from attacked import Attacked
from owners import (
    BASE,
    LENGTH,
    MIB,
    SHM,
    AttackedReader,
    answers,
    elsewhere,
    false_memory,
    live_table,
    memory,
)

from wire import (
    Connection,
    Frame,
    Impostor,
    Type,
    frames,
)


def test_segments_that_are_none(victim: Attacked, reader: AttackedReader, table_bytes: int) -> None:
    """Each would end the reader with SIGBUS, have it wait, or show it what changes, were it mapped as it is."""
    size = 2 * MIB
    table = live_table(table_bytes)
    kinds = false_memory(size) | {
        "one whose pages are missing": lambda: memory(size, written=False),
        "one whose pages lie behind its end": lambda: elsewhere(size),
    }

    def segment(make: Callable[[], int], count: int = 1, said: int = size, descriptors: int = 1) -> Callable[[Connection, Frame], None]:
        def answer(connection: Connection, request: Frame) -> None:
            if request.type == Type.RESOLVE:
                return connection.send(frames.resolved(request.request, [(BASE, LENGTH)], [(7, BASE, size)]))
            assert request.type == Type.MAP_SEGMENT
            made = [make() for _ in range(count)]
            connection.send(frames.segment(request.request, said, descriptors), made)
            for fd in made:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, 4096)  # now that it is mapped
                os.close(fd)
            return None

        return answer

    def good() -> int:
        return memory(size)

    cases = {name: segment(make) for name, make in kinds.items()} | {
        "none": segment(good, 0), "two": segment(good, 2), "sixteen": segment(good, 16),
        "another length": segment(good, said=2 * size), "no length": segment(good, said=0),
        "every length": segment(good, said=(1 << 64) - 1),
        "none announced": segment(good, descriptors=0), "many announced": segment(good, descriptors=16),
    }  # fmt: skip
    with reader.unharmed(victim):
        for name, answer in cases.items():
            with Impostor(victim.descriptor, answers(answer, SHM, table)) as impostor:
                code, message, _, data = reader.read(impostor, timeout=2.0, transports=["shm"])
            assert code not in ("ok", "cancelled"), (name, message)
            assert data == b"\xee" * LENGTH, name
        with Impostor(victim.descriptor, answers(segment(good), SHM, table)) as impostor:
            code, message, _, data = reader.read(impostor, transports=["shm"])
        assert (code, data) == ("ok", bytes(LENGTH)), message
