"""Strangers in numbers, as another user where it can be: they keep nobody out who has the key, and leave the process its descriptors."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from attacked import Attacked

HOW = ("connect", "stall", "drip", "garble")
_STRANGER = Path(__file__).parent / "stranger.py"
_SHARED = Path(__file__).parent.parent / "shared"


def places_of(victim: Attacked) -> list[str]:
    return [str(victim.descriptor.port), "x" + victim.descriptor.unix_name.hex()]


def gather(how: str, place: str, seconds: float) -> subprocess.Popen[str]:
    """Five hundred of a kind."""
    return subprocess.Popen(
        [sys.executable, str(_STRANGER), how, "500", place, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_SHARED)},
    )


def test_four_thousand_strangers_at_once(new_victim: Callable[..., Attacked]) -> None:
    """By both sockets, at an engine that may have 1024 descriptors."""
    victim = new_victim()
    with victim.unharmed(descriptors=700):
        crowds = [gather(how, place, 4.0) for place in places_of(victim) for how in HOW]
        for crowd in crowds:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == "there\n"
        assert victim.owner.get("open('/dev/null').close()") is None
        for crowd in crowds:
            crowd.communicate()


def test_the_engine_of_a_small_process(new_victim: Callable[..., Attacked]) -> None:
    """Strangers take a part of what it may have, not all: bounds follow its limit."""
    victim = new_victim(most_descriptors=128)
    with victim.unharmed(descriptors=100), contextlib.ExitStack() as held:
        for number in range(300):
            held.enter_context(victim.connect(over_unix=number % 2 == 0))
        assert victim.owner.get("open('/dev/null').close()") is None
