"""docs/ray_ascend.md does what it says: Ray's own registration as written, the call in each actor, and other transports in the same job."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import ray
import torch

import ray_hixl
from documents import block
from ray_hixl.bench import floor
from ray_hixl.ray import compat
from versions import RAY

PAGE = "ray_ascend.md"
_WITH_TYPE, _WITHOUT = "HiXLTensorTransport, torch.Tensor)\n", "HiXLTensorTransport)\n"
_TO_MERGE = "'ray-ascend[hixl]'"


def run(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_registration_by_ray_itself() -> None:
    """What register() finds then is its own class."""
    written = block(PAGE, _WITHOUT if RAY == (2, 54) else _WITH_TYPE)
    told = run(
        f"{written}\n"
        "import ray_hixl\n"
        "ray_hixl.register()\n"
        "ray_hixl.register_hixl_tensor_transport(['npu'])\n"
        "from ray_hixl.ray import compat\n"
        "info = compat._util.transport_manager_info['HIXL']\n"
        "print(info.transport_manager_class.__name__, info.devices)\n"
    )
    assert told == "HiXLTensorTransport ['npu']\n"


def test_the_arguments_of_another_ray_are_refused() -> None:
    with pytest.raises(AssertionError, match="TypeError"):
        run(block(PAGE, _WITH_TYPE if RAY == (2, 54) else _WITHOUT))


_IN_EACH_ACTOR = """
import sys, ray, torch
from ray_hixl import register_hixl_tensor_transport, stats

register_hixl_tensor_transport(["cpu"])

@ray.remote(enable_tensor_transport=True)
class RayActor:
    def __init__(self):
        register_hixl_tensor_transport(["cpu"])
    @ray.method(tensor_transport="hixl")
    def give(self):
        return torch.ones(1024)
    def sum(self, tensor):
        return torch.sum(tensor).item(), sum(stats()["fetched"].values())

ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)
giver, receiver = RayActor.remote(), RayActor.remote()
print(*ray.get(receiver.sum.remote(giver.give.remote())))
"""


def test_registration_in_the_driver_and_in_each_actor(cluster: Any) -> None:
    assert run(_IN_EACH_ACTOR, cluster.address_info["address"]) == "1024.0 4096\n"


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="cuda"):
        ray_hixl.register_hixl_tensor_transport(["cuda"])


def test_what_a_maintainer_would_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: dict[str, Any] = {}
    exec(block(PAGE, _TO_MERGE), theirs)
    theirs["register_hixl_tensor_transport"]()
    assert compat.registered_class("HIXL") is ray_hixl.HiXLTensorTransport
    monkeypatch.setitem(sys.modules, "ray_hixl", None)
    with pytest.raises(ImportError, match=r"pip install 'ray-ascend\[hixl\]'"):
        theirs["register_hixl_tensor_transport"]()


floor.register()  # before it is named, as "hixl" was by the cluster's module


@ray.remote(enable_tensor_transport=True)
class Both:
    """Gives by hixl, and by another transport in the same process."""

    def __init__(self) -> None:
        ray_hixl.register_hixl_tensor_transport()
        floor.register()

    @ray.method(tensor_transport="hixl")
    def by_hixl(self, given: Any) -> Any:
        return given

    @ray.method(tensor_transport=floor.NAME)
    def by_other(self, given: Any) -> Any:
        return given

    def look(self, tensor: Any) -> tuple[float, int]:
        return tensor.sum().item(), sum(ray_hixl.stats()["fetched"].values())


def test_another_transport_in_the_same_job(cluster: Any) -> None:
    """A value goes by the transport of the method that made it, also when it came by the other one. The other one moves no bytes."""
    one, other = Both.remote(), Both.remote()
    ones = torch.ones(1024)
    assert ray.get(other.look.remote(one.by_hixl.remote(ones))) == (1024.0, 4096)
    _, moved = ray.get(other.look.remote(one.by_other.remote(ones)))
    assert moved == 4096
    back = other.by_hixl.remote(one.by_other.remote(ones))
    assert ray.get(one.look.remote(back))[1] == 4096, "what came by the other one goes on by hixl"
    assert ray.get(other.look.remote(one.by_hixl.remote(one.by_hixl.remote(ones)))) == (1024.0, 8192)
    for actor in (one, other):
        ray.kill(actor)
