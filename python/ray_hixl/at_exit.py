"""What is closed when the process ends, so that whoever must go last (npu.py) need not know who there is."""

from __future__ import annotations

from collections.abc import Callable

_closers: list[Callable[[], None]] = []


def closes(close: Callable[[], None]) -> None:
    """``close_all`` calls it, before those that were given earlier."""
    _closers.append(close)


def close_all() -> None:
    """May be called more than once."""
    for close in reversed(_closers):
        close()
