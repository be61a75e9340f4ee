"""One Ray cluster with nine FAKE NPUs for all tests here, and actors that share them in every way.

The driver sees six of them, or others where an NPU cannot be linked with itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from profiles import OVER_HCCS

_HERE = Path(__file__).parent
_TESTS = _HERE.parent.parent
# Ray and its workers import values, actors and acl.
_PATHS = [str(_TESTS / folder) for folder in ("npu", "ray", "shared", "fake_cann/python")]
sys.path[:0] = _PATHS
os.environ["PYTHONPATH"] = os.pathsep.join([*_PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["RAY_rdt_fetch_fail_timeout_milliseconds"] = "20000"  # noqa: SIM112  # read by Ray when it is imported, in workers, too
os.environ["FAKE_CANN_DEVICES"] = "15"
os.environ["ASCEND_RT_VISIBLE_DEVICES"] = "9,10,11,12,13,14" if OVER_HCCS else "0,1,2,3,4,5"  # of the driver; actors have the first nine

import ray  # noqa: E402
import torch  # noqa: E402

import actors  # noqa: E402
import ray_hixl  # noqa: E402

_npu: Any = torch.npu  # put there by torch_npu
assert _npu.device_count() == 6
del os.environ["ASCEND_RT_VISIBLE_DEVICES"]  # Ray would take it for all that the machine has


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A cluster of this session's own."""
    yield ray.init(num_cpus=8, resources={"NPU": 9}, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.shutdown()


@pytest.fixture(scope="session")
def npus(cluster: Any) -> dict[str, Any]:
    """Actors that all tests share, by what they see: leave them alive.

    ``one`` and ``other``: an NPU of their own. ``half`` and ``rest``: the same one. ``two``: two NPUs.
    """
    share = {"one": 1, "other": 1, "half": 0.5, "rest": 0.5, "two": 2}
    made = {name: actors.Peer.options(resources={"NPU": npus}, num_cpus=0.1).remote() for name, npus in share.items()}
    ray.get([actor.call.remote(actors.left) for actor in made.values()])
    return made


@pytest.fixture
def source(npus: dict[str, Any]) -> Any:
    return npus["one"]


@pytest.fixture
def consumer(npus: dict[str, Any]) -> Any:
    return npus["other"]


@pytest.fixture
def fresh(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Makes actors for one test alone, with an NPU; the options are those of ``Peer.options``."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(actors.Peer.options(**{"resources": {"NPU": 1}, "num_cpus": 0.1, **options}).remote())
        return made[-1]

    yield make
    for actor in made:
        ray.kill(actor)


@pytest.fixture(autouse=True)
def nothing_is_left(npus: dict[str, Any]) -> Iterator[None]:
    """Every object is freed when the last reference is gone, and so are the slabs that held it."""
    yield

    def is_clean(collect: bool) -> bool:
        left = [*ray.get([actor.call.remote(actors.left, collect) for actor in npus.values()]), actors.left(collect)]
        blocks = sum(each["slabs"]["live_blocks"] for each in ray_hixl.stats().get("devices", []))
        return blocks == 0 and not any(sum(each.values()) for each in left)

    actors.eventually(lambda: is_clean(False) or is_clean(True))  # errors keep the frames they went through, and those the tensors
