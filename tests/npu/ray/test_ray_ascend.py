"""The programs of docs/ray_ascend.md as they are written: processes of their own, which use the two NPUs that the shared actors leave."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from documents import block

PAGE = "ray_ascend.md"
_ACTORS = """
import ray

@ray.remote(enable_tensor_transport=True, resources={"NPU": 1})
class RayActor:
    @ray.method(tensor_transport="hixl")
    def random_tensor(self):
        return torch.ones(1024, device="npu")
    def sum(self, tensor):
        return f"{torch.sum(tensor).item()} on {tensor.device}"

ray.init()
sender, receiver = RayActor.remote(), RayActor.remote()
print(ray.get(receiver.sum.remote(sender.random_tensor.remote())))
"""


def run(script: str, cluster: Any) -> str:
    environment = os.environ | {"RAY_ADDRESS": cluster.address_info["address"]}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_program(cluster: Any, npus: Any) -> None:
    assert run(block(PAGE, 'register_hixl_tensor_transport(["npu"])  # before'), cluster) == "1024.0"


def test_registration_by_ray_itself(cluster: Any, npus: Any) -> None:
    """Ray tells the actors by itself; nobody calls anything of ours."""
    assert run(block(PAGE, "HiXLTensorTransport, torch.Tensor)\n") + _ACTORS, cluster) == "1024.0 on npu:0"
