"""How much longer things take here than on the idle machine for which tests state their bounds.

A bound about time that a test asserts is multiplied by it, so that it also holds beside other work: ``assert took < scaled(1.0)``.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import time

_BLOCKS = 4000
_HANDOVERS = 100
# What they took where the bounds were set: an idle machine (AMD EPYC, 2 cores).
_BLOCKS_S = 0.0016
_HANDOVERS_S = 0.0016
_ROUNDS = 5
_MOST = 10.0  # or a bound that is broken would be waited for too long


def _work() -> None:
    """Interpreted code and memory, in equal parts."""
    digest = b""
    for number in range(_BLOCKS):
        digest = hashlib.sha256(digest + number.to_bytes(8, "little")).digest()


def _hand_over() -> None:
    """Two threads by turns."""
    first, second = threading.Semaphore(1), threading.Semaphore(0)

    def play(mine: threading.Semaphore, other: threading.Semaphore) -> None:
        for _ in range(_HANDOVERS):
            mine.acquire()
            other.release()

    partner = threading.Thread(target=play, args=(second, first))
    partner.start()
    play(first, second)
    partner.join()


@functools.cache
def yardstick() -> float:
    """Measured once in a process (some 20 ms), by the clock; 1 to 10."""
    start = time.perf_counter()
    for _ in range(_ROUNDS):
        _work()
    middle = time.perf_counter()
    for _ in range(_ROUNDS):
        _hand_over()
    end = time.perf_counter()
    return min(_MOST, max(1.0, (middle - start) / _ROUNDS / _BLOCKS_S, (end - middle) / _ROUNDS / _HANDOVERS_S))


def scaled(seconds: float) -> float:
    """A bound, as it is for this machine now."""
    return seconds * yardstick()
