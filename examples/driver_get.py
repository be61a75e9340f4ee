"""Whoever has a reference gets the tensors: the driver, a task, asyncio code; and the driver hands tensors of its own to actors.

No group, and no copy in the object store. Run it: python examples/driver_get.py [--device npu]
"""

from __future__ import annotations

import argparse
import asyncio

import ray
import torch

import ray_hixl

ray_hixl.register()  # here, before "hixl" is named


@ray.remote(enable_tensor_transport=True)
class Model:
    def __init__(self, rows: int, device: str) -> None:
        self.weights = {name: torch.full((rows, 1024), float(n), device=device) for n, name in enumerate(["up", "down", "gate"])}

    @ray.method(tensor_transport="hixl")
    def snapshot(self) -> dict[str, torch.Tensor]:
        return self.weights

    def total(self, tensors: list[torch.Tensor]) -> float:
        return sum(tensor.sum().item() for tensor in tensors)


@ray.remote
def inspect(references: list[ray.ObjectRef]) -> float:
    """A plain task: the reference comes nested, and it gets the value itself."""
    return ray.get(references[0])["gate"][0, 0].item()


async def in_the_background(reference: ray.ObjectRef) -> dict[str, torch.Tensor]:
    """``await reference`` would never end: it starts no transfer (Ray)."""
    return await asyncio.to_thread(ray.get, reference)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cpu", help="cpu or npu")
    options.add_argument("--rows", type=int, default=4096)
    wanted = options.parse_args()

    # landing_device: the driver and the task have no NPU, so that they receive on the CPU.
    landing = ray_hixl.Options(landing_device="cpu")
    ray_hixl.register(options=landing)
    ray.init(runtime_env=ray_hixl.runtime_env(options=landing))
    place = {"resources": {"NPU": 1}, "num_cpus": 0} if wanted.device == "npu" else {}  # num_cpus: else it holds a core, too
    model = Model.options(**place).remote(wanted.rows, wanted.device)

    snapshot = model.snapshot.remote()
    weights = ray.get(snapshot)
    assert all(bool((weight == n).all()) for n, weight in enumerate(weights.values()))
    print(f"the driver got {list(weights)} on the {weights['up'].device}, {ray_hixl.stats()['fetched']}")

    again = [torch.empty_like(weight) for weight in weights.values()]
    ray.experimental.set_target_for_ref(snapshot, again)
    assert ray.get(snapshot)["up"] is again[0]
    print("once more, into tensors of its own: equal", all(torch.equal(*pair) for pair in zip(again, weights.values(), strict=True)))

    assert asyncio.run(in_the_background(snapshot))["down"][0, 0] == 1
    print("in asyncio: done")
    print("a task read", ray.get(inspect.remote([snapshot])))

    own = ray.put([torch.ones(10), torch.ones(20)], _tensor_transport="hixl")
    print("the actor read", ray.get(model.total.remote(own)), "of the driver's own")


if __name__ == "__main__":
    main()
