"""Examples that need no Ray do what they say."""

from __future__ import annotations

import programs


def test_two_processes() -> None:
    assert programs.run("two_processes.py", quiet=True) == ["read b'xxxx' by cma", "fetched [b'first', b'second'] by {'cma': 11}"]


def test_custom_loop() -> None:
    assert programs.run("custom_loop.py", "--feeders=2", "--rounds=3", "--nbytes=100000", quiet=True) == [
        "3 rounds of 2 feeders, every byte compared: {'cma': 600000}"
    ]
