"""Engines and peers to share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "shared")]
pytest.register_assert_rewrite("support")

import ray_hixl  # noqa: E402
from support import Owner  # noqa: E402

TORCH_WAYS = ("table", "attributes")


@pytest.fixture(autouse=True)
def no_options_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test begins with the defaults, whatever the shell has set."""
    for name in list(os.environ):
        if name.startswith("RAY_HIXL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def engine() -> Iterator[ray_hixl.Engine]:
    with ray_hixl.Engine() as made:
        yield made


@pytest.fixture(scope="module")
def owner() -> Iterator[Owner]:
    """Another process, shared by the tests of one file: leave its engine alive."""
    made = Owner()
    yield made
    made.close()


@pytest.fixture
def new_owner() -> Iterator[Callable[..., Owner]]:
    """Starts processes for one test alone. Arguments: those of Owner."""
    made: list[Owner] = []

    def start(**arguments: Any) -> Owner:
        made.append(Owner(**arguments))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def torch_owners() -> Iterator[dict[str, Owner]]:
    """Processes with torch, by how the binding reads and makes tensors there: leave their engines alive."""
    made = {way: Owner(prepare=f"import torch; ray_hixl._core.use_torch(torch, exchange_api={way == 'table'})") for way in TORCH_WAYS}
    assert [one.get("ray_hixl._core.has_exchange_api()") for one in made.values()] == [True, False]
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(params=TORCH_WAYS)
def torch_owner(request: pytest.FixtureRequest, torch_owners: dict[str, Owner]) -> Owner:
    """A process with torch: once with torch's DLPack table, once by attributes and capsules alone."""
    return torch_owners[request.param]


@pytest.fixture
def peer(engine: ray_hixl.Engine, owner: Owner) -> ray_hixl.Peer:
    """The shared owner, as the engine sees it."""
    return engine.connect(owner.descriptor)
