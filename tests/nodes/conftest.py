"""One Ray cluster of three nodes: two raylets here, and one on another host, made of namespaces, where that is allowed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
_PATHS = [str(_HERE), *(str(_HERE.parent / folder) for folder in ("ray", "python", "shared"))]
sys.path[:0] = _PATHS
pytest.register_assert_rewrite("support")
os.environ["PYTHONPATH"] = os.pathsep.join([*_PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])  # workers import actors.py
os.environ["RAY_rdt_fetch_fail_timeout_milliseconds"] = "20000"  # noqa: SIM112  # read by Ray when it is imported, in workers, too
os.environ["RAY_HIXL_STALL_TIMEOUT_S"] = "4"

import ray  # noqa: E402

import actors  # noqa: E402
import cluster as ray_cluster  # noqa: E402
from hosts import FarOwner, Host, leave_for_a_network_of_its_own  # noqa: E402


@pytest.fixture(scope="session")
def separated() -> str:
    """ "" once this process has a network of its own; else why it has not."""
    return leave_for_a_network_of_its_own()


@pytest.fixture
def new_host(separated: str, tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Makes hosts for one test alone. Arguments: those of Host after its folder."""
    if separated:
        pytest.skip(separated)
    made: list[Host] = []

    def make(**arguments: Any) -> Host:
        made.append(Host(tmp_path, **arguments))
        return made[-1]

    yield make
    for host in made:
        host.close()


@pytest.fixture
def host(new_host: Callable[..., Host]) -> Host:
    return new_host()


@pytest.fixture
def new_owner() -> Iterator[Callable[..., FarOwner]]:
    """Starts engines on other hosts, for one test alone. Arguments: those of FarOwner."""
    made: list[FarOwner] = []

    def start(*arguments: Any, **options: Any) -> FarOwner:
        made.append(FarOwner(*arguments, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def host_of_far(separated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host | None]:
    """The host of the node "far", with two cables; None where there cannot be one."""
    if separated:
        yield None
        return
    made = Host(tmp_path_factory.mktemp("far"))
    made.plug()
    yield made
    made.close()


@pytest.fixture
def far(host_of_far: Host | None, separated: str) -> Host:
    if host_of_far is None:
        pytest.skip(separated)
    return host_of_far


@pytest.fixture(scope="session")
def cluster(host_of_far: Host | None) -> Iterator[None]:
    made = ray_cluster.start(host_of_far)
    yield
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="session")
def shared(cluster: None) -> dict[str, Any]:
    """An actor on each node: leave them alive."""
    nodes = [node for node in ("here", *ray_cluster.NODES) if node in ray.cluster_resources()]
    return {node: actors.Peer.options(resources={node: 1}).remote() for node in nodes}


@pytest.fixture
def peer_on(shared: dict[str, Any], separated: str) -> Callable[[str], Any]:
    """The shared actor of a node. Skips where there is no such node."""

    def find(node: str) -> Any:
        if node == "far" and separated:
            pytest.skip(separated)
        return shared[node]

    return find


@pytest.fixture
def fresh(cluster: None, far: Host) -> Iterator[Callable[..., Any]]:
    """Makes actors on "far", for one test alone. The options are those of ``Peer.options``."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(actors.Peer.options(resources={"far": 1}, **options).remote())
        return made[-1]

    yield make
    for actor in made:
        ray.kill(actor)
