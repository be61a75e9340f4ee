"""A model in stages, an actor each: activations go forward from stage to stage by hixl, micro-batch after micro-batch.

Run it: python examples/pipeline.py [--device npu]
"""

from __future__ import annotations

import argparse

import ray
import torch

import ray_hixl

ray_hixl.register()  # here, before "hixl" is named


class Layers:
    """Some of a model's layers: matrices out of seeds, so that every process makes the same ones."""

    def __init__(self, seeds: range, width: int, device: str) -> None:
        def weight(seed: int) -> torch.Tensor:
            return torch.randn(width, width, generator=torch.Generator().manual_seed(seed)) * width**-0.5

        self.device = device
        self.weights = [weight(seed).to(device) for seed in seeds]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.device)  # the first stage gets it from the driver, through the object store
        for weight in self.weights:
            x = x + torch.relu(x @ weight)
        return x


@ray.remote(enable_tensor_transport=True)  # each stage but the first receives, each but the last gives
class Stage:
    def __init__(self, *layers: object) -> None:
        self.layers = Layers(*layers)

    @ray.method(tensor_transport="hixl")  # stays here until the next stage has it
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers.forward(x)

    def last(self, x: torch.Tensor) -> torch.Tensor:
        """The result for the driver: small, by the object store."""
        return self.layers.forward(x).cpu()

    def moved(self) -> int:
        return sum(ray_hixl.stats()["fetched"].values())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cpu", help="cpu or npu")
    options.add_argument("--stages", type=int, default=3)
    options.add_argument("--layers", type=int, default=2, help="of a stage")
    options.add_argument("--width", type=int, default=512)
    options.add_argument("--rows", type=int, default=2048, help="of a micro-batch")
    options.add_argument("--batches", type=int, default=6)
    wanted = options.parse_args()

    ray.init(runtime_env=ray_hixl.runtime_env())
    place = {"resources": {"NPU": 1}, "num_cpus": 0} if wanted.device == "npu" else {}  # num_cpus: else each holds a core, too
    cuts = [range(first, first + wanted.layers) for first in range(0, wanted.stages * wanted.layers, wanted.layers)]
    *stages, last = [Stage.options(**place).remote(seeds, wanted.width, wanted.device) for seeds in cuts]
    batches = [torch.randn(wanted.rows, wanted.width, generator=torch.Generator().manual_seed(100 + n)) for n in range(wanted.batches)]

    results = []
    for x in batches:  # only hands references on: all stages work at once, each on another batch
        for stage in stages:
            x = stage.forward.remote(x)
        results.append(last.last.remote(x))
    results = ray.get(results)

    moved = ray.get([stage.moved.remote() for stage in [*stages, last]])
    assert moved == [0] + [sum(x.nbytes for x in batches)] * len(stages), moved
    del stages, last  # and their NPUs are free

    whole = Stage.options(**place).remote(range(wanted.stages * wanted.layers), wanted.width, wanted.device)
    expected = ray.get([whole.last.remote(x) for x in batches])
    assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True))
    print(f"{len(batches)} micro-batches through {wanted.stages} stages: equal to what one process makes")
    print(f"fetched by each stage: {moved} bytes")


if __name__ == "__main__":
    main()
