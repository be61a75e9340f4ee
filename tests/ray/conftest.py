"""One Ray cluster for all tests here, three actors to share, and the one retry that old Rays need."""

from __future__ import annotations

import gc
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_PATHS = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "shared")]
sys.path[:0] = _PATHS
os.environ["PYTHONPATH"] = os.pathsep.join([*_PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])  # workers import actors.py
os.environ["RAY_rdt_fetch_fail_timeout_milliseconds"] = "10000"  # noqa: SIM112  # read by Ray when it is imported, in workers, too
os.environ["RAY_metrics_report_interval_ms"] = "1000"  # noqa: SIM112  # instead of 10000

import ray  # noqa: E402

import actors  # noqa: E402
from versions import RAY  # noqa: E402

_LOSES_METADATA = RAY <= (2, 56)
_LOST = re.compile(r"ObjectRef\((\w+)\) not found in RDT object store|waiting for object (\w+) to be created")
_retries: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-rounds", type=int, default=10, help="how many rounds test_random_faults.py plays")
    parser.addoption("--fault-seed", type=int, default=1, help="which; 0 draws a seed")


def pytest_configure(config: pytest.Config) -> None:
    config.option.fault_seed = config.option.fault_seed or random.randrange(1, 1 << 31)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A cluster of this session's own."""
    yield ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.shutdown()


_SHARED = ("source", "consumer", "third")


def _start_peers() -> list[Any]:
    made = [actors.Peer.remote() for _ in _SHARED]
    ray.get([peer.call.remote(actors.left) for peer in made])
    return made


@pytest.fixture(scope="session")
def peers(cluster: Any) -> list[Any]:
    """Actors that all tests share: leave them alive."""
    return _start_peers()


@pytest.fixture
def source(peers: list[Any]) -> Any:
    return peers[_SHARED.index("source")]


@pytest.fixture
def consumer(peers: list[Any]) -> Any:
    return peers[_SHARED.index("consumer")]


@pytest.fixture
def third(peers: list[Any]) -> Any:
    return peers[_SHARED.index("third")]


@pytest.fixture
def fresh(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Makes actors for one test alone; the options are those of ``Peer.options``."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(actors.Peer.options(**options).remote())
        return made[-1]

    yield make
    for actor in made:
        ray.kill(actor)


def _lost_metadata(error: BaseException, peers: list[Any]) -> bool:
    """Did Ray itself lose an object's metadata, so that our transport was never called for it?

    Ray up to 2.56 drops metadata that comes before the reference is registered. The owner, this process or an actor, then never learns that
    the object exists.
    """
    found = _LOST.search(str(error))
    if not _LOSES_METADATA or found is None:
        return False
    object_id = found.group(1) or found.group(2)
    return actors.waits_for_metadata(object_id) or any(ray.get([peer.call.remote(actors.waits_for_metadata, object_id) for peer in peers]))


def _frees_that_wait() -> set[str]:
    """Objects of this process that an old Ray frees once their metadata comes, which may be lost."""
    return set(actors.ray_manager()._queued_frees) if _LOSES_METADATA else set()


def _replace(peers: list[Any]) -> None:
    for peer in peers:
        ray.kill(peer)
    peers[:] = _start_peers()


def _left(peers: list[Any], collect: bool = False) -> list[int]:
    if collect:
        gc.collect()  # errors keep the frames they went through, and those the references
    return [sum(left.values()) for left in ray.get([peer.call.remote(actors.left, collect) for peer in peers])]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Runs the test, again if Ray lost metadata; then every reference is gone, and so must be what the shared actors held.

    Nobody ever frees what Ray lost, which tests would count for ever: so others take the place of the actors that have it.
    """
    peers = pyfuncitem.funcargs.get("peers", [])
    if not peers:
        return (yield)
    before, waiting = _left(peers), _frees_that_wait()
    try:
        result = yield
    except Exception as error:
        if not _lost_metadata(error, peers):
            raise
        _retries.append(pyfuncitem.nodeid)
        _replace(peers)
        before = _left(peers)
        again = pyfuncitem.funcargs | dict(zip(_SHARED, peers, strict=True))
        pyfuncitem.obj(**{name: again[name] for name in pyfuncitem._fixtureinfo.argnames})
        result = True

    def is_clean(collect: bool) -> bool:
        return all(after <= was for after, was in zip(_left(peers, collect), before, strict=True))

    try:
        actors.eventually(lambda: is_clean(False) or is_clean(True))
    except AssertionError:
        if _frees_that_wait() <= waiting:
            raise
        _retries.append(f"{pyfuncitem.nodeid}: passed, but nobody frees its object")
        _replace(peers)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how often the one retry was needed, and how to play the random faults again."""
    seed = terminalreporter.config.option.fault_seed
    terminalreporter.write_line(f"Ray {ray.__version__}: lost metadata retries: {len(_retries)}; seed of the random faults: {seed}")
    for nodeid in _retries:
        terminalreporter.write_line(f"  {nodeid}")
