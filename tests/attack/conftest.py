"""What is attacked: an engine in a process of its own, watched, beside an honest client whose service must go on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), *(str(Path(__file__).parent.parent / folder) for folder in ("python", "shared"))]
pytest.register_assert_rewrite("support", "attacked", "owners")

import os  # noqa: E402

from attacked import Attacked, Honest  # noqa: E402
from owners import AttackedReader  # noqa: E402

import wire  # noqa: E402

WAYS = ("unix", "tcp")


@pytest.fixture(scope="session")
def honest() -> Iterator[Honest]:
    """The process of the honest client."""
    made = Honest()
    yield made
    made.close()


@pytest.fixture(scope="module")
def victim(honest: Honest) -> Iterator[Attacked]:
    """An owner that the tests of one file attack, one after the other."""
    made = Attacked(honest)
    yield made
    made.close()


@pytest.fixture
def new_victim(honest: Honest) -> Iterator[Callable[..., Attacked]]:
    """Starts owners for one test alone. Arguments: those of Attacked."""
    made: list[Attacked] = []

    def start(**arguments: Any) -> Attacked:
        made.append(Attacked(honest, **arguments))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(params=WAYS)
def over_unix(request: pytest.FixtureRequest) -> bool:
    """Attacked by its Unix socket, and by TCP."""
    return bool(request.param == "unix")


@pytest.fixture(scope="module")
def reader() -> Iterator[AttackedReader]:
    made = AttackedReader()
    yield made
    made.owner.close()


@pytest.fixture(scope="module")
def table_bytes(victim: Attacked) -> int:
    """Of an engine's generation table."""
    with victim.connect(over_unix=True) as session:
        wire.authenticate(session, victim.descriptor, victim.hello())
        (fd,) = session.frame().fds
        size = os.fstat(fd).st_size
        os.close(fd)
    return size
