"""What stays: after many objects nothing that grows, and with nothing in flight no work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import Owner, eventually, pattern

WARM_UP, ROUNDS = 100, 1000
MOST_GROWTH_KIB = 4096

PUBLISH = """
import gc
def publish():
    return engine.publish([ordinary, small, arena, b''])
"""
FETCH = """
import gc
def fetch(metadata):
    tensors = engine.fetch(metadata).result()
    assert [bytes(memoryview(one)) for one in tensors] == expected
"""


def usage(pid: int) -> tuple[int, int, list[str]]:
    """File descriptors, threads, and mappings (without the heap's ends, which may move) of a process."""
    process = Path(f"/proc/{pid}")
    mappings = [line.split()[1] + " " + " ".join(line.split()[5:]) for line in (process / "maps").read_text().splitlines()]
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())), sorted(mappings)


def resident_kib(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


def cpu_ns(pid: int) -> int:
    """Time on a CPU of all threads of a process, as the scheduler counts it."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


@pytest.mark.parametrize("transports", [("shm", "cma", "stream"), ("stream",)], ids="-".join)
def test_publish_fetch_and_free_leave_nothing(new_owner: Callable[..., Owner], transports: tuple[str, ...]) -> None:
    source, reader = new_owner(), new_owner(options={"transports": transports})
    ordinary, small = pattern(200_000, 1), pattern(100, 2)
    source.run(
        PUBLISH + "arena = engine.empty(len(ordinary)); memoryview(arena)[:] = ordinary",
        ordinary=bytearray(ordinary),
        small=bytearray(small),
    )
    reader.run(FETCH, expected=[ordinary, small, ordinary, b""])

    def go(rounds: int) -> None:
        for _ in range(rounds):
            metadata = source.get("publish()")
            reader.run("fetch(metadata)", metadata=metadata)
            source.run("engine.release(metadata)", metadata=metadata)
        for one in (source, reader):
            one.run("gc.collect()")
        eventually(lambda: reader.get("engine.stats()['landing']['live_blocks']") == 0)

    go(WARM_UP)
    before = [(usage(one.pid), resident_kib(one.pid)) for one in (source, reader)]
    go(ROUNDS)
    after = [(usage(one.pid), resident_kib(one.pid)) for one in (source, reader)]
    for (usage_before, kib_before), (usage_after, kib_after) in zip(before, after, strict=True):
        assert usage_after == usage_before
        assert kib_after - kib_before < MOST_GROWTH_KIB
    assert source.get("engine.stats()['objects']") == 0
    assert reader.get("[engine.stats()[name] for name in ('transfers_in_flight', 'transfers_failed', 'quarantined_bytes', 'links')]") == [
        0,
        0,
        0,
        1,
    ]


def test_connecting_and_closing_leaves_nothing(new_owner: Callable[..., Owner]) -> None:
    source, reader = new_owner(), new_owner()
    source.run("region = engine.register(bytes(1000))")
    reader.run(
        "import gc\n"
        "def go(rounds):\n"
        "    for _ in range(rounds):\n"
        "        with ray_hixl.Engine() as own, own.register(bytearray(1000)) as local:\n"
        "            peer = own.connect(descriptor)\n"
        "            peer.read([(local, 0, peer.region(region), 0, 1000)])\n"
        "            peer.close()\n"
        "    gc.collect()",
        descriptor=source.descriptor,
        region=source.get("region.descriptor"),
    )

    def settled() -> None:
        eventually(lambda: source.get("engine.stats()['sessions']") == 0)

    reader.run("go(20)")
    settled()
    before = [usage(one.pid)[:2] for one in (source, reader)]
    reader.run("go(100)")
    settled()
    assert [usage(one.pid)[:2] for one in (source, reader)] == before


@pytest.mark.parametrize("seconds", [3, pytest.param(10, marks=pytest.mark.long)])
def test_idle_engines_do_not_work(new_owner: Callable[..., Owner], seconds: int) -> None:
    """With a link open that was used, and nothing in flight: at most two clock ticks."""
    source, reader = new_owner(), new_owner(options={"transports": ("shm", "stream")})
    metadata = source.get("engine.publish([given, engine.empty(1 << 20)])", given=pattern(1 << 20))
    reader.run(
        "peer = engine.connect(descriptor); tensors = engine.fetch(metadata).result()", descriptor=source.descriptor, metadata=metadata
    )
    time.sleep(0.2)  # what follows the end of a transfer is no idleness
    before = [cpu_ns(one.pid) for one in (source, reader)]
    time.sleep(seconds)
    spent = [(cpu_ns(one.pid) - start) / 1e6 for one, start in zip((source, reader), before, strict=True)]
    assert max(spent) <= 20
    assert reader.get("engine.stats()['links']") == 1
