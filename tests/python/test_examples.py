"""Examples that need neither Ray nor torch do what they say."""

from __future__ import annotations

import programs


def test_two_processes() -> None:
    assert programs.run("two_processes.py", quiet=True) == ["read b'xxxx' by cma", "fetched [b'first', b'second'] by {'cma': 11}"]
