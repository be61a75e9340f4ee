"""``publish="snapshot"`` under Ray: a source goes on with its tensors at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch

import actors
import ray_hixl
from versions import driver_put

COUNT = 1 << 20


def give_and_write() -> torch.Tensor:
    """A tensor that is kept here, to be written later."""
    actors.kept["tensor"] = torch.arange(COUNT)
    tensor: torch.Tensor = actors.kept["tensor"]
    return tensor


def fetched_by() -> dict[str, int]:
    """Bytes that this process has fetched, by transport."""
    return dict(ray_hixl.stats()["fetched"])


@pytest.mark.filterwarnings("ignore:.* is being passed back to the actor:UserWarning")
def test_a_source_may_write_what_it_gave(fresh: Callable[..., Any], consumer: Any) -> None:
    source = fresh(runtime_env={"env_vars": {"RAY_HIXL_PUBLISH": "snapshot"}})
    reference = source.give.remote(give_and_write)
    before = ray.get(consumer.call.remote(fetched_by)).get("shm", 0)
    ray.wait([reference])
    assert ray.get(source.call.remote(lambda own: own.data_ptr() == actors.kept["tensor"].data_ptr(), reference)), "itself, at home"
    ray.get(source.call.remote(lambda: actors.kept.pop("tensor").fill_(-1).sum().item()))
    assert ray.get(consumer.call.remote(lambda got: torch.equal(got, torch.arange(COUNT)), reference))
    assert ray.get(consumer.call.remote(fetched_by))["shm"] == before + 8 * COUNT
    del reference
    actors.eventually(lambda: ray.get(source.call.remote(lambda: ray_hixl.stats()["source"]["live_blocks"])) == 0)


_REGISTERS = """
import sys, ray, torch, ray_hixl

ray_hixl.register(options=ray_hixl.Options(publish="snapshot"))
ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)

@ray.remote(enable_tensor_transport=True, num_cpus=0)
class Consumer:
    def total(self, tensor):
        return tensor.sum().item()

mine = torch.arange(10)
reference = ray.put(mine, _tensor_transport="hixl")
mine.fill_(-1)
print(ray.get(Consumer.remote().total.remote(reference)))
"""


@driver_put
def test_register_takes_the_option(cluster: Any) -> None:
    command = [sys.executable, "-c", _REGISTERS, cluster.address_info["address"]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout.split() == ["45"], ended.stdout + ended.stderr
