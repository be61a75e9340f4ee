"""Transfers that are met in their middle, over a cable that is slow meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hosts import Cable, Host
from waiting import eventually

LONG = 256 << 20  # bytes, of which the first seconds bring a small part
_T = TypeVar("_T")


@contextmanager
def in_the_middle(host: Host, cable: Cable, start: Callable[[], _T], arrived: Callable[[], int]) -> Iterator[_T]:
    """What ``start`` has begun, some of whose bytes have ``arrived``, and most have not. The cable is slow until the end of the block."""
    with host.slow(cable):
        before = arrived()
        begun = start()
        eventually(lambda: arrived() > before + 100_000)
        assert arrived() < before + LONG // 2
        yield begun
